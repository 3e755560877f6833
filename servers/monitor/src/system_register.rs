//! What writes to CR0, CR3, CR4, EFER and XCR0 mean: which are legal, and what else changes with
//! them.
//!
//! Pure functions from the old state and the new value to field writes or #GP, so that every rule
//! is a test. Source: Intel SDM volume 3, sections 2.5 and 9.8; AMD APM volume 2, section 3.1.

use heapless::Vec;
use sel4_sys::VcpuField;

use crate::event::GuestException;
use crate::mode::{
    CR0_AM, CR0_CD, CR0_EM, CR0_ET, CR0_MP, CR0_NE, CR0_NW, CR0_PE, CR0_PG, CR0_TS, CR0_WP,
    CR4_PAE, CR4_PCIDE, CpuMode, EFER_LMA, EFER_LME,
};

/// Field writes that one register write turns into.
pub type FieldWrites = Vec<(VcpuField, u64), 2>;

const GENERAL_PROTECTION: GuestException = GuestException::GeneralProtection(0);

const CR0_DEFINED: u64 = CR0_PE
    | CR0_MP
    | CR0_EM
    | CR0_TS
    | CR0_ET
    | CR0_NE
    | CR0_WP
    | CR0_AM
    | CR0_NW
    | CR0_CD
    | CR0_PG;

/// What the guest may set, from CPUID.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedBits {
    /// Bits of CR4.
    pub cr4: u64,
    /// Bits of EFER.
    pub efer: u64,
    /// Bits of XCR0.
    pub xcr0: u64,
    /// Width of a physical address.
    pub physical_bits: u32,
}

fn writes(pairs: &[(VcpuField, u64)]) -> FieldWrites {
    pairs.iter().copied().collect()
}

/// A write to CR0.
///
/// # Errors
/// #GP(0).
pub fn write_cr0(mode: &CpuMode, value: u64) -> Result<FieldWrites, GuestException> {
    let value = value | CR0_ET;
    let enables = |bit: u64| value & bit != 0 && mode.cr0 & bit == 0;
    let disables = |bit: u64| value & bit == 0 && mode.cr0 & bit != 0;
    let impossible = value >> 32 != 0
        || value & CR0_PG != 0 && value & CR0_PE == 0
        || value & CR0_NW != 0 && value & CR0_CD == 0;
    if impossible {
        return Err(GENERAL_PROTECTION);
    }
    let cr0 = value & CR0_DEFINED;
    if enables(CR0_PG) && mode.efer & EFER_LME != 0 {
        // Long mode needs PAE, and is entered from a segment that is not yet 64-bit code.
        if mode.cr4 & CR4_PAE == 0 || mode.code_is_long {
            return Err(GENERAL_PROTECTION);
        }
        let efer = mode.efer | EFER_LMA;
        return Ok(writes(&[(VcpuField::Cr0, cr0), (VcpuField::Efer, efer)]));
    }
    if disables(CR0_PG) && mode.efer & EFER_LMA != 0 {
        if mode.is_64_bit() || mode.cr4 & CR4_PCIDE != 0 {
            return Err(GENERAL_PROTECTION);
        }
        let efer = mode.efer & !EFER_LMA;
        return Ok(writes(&[(VcpuField::Cr0, cr0), (VcpuField::Efer, efer)]));
    }
    Ok(writes(&[(VcpuField::Cr0, cr0)]))
}

/// A write to CR3.
///
/// # Errors
/// #GP(0) for address bits that the CPU does not have.
pub fn write_cr3(
    mode: &CpuMode,
    value: u64,
    allowed: &AllowedBits,
) -> Result<FieldWrites, GuestException> {
    if mode.efer & EFER_LMA == 0 {
        return Ok(writes(&[(VcpuField::Cr3, value & 0xffff_ffff)]));
    }
    // With PCIDs bit 63 says "keep the translations", and is not kept itself.
    let value = match mode.cr4 & CR4_PCIDE {
        0 => value,
        _ => value & !(1 << 63),
    };
    if value >> allowed.physical_bits != 0 {
        return Err(GENERAL_PROTECTION);
    }
    Ok(writes(&[(VcpuField::Cr3, value)]))
}

