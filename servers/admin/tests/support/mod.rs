//! A machine made of fakes: a root that only keeps lists, and the real console server with a terminal
//! whose user follows a script.
#![allow(dead_code, reason = "each test file uses a part of it")]

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use admin::machine::Machine;
use admin::shell::Shell;
use admin::vmadm::store::MemoryStore;
use console::scancode::Typed;
use console::service::Service;
use console::switchboard::{Switchboard, Terminal};
use proto::boot::manifest::Program;
use proto::boot::{
    Archive, Authority, Manifest, Placement, Restart as RestartPolicy, StartWhen, archive,
};
use proto::console::{Console, ConsoleClient, Dimensions};
use proto::host::{HostChannel, Idle};
use proto::monitor::VmStatus;
use proto::protocol::Caller;
use proto::root::{
    CapInfo, CapPart, Death, Ending, MachineInfo, MemoryUse, Pid, ProgramInfo, ProgramPart,
    ProgramState, Root, RootClient, RootError, RootServer, Started, Virtualisation,
};
use proto::start::CapKind;

/// How often a script's world may let time pass before it is over.
const MAX_IDLE_TURNS: u32 = 1200;
/// The monitor's signal that is the guest's power button.
const POWER_BUTTON: u64 = 1 << 2;

/// A terminal on which no line of a test is too long.
const WIDE: Dimensions = Dimensions {
    columns: 500,
    rows: 24,
};

/// What a guest does when its power button is pressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// It switches itself off.
    Obeys,
    /// It does not care.
    Ignores,
}

/// A root that keeps lists.
pub struct FakeRoot {
    pub now_us: Rc<Cell<u64>>,
    pub programs: RefCell<Vec<ProgramInfo>>,
    /// What was asked of it, in words.
    pub asked: RefCell<Vec<String>>,
    pub guest: Cell<Guest>,
    pub refuse_start: Cell<Option<RootError>>,
    /// What a monitor that is started reports, and how it goes on.
    pub monitor: Cell<(Option<VmStatus>, ProgramState)>,
    started: RefCell<Vec<(Pid, Started)>>,
    next_pid: Cell<Pid>,
}

fn program(pid: Pid, name: &str, priority: u8, cpu_us: u64) -> ProgramInfo {
    ProgramInfo {
        pid,
        name: name.into(),
        instance: 0,
        state: ProgramState::Running,
        status: 0,
        priority,
        threads: 1,
        memory_bytes: 6 << 20,
        cpu_us,
        restarts: 0,
    }
}

impl FakeRoot {
    fn new(now_us: Rc<Cell<u64>>) -> Self {
        Self {
            now_us,
            programs: RefCell::new(vec![
                program(1, "console", 200, 1_500_000),
                program(2, "admin", 100, 62_000_000),
            ]),
            asked: RefCell::default(),
            guest: Cell::new(Guest::Obeys),
            refuse_start: Cell::new(None),
            monitor: Cell::new((Some(VmStatus::Running), ProgramState::Running)),
            started: RefCell::default(),
            next_pid: Cell::new(3),
        }
    }

    fn ask(&self, what: String) {
        self.asked.borrow_mut().push(what);
    }

    /// Ends a program as its monitor, or a fault, would.
    pub fn end(&self, pid: Pid, ending: Ending) {
        let mut programs = self.programs.borrow_mut();
        let program = programs.iter_mut().find(|program| program.pid == pid);
        program.expect("a program that runs").state = ProgramState::Ended(ending);
    }

    fn end_running(&self, pid: Pid, ending: Ending) -> Result<(), RootError> {
        let mut programs = self.programs.borrow_mut();
        let program = programs
            .iter_mut()
            .find(|program| program.pid == pid)
            .ok_or(RootError::NotFound)?;
        if program.state != ProgramState::Running {
            return Err(RootError::NotRunning);
        }
        program.state = ProgramState::Ended(ending);
        Ok(())
    }
}

