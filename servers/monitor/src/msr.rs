//! Model-specific registers that are nothing but storage or constants, and the list of the others.
//!
//! [`MsrBank::read`] and [`MsrBank::write`] answer what concerns one VCPU alone; [`classify`] says
//! which part of the machine answers the rest. What is on no list is a #GP, as on a CPU that does
//! not have it. Sources: Intel SDM volume 4; AMD APM volume 2, appendix A.

use sel4_sys::VcpuField;
use serde::{Deserialize, Serialize};

use crate::cpuid::Vendor;
use crate::memory::LOW_MEMORY_LIMIT;
use crate::paravirtual_clock::{MSR_SYSTEM_TIME, MSR_WALL_CLOCK};

/// TIME_STAMP_COUNTER.
pub const TSC: u32 = 0x10;
/// APIC_BASE.
pub const APIC_BASE: u32 = 0x1b;
/// PAT.
pub const PAT: u32 = 0x277;
/// TSC_DEADLINE.
pub const TSC_DEADLINE: u32 = 0x6e0;
/// First x2APIC register.
pub const X2APIC_FIRST: u32 = 0x800;
/// Last x2APIC register.
pub const X2APIC_LAST: u32 = 0x8ff;
/// EFER.
pub const EFER: u32 = 0xc000_0080;

const PLATFORM_ID: u32 = 0x17;
const MICROCODE_UPDATE: u32 = 0x79;
const MICROCODE_REVISION: u32 = 0x8b;
const MTRR_CAPABILITIES: u32 = 0xfe;
const MACHINE_CHECK_CAPABILITIES: u32 = 0x179;
const MACHINE_CHECK_STATUS: u32 = 0x17a;
const MISC_ENABLE: u32 = 0x1a0;
const DEBUG_CONTROL: u32 = 0x1d9;
const MTRR_VARIABLE_FIRST: u32 = 0x200;
const MTRR_VARIABLE_LAST: u32 = MTRR_VARIABLE_FIRST + 2 * MTRR_PAIRS as u32 - 1;
const MTRR_DEFAULT_TYPE: u32 = 0x2ff;
const SYSTEM_CONFIGURATION: u32 = 0xc001_0010;
const HARDWARE_CONFIGURATION: u32 = 0xc001_0015;
const NORTHBRIDGE_CONFIGURATION: u32 = 0xc001_001f;
const MICROCODE_UPDATE_AMD: u32 = 0xc001_0020;
const INTERRUPT_PENDING: u32 = 0xc001_0055;
const CONFIGURATION_BASE: u32 = 0xc001_0058;
const DECODE_CONFIGURATION: u32 = 0xc001_1029;

/// Variable memory type ranges.
const MTRR_PAIRS: usize = 8;
/// Fixed ranges: 64K, two of 16K, eight of 4K.
const MTRR_FIXED: [u32; 11] = [
    0x250, 0x258, 0x259, 0x268, 0x269, 0x26a, 0x26b, 0x26c, 0x26d, 0x26e, 0x26f,
];
/// Write-back everywhere, in a fixed range register.
const ALL_WRITE_BACK: u64 = 0x0606_0606_0606_0606;
const WRITE_BACK: u64 = 6;
const MTRR_ENABLED: u64 = 1 << 11;
const MTRR_FIXED_ENABLED: u64 = 1 << 10;
const MTRR_VALID: u64 = 1 << 11;

/// Fast strings; no branch trace storage, no event sampling.
const MISC_ENABLE_RESET: u64 = 1 | 1 << 11 | 1 << 12;
/// The TSC counts at P0's frequency, which Linux wants to see.
const HARDWARE_CONFIGURATION_RESET: u64 = 1 << 24;
/// LFENCE is serialising.
const DECODE_CONFIGURATION_RESET: u64 = 1 << 1;