/// A write to CR4.
///
/// # Errors
/// #GP(0).
pub fn write_cr4(
    mode: &CpuMode,
    value: u64,
    allowed: &AllowedBits,
) -> Result<FieldWrites, GuestException> {
    let is_long = mode.efer & EFER_LMA != 0;
    let enables_pcid = value & CR4_PCIDE != 0 && mode.cr4 & CR4_PCIDE == 0;
    let refused = value & !allowed.cr4 != 0
        || is_long && value & CR4_PAE == 0
        || enables_pcid && (!is_long || mode.cr3 & 0xfff != 0);
    if refused {
        return Err(GENERAL_PROTECTION);
    }
    Ok(writes(&[(VcpuField::Cr4, value)]))
}

/// A write to EFER. LMA cannot be written, and LME not while paging is on.
///
/// # Errors
/// #GP(0).
pub fn write_efer(
    mode: &CpuMode,
    value: u64,
    allowed: &AllowedBits,
) -> Result<FieldWrites, GuestException> {
    let changes_mode = (value ^ mode.efer) & EFER_LME != 0;
    if value & !allowed.efer != 0 || changes_mode && mode.is_paging() {
        return Err(GENERAL_PROTECTION);
    }
    let efer = value & !EFER_LMA | mode.efer & EFER_LMA;
    Ok(writes(&[(VcpuField::Efer, efer)]))
}

/// XSETBV: register `index`, which must be 0.
///
/// # Errors
/// #GP(0).
pub fn write_xcr(
    index: u64,
    value: u64,
    privilege_level: u8,
    allowed: &AllowedBits,
) -> Result<FieldWrites, GuestException> {
    let consistent = value != 0 && crate::cpuid::consistent_xcr0(value) == value;
    let refused = privilege_level != 0
        || index & 0xffff_ffff != 0
        || value & !allowed.xcr0 != 0
        || !consistent;
    if refused {
        return Err(GENERAL_PROTECTION);
    }
    Ok(writes(&[(VcpuField::Xcr0, value)]))
}

