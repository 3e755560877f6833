//! One VM as its threads share it: memory, the machine behind its lock, the bells, and the system
//! around it.
//!
//! [`VirtualMachine::access`] is the one way to the devices. After each access it carries out what
//! the access left behind: bytes for the console, a timer to set, other VCPUs to wake.

use crate::bell::Bell;
use crate::host::Host;
use crate::interrupts::{MAXIMUM_VCPUS, VcpuSet};
use crate::machine::{Machine, MachineLock};
use crate::memory::GuestMemory;
use crate::outcome::VmEvent;
use crate::time::{ClockRatio, Ticks, TimeBase, earliest};

/// When the console had no room, it is tried again after this long: short beside what a person
/// sees, long beside what a try costs.
const CONSOLE_RETRY_NS: u64 = 2_000_000;

/// A VM.
#[derive(Debug)]
pub struct VirtualMachine<'m, L, H> {
    memory: GuestMemory<'m>,
    machine: L,
    host: H,
    bells: [Bell; MAXIMUM_VCPUS],
    base: TimeBase,
    pm_timer: ClockRatio,
    console_retry: Ticks,
    epoch_seconds: u32,
}

/// What has to be done after the lock was given back.
struct Aftermath {
    attention: VcpuSet,
    timer: Option<Ticks>,
    console_written: bool,
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
            console_retry: base.ticks_from_ns(CONSOLE_RETRY_NS),
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
        if aftermath.console_written {
            self.host.flush_console();
        }
        if let Some(deadline) = aftermath.timer {
            self.host.set_platform_timer(deadline);
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
        let mut console_written = false;
        let mut retry = None;
        if machine.platform.take_console_activity() {
            console_written = self.exchange_console(machine);
            let is_stuck = machine.platform.uart.peek_output().is_some();
            retry = is_stuck.then(|| now.after(self.console_retry));
        }
        let deadline = earliest(machine.platform.deadline(now), retry);
        let timer = machine.timer_to_set(deadline, now);
        let attention = machine.take_attention();
        Aftermath {
            attention,
            timer,
            console_written,
            ended: machine.ended().is_some(),
        }
    }

    /// Moves bytes between the serial port and the console; true if any were written.
    fn exchange_console(&self, machine: &mut Machine) -> bool {
        let uart = &mut machine.platform.uart;
        let mut written = false;
        while let Some(byte) = uart.peek_output() {
            if !self.host.write_console(byte) {
                break;
            }
            uart.take_output();
            written = true;
        }
        let mut received = false;
        while uart.can_receive() {
            let Some(byte) = self.host.read_console() else {
                break;
            };
            // There is room: it was just asked for.
            received = uart.receive(byte).is_ok();
        }
        if written || received {
            machine.platform.update_lines();
        }
        written
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