/// Who answers a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MsrOwner {
    /// [`MsrBank`], or nobody.
    Bank,
    /// A field of the VCPU that takes any value the kernel accepts.
    Field(VcpuField),
    /// EFER, with its rules.
    Efer,
    /// PAT, with its rules.
    Pat,
    /// The time-stamp counter.
    Tsc,
    /// APIC_BASE.
    ApicBase,
    /// TSC_DEADLINE of the local APIC.
    TscDeadline,
    /// Local APIC register with this number.
    X2Apic(u8),
    /// The paravirtual wall clock.
    WallClock,
    /// The paravirtual clock page.
    SystemTime,
}

/// Who answers register `msr`.
#[must_use]
pub fn classify(msr: u32) -> MsrOwner {
    match msr {
        X2APIC_FIRST..=X2APIC_LAST => MsrOwner::X2Apic((msr - X2APIC_FIRST) as u8),
        TSC_DEADLINE => MsrOwner::TscDeadline,
        TSC => MsrOwner::Tsc,
        APIC_BASE => MsrOwner::ApicBase,
        EFER => MsrOwner::Efer,
        PAT => MsrOwner::Pat,
        MSR_WALL_CLOCK => MsrOwner::WallClock,
        MSR_SYSTEM_TIME => MsrOwner::SystemTime,
        // The kernel passes these through; they are here for one that does not.
        0x174 => MsrOwner::Field(VcpuField::SysenterCs),
        0x175 => MsrOwner::Field(VcpuField::SysenterEsp),
        0x176 => MsrOwner::Field(VcpuField::SysenterEip),
        0xc000_0081 => MsrOwner::Field(VcpuField::Star),
        0xc000_0082 => MsrOwner::Field(VcpuField::Lstar),
        0xc000_0083 => MsrOwner::Field(VcpuField::Cstar),
        0xc000_0084 => MsrOwner::Field(VcpuField::Fmask),
        0xc000_0100 => MsrOwner::Field(VcpuField::FsBase),
        0xc000_0101 => MsrOwner::Field(VcpuField::GsBase),
        0xc000_0102 => MsrOwner::Field(VcpuField::KernelGsBase),
        0xc000_0103 => MsrOwner::Field(VcpuField::TscAux),
        _ => MsrOwner::Bank,
    }
}

/// The register does not exist, or does not take the value: #GP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MsrRefused;

/// The plain registers of one VCPU.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct MsrBank {
    is_amd: bool,
    physical_mask: u64,
    mtrr_variable: [u64; 2 * MTRR_PAIRS],
    mtrr_fixed: [u64; MTRR_FIXED.len()],
    mtrr_default: u64,
    misc_enable: u64,
    machine_check_status: u64,
    hardware_configuration: u64,
    decode_configuration: u64,
    /// As the guest wrote them.
    wall_clock: u64,
    system_time: u64,
}

impl MsrBank {
    /// The registers as firmware leaves them: RAM is write-back, the gap below 4 GiB uncached.
    #[must_use]
    pub fn new(vendor: Vendor, physical_bits: u32) -> Self {
        let physical_mask = (1u64 << physical_bits.clamp(36, 52)) - 1;
        let gap = (1u64 << 32) - LOW_MEMORY_LIMIT;
        let mut mtrr_variable = [0; 2 * MTRR_PAIRS];
        mtrr_variable[0] = LOW_MEMORY_LIMIT;
        mtrr_variable[1] = physical_mask & !(gap - 1) | MTRR_VALID;
        Self {
            is_amd: vendor == Vendor::Amd,
            physical_mask,
            mtrr_variable,
            mtrr_fixed: [ALL_WRITE_BACK; MTRR_FIXED.len()],
            mtrr_default: MTRR_ENABLED | MTRR_FIXED_ENABLED | WRITE_BACK,
            misc_enable: MISC_ENABLE_RESET,
            machine_check_status: 0,
            hardware_configuration: HARDWARE_CONFIGURATION_RESET,
            decode_configuration: DECODE_CONFIGURATION_RESET,
            wall_clock: 0,
            system_time: 0,
        }
    }

