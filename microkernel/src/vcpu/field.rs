//! The numbered fields of a VCPU: reading them, writing them, and what no CPU would accept.

use sel4_sys::vcpu_field::segment_attributes as attributes;
use sel4_sys::{Event, VcpuField};

use super::Vcpu;
use super::vmcb::{EFER_SVME, Vmcb, control, save};
use crate::arch;
use crate::store::Ref;

/// Segments in the order of the fields.
const SEGMENTS: [usize; 8] = [
    save::ES, save::CS, save::SS, save::DS, save::FS, save::GS, save::LDTR, save::TR,
];

/// Control register bits that a guest may set.
const CR0_ALLOWED: u64 = 0xe005_003f;
const CR0_PE: u64 = 1;
const CR0_NW: u64 = 1 << 29;
const CR0_CD: u64 = 1 << 30;
const CR0_PG: u64 = 1 << 31;
/// VME..OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE; not VMXE or SMXE.
const CR4_ALLOWED: u64 = 0x0077_0fff;
const CR4_PAE: u64 = 1 << 5;
/// SCE, LME, LMA, NXE, FFXSR.
const EFER_ALLOWED: u64 = 0x4d01;
const EFER_LME: u64 = 1 << 8;
const EFER_LMA: u64 = 1 << 10;
/// Physical address bits that CR3 may have.
const CR3_ALLOWED: u64 = 0x800f_ffff_ffff_ffff;
/// Flags that exist: everything up to ID but the reserved bits 3, 5 and 15.
const RFLAGS_ALLOWED: u64 = 0x003f_7fd7;
const RFLAGS_FIXED: u64 = 2;
/// Exceptions that have no delivery of their own: NMI's vector.
const NMI_VECTOR: u8 = 2;
/// CS.D and CS.L of the access-rights form.
const LONG_AND_32: u64 = attributes::LONG | attributes::DEFAULT_32;

/// Where the value of a field lives.
enum Place<'a> {
    /// A 64-bit word of the control block.
    Word(usize),
    /// Some bits of the control block.
    Part(usize, u32),
    /// Segment attributes, in another form there.
    Attributes(usize),
    /// A cell of the VCPU.
    Cell(&'a core::cell::Cell<u64>),
    /// EFER, of which one bit is hidden.
    Efer,
    /// Interrupt shadow.
    Interruptibility,
}

fn place(vcpu: &Vcpu, field: VcpuField) -> Place<'_> {
    use VcpuField as F;
    let number = field.number() as usize;
    let segment = SEGMENTS[number % 8];
    match field.number() {
        0..=7 => return Place::Part(segment, 16),
        8..=15 => return Place::Word(segment + 8),
        16..=23 => return Place::Part(segment + 4, 32),
        24..=31 => return Place::Attributes(segment),
        54 => return Place::Cell(&vcpu.registers[0]),
        55..=69 => return Place::Cell(&vcpu.registers[number - 54]),
        75..=78 => return Place::Cell(&vcpu.debug_registers[number - 75]),
        _ => {}
    }
    match field {
        F::GdtrBase => Place::Word(save::GDTR + 8),
        F::GdtrLimit => Place::Part(save::GDTR + 4, 32),
        F::IdtrBase => Place::Word(save::IDTR + 8),
        F::IdtrLimit => Place::Part(save::IDTR + 4, 32),
        F::Cr0 => Place::Word(save::CR0),
        F::Cr2 => Place::Word(save::CR2),
        F::Cr3 => Place::Word(save::CR3),
        F::Cr4 => Place::Word(save::CR4),
        F::Efer => Place::Efer,
        F::Dr6 => Place::Word(save::DR6),
        F::Dr7 => Place::Word(save::DR7),
        F::Pat => Place::Word(save::PAT),
        F::SysenterCs => Place::Word(save::SYSENTER_CS),
        F::SysenterEsp => Place::Word(save::SYSENTER_ESP),
        F::SysenterEip => Place::Word(save::SYSENTER_EIP),
        F::Star => Place::Word(save::STAR),
        F::Lstar => Place::Word(save::LSTAR),
        F::Cstar => Place::Word(save::CSTAR),
        F::Fmask => Place::Word(save::SFMASK),
        F::KernelGsBase => Place::Word(save::KERNEL_GS_BASE),
        F::Rip => Place::Word(save::RIP),
        F::Rflags => Place::Word(save::RFLAGS),
        F::TscOffset => Place::Word(control::TSC_OFFSET),
        F::Xcr0 => Place::Cell(&vcpu.xcr0),
        F::ExceptionIntercepts => Place::Part(control::EXCEPTION_INTERCEPTS, 32),
        F::PendingEvent => Place::Cell(&vcpu.pending_event),
        F::TscAux => Place::Cell(&vcpu.tsc_aux),
        _ => Place::Interruptibility,
    }
}

/// The value of `field`.
#[must_use]
pub fn read(vcpu: Ref<Vcpu>, field: VcpuField) -> u64 {
    let v = &vcpu.control;
    match place(&vcpu, field) {
        Place::Word(offset) => v.word(offset),
        Place::Part(offset, bits) => v.part(offset, bits),
        Place::Attributes(segment) => read_attributes(v, segment),
        Place::Cell(cell) => cell.get(),
        Place::Efer => v.word(save::EFER) & !EFER_SVME,
        Place::Interruptibility => v.word(control::INTERRUPT_SHADOW) & 1,
    }
}