impl RootServer for FakeRoot {
    async fn list(&self, _: Caller, from: u32) -> Result<ProgramPart, RootError> {
        // Two at a time, so that parts are put together.
        let programs = self.programs.borrow();
        let next = from as usize + 2;
        Ok(ProgramPart {
            programs: programs
                .iter()
                .skip(from as usize)
                .take(2)
                .cloned()
                .collect(),
            next: (next < programs.len()).then_some(next as u32),
        })
    }

    async fn caps(&self, _: Caller, from: u32) -> Result<CapPart, RootError> {
        let all = [
            (1, "com1.ports", CapKind::IoPort),
            (1, "self", CapKind::Endpoint),
            (2, "root", CapKind::Endpoint),
        ];
        let cap = all.get(from as usize).map(|&(pid, name, kind)| CapInfo {
            pid,
            name: name.into(),
            kind,
        });
        Ok(CapPart {
            next: cap.is_some().then_some(from + 1),
            caps: cap.into_iter().collect(),
        })
    }

    async fn memory(&self, _: Caller) -> Result<MemoryUse, RootError> {
        Ok(MemoryUse {
            total: 2048 << 20,
            free: 1024 << 20,
            largest_free: 512 << 20,
            programs: 12 << 20,
            guests: 0,
            archive: 100 << 20,
        })
    }

    async fn machine(&self, _: Caller) -> Result<MachineInfo, RootError> {
        Ok(MachineInfo {
            cpus: 2,
            virtualisation: Virtualisation::Svm,
            uptime_us: self.now_us.get(),
        })
    }

    async fn start(
        &self,
        _: Caller,
        name: String,
        instance: u16,
        guest_bytes: u64,
        args: Vec<u8>,
    ) -> Result<Pid, RootError> {
        if let Some(error) = self.refuse_start.get() {
            return Err(error);
        }
        self.ask(format!("start {name}.{instance} {} MiB", guest_bytes >> 20));
        let pid = self.next_pid.replace(self.next_pid.get() + 1);
        let started = Started { guest_bytes, args };
        self.started.borrow_mut().push((pid, started));
        let mut programs = self.programs.borrow_mut();
        programs.retain(|program| program.name != name || program.instance != instance);
        let (status, state) = self.monitor.get();
        programs.push(ProgramInfo {
            instance,
            state,
            status: status.map_or(0, VmStatus::number),
            memory_bytes: guest_bytes,
            ..program(pid, &name, 90, 0)
        });
        Ok(pid)
    }

    async fn stop(&self, _: Caller, pid: Pid) -> Result<(), RootError> {
        self.ask(format!("stop {pid}"));
        self.end_running(pid, Ending::Stopped)
    }

    async fn kill(&self, _: Caller, pid: Pid) -> Result<(), RootError> {
        self.ask(format!("kill {pid}"));
        self.end_running(pid, Ending::Died(Death::Killed))
    }

    async fn restart(&self, _: Caller, pid: Pid) -> Result<Pid, RootError> {
        self.ask(format!("restart {pid}"));
        Ok(pid + 100)
    }

    async fn signal(&self, _: Caller, pid: Pid, bits: u64) -> Result<(), RootError> {
        self.ask(format!("signal {pid} {bits:#b}"));
        if bits == POWER_BUTTON && self.guest.get() == Guest::Obeys {
            self.end_running(pid, Ending::Finished)?;
        }
        Ok(())
    }

    async fn report(&self, _: Caller, _: u32) -> Result<(), RootError> {
        Err(RootError::NotAllowed)
    }

    async fn finish(&self, _: Caller, _: Ending) -> Result<(), RootError> {
        Err(RootError::NotAllowed)
    }

    async fn reboot(&self, _: Caller) -> Result<(), RootError> {
        self.ask("reboot".into());
        Err(RootError::Unsupported)
    }

    async fn started_with(&self, _: Caller, pid: Pid) -> Result<Started, RootError> {
        let started = self.started.borrow();
        let found = started.iter().find(|(started, _)| *started == pid);
        found
            .map(|(_, started)| started.clone())
            .ok_or(RootError::NotFound)
    }

    async fn halt(&self, _: Caller) -> Result<(), RootError> {
        self.ask("halt".into());
        Ok(())
    }
}

