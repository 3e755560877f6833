//! The numbered fields of a VCPU: what no CPU would accept, and those that no control block has.

use core::cell::Cell;

use sel4_sys::vcpu_field::segment_attributes as attributes;
use sel4_sys::{Event, VcpuField};

use super::Vcpu;
use super::control::Control;
use crate::arch;

/// Control register bits that a guest may set.
const CR0_ALLOWED: u64 = 0xe005_003f;
const CR0_PE: u64 = 1;
/// Not write-through: reserved unless `CR0_CD` is set.
pub const CR0_NW: u64 = 1 << 29;
/// Caches off.
pub const CR0_CD: u64 = 1 << 30;
/// Paging.
pub const CR0_PG: u64 = 1 << 31;
/// VME..OSXMMEXCPT, UMIP, FSGSBASE, PCIDE, OSXSAVE, SMEP, SMAP, PKE; not VMXE or SMXE.
pub const CR4_ALLOWED: u64 = 0x0077_0fff;
/// Page-table entries of 64 bits.
pub const CR4_PAE: u64 = 1 << 5;
/// SCE, LME, LMA, NXE, FFXSR.
const EFER_ALLOWED: u64 = 0x4d01;
const EFER_LME: u64 = 1 << 8;
/// Long mode is active.
pub const EFER_LMA: u64 = 1 << 10;
/// Physical address bits that CR3 may have.
const CR3_ALLOWED: u64 = 0x800f_ffff_ffff_ffff;
/// Flags that exist: everything up to ID but the reserved bits 3, 5 and 15.
const RFLAGS_ALLOWED: u64 = 0x003f_7fd7;
const RFLAGS_FIXED: u64 = 2;
/// The interrupt flag.
pub const RFLAGS_IF: u64 = 1 << 9;
/// DR7 bits that switch breakpoints on.
const DR7_ENABLE: u64 = 0xff;
/// Exceptions that have no delivery of their own: NMI's vector.
const NMI_VECTOR: u8 = 2;
/// CS.D and CS.L of the access-rights form.
const LONG_AND_32: u64 = attributes::LONG | attributes::DEFAULT_32;

/// The cell of a field that no control block holds.
#[must_use]
pub fn cell(vcpu: &Vcpu, field: VcpuField) -> Option<&Cell<u64>> {
    use VcpuField as F;
    let number = field.number() as usize;
    match field {
        F::Xcr0 => Some(&vcpu.xcr0),
        F::PendingEvent => Some(&vcpu.pending_event),
        F::TscAux => Some(&vcpu.tsc_aux),
        _ if (54..=69).contains(&number) => Some(&vcpu.registers[number - 54]),
        _ if (75..=78).contains(&number) => Some(&vcpu.debug_registers[number - 75]),
        _ => None,
    }
}

/// Writes a value that `is_acceptable` accepts.
pub fn write(vcpu: &Vcpu, control: impl Control, field: VcpuField, value: u64) {
    match cell(vcpu, field) {
        Some(cell) => cell.set(value),
        None => control.write(field, value),
    }
    if field == VcpuField::Dr7 {
        vcpu.has_breakpoints.set(value & DR7_ENABLE != 0);
    }
    vcpu.trust.set(super::Trust::Unchecked);
}

/// The value of a field.
pub fn read(vcpu: &Vcpu, control: impl Control, field: VcpuField) -> u64 {
    cell(vcpu, field).map_or_else(|| control.read(field), Cell::get)
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
        F::Cr0 => is_cr0(value),
        F::Cr3 => within(CR3_ALLOWED),
        F::Cr4 => within(CR4_ALLOWED),
        F::Efer => within(EFER_ALLOWED),
        F::Dr6 | F::Dr7 | F::SysenterCs | F::ExceptionIntercepts | F::TscAux => within(0xffff_ffff),
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

/// Whether a CPU has `value` in CR0, whatever else its state is.
#[must_use]
pub const fn is_cr0(value: u64) -> bool {
    value & !CR0_ALLOWED == 0 && (value & CR0_NW == 0 || value & CR0_CD != 0)
}

/// What is left of `value` in CR0 if a guest has only those bits that a CPU takes.
#[must_use]
pub const fn corrected_cr0(value: u64) -> u64 {
    let value = value & CR0_ALLOWED;
    if is_cr0(value) {
        value
    } else {
        value & !CR0_NW
    }
}

/// The fault for an instruction that a CPU refuses, with this CR0: none has an error code in real mode.
#[must_use]
pub const fn general_protection(cr0: u64) -> Event {
    let code = if cr0 & CR0_PE == 0 { None } else { Some(0) };
    Event::exception(13, code)
}

/// Whether protection fits to paging in CR0.
#[must_use]
pub const fn is_protected(cr0: u64) -> bool {
    cr0 & CR0_PG == 0 || cr0 & CR0_PE != 0
}

/// Whether a guest with these flags takes `event` now: an interrupt only if it is open to it.
#[must_use]
pub fn is_open_to(event: Event, rflags: u64) -> bool {
    use sel4_sys::vcpu::EventType;
    event.kind() != Ok(EventType::ExternalInterrupt) || rflags & RFLAGS_IF != 0
}

/// Checks that the fields, each of which is acceptable, fit together.
///
/// # Errors
/// A field that does not fit the others.
pub fn check_state(control: impl Control) -> Result<(), VcpuField> {
    use VcpuField as F;
    let [cr0, cr4, efer] = [F::Cr0, F::Cr4, F::Efer].map(|field| control.read(field));
    let has = |word: u64, bit: u64| word & bit != 0;
    if !is_protected(cr0) {
        return Err(F::Cr0);
    }
    let is_long = has(cr0, CR0_PG) && has(efer, EFER_LME);
    if is_long != has(efer, EFER_LMA) {
        return Err(F::Efer);
    }
    if is_long && !has(cr4, CR4_PAE) {
        return Err(F::Cr4);
    }
    if is_long && control.read(F::CsAttributes) & LONG_AND_32 == LONG_AND_32 {
        return Err(F::CsAttributes);
    }
    Ok(())
}
