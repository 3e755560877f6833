//! The devices of the machine, each a plain serialisable value.
//!
//! A device knows its registers and nothing else: time comes in as [`crate::time::Ticks`], its
//! interrupt line is a question that the platform asks after each access, and its next deadline
//! is another. So a device's whole state can be written to a snapshot, and every device is
//! tested by itself. Which ports and addresses they sit at is [`crate::platform`]'s business.

pub mod acpi_power;
pub mod interrupt_message;
pub mod io_apic;
pub mod keyboard_controller;
pub mod local_apic;
pub mod pci;
pub mod pic;
pub mod pit;
pub mod real_time_clock;
pub mod uart;

use serde::{Deserialize, Serialize};

/// Whether an interrupt line is asserted. Polarity is the wiring's business, not the device's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Line {
    /// Not asserted.
    #[default]
    Low,
    /// Asserted.
    High,
}

impl Line {
    /// High if `asserted` holds.
    #[must_use]
    pub fn asserted_if(asserted: impl FnOnce() -> bool) -> Self {
        if asserted() { Line::High } else { Line::Low }
    }

    /// Whether it is high.
    #[must_use]
    pub fn is_high(self) -> bool {
        self == Line::High
    }
}