    /// Reads a register that [`classify`] gives to the bank.
    ///
    /// # Errors
    /// [`MsrRefused`].
    pub fn read(&self, msr: u32) -> Result<u64, MsrRefused> {
        if self.is_amd && msr >> 16 == 0xc001 {
            return self.read_amd(msr);
        }
        Ok(match msr {
            PLATFORM_ID if !self.is_amd => 0,
            // An update revision above zero, in the upper half.
            MICROCODE_REVISION => 1 << 32,
            MTRR_CAPABILITIES => MTRR_PAIRS as u64 | 1 << 8,
            MTRR_VARIABLE_FIRST..=MTRR_VARIABLE_LAST => {
                self.mtrr_variable[(msr - MTRR_VARIABLE_FIRST) as usize]
            }
            MTRR_DEFAULT_TYPE => self.mtrr_default,
            // No banks.
            MACHINE_CHECK_CAPABILITIES => 0,
            MACHINE_CHECK_STATUS => self.machine_check_status,
            MISC_ENABLE if !self.is_amd => self.misc_enable,
            DEBUG_CONTROL => 0,
            MSR_WALL_CLOCK => self.wall_clock,
            MSR_SYSTEM_TIME => self.system_time,
            _ => self.mtrr_fixed[fixed_index(msr)?],
        })
    }

    fn read_amd(&self, msr: u32) -> Result<u64, MsrRefused> {
        match msr {
            SYSTEM_CONFIGURATION | NORTHBRIDGE_CONFIGURATION => Ok(0),
            INTERRUPT_PENDING | CONFIGURATION_BASE => Ok(0),
            HARDWARE_CONFIGURATION => Ok(self.hardware_configuration),
            DECODE_CONFIGURATION => Ok(self.decode_configuration),
            _ => Err(MsrRefused),
        }
    }

    /// Writes a register that [`classify`] gives to the bank.
    ///
    /// # Errors
    /// [`MsrRefused`]; nothing was changed.
    pub fn write(&mut self, msr: u32, value: u64) -> Result<(), MsrRefused> {
        if self.is_amd && msr >> 16 == 0xc001 {
            return self.write_amd(msr, value);
        }
        match msr {
            // Microcode is the host's: an update is accepted and ignored.
            MICROCODE_UPDATE | MICROCODE_REVISION => {}
            MTRR_VARIABLE_FIRST..=MTRR_VARIABLE_LAST => self.write_variable_range(msr, value)?,
            MTRR_DEFAULT_TYPE => {
                let flags = MTRR_ENABLED | MTRR_FIXED_ENABLED;
                if value & !(flags | 0xff) != 0 || !is_memory_type(value as u8) {
                    return Err(MsrRefused);
                }
                self.mtrr_default = value;
            }
            MACHINE_CHECK_STATUS => self.machine_check_status = value & 0x7,
            MISC_ENABLE if !self.is_amd => self.misc_enable = value,
            DEBUG_CONTROL if value == 0 => {}
            MSR_WALL_CLOCK => self.wall_clock = value,
            MSR_SYSTEM_TIME => self.system_time = value,
            _ => {
                let index = fixed_index(msr)?;
                if !value.to_le_bytes().into_iter().all(is_memory_type) {
                    return Err(MsrRefused);
                }
                self.mtrr_fixed[index] = value;
            }
        }
        Ok(())
    }

    fn write_variable_range(&mut self, msr: u32, value: u64) -> Result<(), MsrRefused> {
        let index = (msr - MTRR_VARIABLE_FIRST) as usize;
        let is_base = index.is_multiple_of(2);
        let low = if is_base { 0xff } else { MTRR_VALID };
        let address = self.physical_mask & !0xfff;
        if value & !(address | low) != 0 || is_base && !is_memory_type(value as u8) {
            return Err(MsrRefused);
        }
        self.mtrr_variable[index] = value;
        Ok(())
    }

