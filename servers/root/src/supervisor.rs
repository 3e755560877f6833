//! The running system: which programs run, which died, and what happens then.
//!
//! Owns every instance of every program. The present time is an argument, log lines and the
//! archive's files come through traits, and all effects go through [`Kernel`]. How runs end stands
//! in [`endings`].

mod endings;

use crate::builder::{self, Order};
use crate::error::BuildError;
use crate::fixed::Fixed;
use crate::kernel::Kernel;
use crate::machine::Machine;
use crate::resources::Resources;
use crate::restart::History;
use crate::run::Run;
use alloc::borrow::ToOwned;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;
use libcap::capability::SchedContext;
use proto::boot::{ArchiveError, Callee, Manifest, Program, StartWhen};
use proto::root::{Ending, Pid};
use sel4_sys::CapRights;

/// How often callers of a server that is down for good are told so, in microseconds: nobody should
/// wait long for what will not come, and nobody who asks again at once should keep root busy.
const SWEEP_US: u64 = 1_000_000;

/// The programs' files.
pub trait Files {
    /// The file at `path`.
    ///
    /// # Errors
    /// It is missing or damaged.
    fn file(&self, path: &str) -> Result<&[u8], ArchiveError>;
}

impl Files for proto::boot::Archive<'_> {
    fn file(&self, path: &str) -> Result<&[u8], ArchiveError> {
        Self::file(self, path)
    }
}

/// Where log lines go.
pub trait Log {
    /// Writes one line.
    fn line(&mut self, line: fmt::Arguments<'_>);
}

/// What an instance is doing.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every instance runs, and the table of them never moves"
)]
pub enum State {
    /// It never ran.
    Never,
    /// It runs.
    Running(Run),
    /// It died, and runs again from that time on, in microseconds.
    Waiting(u64),
    /// It ended.
    Ended(Ending),
}

/// An instance of a program.
#[derive(Debug)]
pub struct Instance {
    /// What it does.
    pub state: State,
    /// Number of its last run.
    pub pid: Pid,
    /// What it last reported.
    pub status: u32,
    /// Its restarts.
    pub history: History,
    /// The arguments that its last run was started with.
    pub args: Vec<u8>,
    /// Guest memory that its last run was started with, in bytes.
    pub guest_bytes: u64,
}

/// Root itself, as others see it.
#[derive(Debug)]
pub struct Own {
    /// Memory of its objects that outlive programs, in bytes.
    pub bytes: u64,
    /// Its scheduling context.
    pub context: SchedContext,
    /// CPU time that was read from that so far, in microseconds.
    pub cpu_us: u64,
}

/// Names an instance: index of the program, and instance number.
pub type Place = (u16, u16);

/// The running system.
#[derive(Debug)]
pub struct Supervisor<K, F, L> {
    /// What programs are built from.
    pub resources: Resources<K>,
    /// The system.
    pub manifest: Manifest,
    /// What outlives runs.
    pub fixed: Fixed,
    /// The machine.
    pub machine: Machine,
    /// Root itself.
    pub own: Own,
    files: F,
    log: L,
    instances: Vec<Vec<Instance>>,
    next_pid: Pid,
    /// When callers of servers that are down for good are told next.
    next_sweep_us: u64,
}

impl<K: Kernel, F: Files, L: Log> Supervisor<K, F, L> {
    /// A system in which nothing runs yet.
    #[must_use]
    pub fn new(
        resources: Resources<K>,
        manifest: Manifest,
        fixed: Fixed,
        machine: Machine,
        own: Own,
        files: F,
        log: L,
    ) -> Self {
        let instance = |_| Instance {
            state: State::Never,
            pid: 0,
            status: 0,
            history: History::default(),
            args: Vec::new(),
            guest_bytes: 0,
        };
        let all = |program: &Program| (0..program.instances).map(instance).collect();
        let instances = manifest.programs.iter().map(all).collect();
        Self {
            resources,
            manifest,
            fixed,
            machine,
            own,
            files,
            log,
            instances,
            next_pid: 1,
            next_sweep_us: 0,
        }
    }

