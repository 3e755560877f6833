//! The VCPU object: one virtual CPU, the thread that runs it, and the memory it runs in.
//!
//! The state of the guest lives in the control block of the CPU's vendor ([`svm`], [`vmx`]), except
//! what no control block holds: general registers, extended state, XCR0, DR0..DR3. The general
//! form is that of docs/abi.md: numbered fields ([`field`]) and an exit record ([`exit`]).
//! `arch` runs the guest; everything that can be decided without hardware is decided here.

pub mod control;
pub mod exit;
pub mod field;
mod reset;
pub mod svm;
pub mod vmx;

use core::cell::Cell;

use sel4_sys::vcpu::{enter, enter_flags, enter_result};
use sel4_sys::{Event, MessageInfo, VcpuField};

use crate::arch;
use crate::boot::Virtualisation;
use crate::cap::{Cap, MapSpace};
use crate::finalise;
use crate::kernel::Kernel;
use crate::object::{BufferUse, FpuArea, Slot, Tcb, ThreadState};
use crate::store::{IpcBuffer, Object, Ref, Table, UserWord};
use control::{Control, Window, with_control};
use svm::vmcb::{self, Vmcb};

/// Indexes of general registers, in the order of docs/abi.md.
const RAX: usize = 0;
const RCX: usize = 1;
/// The stack pointer, which control blocks hold.
pub const RSP: usize = 4;

/// I/O port capabilities that a VCPU can use at a time.
pub const PORT_SLOTS: usize = 4;

/// Bits that say what exits.
#[repr(C)]
pub struct PermissionMap<const TABLES: usize>([Table; TABLES]);

impl<const TABLES: usize> PermissionMap<TABLES> {
    /// Word `index` of the map.
    #[must_use]
    pub fn word(&self, index: usize) -> &UserWord {
        self.0[index / 512 % TABLES].entry(index)
    }

    /// Sets every bit: everything exits.
    fn fill(&self) {
        for index in 0..TABLES * 512 {
            self.word(index).set(u64::MAX);
        }
    }

    /// Makes whatever `bit` stands for not exit.
    pub fn clear_bit(&self, bit: usize) {
        let word = self.word(bit / 64);
        word.set(word.get() & !(1 << (bit % 64)));
    }
}

/// What is known of the state of a VCPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trust {
    /// A field was written.
    Unchecked = 0,
    /// The fields fit together.
    Checked = 1,
    /// A CPU has run it.
    Proven = 2,
}

/// What a CPU tags its cached translations of a guest with.
pub struct Tag {
    /// The tag.
    pub number: Cell<u32>,
    /// CPU that it belongs to.
    pub cpu: Cell<u32>,
    /// The CPU's epoch in which it was handed out; 0 is none.
    pub epoch: Cell<u64>,
}

/// One virtual CPU.
#[repr(C, align(4096))]
pub struct Vcpu {
    /// The guest-physical address space.
    pub root: Slot,
    /// I/O ports that the guest may use without an exit.
    pub ports: [Slot; PORT_SLOTS],
    /// Extended state of the guest while it does not run.
    pub fpu: FpuArea,
    /// The count of removed port capabilities when the permission map was made; 0 = make it anew.
    ports_seen: Cell<u64>,
    /// The thread that runs it.
    pub tcb: Cell<Option<Ref<Tcb>>>,
    /// RAX RCX RDX RBX RSP RBP RSI RDI R8..R15; those that the control block holds are valid only
    /// outside the guest.
    pub registers: [Cell<u64>; 16],
    /// Event to deliver at the next entry, or 0.
    pub pending_event: Cell<u64>,
    /// The guest's XCR0.
    pub xcr0: Cell<u64>,
    /// DR0..DR3 as the monitor set them; accesses exit.
    pub debug_registers: [Cell<u64>; 4],
    /// TSC_AUX of the guest.
    pub tsc_aux: Cell<u64>,
    /// DR7 has breakpoints.
    pub has_breakpoints: Cell<bool>,
    /// How far the state was checked.
    pub trust: Cell<Trust>,
    /// RIP and RAX at the last entry. SVM's; they tell a state that was refused from one that ran.
    pub entered: [Cell<u64>; 2],
    /// Tag of cached translations.
    pub tag: Tag,
    /// What VMX needs beside its control block.
    pub vmx: vmx::Beside,
    /// The vendor's control block. VMX's is the CPU's own: nobody reads or writes it as memory.
    pub control: Vmcb,
    /// Model-specific registers that exit.
    pub msr_map: PermissionMap<2>,
    /// I/O ports that exit.
    pub io_map: PermissionMap<3>,
    /// Registers that VMX switches by a list.
    pub msr_list: vmx::MsrList,
}