/// Writes a value that `is_acceptable` accepts.
pub fn write(vcpu: Ref<Vcpu>, field: VcpuField, value: u64) {
    let v = &vcpu.control;
    match place(&vcpu, field) {
        Place::Word(offset) => v.set_word(offset, value),
        Place::Part(offset, bits) => v.set_part(offset, bits, value),
        Place::Attributes(segment) => {
            v.set_part(segment + 2, 16, to_vmcb_attributes(value));
            if segment == save::SS {
                v.set_part(save::CPL, 8, value >> attributes::DPL_SHIFT & 3);
            }
        }
        Place::Cell(cell) => cell.set(value),
        Place::Efer => v.set_word(save::EFER, value | EFER_SVME),
        Place::Interruptibility => v.set_word(control::INTERRUPT_SHADOW, value & 1),
    }
    vcpu.unchecked.set(true);
}

/// The VMCB packs the access rights' two halves together and marks an unusable segment absent.
const fn to_vmcb_attributes(rights: u64) -> u64 {
    let packed = rights & 0xff | (rights >> 12 & 0xf) << 8;
    if rights & attributes::UNUSABLE != 0 { packed & !attributes::PRESENT } else { packed }
}

fn read_attributes(v: &Vmcb, segment: usize) -> u64 {
    let packed = v.part(segment + 2, 16);
    let rights = packed & 0xff | (packed >> 8 & 0xf) << 12;
    if rights & attributes::PRESENT == 0 { rights | attributes::UNUSABLE } else { rights }
}

const fn is_canonical(address: u64) -> bool {
    ((address << 16) as i64 >> 16) as u64 == address
}

const fn is_pat(value: u64) -> bool {
    let mut index = 0;
    while index < 8 {
        let kind = value >> (index * 8) & 0xff;
        if kind > 7 || kind == 2 || kind == 3 {
            return false;
        }
        index += 1;
    }
    true
}

/// Whether some state of a CPU has `value` in `field`.
#[must_use]
pub fn is_acceptable(field: VcpuField, value: u64) -> bool {
    use VcpuField as F;
    let within = |allowed: u64| value & !allowed == 0;
    match field.number() {
        0..=7 => return within(0xffff),
        8..=11 | 16..=23 => return within(0xffff_ffff),
        12..=15 => return is_canonical(value),
        24..=31 => return within(0x1_f0ff),
        54..=69 | 75..=78 => return true,
        _ => {}
    }
    match field {
        F::GdtrBase | F::IdtrBase | F::SysenterEsp | F::SysenterEip => is_canonical(value),
        F::Lstar | F::Cstar | F::KernelGsBase | F::Rip => is_canonical(value),
        F::GdtrLimit | F::IdtrLimit => within(0xffff),
        F::Cr0 => within(CR0_ALLOWED) && (value & CR0_NW == 0 || value & CR0_CD != 0),
        F::Cr3 => within(CR3_ALLOWED),
        F::Cr4 => within(CR4_ALLOWED),
        F::Efer => within(EFER_ALLOWED),
        F::Dr6 | F::Dr7 | F::SysenterCs | F::ExceptionIntercepts | F::TscAux => {
            within(0xffff_ffff)
        }
        F::Pat => is_pat(value),
        F::Rflags => within(RFLAGS_ALLOWED) && value & RFLAGS_FIXED != 0,
        F::Xcr0 => {
            value & 1 == 1 && within(arch::thread_xcr0()) && (value & 4 == 0 || value & 2 != 0)
        }
        F::Interruptibility => within(3),
        F::PendingEvent => value == 0 || is_deliverable(Event::from_word(value)),
        _ => true,
    }
}

/// RFLAGS as a guest can have them, from any word.
#[must_use]
pub const fn sanitised_rflags(word: u64) -> u64 {
    word & RFLAGS_ALLOWED | RFLAGS_FIXED
}

/// Whether a CPU would deliver `event`.
#[must_use]
pub fn is_deliverable(event: Event) -> bool {
    use sel4_sys::vcpu::EventType;
    if !event.is_valid() || !event.is_well_formed() {
        return false;
    }
    match event.kind() {
        Ok(EventType::ExternalInterrupt | EventType::SoftwareInterrupt) => {
            event.error_code().is_none()
        }
        Ok(EventType::Nmi) => event.vector() == NMI_VECTOR && event.error_code().is_none(),
        Ok(EventType::Exception) => event.vector() < 31 && event.vector() != NMI_VECTOR,
        Err(_) => false,
    }
}

/// Checks that the fields, each of which is acceptable, fit together.
///
/// # Errors
/// A field that does not fit the others.
pub fn check_state(vcpu: Ref<Vcpu>) -> Result<(), VcpuField> {
    let v = &vcpu.control;
    let (cr0, cr4, efer) = (v.word(save::CR0), v.word(save::CR4), v.word(save::EFER));
    let has = |word: u64, bit: u64| word & bit != 0;
    if has(cr0, CR0_PG) && !has(cr0, CR0_PE) {
        return Err(VcpuField::Cr0);
    }
    let is_long = has(cr0, CR0_PG) && has(efer, EFER_LME);
    if is_long != has(efer, EFER_LMA) {
        return Err(VcpuField::Efer);
    }
    if is_long && !has(cr4, CR4_PAE) {
        return Err(VcpuField::Cr4);
    }
    let code = read_attributes(v, save::CS);
    if is_long && code & LONG_AND_32 == LONG_AND_32 {
        return Err(VcpuField::CsAttributes);
    }
    Ok(())
}
