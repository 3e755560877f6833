//! The virtual CPU as the monitor uses it: fields, registers, and the one trait behind which the
//! kernel's `VMEnter` (or a fake, in tests) stands.
//!
//! The formats are those of docs/abi.md. The trait is an argument of everything above, so the
//! whole machine runs on the host.

use crate::entry::Entry;
use crate::exit::ExitRecord;

/// A field of a VCPU, by the number docs/abi.md gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Field(pub u16);

impl Field {
    /// CR0 as the guest sees it.
    pub const CR0: Field = Field(36);
    /// CR2.
    pub const CR2: Field = Field(37);
    /// CR3.
    pub const CR3: Field = Field(38);
    /// CR4 as the guest sees it.
    pub const CR4: Field = Field(39);
    /// EFER as the guest sees it.
    pub const EFER: Field = Field(40);
    /// DR6.
    pub const DR6: Field = Field(41);
    /// DR7.
    pub const DR7: Field = Field(42);
    /// Page attribute table.
    pub const PAT: Field = Field(43);
    /// SYSENTER_CS; ESP and EIP follow.
    pub const SYSENTER_CS: Field = Field(44);
    /// SYSENTER_ESP.
    pub const SYSENTER_ESP: Field = Field(45);
    /// SYSENTER_EIP.
    pub const SYSENTER_EIP: Field = Field(46);
    /// STAR.
    pub const STAR: Field = Field(47);
    /// LSTAR.
    pub const LSTAR: Field = Field(48);
    /// CSTAR.
    pub const CSTAR: Field = Field(49);
    /// FMASK.
    pub const FMASK: Field = Field(50);
    /// KERNEL_GS_BASE.
    pub const KERNEL_GS_BASE: Field = Field(51);
    /// Instruction pointer.
    pub const RIP: Field = Field(52);
    /// Flags.
    pub const RFLAGS: Field = Field(53);
    /// Added to the host's TSC to give the guest's.
    pub const TSC_OFFSET: Field = Field(70);
    /// Extended control register 0.
    pub const XCR0: Field = Field(71);
    /// Bit 0 interrupt shadow, bit 1 NMI blocked.
    pub const INTERRUPTIBILITY: Field = Field(72);
    /// Bitmap of exception vectors that exit.
    pub const EXCEPTION_INTERCEPTS: Field = Field(73);
    /// Event that was given but not delivered yet.
    pub const PENDING_EVENT: Field = Field(74);
    /// Auxiliary value of RDTSCP.
    pub const TSC_AUX: Field = Field(79);
    /// GDTR base.
    pub const GDTR_BASE: Field = Field(32);
    /// GDTR limit.
    pub const GDTR_LIMIT: Field = Field(33);
    /// IDTR base.
    pub const IDTR_BASE: Field = Field(34);
    /// IDTR limit.
    pub const IDTR_LIMIT: Field = Field(35);

    /// General register `index` (RAX RCX RDX RBX RSP RBP RSI RDI R8..R15).
    #[must_use]
    pub const fn general(index: u8) -> Field {
        Field(54 + (index & 15) as u16)
    }

    /// Debug register 0..3.
    #[must_use]
    pub const fn debug(index: u8) -> Field {
        Field(75 + (index & 3) as u16)
    }

    /// Selector of a segment register.
    #[must_use]
    pub const fn selector(segment: SegmentName) -> Field {
        Field(segment as u16)
    }

    /// Base of a segment register.
    #[must_use]
    pub const fn base(segment: SegmentName) -> Field {
        Field(8 + segment as u16)
    }

    /// Limit of a segment register.
    #[must_use]
    pub const fn limit(segment: SegmentName) -> Field {
        Field(16 + segment as u16)
    }

    /// Access rights of a segment register, in VMX's format.
    #[must_use]
    pub const fn attributes(segment: SegmentName) -> Field {
        Field(24 + segment as u16)
    }
}

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

/// The general registers, RIP and RFLAGS.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// RAX RCX RDX RBX RSP RBP RSI RDI R8..R15.
    pub general: [u64; 16],
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

/// How one call of [`Vcpu::enter`] ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// The guest exited; the record was filled in.
    Exited,
    /// A notification arrived. The guest may or may not have run.
    Interrupted,
    /// The kernel refused to enter.
    Refused(Refusal),
}

/// Why the kernel would not run the guest (label 2 of `VMEnter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No guest root is set.
    NoGuestRoot,
    /// The state or the event is invalid; the offending field or zero.
    InvalidState(u64),
    /// This machine cannot virtualise.
    NoVirtualisation,
    /// A code that docs/abi.md does not list.
    Unlisted(u64),
}

/// A field write that the kernel refused. Nothing of the call was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FieldRefused {
    /// Index of the pair within the call.
    pub index: usize,
}

/// Most pairs that one field call carries.
pub const MAXIMUM_FIELDS_PER_CALL: usize = 32;

/// One virtual CPU.
pub trait Vcpu {
    /// Runs the guest until it exits, and fills in `record` if it did.
    fn enter(&mut self, entry: &Entry, record: &mut ExitRecord) -> Entered;

    /// Reads `fields` into `values`, which has the same length (at most
    /// [`MAXIMUM_FIELDS_PER_CALL`]).
    fn read_fields(&mut self, fields: &[Field], values: &mut [u64]);

    /// Writes all pairs (at most [`MAXIMUM_FIELDS_PER_CALL`]) or none.
    ///
    /// # Errors
    /// [`FieldRefused`] names the first pair that no CPU would accept.
    fn write_fields(&mut self, pairs: &[(Field, u64)]) -> Result<(), FieldRefused>;

    /// Reads one field.
    fn read_field(&mut self, field: Field) -> u64 {
        let mut value = [0];
        self.read_fields(&[field], &mut value);
        value[0]
    }
}