#[expect(
    unsafe_code,
    reason = "only the marker: zero is an unused VCPU, all fields are cells"
)]
// SAFETY: as the reason says.
unsafe impl Object for Vcpu {}

impl Vcpu {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 15;
}

const _: () = assert!(size_of::<Vcpu>() == 1 << Vcpu::SIZE_BITS);

/// Model-specific registers that belong to the guest alone: hardware switches them.
pub const GUEST_MSRS: [u32; 10] = [
    0x174,
    0x175,
    0x176,
    0xc000_0081,
    0xc000_0082,
    0xc000_0083,
    0xc000_0084,
    0xc000_0100,
    0xc000_0101,
    0xc000_0102,
];

impl Ref<Vcpu> {
    fn slot(self, index: usize) -> Ref<Slot> {
        Ref::<Slot>::from_address(self.address()).element(index)
    }

    /// The slot of the guest-physical address space.
    #[must_use]
    pub fn root_slot(self) -> Ref<Slot> {
        self.slot(0)
    }

    /// Slot `index` of the I/O ports, below [`PORT_SLOTS`].
    #[must_use]
    pub fn port_slot(self, index: usize) -> Ref<Slot> {
        self.slot(1 + index % PORT_SLOTS)
    }

    /// The guest's root table, if the address space still is one.
    #[inline]
    #[must_use]
    pub fn guest_space(self, kernel: &Kernel) -> Option<Ref<Table>> {
        let root = self.root.raw().root()?;
        let is_guest = root.space == MapSpace::Guest;
        (is_guest && kernel.is_current_root(&root)).then_some(root.table)
    }

    /// Makes the I/O permission map follow the port capabilities, if one came or one went anywhere.
    #[inline(always)]
    pub fn refresh_ports(self) {
        let removed = arch::removed_ports();
        if self.ports_seen.replace(removed) != removed {
            self.rebuild_ports();
        }
    }

    /// A port capability came.
    pub fn gain_port(self) {
        self.ports_seen.set(0);
    }

    #[cold]
    fn rebuild_ports(self) {
        self.io_map.fill();
        for slot in &self.ports {
            if let Cap::IoPort { first, last } = slot.cap() {
                (first..=last).for_each(|port| self.io_map.clear_bit(usize::from(port)));
            }
        }
    }
}

/// A new VCPU: a CPU after reset, from which everything exits that can.
pub fn initialise(vcpu: Ref<Vcpu>) {
    vcpu.msr_map.fill();
    vcpu.io_map.fill();
    vcpu.fpu.reset();
    vcpu.xcr0.set(1);
    match arch::virtualisation() {
        Virtualisation::Vmx => vmx::vmcs::reset(vcpu),
        // Without help for guests the fields still are what they are.
        Virtualisation::Svm | Virtualisation::None => vmcb::reset(vcpu),
    }
}

/// VMEnter by `tcb`, which has a VCPU: takes the message and lets the guest run when the thread
/// does, or answers at once.
#[inline(always)]
pub fn enter(kernel: &Kernel, tcb: Ref<Tcb>) {
    let Some(vcpu) = tcb.vcpu.get() else { return };
    let entered = if arch::can_run_guests() {
        with_control!(vcpu, control => enter_with(kernel, tcb, vcpu, control))
    } else {
        Err(Refused::NoVirtualisation)
    };
    if let Err(refused) = entered {
        refuse(tcb, refused);
    }
}

