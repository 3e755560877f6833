//! What the CPU's VMX can do (Intel SDM volume 3, appendix A).

use x86::controlregs::{Cr0, Cr4, cr0, cr4};
use x86::cpuid::cpuid;
use x86::msr::{
    IA32_FEATURE_CONTROL, IA32_VMX_BASIC, IA32_VMX_CR0_FIXED0, IA32_VMX_CR4_FIXED0,
    IA32_VMX_EPT_VPID_CAP, IA32_VMX_MISC, IA32_VMX_PROCBASED_CTLS2, IA32_VMX_TRUE_ENTRY_CTLS,
    IA32_VMX_TRUE_EXIT_CTLS, IA32_VMX_TRUE_PINBASED_CTLS, IA32_VMX_TRUE_PROCBASED_CTLS, rdmsr,
};

use crate::vcpu::vmx::vmcs::Controls;

use super::super::clock;

/// What the machine offers. All its CPUs are taken to be alike.
#[derive(Clone, Copy, Debug)]
pub struct Capabilities {
    /// First word of every VMCS and of the VMXON region.
    pub revision: u32,
    /// The controls of every VMCS, but for what depends on the clock.
    controls: Controls,
    /// Cached translations have tags (VPIDs), all of which can be forgotten.
    pub has_tags: bool,
    /// The preemption timer counts each time that this bit of the TSC changes.
    timer_bit: u64,
}

impl Capabilities {
    /// The controls of a new VMCS.
    pub fn guest_controls(&self) -> Controls {
        let ticks = clock::tsc_khz() * LONGEST_STAY_MS;
        Controls {
            longest_stay: (ticks >> self.timer_bit).clamp(1, u64::from(u32::MAX)),
            ..self.controls
        }
    }
}

/// Pin-based: external interrupts and NMIs exit; the guest has NMIs of its own.
const PIN: u32 = 1 | 1 << 3 | 1 << 5;
/// Pin-based, where it is: the guest exits after a while. Bochs forgets to look at interrupts when it
/// enters a guest whose own are off, so such a guest would keep the host's out until it changes that.
const PIN_OPTIONAL: u32 = 1 << 6;
/// That while: a few times the scheduler's shortest slices, and long beside what an exit costs.
const LONGEST_STAY_MS: u64 = 2;
/// Primary: TSC offset, HLT, MWAIT, RDPMC, MOV to and from CR8, MOV DR, I/O and MSR bitmaps,
/// MONITOR, secondary controls.
const PRIMARY: u32 = 1 << 3
    | 1 << 7
    | 1 << 10
    | 1 << 11
    | 1 << 19
    | 1 << 20
    | 1 << 23
    | 1 << 25
    | 1 << 28
    | 1 << 29
    | 1 << 31;
/// Exit when the guest can take an interrupt: switched on when it is wanted.
const PRIMARY_LATER: u32 = 1 << 2;
/// Primary: INVLPG, MOV to and from CR3, RDTSC, PAUSE. These must not exit, but old CPUs insist.
const PRIMARY_NEVER: u32 = 1 << 9 | 1 << 12 | 1 << 15 | 1 << 16 | 1 << 30;
/// Secondary: EPT, unrestricted guest.
const SECONDARY: u32 = 1 << 1 | 1 << 7;
/// VPID.
const SECONDARY_TAGS: u32 = 1 << 5;
/// Secondary, where they are: RDTSCP, WBINVD exits, INVPCID, XSAVES.
const SECONDARY_OPTIONAL: u32 = 1 << 3 | 1 << 6 | 1 << 12 | 1 << 20;
/// Exits: save debug controls, 64-bit host, save and load PAT, save and load EFER.
const EXIT: u32 = 1 << 2 | 1 << 9 | 1 << 18 | 1 << 19 | 1 << 20 | 1 << 21;
/// Entries: load debug controls, PAT, EFER.
const ENTRY: u32 = 1 << 2 | 1 << 14 | 1 << 15;
/// Entry control that follows EFER.
const ENTRY_LATER: u32 = 1 << 9;

