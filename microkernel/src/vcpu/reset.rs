//! What a CPU is like after reset (Intel SDM volume 3, table 11-1), in terms of a VCPU's fields, so that
//! both kinds of hardware begin alike. What makes guests exit is set by each of them (`svm::vmcb`,
//! `vmx::vmcs`).

use sel4_sys::VcpuField as F;

use super::control::Control;

/// Access rights of ES CS SS DS FS GS LDTR TR, in the order of the fields: writable data, code, a
/// local descriptor table, a busy task.
const RIGHTS: [u64; 8] = [0x93, 0x9b, 0x93, 0x93, 0x93, 0x93, 0x82, 0x8b];
/// Limit of every segment and descriptor table.
const LIMIT: u64 = 0xffff;

/// The registers that are not 0 in memory that is new, or into which a CPU may have written of its own.
/// RFLAGS come before the interruptibility, which depends on them.
const REGISTERS: [(F, u64); 20] = [
    (F::CsSelector, 0xf000),
    (F::CsBase, 0xffff_0000),
    (F::GdtrBase, 0),
    (F::GdtrLimit, LIMIT),
    (F::IdtrBase, 0),
    (F::IdtrLimit, LIMIT),
    (F::Cr0, 0x6000_0010),
    (F::Cr2, 0),
    (F::Cr3, 0),
    (F::Cr4, 0),
    (F::Efer, 0),
    (F::Dr6, 0xffff_0ff0),
    (F::Dr7, 0x400),
    (F::Pat, 0x0007_0406_0007_0406),
    (F::SysenterCs, 0),
    (F::SysenterEsp, 0),
    (F::SysenterEip, 0),
    (F::Rip, 0xfff0),
    (F::Rflags, 2),
    (F::Interruptibility, 0),
];

/// Puts the registers of a new VCPU into their state after reset.
pub fn reset(control: impl Control) {
    for (segment, rights) in (0..).zip(RIGHTS) {
        let values = [0, 0, LIMIT, rights];
        let firsts = [F::EsSelector, F::EsBase, F::EsLimit, F::EsAttributes];
        for (first, value) in firsts.into_iter().zip(values) {
            if let Ok(field) = F::try_from(first.number() + segment) {
                control.write(field, value);
            }
        }
    }
    for (field, value) in REGISTERS {
        control.write(field, value);
    }
}
