//! In which mode the guest's CPU is: what the page walker and the decoder need to know.

use libcap::vcpu::ExitRecord;
use sel4_sys::vcpu::exit_mode;

/// CR0.PE.
pub const CR0_PE: u64 = 1 << 0;
/// CR0.MP.
pub const CR0_MP: u64 = 1 << 1;
/// CR0.EM.
pub const CR0_EM: u64 = 1 << 2;
/// CR0.TS.
pub const CR0_TS: u64 = 1 << 3;
/// CR0.ET, always one.
pub const CR0_ET: u64 = 1 << 4;
/// CR0.NE.
pub const CR0_NE: u64 = 1 << 5;
/// CR0.WP.
pub const CR0_WP: u64 = 1 << 16;
/// CR0.AM.
pub const CR0_AM: u64 = 1 << 18;
/// CR0.NW.
pub const CR0_NW: u64 = 1 << 29;
/// CR0.CD.
pub const CR0_CD: u64 = 1 << 30;
/// CR0.PG.
pub const CR0_PG: u64 = 1 << 31;
/// CR4.PSE.
pub const CR4_PSE: u64 = 1 << 4;
/// CR4.PAE.
pub const CR4_PAE: u64 = 1 << 5;
/// CR4.PCIDE.
pub const CR4_PCIDE: u64 = 1 << 17;
/// CR4.OSXSAVE.
pub const CR4_OSXSAVE: u64 = 1 << 18;
/// CR4.SMEP.
pub const CR4_SMEP: u64 = 1 << 20;
/// CR4.SMAP.
pub const CR4_SMAP: u64 = 1 << 21;
/// EFER.SCE.
pub const EFER_SCE: u64 = 1 << 0;
/// EFER.LME.
pub const EFER_LME: u64 = 1 << 8;
/// EFER.LMA.
pub const EFER_LMA: u64 = 1 << 10;
/// EFER.NXE.
pub const EFER_NXE: u64 = 1 << 11;
/// RFLAGS.AC.
pub const RFLAGS_AC: u64 = 1 << 18;
/// RFLAGS.VM.
pub const RFLAGS_VM: u64 = 1 << 17;

/// Mode of a VCPU at an exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CpuMode {
    /// CR0 as the guest sees it.
    pub cr0: u64,
    /// CR3.
    pub cr3: u64,
    /// CR4 as the guest sees it.
    pub cr4: u64,
    /// EFER as the guest sees it.
    pub efer: u64,
    /// RFLAGS.
    pub rflags: u64,
    /// Current privilege level.
    pub privilege_level: u8,
    /// Default operand and address size of the code segment.
    pub code_size: CodeWidth,
    /// CS.L, which means something only in long mode.
    pub code_is_long: bool,
    /// Base of CS; zero in 64-bit code.
    pub code_base: u64,
}

/// Default width of code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CodeWidth {
    /// Real mode, virtual 8086 and 16-bit segments.
    Bits16,
    /// 32-bit segments.
    Bits32,
    /// 64-bit code.
    Bits64,
}

impl CodeWidth {
    /// 16, 32 or 64.
    #[must_use]
    pub fn bits(self) -> u32 {
        match self {
            CodeWidth::Bits16 => 16,
            CodeWidth::Bits32 => 32,
            CodeWidth::Bits64 => 64,
        }
    }

    /// What the instruction pointer wraps at.
    #[must_use]
    pub fn pointer_mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }
}

impl CpuMode {
    /// The mode that an exit record describes.
    #[must_use]
    pub fn of(record: &ExitRecord) -> Self {
        let long = record.efer() & EFER_LMA != 0;
        let code_is_long = record.mode() & exit_mode::CS_LONG != 0;
        let code_size = if long && code_is_long {
            CodeWidth::Bits64
        } else if record.mode() & exit_mode::CS_DEFAULT_32 != 0 {
            CodeWidth::Bits32
        } else {
            CodeWidth::Bits16
        };
        Self {
            cr0: record.cr0(),
            cr3: record.cr3(),
            cr4: record.cr4(),
            efer: record.efer(),
            rflags: record.rflags(),
            privilege_level: record.privilege_level() as u8,
            code_size,
            code_is_long,
            code_base: if code_size == CodeWidth::Bits64 {
                0
            } else {
                record.cs_base()
            },
        }
    }

    /// CR0.PE.
    #[must_use]
    pub fn is_protected(&self) -> bool {
        self.cr0 & CR0_PE != 0
    }

    /// Real mode or virtual 8086: segments are selectors times 16.
    #[must_use]
    pub fn is_real_like(&self) -> bool {
        !self.is_protected() || self.rflags & RFLAGS_VM != 0
    }

    /// CR0.PG.
    #[must_use]
    pub fn is_paging(&self) -> bool {
        self.cr0 & CR0_PG != 0
    }

    /// 64-bit code.
    #[must_use]
    pub fn is_64_bit(&self) -> bool {
        self.code_size == CodeWidth::Bits64
    }

    /// Linear address of the byte at `rip`.
    #[must_use]
    pub fn code_address(&self, rip: u64) -> u64 {
        match self.code_size {
            CodeWidth::Bits64 => rip,
            width => self.code_base.wrapping_add(rip & width.pointer_mask()) & 0xffff_ffff,
        }
    }

    /// `rip` moved on by `length` bytes, wrapped as the mode does.
    #[must_use]
    pub fn advance(&self, rip: u64, length: u64) -> u64 {
        rip.wrapping_add(length) & self.code_size.pointer_mask()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sel4_sys::vcpu::exit;

    #[test]
    fn cs_l_counts_only_in_long_mode() {
        let mut words = [0; exit::LENGTH];
        words[exit::MODE] = exit_mode::CS_LONG | exit_mode::CS_DEFAULT_32;
        let legacy = CpuMode::of(&ExitRecord::from_words(words));
        assert_eq!(legacy.code_size, CodeWidth::Bits32);
        words[exit::EFER] = EFER_LMA;
        let long = CpuMode::of(&ExitRecord::from_words(words));
        assert_eq!(long.code_size, CodeWidth::Bits64);
    }

    #[test]
    fn real_mode_code_wraps_at_64_kib() {
        let mut words = [0; exit::LENGTH];
        words[exit::CS_BASE] = 0xf_0000;
        let mode = CpuMode::of(&ExitRecord::from_words(words));
        assert_eq!(mode.code_address(0xfff0), 0xf_fff0);
        assert_eq!(mode.advance(0xffff, 2), 1);
    }
}
