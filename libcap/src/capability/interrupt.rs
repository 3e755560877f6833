//! Interrupts.

use sel4_sys::InvocationLabel;

use super::{Notification, Slot, capabilities};
use crate::invocation::{KernelError, perform};

capabilities! {
    /// One interrupt.
    IrqHandler,
    /// The right to make interrupt handlers.
    IrqControl,
}

/// When an I/O APIC pin interrupts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trigger {
    /// On the edge.
    Edge,
    /// While the line is active.
    Level,
}

/// Which level of a line is active.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Polarity {
    /// High.
    High,
    /// Low.
    Low,
}

/// A pin of an I/O APIC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoApicPin {
    /// Which I/O APIC.
    pub io_apic: u64,
    /// Which pin of it.
    pub pin: u64,
    /// When it interrupts.
    pub trigger: Trigger,
    /// What it takes for active.
    pub polarity: Polarity,
}

/// A PCI function that interrupts by message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MsiSource {
    /// Bus number.
    pub bus: u64,
    /// Device number.
    pub device: u64,
    /// Function number.
    pub function: u64,
    /// Number of the message, for functions that have several.
    pub handle: u64,
}

impl IrqControl {
    /// Makes the handler of an I/O APIC pin, on `vector` (0..=107).
    ///
    /// # Errors
    /// `RevokeFirst` if the vector is in use, `Range` for pin, I/O APIC or vector, `DeleteFirst`
    /// if the slot is taken.
    pub fn io_apic(
        self,
        pin: &IoApicPin,
        vector: u64,
        destination: Slot,
    ) -> Result<(), KernelError> {
        let level = match pin.trigger {
            Trigger::Edge => 0,
            Trigger::Level => 1,
        };
        let low = match pin.polarity {
            Polarity::High => 0,
            Polarity::Low => 1,
        };
        let slot = [destination.index, u64::from(destination.depth)];
        let words = [slot[0], slot[1], pin.io_apic, pin.pin, level, low, vector];
        let label = InvocationLabel::X86IrqIssueIrqHandlerIoApic;
        perform(self.cptr(), label, &words, &[destination.root.cptr()])
    }

    /// Makes the handler of a message interrupt, on `vector` (0..=107).
    ///
    /// # Errors
    /// `RevokeFirst` if the vector is in use, `Range`, `DeleteFirst` if the slot is taken.
    pub fn msi(
        self,
        source: &MsiSource,
        vector: u64,
        destination: Slot,
    ) -> Result<(), KernelError> {
        let MsiSource {
            bus,
            device,
            function,
            handle,
        } = *source;
        let depth = u64::from(destination.depth);
        let words = [
            destination.index,
            depth,
            bus,
            device,
            function,
            handle,
            vector,
        ];
        let label = InvocationLabel::X86IrqIssueIrqHandlerMsi;
        perform(self.cptr(), label, &words, &[destination.root.cptr()])
    }
}

impl IrqHandler {
    /// Says that the interrupt was handled: the next one may come.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no interrupt.
    pub fn acknowledge(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::IrqAckIrq, &[], &[])
    }

    /// Chooses what the interrupt signals.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no notification that may be signalled.
    pub fn set_notification(self, notification: Notification) -> Result<(), KernelError> {
        let caps = [notification.cptr()];
        perform(self.cptr(), InvocationLabel::IrqSetIrqHandler, &[], &caps)
    }

    /// Undoes [`IrqHandler::set_notification`].
    ///
    /// # Errors
    /// `InvalidCapability` if it is no interrupt.
    pub fn clear(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::IrqClearIrqHandler, &[], &[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::CNode;
    use crate::kernel::recorder::take;
    use sel4_sys::CPtr;

    #[test]
    fn a_level_triggered_pin_is_asked_for_in_the_kernels_order() {
        let pin = IoApicPin {
            io_apic: 1,
            pin: 11,
            trigger: Trigger::Level,
            polarity: Polarity::Low,
        };
        let slot = CNode::from_cptr(CPtr(2)).slot(CPtr(90));
        IrqControl::from_cptr(CPtr(4))
            .io_apic(&pin, 30, slot)
            .unwrap();
        assert_eq!(take()[0].words, [90, 64, 1, 11, 1, 1, 30]);
    }
}