/// EPT: four levels, write-back tables, 2 MiB and 1 GiB pages, INVEPT of everything.
const EPT: u64 = 1 << 6 | 1 << 14 | 1 << 16 | 1 << 17 | 1 << 20 | 1 << 26;
/// INVVPID of everything.
const FORGET_TAGS: u64 = 1 << 32 | 1 << 42;

/// Reads the capability registers; `None` if something is missing that guests need.
pub fn find() -> Option<Capabilities> {
    const VMX_BIT: u32 = 1 << 5;
    const TRUE_CONTROLS: u64 = 1 << 55;
    const REVISION: u64 = 0x7fff_ffff;
    const TIMER_BIT: u64 = 0x1f;
    if cpuid!(1).ecx & VMX_BIT == 0 || !is_allowed() || !fits_fixed_bits() {
        return None;
    }
    // SAFETY: CPUs with VMX have these registers.
    let (basic, miscellaneous) = unsafe { (rdmsr(IA32_VMX_BASIC), rdmsr(IA32_VMX_MISC)) };
    if basic & TRUE_CONTROLS == 0 {
        return None;
    }
    let pin = choose(IA32_VMX_TRUE_PINBASED_CTLS, PIN, PIN_OPTIONAL)?;
    let primary = choose(IA32_VMX_TRUE_PROCBASED_CTLS, PRIMARY, PRIMARY_LATER)?;
    let secondary = choose(
        IA32_VMX_PROCBASED_CTLS2,
        SECONDARY,
        SECONDARY_TAGS | SECONDARY_OPTIONAL,
    )?;
    let exit = choose(IA32_VMX_TRUE_EXIT_CTLS, EXIT, 0)?;
    let entry = choose(IA32_VMX_TRUE_ENTRY_CTLS, ENTRY, ENTRY_LATER)?;
    // SAFETY: CPUs with EPT, which `choose` insisted on, have this register.
    let memory = unsafe { rdmsr(IA32_VMX_EPT_VPID_CAP) };
    if primary & PRIMARY_NEVER != 0 || memory & EPT != EPT {
        return None;
    }
    let has_tags = secondary & SECONDARY_TAGS != 0 && memory & FORGET_TAGS == FORGET_TAGS;
    let untagged = if has_tags { 0 } else { SECONDARY_TAGS };
    Some(Capabilities {
        revision: (basic & REVISION) as u32,
        controls: Controls {
            pin: u64::from(pin),
            primary: u64::from(primary & !PRIMARY_LATER),
            secondary: u64::from(secondary & !untagged),
            exit: u64::from(exit),
            entry: u64::from(entry & !ENTRY_LATER),
            longest_stay: 0,
        },
        has_tags,
        timer_bit: miscellaneous & TIMER_BIT,
    })
}

/// Whether the firmware lets VMX be used, or has left that to us.
fn is_allowed() -> bool {
    const LOCKED: u64 = 1;
    const OUTSIDE_SMX: u64 = 1 << 2;
    // SAFETY: CPUs with VMX have this register.
    let value = unsafe { rdmsr(IA32_FEATURE_CONTROL) };
    value & LOCKED == 0 || value & OUTSIDE_SMX != 0
}

/// Whether the kernel's control registers are what VMX operation insists on.
fn fits_fixed_bits() -> bool {
    // SAFETY: CPUs with VMX have these registers; reading control registers has no effect.
    let (fixed0, fixed4, now0, now4) = unsafe {
        (
            Cr0::from_bits_truncate(rdmsr(IA32_VMX_CR0_FIXED0) as usize),
            Cr4::from_bits_truncate(rdmsr(IA32_VMX_CR4_FIXED0) as usize),
            cr0(),
            cr4() | Cr4::CR4_ENABLE_VMX,
        )
    };
    now0.contains(fixed0) && now4.contains(fixed4)
}

/// Controls with all that is `wanted`, what is `optional` and allowed, and what the CPU insists on.
fn choose(msr: u32, wanted: u32, optional: u32) -> Option<u32> {
    // SAFETY: called only for registers that the CPU has.
    let allowed = unsafe { rdmsr(msr) };
    let (must, may) = (allowed as u32, (allowed >> 32) as u32);
    (wanted & !may == 0).then_some(must | wanted | optional & may)
}