#[inline(always)]
fn enter_with(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    vcpu: Ref<Vcpu>,
    control: impl Control,
) -> Result<(), Refused> {
    let buffer = tcb
        .ipc_buffer(BufferUse::Receive)
        .ok_or(Refused::State(0))?;
    let message = tcb.registers.message();
    let flags = message[enter::FLAGS].get();
    let rflags = new_rflags(flags, buffer);
    if flags & enter_flags::INJECT != 0 {
        let event = Event::from_word(message[enter::EVENT].get());
        let rflags = rflags.unwrap_or_else(|| control.rflags());
        if !field::is_deliverable(event) || !field::is_open_to(event, rflags) {
            return Err(Refused::State(VcpuField::PendingEvent.number()));
        }
    }
    ready(kernel, vcpu, control)?;

    if flags & enter_flags::INJECT != 0 {
        vcpu.pending_event.set(message[enter::EVENT].get());
    }
    if flags & enter_flags::SET_REGISTERS != 0 {
        for (index, register) in vcpu.registers.iter().enumerate() {
            register.set(buffer.word(1 + enter::REGISTERS + index).get());
        }
        control.set_rip(message[enter::RIP].get());
    }
    if let Some(rflags) = rflags {
        control.set_rflags(rflags);
    }
    if flags & enter_flags::CLEAR_SHADOW != 0 {
        control.clear_interrupt_shadow();
    }
    control.request_window(if flags & enter_flags::INTERRUPT_WINDOW != 0 {
        Window::Wanted
    } else {
        Window::NotWanted
    });
    let bound = tcb.bound_notification.get();
    if let Some(badge) = bound.and_then(|notification| notification.take()) {
        leave_for_notification(tcb, badge);
    } else {
        // As runnable as before: nothing to choose.
        tcb.state.set(ThreadState::RunningVm);
    }
    Ok(())
}

/// The flags that the message sets, as a guest can have them.
fn new_rflags(flags: u64, buffer: Ref<IpcBuffer>) -> Option<u64> {
    const BOTH: u64 = enter_flags::SET_REGISTERS | enter_flags::SET_RFLAGS;
    (flags & BOTH == BOTH).then(|| field::sanitised_rflags(buffer.word(1 + enter::RFLAGS).get()))
}

/// Why VMEnter does not run the guest; the numbers are the ABI's.
enum Refused {
    NoGuestRoot,
    State(u64),
    NoVirtualisation,
}

#[inline(always)]
fn ready(kernel: &Kernel, vcpu: Ref<Vcpu>, control: impl Control) -> Result<(), Refused> {
    let root = vcpu.guest_space(kernel).ok_or(Refused::NoGuestRoot)?;
    vcpu.refresh_ports();
    if vcpu.trust.get() == Trust::Unchecked {
        field::check_state(control).map_err(|field| Refused::State(field.number()))?;
        control.settle(root);
        // What is cached may depend on what was written.
        vcpu.tag.epoch.set(0);
        vcpu.trust.set(Trust::Checked);
    }
    Ok(())
}

fn refuse(tcb: Ref<Tcb>, refused: Refused) {
    let (code, field) = match refused {
        Refused::NoGuestRoot => (1, 0),
        Refused::State(field) => (2, field),
        Refused::NoVirtualisation => (3, 0),
    };
    let message = tcb.registers.message();
    message[0].set(code);
    message[1].set(field);
    tcb.registers.rdi.set(0);
    tcb.registers
        .rsi
        .set(MessageInfo::new(enter_result::REFUSED, 2, 0).word());
}

/// Ends the VMEnter of `tcb` because its bound notification was signalled with `badge`.
pub fn leave_for_notification(tcb: Ref<Tcb>, badge: u64) {
    tcb.registers.rdi.set(badge);
    tcb.registers
        .rsi
        .set(MessageInfo::new(enter_result::NOTIFICATION, 0, 0).word());
}

/// The guest of `tcb` lost its address space while it did not run: VMEnter ends refused.
pub fn lose_guest_space(tcb: Ref<Tcb>) {
    refuse(tcb, Refused::NoGuestRoot);
    tcb.state.set(ThreadState::Running);
}

/// `tcb` goes away, or its VCPU does: neither knows the other any more.
pub fn detach(tcb: Ref<Tcb>) {
    if let Some(vcpu) = tcb.vcpu.take() {
        vcpu.tcb.set(None);
        if tcb.state.get() == ThreadState::RunningVm {
            refuse(tcb, Refused::NoGuestRoot);
            tcb.state.set(ThreadState::Running);
        }
    }
}

impl Kernel {
    /// The last capability to `vcpu` goes.
    pub fn finalise_vcpu(&self, vcpu: Ref<Vcpu>) {
        if let Some(tcb) = vcpu.tcb.get() {
            self.stall(tcb);
            detach(tcb);
        }
        // Before the memory is anything else.
        arch::forget_vcpu(vcpu);
        finalise::delete_one(self, vcpu.root_slot());
        for index in 0..PORT_SLOTS {
            finalise::delete_one(self, vcpu.port_slot(index));
        }
    }
}
