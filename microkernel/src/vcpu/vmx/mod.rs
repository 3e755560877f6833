//! VCPUs on Intel VMX: the state is in the VMCS, which only its CPU's instructions read and write.
//!
//! A VMCS belongs to one CPU at a time; [`Vmx::claim`] brings it to this one. Host fields, and
//! everything else that has to do with a particular CPU, are `arch`'s.

pub mod exit;
mod page_directory;
pub mod vmcs;

use core::cell::Cell;

use sel4_sys::VcpuField;
use sel4_sys::vcpu::exit_mode;
use sel4_sys::vcpu_field::{interruptibility, segment_attributes as attributes};
use x86::vmx::vmcs::{control as controls, guest};

use super::Vcpu;
use super::control::{Control, State, Window};
use super::field::{CR0_CD, CR0_NW, CR4_ALLOWED, EFER_LMA, RFLAGS_IF};
use crate::arch;
use crate::store::{Ref, Table};

/// The VMCS of a VCPU, which is this CPU's current one.
#[derive(Clone, Copy)]
pub struct Vmx(pub Ref<Vcpu>);

/// Part of a VCPU that is in no VMCS field.
pub struct Beside {
    /// CPU that holds the VMCS, plus one; 0 if none does.
    pub holder: Cell<u64>,
    /// It was entered on that CPU.
    pub is_launched: Cell<bool>,
    /// The primary controls, as they were last written.
    primary: Cell<u64>,
    /// CR2 of the guest.
    pub cr2: Cell<u64>,
    /// DR6 of the guest.
    pub dr6: Cell<u64>,
    /// What the host's CR3 field holds.
    pub host_cr3: Cell<u64>,
    /// What the host's FS base field holds.
    pub host_fs_base: Cell<u64>,
}

/// Registers that entries load and exits store, as pairs of number and value (SDM volume 3, 25.7.2).
#[repr(C, align(4096))]
pub struct MsrList([[Cell<u64>; 2]; 256]);

/// Registers in the list: those that have no field.
pub const LISTED_MSRS: [u32; 6] = [
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0102,
    TSC_AUX,
];
const TSC_AUX: u32 = 0xc000_0103;

impl MsrList {
    /// Position of the value of the register that begins at 0xc000_0081 or is KERNEL_GS_BASE.
    const KERNEL_GS_BASE: usize = 4;
    const TSC_AUX: usize = 5;

    fn value(&self, index: usize) -> &Cell<u64> {
        &self.0[index][1]
    }
}

/// CR0 bits that the guest only seems to change: numeric errors are exceptions in VMX operation,
/// and caches stay on.
pub const CR0_HIDDEN: u64 = CR0_NE | CR0_CD | CR0_NW;
const CR0_NE: u64 = 1 << 5;
/// Set in CR4 in VMX operation.
const CR4_VMXE: u64 = 1 << 13;
/// CR4 bits that no guest has: setting one exits.
pub const CR4_HIDDEN: u64 = !CR4_ALLOWED;
/// Primary control: exit when the guest can take an interrupt.
const INTERRUPT_WINDOW: u64 = 1 << 2;
/// Entry control: the guest is in long mode.
const LONG_MODE_GUEST: u64 = 1 << 9;

/// Bits of the interruptibility field (SDM volume 3, 25.4.2).
mod blocking {
    pub const STI: u64 = 1 << 0;
    pub const MOV_SS: u64 = 1 << 1;
    pub const NMI: u64 = 1 << 3;
}

/// Where the value of a field lives.
enum Place<'a> {
    /// A field of the VMCS.
    Field(u32),
    /// A cell of the VCPU.
    Cell(&'a Cell<u64>),
    /// CR0, some bits of which are in its shadow.
    Cr0,
    /// CR4, one bit of which is hidden.
    Cr4,
    /// EFER, one bit of which is an entry control too.
    Efer,
    /// Interrupt shadow and blocked NMIs.
    Interruptibility,
}

