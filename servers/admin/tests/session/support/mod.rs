//! A machine made of fakes: a root that only keeps lists, and the real console server with a terminal
//! whose user follows a script.

mod root;

pub use root::{FakeRoot, Guest};

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
use proto::protocol::Caller;
use proto::root::{Root, RootClient};

/// How often a script's world may let time pass before it is over.
const MAX_IDLE_TURNS: u32 = 1200;

/// A terminal on which no line of a test is too long.
const WIDE: Dimensions = Dimensions {
    columns: 500,
    rows: 24,
};

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
    let debian = include_bytes!("../../golden/debian.json");
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
