//! Protocol `proto::root`: who may ask what, and the answers.
//!
//! Requests do not wait, so the server is a plain value behind a cell. What ends the machine is
//! only noted here ([`Service::power`]); the caller of the service carries it out, after the
//! reply.

use crate::badge;
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::run::Run;
use crate::supervisor::{Files, Instance, Log, Place, State, Supervisor};
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};
use proto::boot::Authority;
use proto::protocol::Caller;
use proto::root::{
    ARGUMENT_BYTES_MAX, CapInfo, CapPart, Death, Ending, MachineInfo, MemoryUse, Pid, ProgramInfo,
    ProgramPart, ProgramState, RootError, RootServer, Started, Virtualisation,
};
use sel4_sys::object::{LARGE_PAGE_BITS, PRIORITY_MAX};

/// Programs in one answer: 60 bytes each with a long name fit a message.
const PROGRAMS_PER_PART: usize = 10;
/// Capabilities in one answer, 30 bytes each.
const CAPS_PER_PART: usize = 24;

/// What shall become of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Power {
    /// Start anew.
    Reset,
    /// Switch off.
    Off,
}

/// The service.
#[derive(Debug)]
pub struct Service<K, F, L, C> {
    /// The system.
    pub supervisor: RefCell<Supervisor<K, F, L>>,
    clock: C,
    power: Cell<Option<Power>>,
}

impl<K: Kernel, F: Files, L: Log, C: Fn() -> u64> Service<K, F, L, C> {
    /// Serves `supervisor`; `clock` gives microseconds since root started.
    pub const fn new(supervisor: Supervisor<K, F, L>, clock: C) -> Self {
        Self {
            supervisor: RefCell::new(supervisor),
            clock,
            power: Cell::new(None),
        }
    }

    /// Microseconds since root started.
    pub fn now_us(&self) -> u64 {
        (self.clock)()
    }

    /// What was asked to become of the machine, once.
    pub fn power(&self) -> Option<Power> {
        self.power.take()
    }

    /// Whether the manifest lets the caller ask for what needs `needed`.
    fn allow(&self, caller: Caller, needed: Authority) -> Result<Place, RootError> {
        let place = badge::client(caller);
        let supervisor = self.supervisor.borrow();
        let program = supervisor.manifest.programs.get(usize::from(place.0));
        match program {
            Some(program) if program.authority >= needed => Ok(place),
            _ => Err(RootError::NotAllowed),
        }
    }

    /// The running instance of a pid.
    fn running(&self, pid: Pid) -> Result<Place, RootError> {
        let supervisor = self.supervisor.borrow();
        let place = supervisor.place_of(pid).ok_or(RootError::NotFound)?;
        match supervisor.instance(place).map(|instance| &instance.state) {
            Some(State::Running(_)) => Ok(place),
            _ => Err(RootError::NotRunning),
        }
    }
}

impl<K: Kernel, F: Files, L: Log, C: Fn() -> u64> RootServer for Service<K, F, L, C> {
    async fn list(&self, caller: Caller, from: u32) -> Result<ProgramPart, RootError> {
        self.allow(caller, Authority::Observe)?;
        let now_us = self.now_us();
        let mut supervisor = self.supervisor.borrow_mut();
        let ran = |place: &Place| {
            let instance = supervisor.instance(*place);
            instance.is_some_and(|instance| !matches!(instance.state, State::Never))
        };
        // Root comes first, as process 0.
        let ran = supervisor.places().into_iter().filter(ran).map(Some);
        let all: Vec<Option<Place>> = core::iter::once(None).chain(ran).collect();
        let first = from as usize;
        let part = all.iter().skip(first).take(PROGRAMS_PER_PART);
        let programs: Vec<_> = part
            .filter_map(|place| match place {
                None => Some(own_info(&mut supervisor)),
                Some(place) => program_info(&mut supervisor, *place, now_us),
            })
            .collect();
        let next = first + programs.len();
        let next = (next < all.len()).then_some(next as u32);
        Ok(ProgramPart { programs, next })
    }

