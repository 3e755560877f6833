//! The state that all virtual CPUs of a VM share, and the decision what each of them does next.
//!
//! Everything here is plain data behind one lock, which the owner of the threads chooses
//! ([`MachineLock`]). [`Machine::decide`] is the only place that knows the rules of interrupt
//! delivery, of HLT and of INIT and start-up messages. How a decision is carried out is
//! [`crate::runner`]'s business.

use sel4_sys::Event;
use serde::{Deserialize, Serialize};

use crate::interrupts::{MAXIMUM_VCPUS, StartSignal, VcpuSet};
use crate::outcome::{ResetCause, VmEvent};
use crate::platform::{MachineRequest, Platform};
use crate::time::{Ticks, TimeBase};

/// Exclusive access to the machine, however the threads are made.
pub trait MachineLock {
    /// Runs `action` with the machine, alone.
    fn with<R>(&self, action: impl FnOnce(&mut Machine) -> R) -> R;
}

/// Whether output found no room in the console.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// All of it was written.
    None,
    /// Some of it waits.
    Waits,
}

/// What a VCPU is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Activity {
    /// Waits for a start-up message.
    AwaitsStartup,
    /// Runs.
    Running,
    /// Executed HLT.
    Halted,
}

/// What a VCPU could take now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Readiness {
    /// RFLAGS.IF.
    pub interrupts_enabled: bool,
    /// In the shadow of STI or MOV SS.
    pub in_shadow: bool,
    /// An NMI is being handled.
    pub nmi_blocked: bool,
    /// Another event goes first: one whose delivery was broken off, or an exception.
    pub event_pending: bool,
}

/// What a VCPU does next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Enters the guest.
    Enter {
        /// Event to inject.
        event: Option<Event>,
        /// Ask for an exit when interrupts can be taken: one more waits.
        window: bool,
    },
    /// Sleeps until its bell rings.
    Sleep,
    /// Takes the state after a start-up message with this page, then asks again.
    Start(u8),
    /// The VM is over.
    Stop(VmEvent),
}

/// The shared state.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Machine {
    /// The devices.
    pub platform: Platform,
    activity: [Activity; MAXIMUM_VCPUS],
    ended: Option<VmEvent>,
    /// What the service thread's timer is set to. Not part of the machine, so not of a snapshot;
    /// nor is the next field.
    #[serde(skip)]
    timer_set: Option<Ticks>,
    /// When output that was written but not announced is announced, or more is tried.
    #[serde(skip)]
    console_deadline: Option<Ticks>,
}

impl Machine {
    /// A machine at reset: VCPU 0 runs, the others wait for a start-up message.
    #[must_use]
    pub fn new(vcpus: usize, base: TimeBase, epoch_seconds: i64) -> Self {
        let mut activity = [Activity::AwaitsStartup; MAXIMUM_VCPUS];
        activity[0] = Activity::Running;
        Self {
            platform: Platform::new(vcpus, base, epoch_seconds),
            activity,
            ended: None,
            timer_set: None,
            console_deadline: None,
        }
    }

    /// What VCPU `index` is doing.
    #[must_use]
    pub fn activity(&self, index: usize) -> Activity {
        self.activity[index % MAXIMUM_VCPUS]
    }

    /// VCPU `index` executed HLT.
    pub fn halt(&mut self, index: usize) {
        self.activity[index % MAXIMUM_VCPUS] = Activity::Halted;
    }

    /// How the VM ended, if it did.
    #[must_use]
    pub fn ended(&self) -> Option<VmEvent> {
        self.ended
    }

    /// Ends the VM, unless it ended before: what came first counts.
    pub fn end(&mut self, event: VmEvent) {
        self.ended.get_or_insert(event);
    }

    /// What the service thread's timer must be set to, if it is not yet set to that or earlier.
    pub fn timer_to_set(&mut self, wanted: Option<Ticks>, now: Ticks) -> Option<Ticks> {
        let deadline = wanted?;
        let is_set = self
            .timer_set
            .is_some_and(|set| set <= deadline && set > now);
        if is_set {
            return None;
        }
        self.timer_set = Some(deadline);
        Some(deadline)
    }

    /// When the console wants attention.
    #[must_use]
    pub fn console_deadline(&self) -> Option<Ticks> {
        self.console_deadline
    }

    /// Notes how far the console got: the last byte written, and whether more waits. True if the
    /// console should be told now: at the end of a line, when it is full, and when earlier output
    /// has waited until `now`; else `later`.
    pub fn console_progress(
        &mut self,
        last: Option<u8>,
        backlog: Backlog,
        now: Ticks,
        later: Ticks,
    ) -> bool {
        let waited = self
            .console_deadline
            .is_some_and(|deadline| deadline <= now);
        let is_stuck = backlog == Backlog::Waits;
        let tell = last == Some(b'\n') || is_stuck || waited;
        if tell {
            self.console_deadline = is_stuck.then_some(later);
        } else if last.is_some() {
            self.console_deadline.get_or_insert(later);
        }
        tell
    }