    /// Starts whatever starts at boot. A program that cannot be built is logged and left out.
    pub fn start_at_boot(&mut self, now_us: u64) {
        for index in 0..self.manifest.programs.len() as u16 {
            let program = &self.manifest.programs[usize::from(index)];
            if program.start == StartWhen::AtBoot {
                // Its failure stands in the log.
                let _ = self.run((index, 0), now_us);
            }
        }
    }

    /// Starts an instance with these arguments. It must not run.
    ///
    /// # Errors
    /// Any [`BuildError`]; nothing is left of the attempt.
    pub fn start(
        &mut self,
        place: Place,
        args: Vec<u8>,
        guest_bytes: u64,
        now_us: u64,
    ) -> Result<Pid, BuildError> {
        let instance = self.instance_mut(place).ok_or(BuildError::BadManifest)?;
        instance.args = args;
        instance.guest_bytes = guest_bytes;
        instance.history.forgive();
        self.run(place, now_us)
    }

    /// Starts an instance as it was started last, at once.
    ///
    /// # Errors
    /// Any [`BuildError`].
    pub fn restart(&mut self, place: Place, now_us: u64) -> Result<Pid, BuildError> {
        self.end(place, Ending::Stopped);
        if let Some(instance) = self.instance_mut(place) {
            instance.history.forgive();
        }
        self.run(place, now_us)
    }

    /// Does what is due: starts instances whose wait is over, and tells those who called a server
    /// that is down for good.
    pub fn tick(&mut self, now_us: u64) {
        if now_us >= self.next_sweep_us {
            self.next_sweep_us = now_us + SWEEP_US;
            for program in self.servers_down() {
                self.tell_callers(program);
            }
        }
        for place in self.places() {
            let due = self.instance(place).is_some_and(
                |instance| matches!(instance.state, State::Waiting(at_us) if at_us <= now_us),
            );
            if due && self.run(place, now_us).is_ok() {
                let name = self.name(place);
                self.log.line(format_args!("{name} runs again"));
            }
        }
    }

    /// When [`Self::tick`] has something to do next, in microseconds.
    #[must_use]
    pub fn next_due_us(&self) -> Option<u64> {
        let sweep = (!self.servers_down().is_empty()).then_some(self.next_sweep_us);
        let waits = self
            .instances
            .iter()
            .flatten()
            .filter_map(|instance| match instance.state {
                State::Waiting(at_us) => Some(at_us),
                _ => None,
            });
        waits.chain(sweep).min()
    }