/// A write to PAT: eight memory types.
///
/// # Errors
/// #GP(0) for a type that does not exist.
pub fn write_pat(value: u64) -> Result<FieldWrites, GuestException> {
    let all_exist = value
        .to_le_bytes()
        .iter()
        .all(|kind| matches!(kind, 0 | 1 | 4 | 5 | 6 | 7));
    if all_exist {
        Ok(writes(&[(VcpuField::Pat, value)]))
    } else {
        Err(GENERAL_PROTECTION)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mode::{EFER_NXE, EFER_SCE};
    use libcap::vcpu::ExitRecord;
    use proptest::prelude::*;
    use sel4_sys::vcpu::{exit, exit_mode};

    const ALLOWED: AllowedBits = AllowedBits {
        cr4: 0x37_07ff & !CR4_PCIDE,
        efer: EFER_SCE | EFER_LME | EFER_LMA | EFER_NXE,
        xcr0: 7,
        physical_bits: 40,
    };

    fn mode(cr0: u64, cr4: u64, efer: u64, bits: u64) -> CpuMode {
        let mut words = [0; exit::LENGTH];
        words[exit::CR0] = cr0;
        words[exit::CR4] = cr4;
        words[exit::EFER] = efer;
        words[exit::MODE] = bits;
        CpuMode::of(&ExitRecord::from_words(words))
    }

    fn long() -> CpuMode {
        mode(
            CR0_PE | CR0_PG,
            CR4_PAE,
            EFER_LME | EFER_LMA,
            exit_mode::CS_LONG,
        )
    }

    #[test]
    fn turning_paging_on_activates_long_mode_and_off_ends_it() {
        let prepared = mode(CR0_PE, CR4_PAE, EFER_LME, exit_mode::CS_DEFAULT_32);
        let on = write_cr0(&prepared, CR0_PE | CR0_PG).unwrap();
        assert_eq!(on[0], (VcpuField::Cr0, CR0_PE | CR0_PG | CR0_ET));
        assert_eq!(on[1], (VcpuField::Efer, EFER_LME | EFER_LMA));
        let mut compatibility = long();
        compatibility.code_size = crate::mode::CodeWidth::Bits32;
        let off = write_cr0(&compatibility, CR0_PE).unwrap();
        assert_eq!(off[1], (VcpuField::Efer, EFER_LME));
    }

    #[test]
    fn impossible_values_of_cr0_are_refused() {
        let protected = mode(CR0_PE, 0, 0, 0);
        for value in [CR0_PG, CR0_NW, 1 << 32] {
            assert_eq!(
                write_cr0(&protected, value),
                Err(GENERAL_PROTECTION),
                "{value:#x}"
            );
        }
        let without_pae = mode(CR0_PE, 0, EFER_LME, 0);
        assert!(write_cr0(&without_pae, CR0_PE | CR0_PG).is_err());
        assert!(
            write_cr0(&long(), CR0_PE).is_err(),
            "64-bit code cannot leave long mode"
        );
        let from_long_segment = mode(CR0_PE, CR4_PAE, EFER_LME, exit_mode::CS_LONG);
        assert!(write_cr0(&from_long_segment, CR0_PE | CR0_PG).is_err());
    }

    #[test]
    fn cr3_is_cut_or_checked() {
        assert_eq!(
            write_cr3(&mode(1, 0, 0, 0), u64::MAX, &ALLOWED).unwrap()[0].1,
            0xffff_ffff
        );
        assert!(write_cr3(&long(), 1 << 40, &ALLOWED).is_err());
        assert!(write_cr3(&long(), (1 << 40) - 4096, &ALLOWED).is_ok());
    }

    #[test]
    fn cr4_keeps_to_what_cpuid_says() {
        assert!(write_cr4(&long(), CR4_PAE, &ALLOWED).is_ok());
        assert!(
            write_cr4(&long(), 0, &ALLOWED).is_err(),
            "PAE cannot go in long mode"
        );
        assert!(
            write_cr4(&long(), CR4_PAE | 1 << 13, &ALLOWED).is_err(),
            "VMXE"
        );
    }

    #[test]
    fn efer_keeps_lma_and_does_not_change_mode_under_paging() {
        assert_eq!(
            write_efer(&long(), EFER_LME | EFER_SCE, &ALLOWED).unwrap()[0].1,
            EFER_LME | EFER_SCE | EFER_LMA
        );
        assert!(write_efer(&long(), EFER_SCE, &ALLOWED).is_err());
        assert!(
            write_efer(&long(), EFER_LME | 1 << 12, &ALLOWED).is_err(),
            "SVME"
        );
        let flat = mode(CR0_PE, 0, 0, 0);
        assert_eq!(
            write_efer(&flat, EFER_LME | EFER_LMA, &ALLOWED).unwrap()[0].1,
            EFER_LME
        );
    }

    #[test]
    fn xcr0_needs_privilege_and_a_consistent_set() {
        assert!(write_xcr(0, 7, 0, &ALLOWED).is_ok());
        for (index, value, level) in [(1, 7, 0), (0, 7, 3), (0, 0, 0), (0, 5, 0), (0, 0xe7, 0)] {
            assert!(write_xcr(index, value, level, &ALLOWED).is_err());
        }
    }

    #[test]
    fn pat_takes_only_memory_types() {
        assert!(write_pat(0x0007_0406_0007_0406).is_ok());
        assert!(write_pat(0x02).is_err());
        assert!(write_pat(0x0800_0000_0000_0000).is_err());
    }

    proptest! {
        #[test]
        fn what_is_accepted_is_consistent(cr0: u64, cr4: u64, efer: u64, bits in 0u64..16, value: u64) {
            let mode = mode(cr0, cr4, efer, bits);
            if let Ok(fields) = write_cr0(&mode, value) {
                let cr0 = fields[0].1;
                prop_assert!(cr0 & CR0_PG == 0 || cr0 & CR0_PE != 0);
                prop_assert_eq!(cr0 & !CR0_DEFINED, 0);
            }
            if let Ok(fields) = write_cr4(&mode, value, &ALLOWED) {
                prop_assert_eq!(fields[0].1 & !ALLOWED.cr4, 0);
            }
            if let Ok(fields) = write_efer(&mode, value, &ALLOWED) {
                prop_assert_eq!(fields[0].1 & EFER_LMA, mode.efer & EFER_LMA);
            }
            let _ = write_cr3(&mode, value, &ALLOWED);
            let _ = write_xcr(bits, value, 0, &ALLOWED);
            let _ = write_pat(value);
        }
    }
}
