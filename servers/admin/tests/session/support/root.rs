//! A root that keeps lists and does what it is told.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use proto::monitor::{VmStatus, button};
use proto::protocol::Caller;
use proto::root::{
    CapInfo, CapPart, Death, Ending, MachineInfo, MemoryUse, Pid, ProgramInfo, ProgramPart,
    ProgramState, RootError, RootServer, Started, Virtualisation,
};
use proto::start::CapKind;

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
    pub fn new(now_us: Rc<Cell<u64>>) -> Self {
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
        if bits == button::POWER && self.guest.get() == Guest::Obeys {
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