    async fn caps(&self, caller: Caller, from: u32) -> Result<CapPart, RootError> {
        self.allow(caller, Authority::Observe)?;
        let supervisor = self.supervisor.borrow();
        let places = supervisor.places();
        let runs = places
            .iter()
            .filter_map(|place| match supervisor.instance(*place)?.state {
                State::Running(ref run) => Some(run),
                _ => None,
            });
        let all = runs.flat_map(|run: &Run| run.caps.iter().map(move |cap| (run.pid, cap)));
        let mut part = all.skip(from as usize);
        let caps: Vec<CapInfo> = part
            .by_ref()
            .take(CAPS_PER_PART)
            .map(|(pid, cap)| CapInfo {
                pid,
                name: cap.name.clone(),
                kind: cap.kind,
            })
            .collect();
        let next = part.next().map(|_| from + caps.len() as u32);
        Ok(CapPart { caps, next })
    }

    async fn memory(&self, caller: Caller) -> Result<MemoryUse, RootError> {
        self.allow(caller, Authority::Observe)?;
        let supervisor = self.supervisor.borrow();
        let (mut programs, mut guests) = (0, 0);
        for place in supervisor.places() {
            if let Some(Instance {
                state: State::Running(run),
                ..
            }) = supervisor.instance(place)
            {
                programs += run.bytes() - run.guest_bytes;
                guests += run.guest_bytes;
            }
        }
        let memory = &supervisor.resources.memory;
        Ok(MemoryUse {
            total: memory.total(),
            free: memory.free(),
            largest_free: memory.largest(),
            programs,
            guests,
            archive: supervisor.fixed.archive.bytes,
        })
    }

    async fn machine(&self, caller: Caller) -> Result<MachineInfo, RootError> {
        self.allow(caller, Authority::Observe)?;
        let supervisor = self.supervisor.borrow();
        Ok(MachineInfo {
            cpus: supervisor.machine.cpus,
            virtualisation: supervisor.machine.virtualisation,
            uptime_us: self.now_us(),
        })
    }

    async fn start(
        &self,
        caller: Caller,
        program: String,
        instance: u16,
        guest_bytes: u64,
        args: Vec<u8>,
    ) -> Result<Pid, RootError> {
        self.allow(caller, Authority::Manage)?;
        let mut supervisor = self.supervisor.borrow_mut();
        let index = supervisor
            .manifest
            .find(&program)
            .ok_or(RootError::NotFound)?;
        let place = (index, instance);
        match supervisor.instance(place).ok_or(RootError::NotFound)?.state {
            State::Running(_) | State::Waiting(_) => return Err(RootError::AlreadyRunning),
            State::Never | State::Ended(_) => {}
        }
        let entry = &supervisor.manifest.programs[usize::from(index)];
        let whole = guest_bytes.is_multiple_of(1 << LARGE_PAGE_BITS);
        if guest_bytes > entry.guest_bytes || !whole || args.len() > ARGUMENT_BYTES_MAX {
            return Err(RootError::BadSize);
        }
        if entry.vcpus > 0 && supervisor.machine.virtualisation == Virtualisation::None {
            return Err(RootError::Unsupported);
        }
        supervisor
            .start(place, args, guest_bytes, self.now_us())
            .map_err(refusal)
    }

    async fn stop(&self, caller: Caller, pid: Pid) -> Result<(), RootError> {
        self.allow(caller, Authority::Manage)?;
        let mut supervisor = self.supervisor.borrow_mut();
        let place = supervisor.place_of(pid).ok_or(RootError::NotFound)?;
        match supervisor.instance(place).map(|instance| &instance.state) {
            Some(State::Running(_) | State::Waiting(_)) => {
                supervisor.end(place, Ending::Stopped);
                Ok(())
            }
            _ => Err(RootError::NotRunning),
        }
    }

    async fn kill(&self, caller: Caller, pid: Pid) -> Result<(), RootError> {
        self.allow(caller, Authority::Manage)?;
        let place = self.running(pid)?;
        self.supervisor
            .borrow_mut()
            .died(place, Death::Killed, self.now_us());
        Ok(())
    }

    async fn restart(&self, caller: Caller, pid: Pid) -> Result<Pid, RootError> {
        self.allow(caller, Authority::Manage)?;
        let place = self
            .supervisor
            .borrow()
            .place_of(pid)
            .ok_or(RootError::NotFound)?;
        self.supervisor
            .borrow_mut()
            .restart(place, self.now_us())
            .map_err(refusal)
    }

