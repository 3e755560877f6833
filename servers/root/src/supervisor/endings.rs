//! How runs end: by a fault, by an order, and what becomes of those who called them.

use super::{Files, Instance, Log, Place, State, Supervisor};
use crate::death::InWords;
use crate::kernel::Kernel;
use crate::peers;
use alloc::string::String;
use alloc::vec::Vec;
use proto::boot::{Callee, Program};
use proto::root::{Death, Ending, Pid};
use proto::start::{PANIC_MESSAGE_BYTES_MAX, PANIC_MESSAGE_OFFSET};

/// Most bytes of a program's last words that are logged.
const LAST_WORDS_MAX: usize = 400;

impl<K: Kernel, F: Files, L: Log> Supervisor<K, F, L> {
    /// Ends an instance for good, and tells those who wait for its answers.
    pub fn end(&mut self, place: Place, ending: Ending) {
        self.destroy(place);
        if let Some(instance) = self.instance_mut(place) {
            instance.state = State::Ended(ending);
        }
    }

    /// A run died: its instance is destroyed, and started again if the manifest says so.
    pub fn died(&mut self, place: Place, death: Death, now_us: u64) {
        let Some(program) = self.manifest.programs.get(usize::from(place.0)) else {
            return;
        };
        let (name, policy) = (self.name(place), program.restart);
        let Some(instance) = self.instances[usize::from(place.0)].get_mut(usize::from(place.1))
        else {
            return;
        };
        let pid = instance.pid;
        self.log.line(format_args!(
            "error: {name} (pid {pid}) died: {}",
            InWords(death)
        ));
        let again = instance.history.after_death(policy, now_us);
        self.destroy(place);
        let state = match again {
            Some(at_us) => {
                let wait_ms = (at_us - now_us) / 1000;
                self.log
                    .line(format_args!("{name} is started again in {wait_ms} ms"));
                State::Waiting(at_us)
            }
            None => {
                self.log.line(format_args!("error: {name} stays down"));
                State::Ended(Ending::Died(death))
            }
        };
        if let Some(instance) = self.instance_mut(place) {
            instance.state = state;
        }
    }

    /// A thread of run `pid` faulted. Faults of runs that are gone mean nothing.
    pub fn faulted(&mut self, pid: Pid, thread: u16, death: Death, now_us: u64) {
        let Some(place) = self.place_of(pid) else {
            return;
        };
        if let Some(words) = self.last_words(place, thread) {
            let name = self.name(place);
            self.log.line(format_args!("{name} (pid {pid}): {words}"));
        }
        self.died(place, death, now_us);
    }

    /// Servers that ended and that nothing will start again by itself.
    pub(super) fn servers_down(&self) -> Vec<u16> {
        let is_down = |program: &Program, instances: &[Instance]| {
            let ended = |instance: &Instance| matches!(instance.state, State::Ended(_));
            program.replies > 0 && instances.iter().all(ended)
        };
        let programs = self.manifest.programs.iter().zip(&self.instances).zip(0..);
        let down = programs.filter(|((program, instances), _)| is_down(program, instances));
        down.map(|(_, index)| index).collect()
    }

    /// Destroys the run of an instance, if it has one, and answers its callers.
    pub(super) fn destroy(&mut self, place: Place) {
        let name = self.name(place);
        let Some(instance) = self.instance_mut(place) else {
            return;
        };
        let State::Running(run) = core::mem::replace(&mut instance.state, State::Never) else {
            return;
        };
        if let Err(error) = run.end(&mut self.resources) {
            self.log.line(format_args!(
                "error: {name} was not given back whole: {error:?}"
            ));
        }
        self.tell_callers(place.0);
    }

    /// Answers those who called the program of that index with `PEER_DIED`.
    pub(super) fn tell_callers(&mut self, program: u16) {
        let Self {
            resources,
            manifest,
            fixed,
            instances,
            ..
        } = self;
        let server = &manifest.programs[usize::from(program)].name;
        for (client, all) in manifest.programs.iter().zip(instances) {
            if !client.calls.contains(&Callee::Program(program)) {
                continue;
            }
            for instance in all {
                if let State::Running(run) = &instance.state {
                    peers::tell(run, server, fixed.spare, resources);
                }
            }
        }
    }

    /// What a thread wrote into its IPC buffer page when it panicked.
    fn last_words(&mut self, place: Place, thread: u16) -> Option<String> {
        let Self {
            resources,
            instances,
            fixed,
            ..
        } = self;
        let instance = instances
            .get(usize::from(place.0))?
            .get(usize::from(place.1))?;
        let State::Running(run) = &instance.state else {
            return None;
        };
        let frame = resources
            .cspace
            .slot(run.threads.get(usize::from(thread))?.buffer);
        let spare = resources.cspace.slot(fixed.spare);
        let offset = PANIC_MESSAGE_OFFSET as usize;
        let mut length = [0; 4];
        resources
            .kernel
            .read_frame(frame, spare, offset, &mut length)
            .ok()?;
        let length = usize::try_from(u32::from_le_bytes(length)).ok()?;
        if length == 0 || length > PANIC_MESSAGE_BYTES_MAX {
            return None;
        }
        let mut text = alloc::vec![0; length.min(LAST_WORDS_MAX)];
        resources
            .kernel
            .read_frame(frame, spare, offset + 4, &mut text)
            .ok()?;
        let printable = |c: char| if c.is_control() { ' ' } else { c };
        Some(
            String::from_utf8_lossy(&text)
                .chars()
                .map(printable)
                .collect(),
        )
    }
}
