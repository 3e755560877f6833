//! IRQControl issues the right to handle an interrupt; IRQHandler connects it to a notification.
//!
//! Interrupts come from IOAPIC pins or as messages (MSI). Each has a user vector, 0..=107, which
//! the issuer chooses and which is handed out once.

use super::{Answer, Arguments, Outcome};
use crate::arch::{self, IoApicRoute, IrqMask};
use crate::cap::{Cap, Rights};
use crate::config::{IRQ_USER_BASE, MAX_USER_VECTOR};
use crate::derivation;
use crate::fault::SyscallError;
use crate::finalise;
use crate::kernel::{IrqState, Kernel};
use crate::lookup::{SlotRole, lookup_slot_in};
use crate::object::Slot;
use crate::store::Ref;
use sel4_sys::InvocationLabel;

/// Highest numbers of a PCI bus, of a device on it and of a function in that.
const PCI_BUS_MAX: u64 = 255;
const PCI_DEVICE_MAX: u64 = 31;
const PCI_FUNCTION_MAX: u64 = 7;

/// A handler to issue.
#[derive(Clone, Copy, Debug)]
struct Issue {
    irq: u8,
    destination: Ref<Slot>,
    /// The pin to program; a message comes by itself.
    route: Option<IoApicRoute>,
}

impl Kernel {
    /// The slot with the notification of interrupt `irq`.
    #[must_use]
    pub fn irq_slot(&self, irq: u8) -> Ref<Slot> {
        let slot = &self.irq_slots[usize::from(irq) % self.irq_slots.len()];
        Ref::from_address(core::ptr::from_ref(slot) as usize)
    }

    /// Sets who uses interrupt `irq`; one that nobody uses is masked.
    pub fn set_irq_state(&self, irq: u8, state: IrqState) {
        self.irq_states[usize::from(irq) % self.irq_states.len()].set(state);
        if state == IrqState::Inactive {
            arch::release_irq(irq);
        } else {
            arch::set_irq_mask(irq, IrqMask::Unmasked);
        }
    }
}

/// Serves an invocation of the IRQControl capability in `arguments.slot`.
///
/// # Errors
/// As seL4's reference says for IRQControl with an IOAPIC: Get, for the legacy controller, is an
/// illegal operation.
pub fn invoke_control(kernel: &Kernel, arguments: &Arguments) -> Outcome {
    let issue = decode_issue(kernel, arguments)?;
    if let Some(route) = issue.route {
        arch::route_ioapic(route);
    }
    kernel.set_irq_state(issue.irq, IrqState::Signal);
    derivation::insert(
        Cap::IrqHandler { irq: issue.irq },
        arguments.slot,
        issue.destination,
    );
    Ok(Answer::empty())
}

fn decode_issue(kernel: &Kernel, arguments: &Arguments) -> Result<Issue, SyscallError> {
    let label = InvocationLabel::try_from(arguments.label);
    match label {
        Ok(
            InvocationLabel::X86IrqIssueIrqHandlerIoApic
            | InvocationLabel::X86IrqIssueIrqHandlerMsi,
        ) => {}
        Ok(InvocationLabel::IrqIssueIrqHandler) => {
            arguments.word(2)?;
            arguments.extra_slot(0)?;
            return Err(SyscallError::IllegalOperation);
        }
        _ => return Err(SyscallError::IllegalOperation),
    }
    let vector = arguments.word(6)?;
    let root = arguments.extra_slot(0)?;
    ensure_at_most(vector, MAX_USER_VECTOR)?;
    let irq = IRQ_USER_BASE + vector;
    if kernel.irq_states[irq as usize].get() != IrqState::Inactive {
        return Err(SyscallError::RevokeFirst);
    }
    let (index, depth) = (arguments.word(0)?, arguments.word(1)?);
    let destination = lookup_slot_in(SlotRole::Target, root.cap(), index, depth)?;
    derivation::ensure_empty(destination)?;
    let route = match label {
        Ok(InvocationLabel::X86IrqIssueIrqHandlerIoApic) => Some(decode_route(vector, arguments)?),
        _ => {
            check_message_source(arguments)?;
            None
        }
    };
    Ok(Issue {
        irq: irq as u8,
        destination,
        route,
    })
}

fn decode_route(vector: u64, arguments: &Arguments) -> Result<IoApicRoute, SyscallError> {
    let route = IoApicRoute {
        ioapic: arguments.word(2)?,
        pin: arguments.word(3)?,
        level: arguments.word(4)?,
        polarity: arguments.word(5)?,
        vector,
    };
    let last_ioapic = (0..)
        .take_while(|&index| arch::ioapic_pins(index).is_some())
        .last()
        .ok_or(SyscallError::IllegalOperation)?;
    ensure_at_most(route.ioapic, last_ioapic)?;
    let pins = arch::ioapic_pins(route.ioapic).unwrap_or(0);
    ensure_at_most(route.pin, pins.saturating_sub(1))?;
    ensure_at_most(route.level, 1)?;
    ensure_at_most(route.polarity, 1)?;
    Ok(route)
}

/// Without interrupt remapping nothing enforces who sends the message; only the form is checked.
fn check_message_source(arguments: &Arguments) -> Result<(), SyscallError> {
    ensure_at_most(arguments.word(2)?, PCI_BUS_MAX)?;
    ensure_at_most(arguments.word(3)?, PCI_DEVICE_MAX)?;
    ensure_at_most(arguments.word(4)?, PCI_FUNCTION_MAX)
}

fn ensure_at_most(value: u64, max: u64) -> Result<(), SyscallError> {
    if value > max {
        Err(SyscallError::RangeError { min: 0, max })
    } else {
        Ok(())
    }
}

/// Serves an invocation of a capability to handle interrupt `irq`.
///
/// # Errors
/// As seL4's reference says for the IRQHandler methods.
pub fn invoke_handler(kernel: &Kernel, irq: u8, arguments: &Arguments) -> Outcome {
    match InvocationLabel::try_from(arguments.label) {
        Ok(InvocationLabel::IrqAckIrq) => arch::set_irq_mask(irq, IrqMask::Unmasked),
        Ok(InvocationLabel::IrqSetIrqHandler) => {
            let source = arguments.extra_slot(0)?;
            match source.cap() {
                Cap::Notification(n) if n.rights.contains(Rights::WRITE) => {}
                _ => return Err(SyscallError::InvalidCapability(0).into()),
            }
            let slot = kernel.irq_slot(irq);
            finalise::delete_one(kernel, slot);
            derivation::insert(source.cap(), source, slot);
        }
        Ok(InvocationLabel::IrqClearIrqHandler) => {
            finalise::delete_one(kernel, kernel.irq_slot(irq))
        }
        _ => return Err(SyscallError::IllegalOperation.into()),
    }
    Ok(Answer::empty())
}
