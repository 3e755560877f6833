//! One VM as its threads share it: memory, the machine behind its lock, the bells, and the system
//! around it.
//!
//! [`VirtualMachine::access`] is the one way to the devices. After each access it carries out what
//! the access left behind: bytes for the console, a timer to set, other VCPUs to wake.

use crate::bell::Bell;
use crate::host::Host;
use crate::interrupts::{MAXIMUM_VCPUS, VcpuSet};
use crate::machine::{Backlog, Machine, MachineLock};
use crate::memory::GuestMemory;
use crate::outcome::VmEvent;
use crate::time::{ClockRatio, Ticks, TimeBase, earliest};

/// Output that does not end a line is shown after this long, and a console that had no room is
/// tried again: short beside what a person sees, long beside what a signal costs.
const CONSOLE_DELAY_NS: u64 = 2_000_000;

/// A VM.
#[derive(Debug)]
pub struct VirtualMachine<'m, L, H> {
    memory: GuestMemory<'m>,
    machine: L,
    host: H,
    bells: [Bell; MAXIMUM_VCPUS],
    base: TimeBase,
    pm_timer: ClockRatio,
    console_delay: Ticks,
    epoch_seconds: u32,
}

/// What has to be done after the lock was given back.
struct Aftermath {
    attention: VcpuSet,
    flush_console: bool,
    /// The VM ended by this access.
    ended: bool,
}

impl<'m, L: MachineLock, H: Host> VirtualMachine<'m, L, H> {
    /// A VM over its parts. `epoch_seconds` is the wall clock at machine time zero.
    pub fn new(
        memory: GuestMemory<'m>,
        machine: L,
        host: H,
        base: TimeBase,
        epoch_seconds: u32,
    ) -> Self {
        Self {
            memory,
            machine,
            host,
            bells: core::array::from_fn(|_| Bell::default()),
            base,
            pm_timer: base.ratio(crate::device::acpi_power::FREQUENCY_HZ),
            console_delay: base.ticks_from_ns(CONSOLE_DELAY_NS),
            epoch_seconds,
        }
    }

    /// RAM.
    pub fn memory(&self) -> GuestMemory<'m> {
        self.memory
    }

    /// The system around the VM.
    pub fn host(&self) -> &H {
        &self.host
    }

    /// Time base.
    pub fn base(&self) -> TimeBase {
        self.base
    }

    /// Wall clock at machine time zero.
    pub fn epoch_seconds(&self) -> u32 {
        self.epoch_seconds
    }

    /// Bell of VCPU `index`.
    pub fn bell(&self, index: usize) -> &Bell {
        &self.bells[index % MAXIMUM_VCPUS]
    }

    /// The PM timer, which needs no lock: it follows from the time alone.
    pub fn pm_timer(&self) -> u32 {
        self.pm_timer.count(self.host.now()) as u32
    }

    /// The machine, without looking at what the access leaves behind: for decisions and reports.
    pub fn inspect<R>(&self, action: impl FnOnce(&mut Machine) -> R) -> R {
        self.machine.with(action)
    }

    /// Accesses devices. `caller` is the VCPU whose thread this is, if it is one; the result says
    /// whether that VCPU has something new to look at. All others are woken here.
    pub fn access<R>(
        &self,
        caller: Option<usize>,
        action: impl FnOnce(&mut Machine, Ticks) -> R,
    ) -> (R, bool) {
        let now = self.host.now();
        let (result, aftermath) = self.machine.with(|machine| {
            let ended_before = machine.ended().is_some();
            let result = action(machine, now);
            let mut aftermath = self.conclude(machine, now);
            aftermath.ended &= !ended_before;
            (result, aftermath)
        });
        if aftermath.flush_console {
            self.host.flush_console();
        }
        if aftermath.ended {
            self.host.wake_service();
        }
        let mut own = false;
        if !aftermath.attention.is_empty() {
            for index in aftermath.attention.iter() {
                if Some(index) == caller {
                    own = true;
                } else if self.bell(index).ring() {
                    self.host.wake(index);
                }
            }
        }
        (result, own)
    }

    fn conclude(&self, machine: &mut Machine, now: Ticks) -> Aftermath {
        let touched = machine.platform.take_console_activity();
        let flush_console = touched && self.exchange_console(machine, now);
        if machine.platform.take_timer_activity() || touched {
            let deadline = earliest(machine.platform.deadline(now), machine.console_deadline());
            if let Some(deadline) = machine.timer_to_set(deadline, now) {
                self.host.set_platform_timer(deadline);
            }
        }
        Aftermath {
            attention: machine.take_attention(),
            flush_console,
            ended: machine.ended().is_some(),
        }
    }

    /// Moves bytes between the serial port and the console; true if the console should be told.
    fn exchange_console(&self, machine: &mut Machine, now: Ticks) -> bool {
        let uart = &mut machine.platform.uart;
        let mut last = None;
        while let Some(byte) = uart.peek_output() {
            if !self.host.write_console(byte) {
                break;
            }
            uart.take_output();
            last = Some(byte);
        }
        let backlog = match uart.peek_output() {
            Some(_) => Backlog::Waits,
            None => Backlog::None,
        };
        let mut received = false;
        while uart.can_receive() {
            let Some(byte) = self.host.read_console() else {
                break;
            };
            // There is room: it was just asked for.
            received = uart.receive(byte).is_ok();
        }
        if last.is_some() || received {
            machine.platform.update_lines();
        }
        let retry = now.after(self.console_delay);
        machine.console_progress(last, backlog, now, retry)
    }

    /// What the service thread does whenever it wakes: due timers, console bytes.
    pub fn service(&self) -> Option<VmEvent> {
        let (ended, _) = self.access(None, |machine, now| {
            machine.platform.advance(now);
            machine.platform.note_console_activity();
            machine.ended()
        });
        ended
    }

    /// The power button was pressed.
    pub fn press_power_button(&self) {
        self.access(None, |machine, _| machine.platform.press_power_button());
    }

    /// Ends the VM.
    pub fn end(&self, event: VmEvent) {
        self.access(None, |machine, _| machine.end(event));
    }
}