type Clock = Box<dyn Fn() -> u64>;
type World = Box<dyn FnMut() -> Idle>;
type RootChannel = HostChannel<'static, Root, FakeRoot, fn() -> Idle>;
type ConsoleChannel = HostChannel<'static, Console, Service<Clock>, World>;

/// The machine that the shell under test runs on.
pub struct FakeMachine {
    root: RootClient<RootChannel>,
    console: ConsoleClient<ConsoleChannel>,
    archive: Archive<'static>,
    store: MemoryStore,
    random: u128,
}

impl Machine for FakeMachine {
    type Root = RootChannel;
    type Console = ConsoleChannel;
    type Store = MemoryStore;

    fn root(&self) -> &RootClient<RootChannel> {
        &self.root
    }
    fn console(&self) -> &ConsoleClient<ConsoleChannel> {
        &self.console
    }
    fn archive(&self) -> &Archive<'_> {
        &self.archive
    }
    fn vms(&mut self) -> &mut MemoryStore {
        &mut self.store
    }
    fn random(&mut self) -> u128 {
        self.random += 1;
        self.random
    }
}

/// One thing that happens to the shell, when it waits.
pub enum Step {
    /// The user types.
    Type(Vec<u8>),
    /// Something else happens.
    Happen(Box<dyn FnOnce(&Bench)>),
}

/// Everything around the shell, for a test to look at and to change.
#[derive(Clone)]
pub struct Bench {
    pub root: &'static FakeRoot,
    pub service: &'static Service<Clock>,
    pub now_us: Rc<Cell<u64>>,
    script: Rc<RefCell<VecDeque<Step>>>,
    shown: Rc<RefCell<Vec<u8>>>,
    over: Rc<Cell<bool>>,
}

impl Bench {
    fn new() -> Self {
        let now_us = Rc::new(Cell::new(3_723_000_000));
        let root = Box::leak(Box::new(FakeRoot::new(now_us.clone())));
        let writers = ["root".to_owned(), "monitor.0".to_owned()];
        let switchboard = Switchboard::new(&[Terminal::Line], writers);
        let clock = now_us.clone();
        let clock: Clock = Box::new(move || clock.get());
        let service = Box::leak(Box::new(Service::new(switchboard, (), WIDE, clock)));
        Self {
            root,
            service,
            now_us,
            script: Rc::default(),
            shown: Rc::default(),
            over: Rc::default(),
        }
    }

    /// What happens when the shell waits: the terminal shows what there is, and then the next step of
    /// the script comes, or time passes.
    fn idle(&self, turns: &mut u32) -> Idle {
        self.drain();
        if let Some(step) = self.script.borrow_mut().pop_front() {
            *turns = 0;
            match step {
                Step::Type(bytes) => self.type_bytes(&bytes),
                Step::Happen(happen) => happen(self),
            }
            return Idle::Progress;
        }
        *turns += 1;
        match self.service.tick() {
            Some(deadline) if *turns < MAX_IDLE_TURNS && !self.over.get() => {
                self.now_us.set(deadline.max(self.now_us.get()));
                self.service.tick();
                Idle::Progress
            }
            _ => {
                // Whatever still waits is told that the console is gone, until it gives up.
                assert!(*turns < 2 * MAX_IDLE_TURNS, "the shell never stops waiting");
                self.over.set(true);
                Idle::Died
            }
        }
    }

    pub fn type_bytes(&self, bytes: &[u8]) {
        for &byte in bytes {
            self.service
                .with(|switchboard| switchboard.typed(Terminal::Line, Typed::Byte(byte)));
        }
    }

    fn drain(&self) {
        let mut shown = self.shown.borrow_mut();
        self.service.with(|switchboard| {
            while let Some(byte) = switchboard.next_output(Terminal::Line) {
                shown.push(byte);
            }
        });
    }
}

