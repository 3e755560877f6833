//! What both vendors' control blocks can do.
//!
//! The choice between them is made once in an operation ([`with_control`]), and everything below
//! it is compiled for each of the two.

use sel4_sys::VcpuField;

use crate::store::{Ref, Table};

/// Whether the guest is to exit as soon as it can take an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Window {
    /// It is.
    Wanted,
    /// It is not.
    NotWanted,
}

/// State that every exit record has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State {
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
    /// CR0 as the guest sees it.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// EFER as the guest sees it.
    pub efer: u64,
    /// Bits of `sel4_sys::vcpu::exit_mode`.
    pub mode: u64,
    /// Base of the code segment.
    pub cs_base: u64,
}

/// The control block of a VCPU that does not run.
pub trait Control: Copy {
    /// The value of a field.
    fn read(self, field: VcpuField) -> u64;

    /// Writes a value that `field::is_acceptable` accepts.
    fn write(self, field: VcpuField, value: u64);

    /// Where the guest goes on.
    fn set_rip(self, rip: u64);

    /// The guest's flags.
    fn rflags(self) -> u64;

    /// Sets the guest's flags, which are sane.
    fn set_rflags(self, rflags: u64);

    /// The instruction that cast an interrupt shadow was left behind.
    fn clear_interrupt_shadow(self);

    /// Whether the next entry ends when the guest can take an interrupt.
    fn request_window(self, window: Window);

    /// Fields were written and checked: makes what depends on several of them. `root` is the
    /// guest's memory.
    fn settle(self, root: Ref<Table>);

    /// The state for an exit record.
    fn state(self) -> State;
}

/// Does something with the control block of a VCPU, whichever kind the machine has. Only where
/// guests can run.
macro_rules! with_control {
    ($vcpu:expr, $control:ident => $then:expr) => {
        match $crate::arch::virtualisation() {
            $crate::boot::Virtualisation::Vmx => {
                let $control = $crate::vcpu::vmx::Vmx::claim($vcpu);
                $then
            }
            _ => {
                let $control = $crate::vcpu::svm::Svm($vcpu);
                $then
            }
        }
    };
}
pub(crate) use with_control;
