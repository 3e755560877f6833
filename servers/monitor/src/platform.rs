//! The board: which device sits at which port and address, and how its line is wired.
//!
//! One access comes in, at most one device is touched, its interrupt line is looked at again, and
//! what the access asked of the machine as a whole (a reset, power off) is kept for
//! [`crate::machine`]. An access that nobody claims reads all ones, as on a PC.

mod memory;
mod ports;

use serde::{Deserialize, Serialize};

use crate::device::Line;
use crate::device::acpi_power::AcpiPower;
use crate::device::keyboard_controller::KeyboardController;
use crate::device::pci::PciBus;
use crate::device::pit::Pit;
use crate::device::real_time_clock::RealTimeClock;
use crate::device::uart::Uart;
use crate::interrupts::Interrupts;
use crate::time::{Ticks, TimeBase, earliest};

/// First port of COM1.
pub const COM1_PORT: u16 = 0x3f8;
/// Interrupt line of COM1.
pub const COM1_IRQ: u8 = 4;
/// Interrupt line of the real-time clock.
pub const RTC_IRQ: u8 = 8;
/// Interrupt line of ACPI events.
pub const SCI_IRQ: u8 = 9;
/// Interrupt line of the PIT.
pub const PIT_IRQ: u8 = 0;
/// Port that ends the VM when written: for guests that test something.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;
/// Reset control register.
pub const RESET_PORT: u16 = 0xcf9;
/// Value of [`RESET_PORT`] that resets.
pub const RESET_VALUE: u8 = 0x06;
/// Registers of the I/O APIC.
pub const IO_APIC_ADDRESS: u64 = 0xfec0_0000;

/// What a guest asked of the machine as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MachineRequest {
    /// Reset everything.
    Reset,
    /// Switch off (S5).
    PowerOff,
    /// Write to the debug-exit port.
    DebugExit(u32),
}

/// All devices but those inside the CPUs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Platform {
    /// Interrupt controllers.
    pub interrupts: Interrupts,
    /// COM1.
    pub uart: Uart,
    pit: Pit,
    clock: RealTimeClock,
    power: AcpiPower,
    keyboard: KeyboardController,
    pci: PciBus,
    /// A20 bit of port 0x92, which only remembers: address line 20 is always open.
    system_control: u8,
    reset_control: u8,
    request: Option<MachineRequest>,
    /// The guest accessed the serial port since [`Platform::take_console_activity`].
    console_touched: bool,
    /// A device with a deadline changed since [`Platform::take_timer_activity`].
    timers_touched: bool,
}

impl Platform {
    /// A board with `vcpus` CPUs whose clock shows `epoch_seconds` (since 1970) at machine time
    /// zero.
    #[must_use]
    pub fn new(vcpus: usize, base: TimeBase, epoch_seconds: i64) -> Self {
        Self {
            interrupts: Interrupts::new(vcpus, base),
            uart: Uart::default(),
            pit: Pit::new(base),
            clock: RealTimeClock::new(base, epoch_seconds),
            power: AcpiPower::new(base),
            keyboard: KeyboardController::default(),
            pci: PciBus::default(),
            system_control: 0x02,
            reset_control: 0,
            request: None,
            console_touched: false,
            timers_touched: true,
        }
    }

    /// What the guest asked of the machine since the last call.
    pub fn take_request(&mut self) -> Option<MachineRequest> {
        self.request.take()
    }

    /// Notes a request, unless there is one: what came first counts.
    fn note(&mut self, request: MachineRequest) {
        self.request.get_or_insert(request);
    }

    /// There may be bytes to move between the serial port and the console.
    pub fn note_console_activity(&mut self) {
        self.console_touched = true;
    }

    /// Whether the guest accessed the serial port since the last call.
    pub fn take_console_activity(&mut self) -> bool {
        core::mem::take(&mut self.console_touched)
    }

    /// Whether [`Platform::deadline`] may have changed since the last call.
    pub fn take_timer_activity(&mut self) -> bool {
        core::mem::take(&mut self.timers_touched)
    }

    /// Lets devices do what is due by `now`.
    pub fn advance(&mut self, now: Ticks) {
        self.timers_touched = true;
        if self.pit.advance(now) {
            // The line may have been high since the last period: an edge needs a fall.
            self.interrupts.set_isa_line(PIT_IRQ, Line::Low);
            self.interrupts.set_isa_line(PIT_IRQ, Line::High);
        }
        self.clock.advance(now);
        self.power.advance(now);
        self.update_lines();
    }

    /// When [`Platform::advance`] has something to do next.
    #[must_use]
    pub fn deadline(&self, now: Ticks) -> Option<Ticks> {
        let timers = earliest(self.pit.deadline(), self.power.deadline());
        earliest(timers, self.clock.deadline(now))
    }

    /// Somebody pressed the power button.
    pub fn press_power_button(&mut self) {
        self.power.press_power_button();
        self.update_lines();
    }

    /// Looks at the lines of the devices whose registers were accessed from outside.
    pub fn update_lines(&mut self) {
        self.interrupts.set_isa_line(COM1_IRQ, self.uart.line());
        self.interrupts.set_isa_line(RTC_IRQ, self.clock.line());
        self.interrupts.set_isa_line(SCI_IRQ, self.power.line());
    }
}

#[cfg(test)]
mod tests;