/// The program declarations that the shell looks at.
fn declared(name: &str, instances: u16) -> Program {
    Program {
        name: name.into(),
        image: format!("/bin/{name}"),
        start: StartWhen::AtBoot,
        instances,
        threads: 1,
        priority: 100,
        placement: Placement::Cpu(0),
        budget_us: 1000,
        period_us: 1000,
        heap_bytes: 4096,
        stack_bytes: 4096,
        replies: 0,
        timer_bit: None,
        signal_bits: 0,
        calls: vec![],
        authority: Authority::Report,
        devices: vec![],
        boot_archive: false,
        vcpus: 0,
        guest_bytes: 0,
        restart: RestartPolicy {
            limit: 0,
            backoff_ms: 0,
            calm_ms: 0,
        },
    }
}

fn boot_archive() -> Archive<'static> {
    let manifest = Manifest {
        system: "Tessera".into(),
        devices: vec![],
        programs: vec![
            declared("console", 1),
            declared("admin", 1),
            declared("monitor", 2),
        ],
        channels: vec![],
    };
    let debian = include_bytes!("../golden/debian.json");
    let files: Vec<(String, Vec<u8>)> = [
        ("/bin/console", &b"\x7fELF\0"[..]),
        ("/boot/debian.json", debian),
        ("/boot/initrd", b"\x1f\x8b\0initrd"),
        ("/boot/notes", b"first\nsecond\nlast"),
        ("/boot/vmlinuz", b"MZ\0\0kernel"),
    ]
    .map(|(path, bytes)| (path.into(), bytes.into()))
    .into();
    let bytes = Box::leak(archive::build(&manifest, &files).into_boxed_slice());
    Archive::open(bytes).expect("an archive that was just built")
}

/// A shell that ran a script.
pub struct Ran {
    pub bench: Bench,
    pub shell: Shell<FakeMachine>,
    /// Everything the terminal showed, with plain line ends.
    pub text: String,
}

impl Ran {
    /// What was shown after the line `command` was entered, up to the next prompt.
    pub fn output(&self, command: &str) -> &str {
        let entered = format!("tessera# {command}\n");
        let (_, after) = self
            .text
            .split_once(&entered)
            .unwrap_or_else(|| panic!("`{command}` was not entered:\n{}", self.text));
        after.split("tessera# ").next().unwrap()
    }

    /// What root was asked.
    pub fn asked(&self) -> Vec<String> {
        self.bench.root.asked.borrow().clone()
    }
}

/// Runs a shell until its script is over and nothing happens any more.
pub fn run_script(steps: Vec<Step>) -> Ran {
    run_on(Bench::new(), steps)
}

/// Runs another shell in the place of one that died.
pub fn run_again(ran: Ran, steps: Vec<Step>) -> Ran {
    let bench = ran.bench;
    bench.over.set(false);
    bench.shown.borrow_mut().clear();
    run_on(bench, steps)
}

fn run_on(bench: Bench, steps: Vec<Step>) -> Ran {
    bench.script.borrow_mut().extend(steps);
    let world = bench.clone();
    let mut turns = 0;
    let idle: World = Box::new(move || world.idle(&mut turns));
    let machine = FakeMachine {
        root: RootClient::new(HostChannel::new(bench.root, Caller(2))),
        console: ConsoleClient::new(HostChannel::with_idle(bench.service, Caller(2), idle)),
        archive: boot_archive(),
        store: MemoryStore::default(),
        random: 0,
    };
    let mut shell = Shell::new(machine);
    shell.start();
    while !bench.over.get() {
        shell.step().expect("the console is right");
    }
    bench.drain();
    let shown = String::from_utf8_lossy(&bench.shown.borrow()).into_owned();
    Ran {
        text: shown.replace("\r\n", "\n"),
        bench,
        shell,
    }
}

/// Types lines, each when the shell waits for one.
pub fn run_lines(lines: &[&str]) -> Ran {
    run_script(lines.iter().map(|line| line_step(line)).collect())
}

/// The step of typing one line.
pub fn line_step(line: &str) -> Step {
    Step::Type(format!("{line}\r").into_bytes())
}

/// The step of something else that happens.
pub fn happen(change: impl FnOnce(&Bench) + 'static) -> Step {
    Step::Happen(Box::new(change))
}

/// The step of time that passes while nothing happens.
pub fn pass_ms(ms: u64) -> Step {
    happen(move |bench| {
        bench.now_us.set(bench.now_us.get() + ms * 1000);
        bench.service.tick();
    })
}
