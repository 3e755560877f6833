//! The virtual machine control block of AMD SVM (AMD64 manual volume 2, appendix B), as memory.

use sel4_sys::Event;
use sel4_sys::vcpu::EventType;

use super::Svm;
use crate::arch;
use crate::store::{Object, Ref, Table};
use crate::vcpu::control::Window;
use crate::vcpu::{GUEST_MSRS, Vcpu, reset};

/// A VMCB page.
#[repr(transparent)]
pub struct Vmcb(Table);

#[expect(unsafe_code, reason = "only the marker: a table of volatile cells")]
// SAFETY: as the reason says.
unsafe impl Object for Vmcb {}

/// Byte offsets in the control area.
pub mod control {
    #![expect(missing_docs, reason = "the manual's names")]
    pub const CR_INTERCEPTS: usize = 0x000;
    pub const DR_INTERCEPTS: usize = 0x004;
    pub const EXCEPTION_INTERCEPTS: usize = 0x008;
    pub const MISC_INTERCEPTS_1: usize = 0x00c;
    pub const MISC_INTERCEPTS_2: usize = 0x010;
    pub const IOPM_BASE: usize = 0x040;
    pub const MSRPM_BASE: usize = 0x048;
    pub const TSC_OFFSET: usize = 0x050;
    /// The address-space identifier, and TLB control from bit 32 on.
    pub const ASID: usize = 0x058;
    pub const VIRTUAL_INTERRUPT: usize = 0x060;
    pub const INTERRUPT_SHADOW: usize = 0x068;
    pub const EXIT_CODE: usize = 0x070;
    pub const EXIT_INFO_1: usize = 0x078;
    pub const EXIT_INFO_2: usize = 0x080;
    pub const EXIT_INT_INFO: usize = 0x088;
    pub const NESTED_PAGING: usize = 0x090;
    pub const EVENT_INJECTION: usize = 0x0a8;
    pub const NESTED_CR3: usize = 0x0b0;
    pub const NEXT_RIP: usize = 0x0c8;
}

/// Byte offsets in the save area.
pub mod save {
    #![expect(missing_docs, reason = "the manual's names")]
    pub const ES: usize = 0x400;
    pub const CS: usize = 0x410;
    pub const SS: usize = 0x420;
    pub const DS: usize = 0x430;
    pub const FS: usize = 0x440;
    pub const GS: usize = 0x450;
    pub const GDTR: usize = 0x460;
    pub const LDTR: usize = 0x470;
    pub const IDTR: usize = 0x480;
    pub const TR: usize = 0x490;
    pub const CPL: usize = 0x4cb;
    pub const EFER: usize = 0x4d0;
    pub const CR4: usize = 0x548;
    pub const CR3: usize = 0x550;
    pub const CR0: usize = 0x558;
    pub const DR7: usize = 0x560;
    pub const DR6: usize = 0x568;
    pub const RFLAGS: usize = 0x570;
    pub const RIP: usize = 0x578;
    pub const RSP: usize = 0x5d8;
    pub const RAX: usize = 0x5f8;
    pub const STAR: usize = 0x600;
    pub const LSTAR: usize = 0x608;
    pub const CSTAR: usize = 0x610;
    pub const SFMASK: usize = 0x618;
    pub const KERNEL_GS_BASE: usize = 0x620;
    pub const SYSENTER_CS: usize = 0x628;
    pub const SYSENTER_ESP: usize = 0x630;
    pub const SYSENTER_EIP: usize = 0x638;
    pub const CR2: usize = 0x640;
    pub const PAT: usize = 0x668;
}

