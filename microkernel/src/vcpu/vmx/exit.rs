//! What the exits of VMX mean (Intel SDM volume 3, chapter 28 and appendix C).

use sel4_sys::vcpu::{EventType, IoQualification, memory_fault};
use sel4_sys::{ExitReason, VcpuField};
use x86::vmx::vmcs::{control, guest, ro};

use super::{Vmx, blocking};
use crate::vcpu::control::Control;
use crate::vcpu::exit::{Cause, Exit};
use crate::vcpu::{RCX, Trust, field};

/// Exit reasons.
mod reason {
    pub const EXCEPTION: u64 = 0;
    pub const EXTERNAL_INTERRUPT: u64 = 1;
    pub const TRIPLE_FAULT: u64 = 2;
    pub const INIT: u64 = 3;
    pub const STARTUP: u64 = 4;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const NMI_WINDOW: u64 = 8;
    pub const TASK_SWITCH: u64 = 9;
    pub const CPUID: u64 = 10;
    pub const HLT: u64 = 12;
    pub const INVD: u64 = 13;
    pub const RDPMC: u64 = 15;
    pub const VMCALL: u64 = 18;
    pub const VMCLEAR: u64 = 19;
    pub const VMXON: u64 = 27;
    pub const CONTROL_REGISTER: u64 = 28;
    pub const DEBUG_REGISTER: u64 = 29;
    pub const IO: u64 = 30;
    pub const RDMSR: u64 = 31;
    pub const WRMSR: u64 = 32;
    pub const MWAIT: u64 = 36;
    pub const MONITOR: u64 = 39;
    pub const PAUSE: u64 = 40;
    pub const EPT_VIOLATION: u64 = 48;
    pub const INVEPT: u64 = 50;
    pub const PREEMPTION_TIMER: u64 = 52;
    pub const INVVPID: u64 = 53;
    pub const WBINVD: u64 = 54;
    pub const XSETBV: u64 = 55;
    pub const VMFUNC: u64 = 59;
    /// The entry failed: the guest did not run.
    pub const ENTRY_FAILURE: u64 = 1 << 31;
}

/// Raw code of an entry that failed before the state was looked at, with the error number in the
/// low half. Exit reasons have 32 bits.
const FAILED_INSTRUCTION: u64 = 1 << 32;

/// Bits of interruption information.
mod interruption {
    pub const TYPE_SHIFT: u32 = 8;
    pub const ERROR_CODE: u64 = 1 << 11;
    pub const VALID: u64 = 1 << 31;
    /// Vector, type, error code, valid: what an event has too.
    pub const EVENT: u64 = 0x8000_0fff;
    /// An IRET had ended the blocking of NMIs when the exit came.
    pub const NMI_UNBLOCKED: u64 = 1 << 12;
}

/// How the processor came back from an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entered {
    /// By an exit, or because it refused the guest's state.
    Exited,
    /// The instruction failed.
    Failed,
}

/// Says what the exit that just happened means, and keeps an event whose delivery it broke off.
#[inline]
pub fn decode(v: Vmx, entered: Entered) -> Cause {
    let reason = v.field(ro::EXIT_REASON);
    if entered == Entered::Failed || reason & reason::ENTRY_FAILURE != 0 {
        return refused_state(v, entered, reason);
    }
    v.0.trust.set(Trust::Proven);
    v.0.vmx.is_launched.set(true);
    let vectoring = v.field(ro::IDT_VECTORING_INFO);
    keep_interrupted_event(v, vectoring);
    match reason {
        // After the timer, one that the CPU did not look at may be pending.
        reason::EXTERNAL_INTERRUPT | reason::PREEMPTION_TIMER => Cause::HostInterrupt,
        reason::EXCEPTION => decode_exception(v),
        reason::CONTROL_REGISTER => decode_control_register(v),
        reason::EPT_VIOLATION => Cause::Monitor(decode_memory_fault(v, vectoring)),
        _ => Cause::Monitor(decode_reason(v, reason)),
    }
}

#[cold]
fn refused_state(v: Vmx, entered: Entered, reason: u64) -> Cause {
    let raw = match entered {
        Entered::Exited => reason,
        Entered::Failed => FAILED_INSTRUCTION | v.field(ro::VM_INSTRUCTION_ERROR),
    };
    // The event stays in the VCPU; this entry must not leave it in the VMCS.
    if is_software(v.0.pending_event.get()) {
        undo_software(v);
    }
    v.set_field(control::VMENTRY_INTERRUPTION_INFO_FIELD, 0);
    v.0.trust.set(Trust::Unchecked);
    Cause::Monitor(Exit {
        address: raw,
        ..Exit::plain(ExitReason::InvalidState)
    })
}

