//! What the CPU can do, read once from CPUID, and the control registers that follow from it.

use x86::controlregs::{Cr0, Cr4, Xcr0, cr0, cr0_write, cr4, cr4_write, xcr0_write};
use x86::cpuid::cpuid;
use x86::msr::{IA32_PAT, wrmsr};

use super::global::SetAtBoot;

/// What the CPU can do. All CPUs of a machine are taken to be alike.
#[derive(Clone, Copy, Debug)]
pub struct Features {
    /// Local APIC by MSR.
    pub x2apic: bool,
    /// Timer interrupt at a TSC value.
    pub tsc_deadline: bool,
    /// Tagged translations that can be dropped by tag.
    pub tagged_tlb: bool,
    /// Bits of CR3 that hold the tag of a space; 0 without tags.
    pub space_tag: u64,
    /// Bit of a value for CR3 that keeps what is cached under its tag; 0 without tags.
    pub keep_cached: u64,
    /// 1 GiB pages.
    pub huge_pages: bool,
    /// Extended state components that threads have; 0 where there is only FXSAVE.
    pub xcr0: u64,
    /// Further components that the CPU has, and no thread.
    pub unsaved_components: u64,
    /// How extended state is saved.
    pub save: SaveInstruction,
    control: Cr4,
}

/// Instructions that save extended state, from the oldest to the one that leaves out what did not
/// change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaveInstruction {
    /// x87 and SSE.
    Fxsave,
    /// All that XCR0 enables.
    Xsave,
    /// The same, except what is unchanged since it was loaded.
    Xsaveopt,
}

const NONE: Features = Features {
    x2apic: false,
    tsc_deadline: false,
    tagged_tlb: false,
    space_tag: 0,
    keep_cached: 0,
    huge_pages: false,
    xcr0: 0,
    unsaved_components: 0,
    save: SaveInstruction::Fxsave,
    control: Cr4::empty(),
};

static FEATURES: SetAtBoot<Features> = SetAtBoot::new(NONE);

/// x87, SSE and AVX: what fits in a thread's area.
const XCR0_MASK: u64 = 7;
const XCR0_SSE: u64 = 3;

/// Memory types by PAT index, as VmAttributes numbers them: WB, WT, UC-, UC, WC, WP, UC-, UC.
const PAT: u64 = 0x0007_0501_0007_0406;

/// The features that `find` found.
#[inline(always)]
pub fn features() -> &'static Features {
    FEATURES.get()
}

/// Reads CPUID. For the first CPU, before the others run.
pub fn find() {
    let leaf1 = cpuid!(1);
    let (leaf7_ebx, leaf7_ecx) = if cpuid!(0).eax >= 7 {
        let leaf7 = cpuid!(7, 0);
        (leaf7.ebx, leaf7.ecx)
    } else {
        (0, 0)
    };
    let bit = |word: u32, number: u32| word >> number & 1 == 1;
    let has_xsave = bit(leaf1.ecx, 26);
    let components = if has_xsave {
        let leaf = cpuid!(0xd, 0);
        u64::from(leaf.edx) << 32 | u64::from(leaf.eax)
    } else {
        0
    };
    let save = match has_xsave {
        false => SaveInstruction::Fxsave,
        true if bit(cpuid!(0xd, 1).eax, 0) => SaveInstruction::Xsaveopt,
        true => SaveInstruction::Xsave,
    };
    let tagged_tlb = bit(leaf1.ecx, 17) && bit(leaf7_ebx, 10);
    let mut control = Cr4::CR4_ENABLE_PAE
        | Cr4::CR4_ENABLE_GLOBAL_PAGES
        | Cr4::CR4_ENABLE_SSE
        | Cr4::CR4_UNMASKED_SSE
        | Cr4::CR4_ENABLE_MACHINE_CHECK;
    control.set(Cr4::CR4_ENABLE_OS_XSAVE, has_xsave);
    control.set(Cr4::CR4_ENABLE_PCID, tagged_tlb);
    control.set(Cr4::CR4_ENABLE_SMEP, bit(leaf7_ebx, 7));
    control.set(Cr4::CR4_ENABLE_SMAP, bit(leaf7_ebx, 20));
    control.set(Cr4::CR4_ENABLE_UMIP, bit(leaf7_ecx, 2));
    let found = Features {
        x2apic: bit(leaf1.ecx, 21),
        tsc_deadline: bit(leaf1.ecx, 24),
        tagged_tlb,
        space_tag: if tagged_tlb { 0xfff } else { 0 },
        keep_cached: u64::from(tagged_tlb) << 63,
        huge_pages: bit(cpuid!(0x8000_0001).edx, 26),
        xcr0: components & XCR0_MASK,
        unsaved_components: components & !XCR0_MASK,
        save,
        control,
    };
    // SAFETY: boot, one CPU.
    unsafe { FEATURES.set(found) };
}

/// Sets up the control registers of this CPU: protections on, floating point available.
///
/// FSGSBASE stays off: so only the kernel changes a thread's FS and GS bases.
pub fn enable() {
    let features = features();
    // SAFETY: only bits that CPUID offers are set; paging, protected mode and caches stay on.
    unsafe {
        let keep = Cr0::CR0_ENABLE_PAGING | Cr0::CR0_PROTECTED_MODE | Cr0::CR0_EXTENSION_TYPE;
        cr0_write(
            (cr0() & keep)
                | Cr0::CR0_WRITE_PROTECT
                | Cr0::CR0_NUMERIC_ERROR
                | Cr0::CR0_MONITOR_COPROCESSOR,
        );
        cr4_write((cr4() & Cr4::CR4_ENABLE_PAE) | features.control);
        if features.xcr0 != 0 {
            xcr0_write(Xcr0::from_bits_truncate(features.xcr0));
        }
        wrmsr(IA32_PAT, PAT);
    }
}

/// The extended state components that BootInfo tells of: what FXSAVE holds if there is no XSAVE.
pub fn thread_xcr0() -> u64 {
    match features().xcr0 {
        0 => XCR0_SSE,
        xcr0 => xcr0,
    }
}