    async fn signal(&self, caller: Caller, pid: Pid, bits: u64) -> Result<(), RootError> {
        self.allow(caller, Authority::Manage)?;
        let place = self.running(pid)?;
        let mut supervisor = self.supervisor.borrow_mut();
        let declared = supervisor.manifest.programs[usize::from(place.0)].signal_bits;
        if bits == 0 || bits & !declared != 0 {
            return Err(RootError::BadSignal);
        }
        supervisor.signal(place, bits).map_err(refusal)
    }

    async fn report(&self, caller: Caller, status: u32) -> Result<(), RootError> {
        let place = self.allow(caller, Authority::Report)?;
        let mut supervisor = self.supervisor.borrow_mut();
        supervisor
            .instance_mut(place)
            .ok_or(RootError::NotFound)?
            .status = status;
        Ok(())
    }

    async fn finish(&self, caller: Caller, ending: Ending) -> Result<(), RootError> {
        let place = self.allow(caller, Authority::Report)?;
        self.supervisor.borrow_mut().end(place, ending);
        Ok(())
    }

    async fn reboot(&self, caller: Caller) -> Result<(), RootError> {
        self.allow(caller, Authority::Manage)?;
        self.power.set(Some(Power::Reset));
        Ok(())
    }

    async fn halt(&self, caller: Caller) -> Result<(), RootError> {
        self.allow(caller, Authority::Manage)?;
        self.power.set(Some(Power::Off));
        Ok(())
    }

    async fn started_with(&self, caller: Caller, pid: Pid) -> Result<Started, RootError> {
        self.allow(caller, Authority::Manage)?;
        let supervisor = self.supervisor.borrow();
        let place = supervisor.place_of(pid).ok_or(RootError::NotFound)?;
        let instance = supervisor.instance(place).ok_or(RootError::NotFound)?;
        Ok(Started {
            guest_bytes: instance.guest_bytes,
            args: instance.args.clone(),
        })
    }
}

/// Root itself.
fn own_info<K: Kernel, F: Files, L: Log>(supervisor: &mut Supervisor<K, F, L>) -> ProgramInfo {
    ProgramInfo {
        pid: 0,
        name: "root".into(),
        instance: 0,
        state: ProgramState::Running,
        status: 0,
        priority: PRIORITY_MAX as u8,
        threads: 1,
        memory_bytes: supervisor.own.bytes,
        cpu_us: supervisor.own_cpu_us(),
        restarts: 0,
    }
}

fn program_info<K: Kernel, F: Files, L: Log>(
    supervisor: &mut Supervisor<K, F, L>,
    place: Place,
    now_us: u64,
) -> Option<ProgramInfo> {
    let cpu_us = supervisor.cpu_us(place);
    let program = supervisor.manifest.programs.get(usize::from(place.0))?;
    let instance = supervisor.instance(place)?;
    let (state, memory_bytes) = match &instance.state {
        State::Running(run) => (ProgramState::Running, run.bytes()),
        State::Waiting(at_us) => {
            let left_ms = at_us.saturating_sub(now_us) / 1000;
            (
                ProgramState::Restarting(u32::try_from(left_ms).unwrap_or(u32::MAX)),
                0,
            )
        }
        State::Ended(ending) => (ProgramState::Ended(*ending), 0),
        State::Never => return None,
    };
    Some(ProgramInfo {
        pid: instance.pid,
        name: program.name.clone(),
        instance: place.1,
        state,
        status: instance.status,
        priority: program.priority,
        threads: program.threads,
        memory_bytes,
        cpu_us,
        restarts: instance.history.total(),
    })
}

/// What a client is told of a program that could not be built; the log has the details.
fn refusal(error: BuildError) -> RootError {
    match error {
        BuildError::OutOfMemory | BuildError::OutOfSlots => RootError::OutOfMemory,
        BuildError::StartInfo => RootError::BadSize,
        BuildError::Archive(_) | BuildError::Elf(_) | BuildError::BadManifest => {
            RootError::BadImage
        }
        BuildError::NoSuchMemory | BuildError::Kernel(_) => RootError::Unsupported,
    }
}

#[cfg(test)]
mod tests;
