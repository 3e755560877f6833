//! What the exits of SVM mean.

use sel4_sys::vcpu::{EventType, IoQualification, memory_fault};
use sel4_sys::{Event, ExitReason};

use super::vmcb::{self, Vmcb, control, save};
use crate::arch;
use crate::store::Ref;
use crate::vcpu::exit::{Cause, Exit};
use crate::vcpu::field;
use crate::vcpu::{RAX, RCX, RSP, Trust, Vcpu};

/// Exit codes of SVM (AMD64 manual volume 2, appendix C); only 32 bits count.
mod code {
    pub const CR_FIRST: u32 = 0x00;
    pub const CR_LAST: u32 = 0x1f;
    pub const DR_FIRST: u32 = 0x20;
    pub const DR_LAST: u32 = 0x3f;
    pub const EXCEPTION_FIRST: u32 = 0x40;
    pub const EXCEPTION_LAST: u32 = 0x5f;
    pub const INTR: u32 = 0x60;
    pub const NMI: u32 = 0x61;
    pub const SMI: u32 = 0x62;
    pub const INIT: u32 = 0x63;
    pub const VINTR: u32 = 0x64;
    pub const RDPMC: u32 = 0x6f;
    pub const CPUID: u32 = 0x72;
    pub const INVD: u32 = 0x76;
    pub const PAUSE: u32 = 0x77;
    pub const HLT: u32 = 0x78;
    pub const INVLPGA: u32 = 0x7a;
    pub const IOIO: u32 = 0x7b;
    pub const MSR: u32 = 0x7c;
    pub const TASK_SWITCH: u32 = 0x7d;
    pub const SHUTDOWN: u32 = 0x7f;
    pub const VMRUN: u32 = 0x80;
    pub const VMMCALL: u32 = 0x81;
    pub const VMLOAD: u32 = 0x82;
    pub const SKINIT: u32 = 0x86;
    pub const WBINVD: u32 = 0x89;
    pub const MONITOR: u32 = 0x8a;
    pub const MWAIT: u32 = 0x8b;
    pub const MWAIT_ARMED: u32 = 0x8c;
    pub const XSETBV: u32 = 0x8d;
    pub const NESTED_PAGE_FAULT: u32 = 0x400;
    pub const INVALID: u32 = u32::MAX;
}

/// Says what the exit that `vcpu` just took means, and keeps an event whose delivery it broke off.
#[inline]
pub fn decode(vcpu: Ref<Vcpu>) -> Cause {
    let v = &vcpu.control;
    let exit_code = v.word(control::EXIT_CODE) as u32;
    let waits = v.end_delivery();
    if !field::is_cr0(v.word(save::CR0)) {
        correct_cr0(v);
    }
    if exit_code == code::INVALID {
        return refused_state(vcpu);
    }
    vcpu.trust.set(Trust::Proven);
    let injected = vcpu.pending_event.get();
    let interrupted = interrupted_event(v.word(control::EXIT_INT_INFO), injected);
    let kept = if waits && interrupted == 0 {
        injected
    } else {
        interrupted
    };
    vcpu.pending_event.set(kept);
    if matches!(exit_code, code::INTR | code::NMI | code::SMI) {
        return Cause::HostInterrupt;
    }
    let mut exit = decode_code(&vcpu, v, exit_code);
    let next = v.word(control::NEXT_RIP);
    if exit.length == 0 && next != 0 {
        exit.length = instruction_length(v.word(save::RIP), next);
    }
    Cause::Monitor(exit)
}

/// QEMU's emulation lets a guest set CR0 to what no CPU takes, and would not enter it again after an
/// interrupt of the host's in that moment. It goes on as if it had not set those bits.
#[cold]
fn correct_cr0(v: &Vmcb) {
    v.set_word(save::CR0, field::corrected_cr0(v.word(save::CR0)));
}

/// The CPU did not accept the state. If it is the CPU's own, or the guest got on from where it
/// began, QEMU's emulation says so of an instruction that sets reserved bits of a control register;
/// a CPU has a fault for that.
#[cold]
fn refused_state(vcpu: Ref<Vcpu>) -> Cause {
    // QEMU's emulation writes the host's state into the control block if it refuses the guest's before it
    // has loaded that. The guest's is lost then, and the host's is nothing for a monitor to see.
    if vcpu.control.word(save::RIP) == arch::svm_entry_address() {
        vmcb::reset(vcpu);
        vcpu.pending_event.set(0);
        store_registers(vcpu);
        return invalid_state(vcpu);
    }
    let is_own = vcpu.trust.get() == Trust::Proven && vcpu.pending_event.get() == 0;
    let now = [save::RIP, save::RAX].map(|word| vcpu.control.word(word));
    let has_run = now != [0, 1].map(|index: usize| vcpu.entered[index].get());
    if is_own || has_run {
        vcpu.trust.set(Trust::Proven);
        let fault = field::general_protection(vcpu.control.word(save::CR0));
        vcpu.pending_event.set(fault.word());
        return Cause::Again;
    }
    invalid_state(vcpu)
}

fn invalid_state(vcpu: Ref<Vcpu>) -> Cause {
    vcpu.trust.set(Trust::Unchecked);
    Cause::Monitor(Exit {
        address: u64::from(code::INVALID),
        ..Exit::plain(ExitReason::InvalidState)
    })
}

