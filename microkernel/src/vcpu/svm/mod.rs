//! VCPUs on AMD SVM: the state is in the VMCB, which is memory.

pub mod exit;
pub mod vmcb;

use sel4_sys::VcpuField;
use sel4_sys::vcpu::exit_mode;
use sel4_sys::vcpu_field::segment_attributes as attributes;

use super::Vcpu;
use super::control::{Control, State, Window};
use crate::store::{Ref, Table};
use vmcb::{EFER_SVME, Vmcb, control, save};

/// The control block of a VCPU on SVM.
#[derive(Clone, Copy)]
pub struct Svm(pub Ref<Vcpu>);

/// Segments in the order of the fields.
const SEGMENTS: [usize; 8] = [
    save::ES,
    save::CS,
    save::SS,
    save::DS,
    save::FS,
    save::GS,
    save::LDTR,
    save::TR,
];

/// Where the value of a field lives.
enum Place {
    /// A 64-bit word of the control block.
    Word(usize),
    /// Some bits of the control block.
    Part(usize, u32),
    /// Segment attributes, in another form there.
    Attributes(usize),
    /// EFER, of which one bit is hidden.
    Efer,
    /// Interrupt shadow.
    Interruptibility,
}

fn place(field: VcpuField) -> Place {
    use VcpuField as F;
    let number = field.number() as usize;
    let segment = SEGMENTS[number % 8];
    match number {
        0..=7 => return Place::Part(segment, 16),
        8..=15 => return Place::Word(segment + 8),
        16..=23 => return Place::Part(segment + 4, 32),
        24..=31 => return Place::Attributes(segment),
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
        F::ExceptionIntercepts => Place::Part(control::EXCEPTION_INTERCEPTS, 32),
        _ => Place::Interruptibility,
    }
}

impl Control for Svm {
    fn read(self, field: VcpuField) -> u64 {
        let v = &self.0.control;
        match place(field) {
            Place::Word(offset) => v.word(offset),
            Place::Part(offset, bits) => v.part(offset, bits),
            Place::Attributes(segment) => read_attributes(v, segment),
            Place::Efer => v.word(save::EFER) & !EFER_SVME,
            Place::Interruptibility => v.word(control::INTERRUPT_SHADOW) & 1,
        }
    }

    fn write(self, field: VcpuField, value: u64) {
        let v = &self.0.control;
        match place(field) {
            Place::Word(offset) => v.set_word(offset, value),
            Place::Part(offset, bits) => v.set_part(offset, bits, value),
            Place::Attributes(segment) => {
                v.set_part(segment + 2, 16, to_vmcb_attributes(value));
                if segment == save::SS {
                    v.set_part(save::CPL, 8, value >> attributes::DPL_SHIFT & 3);
                }
            }
            Place::Efer => v.set_word(save::EFER, value | EFER_SVME),
            Place::Interruptibility => v.set_word(control::INTERRUPT_SHADOW, value & 1),
        }
    }

    #[inline(always)]
    fn set_rip(self, rip: u64) {
        self.0.control.set_word(save::RIP, rip);
    }

    #[inline(always)]
    fn rflags(self) -> u64 {
        self.0.control.word(save::RFLAGS)
    }

    #[inline(always)]
    fn set_rflags(self, rflags: u64) {
        self.0.control.set_word(save::RFLAGS, rflags);
    }

    #[inline(always)]
    fn clear_interrupt_shadow(self) {
        self.0.control.set_word(control::INTERRUPT_SHADOW, 0);
    }

    #[inline(always)]
    fn request_window(self, window: Window) {
        self.0.control.request_window(window);
    }

    fn settle(self, _root: Ref<Table>) {}

    #[inline(always)]
    fn state(self) -> State {
        let v = &self.0.control;
        let rflags = v.word(save::RFLAGS);
        State {
            rip: v.word(save::RIP),
            rflags,
            cr0: v.word(save::CR0),
            cr3: v.word(save::CR3),
            cr4: v.word(save::CR4),
            efer: v.word(save::EFER) & !EFER_SVME,
            mode: mode(v, rflags),
            cs_base: v.word(save::CS + 8),
        }
    }
}

fn mode(v: &Vmcb, rflags: u64) -> u64 {
    const CS_LONG: u64 = 1 << 9;
    const CS_32: u64 = 1 << 10;
    const INTERRUPT_FLAG: u64 = 1 << 9;
    let attributes = v.part(save::CS + 2, 16);
    let pick = |condition: bool, bit: u64| if condition { bit } else { 0 };
    v.part(save::CPL, 8) & exit_mode::CPL_MASK
        | pick(attributes & CS_LONG != 0, exit_mode::CS_LONG)
        | pick(attributes & CS_32 != 0, exit_mode::CS_DEFAULT_32)
        | pick(
            v.word(control::INTERRUPT_SHADOW) & 1 != 0,
            exit_mode::INTERRUPT_SHADOW,
        )
        | pick(rflags & INTERRUPT_FLAG != 0, exit_mode::INTERRUPTS_ENABLED)
}

/// The VMCB packs the access rights' two halves together and marks an unusable segment absent.
const fn to_vmcb_attributes(rights: u64) -> u64 {
    let packed = rights & 0xff | (rights >> 12 & 0xf) << 8;
    if rights & attributes::UNUSABLE != 0 {
        packed & !attributes::PRESENT
    } else {
        packed
    }
}

fn read_attributes(v: &Vmcb, segment: usize) -> u64 {
    let packed = v.part(segment + 2, 16);
    let rights = packed & 0xff | (packed >> 8 & 0xf) << 12;
    if rights & attributes::PRESENT == 0 {
        rights | attributes::UNUSABLE
    } else {
        rights
    }
}