fn place(vcpu: &Vcpu, field: VcpuField) -> Place<'_> {
    use VcpuField as F;
    let number = field.number() as u32;
    // The fields of segments are in the order of ours.
    let segment = |first: u32| Place::Field(first + number % 8 * 2);
    match number {
        0..=7 => return segment(guest::ES_SELECTOR),
        8..=15 => return segment(guest::ES_BASE),
        16..=23 => return segment(guest::ES_LIMIT),
        24..=31 => return segment(guest::ES_ACCESS_RIGHTS),
        47..=50 => return Place::Cell(vcpu.msr_list.value(number as usize - 47)),
        _ => {}
    }
    Place::Field(match field {
        F::GdtrBase => guest::GDTR_BASE,
        F::GdtrLimit => guest::GDTR_LIMIT,
        F::IdtrBase => guest::IDTR_BASE,
        F::IdtrLimit => guest::IDTR_LIMIT,
        F::Cr3 => guest::CR3,
        F::Dr7 => guest::DR7,
        F::Pat => guest::IA32_PAT_FULL,
        F::SysenterCs => guest::IA32_SYSENTER_CS,
        F::SysenterEsp => guest::IA32_SYSENTER_ESP,
        F::SysenterEip => guest::IA32_SYSENTER_EIP,
        F::Rip => guest::RIP,
        F::Rflags => guest::RFLAGS,
        F::TscOffset => controls::TSC_OFFSET_FULL,
        F::ExceptionIntercepts => controls::EXCEPTION_BITMAP,
        F::Cr0 => return Place::Cr0,
        F::Cr2 => return Place::Cell(&vcpu.vmx.cr2),
        F::Cr4 => return Place::Cr4,
        F::Dr6 => return Place::Cell(&vcpu.vmx.dr6),
        F::Efer => return Place::Efer,
        F::KernelGsBase => return Place::Cell(vcpu.msr_list.value(MsrList::KERNEL_GS_BASE)),
        _ => return Place::Interruptibility,
    })
}

impl Vmx {
    /// The control block of `vcpu`, which does not run, made this CPU's current one.
    #[inline(always)]
    pub fn claim(vcpu: Ref<Vcpu>) -> Self {
        arch::claim_vmcs(vcpu);
        Self(vcpu)
    }

    /// A field of the VMCS.
    #[inline(always)]
    pub fn field(self, field: u32) -> u64 {
        arch::vmcs_read(field)
    }

    /// Writes a field of the VMCS.
    #[inline(always)]
    pub fn set_field(self, field: u32, value: u64) {
        arch::vmcs_write(field, value);
    }

    fn cr0(self) -> u64 {
        let shadow = self.field(controls::CR0_READ_SHADOW);
        self.field(guest::CR0) & !CR0_HIDDEN | shadow & CR0_HIDDEN
    }

    fn set_cr0(self, value: u64) {
        let seen = value & !(CR0_CD | CR0_NW);
        self.set_field(guest::CR0, seen | CR0_NE);
        self.set_field(controls::CR0_READ_SHADOW, value);
    }

    fn set_efer(self, value: u64) {
        self.set_field(guest::IA32_EFER_FULL, value);
        let entry = self.field(controls::VMENTRY_CONTROLS) & !LONG_MODE_GUEST;
        let long = if value & EFER_LMA != 0 {
            LONG_MODE_GUEST
        } else {
            0
        };
        self.set_field(controls::VMENTRY_CONTROLS, entry | long);
    }

    /// The shadows that the guest is in, as the neutral field has them.
    fn interruptibility(self) -> u64 {
        let state = self.field(guest::INTERRUPTIBILITY_STATE);
        let pick = |mask: u64, bit: u64| if state & mask != 0 { bit } else { 0 };
        pick(blocking::STI | blocking::MOV_SS, interruptibility::SHADOW)
            | pick(blocking::NMI, interruptibility::NMI_BLOCKED)
    }

    fn set_interruptibility(self, value: u64) {
        // STI's shadow is only accepted with interrupts on.
        let shadow = if self.field(guest::RFLAGS) & RFLAGS_IF != 0 {
            blocking::STI
        } else {
            blocking::MOV_SS
        };
        let pick = |flag: u64, bit: u64| if value & flag != 0 { bit } else { 0 };
        let state = pick(interruptibility::SHADOW, shadow)
            | pick(interruptibility::NMI_BLOCKED, blocking::NMI);
        self.set_field(guest::INTERRUPTIBILITY_STATE, state);
    }
}