/// EFER.SVME: set in every VMCB, hidden from the guest.
pub const EFER_SVME: u64 = 1 << 12;
/// V_IRQ: there is a virtual interrupt that the guest did not take yet.
const VIRTUAL_INTERRUPT_WAITS: u64 = 1 << 8;
/// V_IRQ, priority 15, V_IGN_TPR: a virtual interrupt, whatever the task priority.
const VIRTUAL_INTERRUPT_REQUEST: u64 = VIRTUAL_INTERRUPT_WAITS | 15 << 16 | 1 << 20;
/// Where the vector of a virtual interrupt stands.
const VECTOR_SHIFT: u32 = 32;
/// VINTR among the intercepts: a virtual interrupt exits instead of being delivered.
const INTERCEPT_VIRTUAL_INTERRUPT: u64 = 1 << 4;
/// Physical interrupts follow the host's RFLAGS.IF, and CR8 the virtual task priority.
const INTERRUPT_MASKING: u64 = 1 << 24;

/// CR8 reads and writes; everything else of CR0..CR4 is the guest's own under nested paging.
const CR_INTERCEPTS: u32 = 1 << 8 | 1 << 24;
/// INTR, NMI, INIT, VINTR, RDPMC, CPUID, INVD, HLT, INVLPGA, I/O and MSR maps, task switch,
/// FERR freeze, shutdown.
const MISC_INTERCEPTS_1: u32 = 1
    | 1 << 1
    | 1 << 3
    | 1 << 4
    | 1 << 15
    | 1 << 18
    | 1 << 22
    | 1 << 24
    | 1 << 26
    | 1 << 27
    | 1 << 28
    | 1 << 29
    | 1 << 30
    | 1 << 31;
/// VMRUN, VMMCALL, VMLOAD, VMSAVE, STGI, CLGI, SKINIT, ICEBP, WBINVD, MONITOR, MWAIT (twice), XSETBV.
const MISC_INTERCEPTS_2: u32 = 0x7f | 0x3f << 8;

/// How long the CPU is to stay in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Visit {
    /// Until something exits.
    Long,
    /// No longer than the delivery of the event takes.
    Short,
}

impl Vmcb {
    /// The 64-bit word at byte `offset`, which is a multiple of 8.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, offset: usize) -> u64 {
        self.0.entry(offset / 8).get()
    }

    /// Writes the 64-bit word at byte `offset`, which is a multiple of 8.
    #[inline(always)]
    pub fn set_word(&self, offset: usize, value: u64) {
        self.0.entry(offset / 8).set(value);
    }

    /// The `bits` bits at byte `offset`, inside one word.
    #[inline(always)]
    #[must_use]
    pub fn part(&self, offset: usize, bits: u32) -> u64 {
        (self.word(offset & !7) >> (offset % 8 * 8)) & ((1 << bits) - 1)
    }

    /// Writes the `bits` bits at byte `offset`, inside one word.
    #[inline(always)]
    pub fn set_part(&self, offset: usize, bits: u32, value: u64) {
        let (shift, mask) = (offset % 8 * 8, (1u64 << bits) - 1);
        let word = self.word(offset & !7) & !(mask << shift);
        self.set_word(offset & !7, word | (value & mask) << shift);
    }

    /// Whether the guest exits as soon as it can take an interrupt.
    #[inline(always)]
    pub fn request_window(&self, window: Window) {
        let request = match window {
            Window::Wanted => VIRTUAL_INTERRUPT_REQUEST,
            Window::NotWanted => 0,
        };
        self.set_word(control::VIRTUAL_INTERRUPT, INTERRUPT_MASKING | request);
    }

    /// Has the CPU deliver `event` when the guest runs next; 0 is none.
    ///
    /// QEMU does not forget an injected interrupt before the next exit: if its scheduler stops the CPU
    /// meanwhile, the guest gets it once more, with interrupts off as well. So an interrupt goes as
    /// a virtual one; or, when the window is asked for too, which needs the virtual interrupt for
    /// itself, into a visit that ends before the guest's next instruction.
    #[inline(always)]
    pub fn deliver(&self, event: u64) -> Visit {
        let is_interrupt =
            event != 0 && Event::from_word(event).kind() == Ok(EventType::ExternalInterrupt);
        let asks = self.word(control::VIRTUAL_INTERRUPT) & VIRTUAL_INTERRUPT_WAITS != 0;
        let (injected, visit) = match (is_interrupt, asks) {
            (false, _) => (event, Visit::Long),
            (true, true) => (event, Visit::Short),
            (true, false) => {
                self.deliver_virtually(Event::from_word(event).vector());
                (0, Visit::Long)
            }
        };
        self.set_word(control::EVENT_INJECTION, injected);
        visit
    }

    #[inline(always)]
    fn deliver_virtually(&self, vector: u8) {
        let request = INTERRUPT_MASKING | VIRTUAL_INTERRUPT_REQUEST;
        self.set_word(
            control::VIRTUAL_INTERRUPT,
            request | u64::from(vector) << VECTOR_SHIFT,
        );
        let intercepts = u64::from(MISC_INTERCEPTS_1) & !INTERCEPT_VIRTUAL_INTERRUPT;
        self.set_part(control::MISC_INTERCEPTS_1, 32, intercepts);
    }

    /// Ends what [`Self::deliver`] began, after an exit. Whether the guest did not take a virtual
    /// interrupt before it.
    #[inline(always)]
    #[must_use]
    pub fn end_delivery(&self) -> bool {
        let intercepts = self.part(control::MISC_INTERCEPTS_1, 32);
        if intercepts & INTERCEPT_VIRTUAL_INTERRUPT != 0 {
            return false;
        }
        let waits = self.word(control::VIRTUAL_INTERRUPT) & VIRTUAL_INTERRUPT_WAITS != 0;
        self.request_window(Window::NotWanted);
        self.set_part(control::MISC_INTERCEPTS_1, 32, u64::from(MISC_INTERCEPTS_1));
        waits
    }
}