    /// Those to be woken after an access, and with them the end of the VM if a device asked for it.
    pub fn take_attention(&mut self) -> VcpuSet {
        match self.platform.take_request() {
            Some(MachineRequest::Reset) => self.end(VmEvent::Reset(ResetCause::Requested)),
            Some(MachineRequest::PowerOff) => self.end(VmEvent::PowerOff),
            Some(MachineRequest::DebugExit(value)) => self.end(VmEvent::DebugExit(value)),
            None => {}
        }
        let attention = self.platform.interrupts.take_attention();
        if self.ended.is_some() {
            return VcpuSet::first(self.platform.interrupts.vcpus());
        }
        attention
    }

    /// What VCPU `index` does next, given what it could take.
    pub fn decide(&mut self, index: usize, now: Ticks, readiness: Readiness) -> Decision {
        if let Some(event) = self.ended {
            return Decision::Stop(event);
        }
        while let Some(signal) = self.platform.interrupts.take_start_signal(index) {
            if let Some(decision) = self.start_signal(index, signal) {
                return decision;
            }
        }
        if self.activity(index) == Activity::AwaitsStartup {
            return Decision::Sleep;
        }
        self.platform.interrupts.advance(index, now);
        let interrupts = &self.platform.interrupts;
        if self.activity(index) == Activity::Halted {
            let maskable = readiness.interrupts_enabled && interrupts.has_maskable(index);
            if !maskable && !interrupts.has_nmi(index) && !readiness.event_pending {
                return Decision::Sleep;
            }
            self.activity[index % MAXIMUM_VCPUS] = Activity::Running;
        }
        let event = self.take_event(index, readiness);
        Decision::Enter {
            event,
            window: self.platform.interrupts.has_maskable(index),
        }
    }

    /// The event that is to be injected now: NMI before maskable interrupts, nothing into a shadow.
    fn take_event(&mut self, index: usize, readiness: Readiness) -> Option<Event> {
        if readiness.event_pending || readiness.in_shadow {
            return None;
        }
        let interrupts = &mut self.platform.interrupts;
        if interrupts.has_nmi(index) && !readiness.nmi_blocked {
            interrupts.take_nmi(index);
            return Some(Event::nmi());
        }
        if !readiness.interrupts_enabled {
            return None;
        }
        interrupts.acknowledge(index).map(Event::interrupt)
    }