fn decode_code(vcpu: &Vcpu, v: &Vmcb, exit_code: u32) -> Exit {
    use ExitReason as R;
    let (info1, info2) = (v.word(control::EXIT_INFO_1), v.word(control::EXIT_INFO_2));
    match exit_code {
        code::CPUID => Exit::plain(R::Cpuid),
        code::HLT => Exit::plain(R::Hlt),
        code::IOIO => decode_io(v.word(save::RIP), info1, info2),
        code::MSR => {
            let reason = if info1 & 1 == 0 {
                R::MsrRead
            } else {
                R::MsrWrite
            };
            Exit::with(reason, vcpu.registers[RCX].get() & 0xffff_ffff)
        }
        code::NESTED_PAGE_FAULT => decode_memory_fault(info1, info2),
        code::VINTR => Exit::plain(R::InterruptWindow),
        code::SHUTDOWN => Exit::plain(R::Shutdown),
        code::VMMCALL => Exit::with(R::Hypercall, 1),
        code::EXCEPTION_FIRST..=code::EXCEPTION_LAST => {
            let vector = u64::from(exit_code - code::EXCEPTION_FIRST);
            Exit {
                address: info2,
                ..Exit::with(R::Exception, vector | info1 << 32)
            }
        }
        code::CR_FIRST..=code::CR_LAST => {
            Exit::with(R::CrAccess, register_access(exit_code, info1))
        }
        code::DR_FIRST..=code::DR_LAST => Exit::with(
            R::DrAccess,
            register_access(exit_code - code::DR_FIRST, info1),
        ),
        code::XSETBV => Exit::plain(R::Xsetbv),
        code::WBINVD | code::INVD => Exit::plain(R::Wbinvd),
        code::MONITOR => Exit::plain(R::Monitor),
        code::MWAIT | code::MWAIT_ARMED => Exit::with(R::Monitor, 1),
        code::PAUSE => Exit::plain(R::Pause),
        code::RDPMC => Exit::plain(R::Rdpmc),
        code::VMRUN | code::VMLOAD..=code::SKINIT | code::INVLPGA => {
            Exit::plain(R::VirtualisationInstruction)
        }
        code::TASK_SWITCH => Exit::with(R::TaskSwitch, info1),
        code::INIT => Exit::plain(R::InitSignal),
        _ => Exit::with(R::Unknown, u64::from(exit_code)),
    }
}

const fn instruction_length(rip: u64, next: u64) -> u64 {
    let length = next.wrapping_sub(rip);
    if length <= 15 { length } else { 0 }
}

fn decode_io(rip: u64, info: u64, next: u64) -> Exit {
    let size = (info >> 4 & 7) as u8;
    let pick = |bit: u64, flag: u64| if info >> bit & 1 == 1 { flag } else { 0 };
    let flags = pick(0, IoQualification::IN)
        | pick(2, IoQualification::STRING)
        | pick(3, IoQualification::REP);
    let access = IoQualification::new((info >> 16) as u16, size, flags);
    let length = instruction_length(rip, next);
    Exit {
        length,
        ..Exit::with(ExitReason::Io, access.0)
    }
}

fn decode_memory_fault(info: u64, address: u64) -> Exit {
    let pick = |bit: u32, flag: u64| if info >> bit & 1 == 1 { flag } else { 0 };
    let (write, fetch) = (pick(1, memory_fault::WRITE), pick(4, memory_fault::FETCH));
    let read = if write | fetch == 0 {
        memory_fault::READ
    } else {
        0
    };
    let qualification =
        read | write | fetch | pick(0, memory_fault::PRESENT) | pick(33, memory_fault::WALK);
    Exit {
        address,
        ..Exit::with(ExitReason::MemoryFault, qualification)
    }
}

/// Register number, direction, and the general register where decode assists name it.
const fn register_access(number: u32, info: u64) -> u64 {
    let write = if number & 0x10 != 0 { 1 << 4 } else { 0 };
    let general = if info >> 63 == 1 { info & 0xf } else { 15 };
    (number & 0xf) as u64 | write | general << 8
}

/// The event to deliver again, from EXITINTINFO; `injected` is what this entry was to deliver.
///
/// A software interrupt or breakpoint of the guest's own is not: its instruction runs again. QEMU's
/// emulation reports an external interrupt whose delivery faulted as an exception with a vector
/// that none has.
fn interrupted_event(info: u64, injected: u64) -> u64 {
    const VALID: u64 = 1 << 31;
    const TYPE_SHIFT: u32 = 8;
    const EXCEPTION: u64 = EventType::Exception.number();
    const SOFTWARE: u64 = EventType::SoftwareInterrupt.number();
    if info & VALID == 0 {
        return 0;
    }
    let (kind, vector) = (info >> TYPE_SHIFT & 7, info & 0xff);
    match kind {
        EXCEPTION if vector >= 32 => Event::interrupt(vector as u8).word(),
        EXCEPTION if matches!(vector, 3 | 4) && info != injected => 0,
        SOFTWARE if info != injected => 0,
        _ => info,
    }
}

/// Moves the registers that the control block holds to their places in it, before an entry.
#[inline(always)]
pub fn load_registers(vcpu: Ref<Vcpu>) {
    vcpu.control.set_word(save::RAX, vcpu.registers[RAX].get());
    vcpu.control.set_word(save::RSP, vcpu.registers[RSP].get());
}

/// Moves them back, after an exit.
#[inline(always)]
pub fn store_registers(vcpu: Ref<Vcpu>) {
    vcpu.registers[RAX].set(vcpu.control.word(save::RAX));
    vcpu.registers[RSP].set(vcpu.control.word(save::RSP));
}