    /// Whether nobody reads root's log: its reader has not started yet, or is down for good.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        let log = self
            .manifest
            .channels
            .iter()
            .find(|channel| channel.from == Callee::Root);
        let reader = log.and_then(|channel| self.instance((channel.to, 0)));
        reader.is_none_or(|reader| matches!(reader.state, State::Never | State::Ended(_)))
    }

    /// An instance.
    #[must_use]
    pub fn instance(&self, place: Place) -> Option<&Instance> {
        self.instances
            .get(usize::from(place.0))?
            .get(usize::from(place.1))
    }

    /// An instance, to be changed.
    pub fn instance_mut(&mut self, place: Place) -> Option<&mut Instance> {
        self.instances
            .get_mut(usize::from(place.0))?
            .get_mut(usize::from(place.1))
    }

    /// Every instance, in the manifest's order.
    #[must_use]
    pub fn places(&self) -> Vec<Place> {
        let numbers = self.instances.iter().zip(0..);
        numbers
            .flat_map(|(all, program)| (0..all.len() as u16).map(move |number| (program, number)))
            .collect()
    }

    /// The instance whose last run was `pid`.
    #[must_use]
    pub fn place_of(&self, pid: Pid) -> Option<Place> {
        let last = |place: &Place| {
            self.instance(*place)
                .is_some_and(|i| i.pid == pid && pid != 0)
        };
        self.places().into_iter().find(last)
    }

    /// CPU time of root itself, in microseconds.
    pub fn own_cpu_us(&mut self) -> u64 {
        self.own.cpu_us += self
            .resources
            .kernel
            .consumed_us(self.own.context)
            .unwrap_or(0);
        self.own.cpu_us
    }

    /// CPU time of an instance's run, in microseconds.
    pub fn cpu_us(&mut self, place: Place) -> u64 {
        let Self {
            instances,
            resources,
            ..
        } = self;
        let all = instances.get_mut(usize::from(place.0));
        match all.and_then(|all| all.get_mut(usize::from(place.1))) {
            Some(Instance {
                state: State::Running(run),
                ..
            }) => run.cpu_us(resources),
            _ => 0,
        }
    }

    /// Sets bits of an instance's `wake` badge.
    ///
    /// # Errors
    /// `OutOfSlots`, or the kernel's refusal.
    pub fn signal(&mut self, place: Place, bits: u64) -> Result<(), BuildError> {
        let Self {
            resources, fixed, ..
        } = self;
        let wakes = fixed
            .wakes
            .get(usize::from(place.0))
            .ok_or(BuildError::BadManifest)?;
        let wake = *wakes
            .get(usize::from(place.1))
            .ok_or(BuildError::BadManifest)?;
        let (spare, wake) = (
            resources.cspace.slot(fixed.spare),
            resources.cspace.slot(wake),
        );
        resources.kernel.mint(spare, wake, CapRights::WRITE, bits)?;
        resources
            .kernel
            .signal(Run::notification(resources, fixed.spare));
        resources.kernel.delete(spare)?;
        Ok(())
    }

    /// Writes a line into the log.
    pub fn say(&mut self, line: fmt::Arguments<'_>) {
        self.log.line(line);
    }

    /// The name of an instance, as the log shows it.
    #[must_use]
    pub fn name(&self, (program, instance): Place) -> String {
        match self.manifest.programs.get(usize::from(program)) {
            Some(program) if program.instances > 1 => {
                alloc::format!("{}.{instance}", program.name)
            }
            Some(program) => program.name.clone(),
            None => "nobody".to_owned(),
        }
    }

    /// Builds a run of an instance that has none.
    fn run(&mut self, place: Place, now_us: u64) -> Result<Pid, BuildError> {
        let built = self.build(place);
        let pid = self.next_pid;
        let name = self.name(place);
        let instance = self
            .instances
            .get_mut(usize::from(place.0))
            .and_then(|all| all.get_mut(usize::from(place.1)))
            .ok_or(BuildError::BadManifest)?;
        instance.status = 0;
        match built {
            Ok(run) => {
                instance.pid = pid;
                instance.state = State::Running(run);
                instance.history.started(now_us);
                self.next_pid += 1;
                Ok(pid)
            }
            Err(error) => {
                instance.state = State::Ended(Ending::NotBuilt);
                self.log
                    .line(format_args!("error: {name} cannot be built: {error:?}"));
                Err(error)
            }
        }
    }

    fn build(&mut self, place: Place) -> Result<Run, BuildError> {
        let Self {
            resources,
            manifest,
            fixed,
            machine,
            files,
            instances,
            next_pid,
            ..
        } = self;
        let program = manifest
            .programs
            .get(usize::from(place.0))
            .ok_or(BuildError::BadManifest)?;
        let instance = instances
            .get(usize::from(place.0))
            .and_then(|all| all.get(usize::from(place.1)))
            .ok_or(BuildError::BadManifest)?;
        let screen = screen_args(program, fixed, machine);
        let order = Order {
            manifest,
            fixed,
            machine,
            program: place.0,
            instance: place.1,
            pid: *next_pid,
            file: files.file(&program.image)?,
            args: screen.as_deref().unwrap_or(&instance.args),
            guest_bytes: instance.guest_bytes,
        };
        builder::build(order, resources)
    }
}

/// The arguments of the program that drives the frame buffer: how its pixels lie.
fn screen_args(program: &Program, fixed: &Fixed, machine: &Machine) -> Option<Vec<u8>> {
    let has_memory = |device: u16| {
        fixed
            .devices
            .get(usize::from(device))
            .is_some_and(|caps| caps.memory.is_some())
    };
    let drives = program.devices.iter().any(|grant| has_memory(grant.device));
    let framebuffer = machine.framebuffer.filter(|_| drives)?;
    postcard::to_allocvec(&framebuffer.screen).ok()
}

#[cfg(test)]
pub(crate) mod tests;