/// An exit without a length, then those of instructions.
fn decode_reason(v: Vmx, reason: u64) -> Exit {
    use ExitReason as R;
    match reason {
        reason::TRIPLE_FAULT => Exit::plain(R::Shutdown),
        reason::INIT => Exit::plain(R::InitSignal),
        reason::STARTUP => Exit::with(R::StartupSignal, v.field(ro::EXIT_QUALIFICATION) & 0xff),
        reason::INTERRUPT_WINDOW => Exit::plain(R::InterruptWindow),
        reason::NMI_WINDOW => Exit::plain(R::NmiWindow),
        _ => Exit {
            length: v.field(ro::VMEXIT_INSTRUCTION_LEN),
            ..decode_instruction(v, reason)
        },
    }
}

fn decode_instruction(v: Vmx, reason: u64) -> Exit {
    use ExitReason as R;
    let msr = v.0.registers[RCX].get() & 0xffff_ffff;
    match reason {
        reason::CPUID => Exit::plain(R::Cpuid),
        reason::HLT => Exit::plain(R::Hlt),
        reason::IO => decode_io(v.field(ro::EXIT_QUALIFICATION)),
        reason::RDMSR => Exit::with(R::MsrRead, msr),
        reason::WRMSR => Exit::with(R::MsrWrite, msr),
        reason::VMCALL => Exit::plain(R::Hypercall),
        reason::DEBUG_REGISTER => Exit::with(
            R::DrAccess,
            decode_debug_register(v.field(ro::EXIT_QUALIFICATION)),
        ),
        reason::XSETBV => Exit::plain(R::Xsetbv),
        reason::WBINVD | reason::INVD => Exit::plain(R::Wbinvd),
        reason::MONITOR => Exit::plain(R::Monitor),
        reason::MWAIT => Exit::with(R::Monitor, 1),
        reason::PAUSE => Exit::plain(R::Pause),
        reason::RDPMC => Exit::plain(R::Rdpmc),
        reason::VMCLEAR..=reason::VMXON | reason::INVEPT | reason::INVVPID | reason::VMFUNC => {
            Exit::plain(R::VirtualisationInstruction)
        }
        reason::TASK_SWITCH => Exit::with(R::TaskSwitch, v.field(ro::EXIT_QUALIFICATION)),
        _ => Exit::with(R::Unknown, reason),
    }
}

fn decode_exception(v: Vmx) -> Cause {
    let info = v.field(ro::VMEXIT_INTERRUPTION_INFO);
    if info >> interruption::TYPE_SHIFT & 7 == EventType::Nmi.number() {
        return Cause::HostNmi;
    }
    let code = if info & interruption::ERROR_CODE != 0 {
        v.field(ro::VMEXIT_INTERRUPTION_ERR_CODE) << 32
    } else {
        0
    };
    Cause::Monitor(Exit {
        // Of a page fault, the address; the CPU has not written CR2.
        address: v.field(ro::EXIT_QUALIFICATION),
        ..Exit::with(ExitReason::Exception, info & 0xff | code)
    })
}

fn decode_io(qualification: u64) -> Exit {
    let size = (qualification & 7) as u8 + 1;
    let pick = |bit: u32, flag: u64| {
        if qualification >> bit & 1 == 1 {
            flag
        } else {
            0
        }
    };
    let flags = pick(3, IoQualification::IN)
        | pick(4, IoQualification::STRING)
        | pick(5, IoQualification::REP);
    let access = IoQualification::new((qualification >> 16) as u16, size, flags);
    Exit::with(ExitReason::Io, access.0)
}

/// Register, direction, general register: as in the record, but for where they stand.
fn decode_debug_register(qualification: u64) -> u64 {
    let write = if qualification & 1 << 4 == 0 {
        1 << 4
    } else {
        0
    };
    qualification & 7 | write | qualification & 0xf00
}

fn decode_memory_fault(v: Vmx, vectoring: u64) -> Exit {
    const LINEAR_VALID: u64 = 1 << 7;
    const FINAL_ACCESS: u64 = 1 << 8;
    const ALLOWED: u64 = 7 << 3;
    let info = v.field(ro::EXIT_QUALIFICATION);
    if info & interruption::NMI_UNBLOCKED != 0 && vectoring & interruption::VALID == 0 {
        let state = v.field(guest::INTERRUPTIBILITY_STATE);
        v.set_field(guest::INTERRUPTIBILITY_STATE, state | blocking::NMI);
    }
    // Read, write and fetch are the same bits in the record.
    let access = info & (memory_fault::READ | memory_fault::WRITE | memory_fault::FETCH);
    let present = if info & ALLOWED != 0 {
        memory_fault::PRESENT
    } else {
        0
    };
    let walk = if info & (LINEAR_VALID | FINAL_ACCESS) == LINEAR_VALID {
        memory_fault::WALK
    } else {
        0
    };
    Exit {
        address: v.field(ro::GUEST_PHYSICAL_ADDR_FULL),
        ..Exit::with(ExitReason::MemoryFault, access | present | walk)
    }
}

