//! The virtual CPU as the monitor uses it: fields, registers, and the one trait behind which the
//! kernel's `VMEnter` (or a fake, in tests) stands.
//!
//! The formats are those of docs/abi.md, as `sel4-sys` and `libcap` have them. The trait is an
//! argument of everything above, so the whole machine runs on the host.

use libcap::vcpu::{ExitRecord, GeneralRegisters, Outcome};
use sel4_sys::{Event, VcpuField};

/// Segment registers in the order of the field numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the architecture's own names")]
pub enum SegmentName {
    Es = 0,
    Cs = 1,
    Ss = 2,
    Ds = 3,
    Fs = 4,
    Gs = 5,
    Ldtr = 6,
    Tr = 7,
}

impl SegmentName {
    /// The field with this segment's base.
    #[must_use]
    pub fn base(self) -> VcpuField {
        field_after(VcpuField::EsBase, self as u64)
    }

    /// The field with its limit.
    #[must_use]
    pub fn limit(self) -> VcpuField {
        field_after(VcpuField::EsLimit, self as u64)
    }

    /// The field with its attributes.
    #[must_use]
    pub fn attributes(self) -> VcpuField {
        field_after(VcpuField::EsAttributes, self as u64)
    }

    /// The field with its selector.
    #[must_use]
    pub fn selector(self) -> VcpuField {
        field_after(VcpuField::EsSelector, self as u64)
    }
}

/// The field of debug register 0..3.
#[must_use]
pub fn debug_register(index: u8) -> VcpuField {
    field_after(VcpuField::Dr0, u64::from(index & 3))
}

/// Field numbers are dense, and groups of fields are in the CPU's order.
fn field_after(first: VcpuField, offset: u64) -> VcpuField {
    VcpuField::ALL[(first.number() + offset) as usize]
}

/// The general registers, RIP and RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// RAX RCX RDX RBX RSP RBP RSI RDI R8..R15.
    pub general: GeneralRegisters,
    /// Instruction pointer.
    pub rip: u64,
    /// Flags.
    pub rflags: u64,
}

/// Index of RAX in [`Registers::general`].
pub const RAX: usize = 0;
/// Index of RCX.
pub const RCX: usize = 1;
/// Index of RDX.
pub const RDX: usize = 2;
/// Index of RBX.
pub const RBX: usize = 3;
/// Index of RSP.
pub const RSP: usize = 4;
/// Index of RSI.
pub const RSI: usize = 6;
/// Index of RDI.
pub const RDI: usize = 7;

impl Registers {
    /// EDX:EAX as one value, as WRMSR and XSETBV take it.
    #[must_use]
    pub fn edx_eax(&self) -> u64 {
        (self.general[RDX] << 32) | (self.general[RAX] & 0xffff_ffff)
    }

    /// Sets EDX:EAX, clearing the upper halves as RDMSR does.
    pub fn set_edx_eax(&mut self, value: u64) {
        self.general[RAX] = value & 0xffff_ffff;
        self.general[RDX] = value >> 32;
    }
}

/// A field write that the kernel refused. Nothing of the call was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRefused;

/// What to change before the guest goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EntryRequest<'a> {
    /// New registers; without them they stay as they are.
    pub registers: Option<&'a Registers>,
    /// Event to inject.
    pub event: Option<Event>,
    /// Exit as soon as the guest can take an interrupt.
    pub window: bool,
    /// An instruction was emulated: its interrupt shadow is over.
    pub emulated: bool,
}

/// One virtual CPU.
pub trait Vcpu {
    /// Runs the guest until it exits, and fills in `record` if it did. Whatever the outcome but
    /// [`Outcome::Refused`], registers and event of the request were taken.
    fn enter(&mut self, request: &EntryRequest, record: &mut ExitRecord) -> Outcome;

    /// Reads fields, in the order asked.
    fn read_fields<const N: usize>(&mut self, fields: [VcpuField; N]) -> [u64; N];

    /// Writes fields. More than [`FIELDS_PER_CALL`](sel4_sys::vcpu_field::FIELDS_PER_CALL) are
    /// several calls; of a call that is refused nothing is written.
    ///
    /// # Errors
    /// [`FieldRefused`] for a value that no CPU would accept.
    fn write_fields(&mut self, pairs: &[(VcpuField, u64)]) -> Result<(), FieldRefused>;

    /// Reads one field.
    fn read_field(&mut self, field: VcpuField) -> u64 {
        let [value] = self.read_fields([field]);
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_fields_follow_the_order_of_the_abi() {
        assert_eq!(SegmentName::Cs.base(), VcpuField::CsBase);
        assert_eq!(SegmentName::Tr.limit(), VcpuField::TrLimit);
        assert_eq!(SegmentName::Gs.attributes(), VcpuField::GsAttributes);
        assert_eq!(SegmentName::Ldtr.selector(), VcpuField::LdtrSelector);
        assert_eq!(debug_register(3), VcpuField::Dr3);
    }
}