impl Control for Vmx {
    fn read(self, field: VcpuField) -> u64 {
        match place(&self.0, field) {
            Place::Field(field) => self.field(field),
            Place::Cell(cell) => cell.get(),
            Place::Cr0 => self.cr0(),
            Place::Cr4 => self.field(guest::CR4) & CR4_ALLOWED,
            Place::Efer => self.field(guest::IA32_EFER_FULL),
            Place::Interruptibility => self.interruptibility(),
        }
    }

    fn write(self, field: VcpuField, value: u64) {
        match place(&self.0, field) {
            Place::Field(field) => self.set_field(field, value),
            Place::Cell(cell) => cell.set(value),
            Place::Cr0 => self.set_cr0(value),
            Place::Cr4 => self.set_field(guest::CR4, value | CR4_VMXE),
            Place::Efer => self.set_efer(value),
            Place::Interruptibility => self.set_interruptibility(value),
        }
    }

    #[inline(always)]
    fn set_rip(self, rip: u64) {
        self.set_field(guest::RIP, rip);
    }

    #[inline(always)]
    fn rflags(self) -> u64 {
        self.field(guest::RFLAGS)
    }

    #[inline(always)]
    fn set_rflags(self, rflags: u64) {
        self.set_field(guest::RFLAGS, rflags);
    }

    #[inline(always)]
    fn clear_interrupt_shadow(self) {
        let state = self.field(guest::INTERRUPTIBILITY_STATE);
        let open = state & !(blocking::STI | blocking::MOV_SS);
        self.set_field(guest::INTERRUPTIBILITY_STATE, open);
    }

    #[inline(always)]
    fn request_window(self, window: Window) {
        let primary = &self.0.vmx.primary;
        let wanted = match window {
            Window::Wanted => primary.get() | INTERRUPT_WINDOW,
            Window::NotWanted => primary.get() & !INTERRUPT_WINDOW,
        };
        if primary.replace(wanted) != wanted {
            self.set_field(controls::PRIMARY_PROCBASED_EXEC_CONTROLS, wanted);
        }
    }

    fn settle(self, root: Ref<Table>) {
        let list = &self.0.msr_list;
        list.value(MsrList::TSC_AUX).set(self.0.tsc_aux.get());
        page_directory::load_pointers(self, root);
    }

    #[inline(always)]
    fn state(self) -> State {
        let rflags = self.field(guest::RFLAGS);
        State {
            rip: self.field(guest::RIP),
            rflags,
            cr0: self.cr0(),
            cr3: self.field(guest::CR3),
            cr4: self.field(guest::CR4) & CR4_ALLOWED,
            efer: self.field(guest::IA32_EFER_FULL),
            mode: self.mode(rflags),
            cs_base: self.field(guest::CS_BASE),
        }
    }
}

impl Vmx {
    #[inline(always)]
    fn mode(self, rflags: u64) -> u64 {
        let code = self.field(guest::CS_ACCESS_RIGHTS);
        let shadows = self.interruptibility();
        let pick = |word: u64, mask: u64, bit: u64| if word & mask != 0 { bit } else { 0 };
        self.field(guest::SS_ACCESS_RIGHTS) >> attributes::DPL_SHIFT & exit_mode::CPL_MASK
            | pick(code, attributes::LONG, exit_mode::CS_LONG)
            | pick(code, attributes::DEFAULT_32, exit_mode::CS_DEFAULT_32)
            | pick(
                shadows,
                interruptibility::SHADOW,
                exit_mode::INTERRUPT_SHADOW,
            )
            | pick(
                shadows,
                interruptibility::NMI_BLOCKED,
                exit_mode::NMI_BLOCKED,
            )
            | pick(rflags, RFLAGS_IF, exit_mode::INTERRUPTS_ENABLED)
    }
}