/// CR8 is the monitor's. CR0 and CR4 exit only when the guest changes a bit that it does not have.
fn decode_control_register(v: Vmx) -> Cause {
    const MOVE_TO: u64 = 0;
    let qualification = v.field(ro::EXIT_QUALIFICATION);
    let (number, kind) = (qualification & 0xf, qualification >> 4 & 3);
    let general = qualification >> 8 & 0xf;
    match number {
        0 if kind == MOVE_TO => change_cr0(v, general as usize),
        4 if kind == MOVE_TO => inject_general_protection(v),
        _ => {
            let write = if kind == MOVE_TO { 1 << 4 } else { 0 };
            let access = number | write | general << 8;
            Cause::Monitor(Exit {
                length: v.field(ro::VMEXIT_INSTRUCTION_LEN),
                ..Exit::with(ExitReason::CrAccess, access)
            })
        }
    }
}

/// The guest changes bits of CR0 that it does not have: it shall see them as it wants. Then the same
/// instruction does not exit any more, and the CPU does the rest.
fn change_cr0(v: Vmx, general: usize) -> Cause {
    const LONG: u64 = sel4_sys::vcpu_field::segment_attributes::LONG;
    let value = v.0.registers[general].get();
    let is_long = v.field(guest::CS_ACCESS_RIGHTS) & LONG != 0;
    let value = if is_long { value } else { value & 0xffff_ffff };
    if !field::is_cr0(value) || !field::is_protected(value) {
        return inject_general_protection(v);
    }
    v.set_field(control::CR0_READ_SHADOW, value);
    Cause::Again
}

fn inject_general_protection(v: Vmx) -> Cause {
    let fault = field::general_protection(v.read(VcpuField::Cr0));
    v.0.pending_event.set(fault.word());
    Cause::Again
}

/// The event to deliver again. What an instruction of the guest's own raised is not: it runs again.
#[inline(always)]
fn keep_interrupted_event(v: Vmx, info: u64) {
    let injected = v.0.pending_event.get();
    if info & interruption::VALID == 0 {
        if injected != 0 {
            v.0.pending_event.set(0);
        }
        return;
    }
    keep_event(v, info, injected);
}

#[cold]
fn keep_event(v: Vmx, info: u64, injected: u64) {
    const SOFTWARE: u64 = EventType::SoftwareInterrupt.number();
    let kind = info >> interruption::TYPE_SHIFT & 7;
    let code = if info & interruption::ERROR_CODE != 0 {
        v.field(ro::IDT_VECTORING_ERR_CODE) << 32
    } else {
        0
    };
    let event = info & interruption::EVENT | code;
    if kind >= SOFTWARE {
        let is_injected = event == injected;
        if is_injected {
            undo_software(v);
        }
        v.0.pending_event.set(if is_injected { event } else { 0 });
        return;
    }
    if kind == EventType::Nmi.number() {
        let state = v.field(guest::INTERRUPTIBILITY_STATE);
        v.set_field(guest::INTERRUPTIBILITY_STATE, state & !blocking::NMI);
    }
    v.0.pending_event.set(event);
}

/// Length that an injected software interrupt is given; the CPU wants one.
const SOFTWARE_LENGTH: u64 = 1;

const fn is_software(event: u64) -> bool {
    event >> interruption::TYPE_SHIFT & 7 == EventType::SoftwareInterrupt.number()
}

/// RIP as it was before [`inject`].
fn undo_software(v: Vmx) {
    v.set_rip(v.field(guest::RIP).wrapping_add(SOFTWARE_LENGTH));
}

/// Tells the CPU the event to deliver at the next entry. It forgets it when it has.
#[cold]
pub fn inject(v: Vmx, event: u64) {
    if is_software(event) {
        // The return address is RIP, and the CPU adds the length.
        v.set_field(control::VMENTRY_INSTRUCTION_LEN, SOFTWARE_LENGTH);
        v.set_rip(v.field(guest::RIP).wrapping_sub(SOFTWARE_LENGTH));
    } else {
        // The CPU refuses an event in a shadow; delivering one ends it.
        v.clear_interrupt_shadow();
    }
    let info = event & interruption::EVENT;
    v.set_field(control::VMENTRY_INTERRUPTION_INFO_FIELD, info);
    v.set_field(control::VMENTRY_EXCEPTION_ERR_CODE, event >> 32);
}