/// Bit of the MSR permission map that intercepts reads of `msr`; the next one is for writes.
/// Registers outside the three mapped ranges always exit: their bit is one that nothing clears.
const fn msr_map_bit(msr: u32) -> usize {
    const RANGE_BITS: usize = 0x4000;
    let (range, number) = match msr {
        0..=0x1fff => (0, msr),
        0xc000_0000..=0xc000_1fff => (1, msr - 0xc000_0000),
        0xc001_0000..=0xc001_1fff => (2, msr - 0xc001_0000),
        _ => (3, 0),
    };
    range * RANGE_BITS + number as usize * 2
}

/// Puts a VCPU into the state after reset, with every intercept set.
pub fn reset(vcpu: Ref<Vcpu>) {
    let v = &vcpu.control;
    for msr in GUEST_MSRS {
        let bit = msr_map_bit(msr);
        vcpu.msr_map.clear_bit(bit);
        vcpu.msr_map.clear_bit(bit + 1);
    }
    v.set_part(control::CR_INTERCEPTS, 32, u64::from(CR_INTERCEPTS));
    // All debug registers, reads and writes.
    v.set_part(control::DR_INTERCEPTS, 32, u64::from(u32::MAX));
    v.set_part(control::MISC_INTERCEPTS_1, 32, u64::from(MISC_INTERCEPTS_1));
    v.set_part(control::MISC_INTERCEPTS_2, 32, u64::from(MISC_INTERCEPTS_2));
    v.set_word(control::NESTED_PAGING, 1);
    let physical = |map: usize| arch::physical_address(map);
    v.set_word(
        control::IOPM_BASE,
        physical(&raw const vcpu.io_map as usize),
    );
    v.set_word(
        control::MSRPM_BASE,
        physical(&raw const vcpu.msr_map as usize),
    );
    v.request_window(Window::NotWanted);
    // What a VMCB has beside, because the CPU keeps them there.
    for register in [save::RSP, save::RAX] {
        v.set_word(register, 0);
    }
    reset::reset(Svm(vcpu));
}