    fn write_amd(&mut self, msr: u32, value: u64) -> Result<(), MsrRefused> {
        match msr {
            HARDWARE_CONFIGURATION => self.hardware_configuration = value,
            DECODE_CONFIGURATION => self.decode_configuration = value,
            MICROCODE_UPDATE_AMD
            | SYSTEM_CONFIGURATION
            | NORTHBRIDGE_CONFIGURATION
            | INTERRUPT_PENDING
            | CONFIGURATION_BASE => {}
            _ => return Err(MsrRefused),
        }
        Ok(())
    }
}

fn is_memory_type(kind: u8) -> bool {
    matches!(kind, 0 | 1 | 4 | 5 | 6)
}

fn fixed_index(msr: u32) -> Result<usize, MsrRefused> {
    MTRR_FIXED
        .iter()
        .position(|&fixed| fixed == msr)
        .ok_or(MsrRefused)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bank(vendor: Vendor) -> MsrBank {
        MsrBank::new(vendor, 40)
    }

    #[test]
    fn unknown_registers_are_refused() {
        for vendor in [Vendor::Intel, Vendor::Amd] {
            let mut bank = bank(vendor);
            for msr in [0x3a, 0x480, 0xc001_0114, 0xc001_0117, 0xdead_beef] {
                assert_eq!(bank.read(msr), Err(MsrRefused), "{msr:#x}");
                assert_eq!(bank.write(msr, 0), Err(MsrRefused), "{msr:#x}");
            }
        }
    }

    #[test]
    fn the_gap_is_uncached_and_the_rest_write_back() {
        let bank = bank(Vendor::Intel);
        assert_eq!(bank.read(0x200), Ok(0xc000_0000));
        assert_eq!(bank.read(0x201), Ok(0xff_c000_0800));
        assert_eq!(bank.read(MTRR_DEFAULT_TYPE), Ok(0xc06));
        assert_eq!(bank.read(MTRR_CAPABILITIES), Ok(0x108));
    }

    #[test]
    fn memory_type_registers_refuse_types_that_do_not_exist() {
        let mut bank = bank(Vendor::Intel);
        assert!(bank.write(0x250, 0x0606_0606_0606_0602).is_err());
        assert!(bank.write(0x202, 0x1_0000_0003).is_err());
        assert!(bank.write(0x202, 1 << 40).is_err());
        assert!(bank.write(0x202, 0x1_0000_0006).is_ok());
        assert_eq!(bank.read(0x202), Ok(0x1_0000_0006));
        assert_eq!(bank.read(0x250), Ok(ALL_WRITE_BACK));
    }

    #[test]
    fn vendors_have_their_own_registers() {
        assert!(bank(Vendor::Intel).read(HARDWARE_CONFIGURATION).is_err());
        assert!(bank(Vendor::Amd).read(HARDWARE_CONFIGURATION).is_ok());
        assert!(bank(Vendor::Amd).read(MISC_ENABLE).is_err());
        assert_eq!(bank(Vendor::Intel).read(MISC_ENABLE), Ok(0x1801));
    }

    #[test]
    fn registers_of_other_owners_are_told_apart() {
        assert_eq!(classify(0x830), MsrOwner::X2Apic(0x30));
        assert_eq!(classify(0x6e0), MsrOwner::TscDeadline);
        assert_eq!(classify(0xc000_0082), MsrOwner::Field(VcpuField::Lstar));
        assert_eq!(classify(0x3a), MsrOwner::Bank);
    }

    proptest! {
        #[test]
        fn what_was_accepted_is_read_back_or_ignored(msr in prop_oneof![any::<u32>(), 0u32..0x1000, 0xc001_0000u32..0xc001_2000], value: u64) {
            for vendor in [Vendor::Intel, Vendor::Amd] {
                let mut bank = bank(vendor);
                let before = bank.read(msr);
                if bank.write(msr, value).is_err() {
                    prop_assert_eq!(bank.read(msr), before);
                }
            }
        }
    }
}