    fn start_signal(&mut self, index: usize, signal: StartSignal) -> Option<Decision> {
        let activity = &mut self.activity[index % MAXIMUM_VCPUS];
        match signal {
            // INIT sends the boot CPU to the reset vector, where a machine without firmware has
            // nothing: that is a reset.
            StartSignal::Init if index == 0 => {
                let event = VmEvent::Reset(ResetCause::Requested);
                self.end(event);
                Some(Decision::Stop(event))
            }
            StartSignal::Init => {
                *activity = Activity::AwaitsStartup;
                None
            }
            StartSignal::Startup(page) if *activity == Activity::AwaitsStartup => {
                *activity = Activity::Running;
                Some(Decision::Start(page))
            }
            // A CPU that runs ignores the second message of the usual pair.
            StartSignal::Startup(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::interrupt_message::{Delivery, Destination, InterruptMessage, Trigger};
    use crate::device::local_apic::register;

    const NOW: Ticks = Ticks(0);
    const READY: Readiness = Readiness {
        interrupts_enabled: true,
        in_shadow: false,
        nmi_blocked: false,
        event_pending: false,
    };
    const NOTHING: Decision = Decision::Enter {
        event: None,
        window: false,
    };

    fn machine() -> Machine {
        Machine::new(2, TimeBase::new(1_000_000).unwrap(), 0)
    }

    fn send(machine: &mut Machine, index: u32, delivery: Delivery, vector: u8) {
        let message = InterruptMessage {
            destination: Destination::Physical(index),
            delivery,
            trigger: Trigger::Edge,
            vector,
        };
        machine.platform.interrupts.deliver(message, None);
    }

    #[test]
    fn a_ready_cpu_gets_its_interrupt() {
        let mut machine = machine();
        assert_eq!(machine.decide(0, NOW, READY), NOTHING);
        send(&mut machine, 0, Delivery::Fixed, 0x50);
        assert_eq!(
            machine.decide(0, NOW, READY),
            Decision::Enter {
                event: Some(Event::interrupt(0x50)),
                window: false
            }
        );
    }

    #[test]
    fn an_interrupt_waits_for_its_window() {
        for unready in [
            Readiness {
                interrupts_enabled: false,
                ..READY
            },
            Readiness {
                in_shadow: true,
                ..READY
            },
            Readiness {
                event_pending: true,
                ..READY
            },
        ] {
            let mut machine = machine();
            send(&mut machine, 0, Delivery::Fixed, 0x50);
            let waiting = Decision::Enter {
                event: None,
                window: true,
            };
            assert_eq!(machine.decide(0, NOW, unready), waiting, "{unready:?}");
            assert!(
                machine.platform.interrupts.has_maskable(0),
                "nothing was lost"
            );
        }
    }

    #[test]
    fn nmi_goes_first_and_ignores_the_interrupt_flag() {
        let mut machine = machine();
        send(&mut machine, 0, Delivery::Fixed, 0x50);
        send(&mut machine, 0, Delivery::Nmi, 0);
        let blocked = Readiness {
            nmi_blocked: true,
            interrupts_enabled: false,
            ..READY
        };
        let closed = Readiness {
            interrupts_enabled: false,
            ..READY
        };
        assert_eq!(
            machine.decide(0, NOW, blocked),
            Decision::Enter {
                event: None,
                window: true
            }
        );
        assert_eq!(
            machine.decide(0, NOW, closed),
            Decision::Enter {
                event: Some(Event::nmi()),
                window: true
            }
        );
    }

    #[test]
    fn halt_ends_with_an_interrupt_that_can_be_taken() {
        let mut machine = machine();
        machine.halt(0);
        assert_eq!(machine.decide(0, NOW, READY), Decision::Sleep);
        send(&mut machine, 0, Delivery::Fixed, 0x50);
        let closed = Readiness {
            interrupts_enabled: false,
            ..READY
        };
        assert_eq!(machine.decide(0, NOW, closed), Decision::Sleep);
        assert!(matches!(
            machine.decide(0, NOW, READY),
            Decision::Enter { event: Some(_), .. }
        ));
        assert_eq!(machine.activity(0), Activity::Running);
    }

    #[test]
    fn the_local_timer_wakes_a_halted_cpu() {
        let mut machine = machine();
        let apic = machine.platform.interrupts.local_mut(0);
        apic.write(register::LVT_TIMER, 0xec, NOW).unwrap();
        apic.write(register::INITIAL_COUNT, 100, NOW).unwrap();
        let deadline = apic.deadline().unwrap();
        machine.halt(0);
        assert_eq!(machine.decide(0, NOW, READY), Decision::Sleep);
        assert_eq!(
            machine.decide(0, deadline, READY),
            Decision::Enter {
                event: Some(Event::interrupt(0xec)),
                window: false
            }
        );
    }

    #[test]
    fn a_second_cpu_waits_for_init_and_start_up() {
        let mut machine = machine();
        assert_eq!(machine.decide(1, NOW, READY), Decision::Sleep);
        send(&mut machine, 1, Delivery::Fixed, 0x50);
        assert_eq!(machine.decide(1, NOW, READY), Decision::Sleep);
        send(&mut machine, 1, Delivery::Init, 0);
        send(&mut machine, 1, Delivery::Startup, 0x9a);
        assert_eq!(machine.decide(1, NOW, READY), Decision::Start(0x9a));
        assert_eq!(machine.decide(1, NOW, READY), NOTHING);
        send(&mut machine, 1, Delivery::Startup, 0x9b);
        assert_eq!(machine.decide(1, NOW, READY), NOTHING, "it runs already");
        send(&mut machine, 1, Delivery::Init, 0);
        assert_eq!(machine.decide(1, NOW, READY), Decision::Sleep);
    }

    #[test]
    fn an_init_of_the_boot_cpu_is_a_reset() {
        let mut machine = machine();
        send(&mut machine, 0, Delivery::Init, 0);
        let reset = VmEvent::Reset(ResetCause::Requested);
        assert_eq!(machine.decide(0, NOW, READY), Decision::Stop(reset));
        assert_eq!(machine.decide(1, NOW, READY), Decision::Stop(reset));
    }

    #[test]
    fn the_console_is_told_of_lines_and_of_what_waited() {
        let mut machine = machine();
        let (now, later) = (Ticks(5), Ticks(10));
        assert!(!machine.console_progress(Some(b'a'), Backlog::None, now, later));
        assert!(!machine.console_progress(Some(b'b'), Backlog::None, Ticks(7), Ticks(12)));
        assert_eq!(machine.console_deadline(), Some(later), "the first byte's");
        assert!(machine.console_progress(None, Backlog::None, later, Ticks(15)));
        assert_eq!(machine.console_deadline(), None);
        assert!(machine.console_progress(Some(b'\n'), Backlog::None, now, later));
        assert!(machine.console_progress(None, Backlog::Waits, now, later));
        assert_eq!(
            machine.console_deadline(),
            Some(later),
            "more is tried then"
        );
    }

    #[test]
    fn the_first_end_counts_and_everybody_hears_of_it() {
        let mut machine = machine();
        machine
            .platform
            .write_port(0x604, crate::exit::AccessSize::Word, 0x3400, NOW);
        machine
            .platform
            .write_port(0xcf9, crate::exit::AccessSize::Byte, 6, NOW);
        assert!(machine.take_attention().iter().eq([0, 1]));
        machine.end(VmEvent::DebugExit(1));
        assert_eq!(machine.ended(), Some(VmEvent::PowerOff));
    }
}
