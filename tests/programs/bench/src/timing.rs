//! The time-stamp counter, read right before an instruction that enters the kernel and right after
//! it. What the readings themselves take is subtracted ([`calibrate`]).
//!
//! Threads without floating-point registers run this code: it has to do without, and so without
//! structures on the stack.

use core::arch::asm;
use core::sync::atomic::{AtomicU64, Ordering};

use sel4_sys::{CPtr, MessageInfo, Syscall};

/// The counter before and after a thread's last entry of the kernel.
#[repr(C)]
pub struct Stamps {
    before: AtomicU64,
    after: AtomicU64,
}

impl Stamps {
    /// Nothing was measured.
    pub const fn new() -> Self {
        Self {
            before: AtomicU64::new(0),
            after: AtomicU64::new(0),
        }
    }

    /// What passed from the last entry of the thread of these stamps until the thread of `other` was
    /// back in user mode.
    pub fn until(&self, other: &Self) -> u64 {
        self.raw_until(other)
            .wrapping_sub(NOTHING.raw_until(&NOTHING))
    }

    fn raw_until(&self, other: &Self) -> u64 {
        let after = other.after.load(Ordering::Relaxed);
        after.wrapping_sub(self.before.load(Ordering::Relaxed))
    }
}

/// A system call without its message.
#[derive(Clone, Copy)]
pub struct Request {
    /// Its number.
    pub syscall: Syscall,
    /// RDI: where to send to or receive from.
    pub target: CPtr,
    /// RSI.
    pub info: MessageInfo,
    /// R12: the reply object.
    pub reply: CPtr,
}

/// Executes an instruction with the counter read on both sides. The instructions between the
/// readings are the same whatever the instruction is, and the last reading is its successor.
macro_rules! timed {
    ($instruction:literal, $stamps:expr, $number:expr, $($operands:tt)*) => {
        asm!(
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov [r14], rax",
            "mov rdx, r13",
            $instruction,
            "rdtsc",
            "shl rdx, 32",
            "or rax, rdx",
            "mov [r14 + 8], rax",
            in("r14") core::ptr::from_ref::<Stamps>($stamps),
            in("r13") $number,
            out("rax") _,
            out("rdx") _,
            $($operands)*
            options(nostack),
        )
    };
}

/// Makes a system call whose first message word is `word`; returns the first word received.
#[inline(always)]
pub fn system_call(stamps: &Stamps, request: Request, word: u64) -> u64 {
    let received: u64;
    // SAFETY: registers are as the ABI says; `Stamps` is two atomic words, which the block writes.
    unsafe {
        timed!("syscall", stamps, request.syscall.number(),
            inlateout("rdi") request.target.0 => _,
            inlateout("rsi") request.info.word() => _,
            inlateout("r10") word => received,
            inlateout("r8") 0_u64 => _,
            inlateout("r9") 0_u64 => _,
            inlateout("r15") 0_u64 => _,
            in("r12") request.reply.0,
            lateout("rcx") _,
            lateout("r11") _,
        );
    }
    received
}

/// Bytes of the instruction of [`fault`]: a handler makes the thread go on behind it.
pub const FAULT_BYTES: u64 = 2;

/// Raises an exception, which the thread's handler lets it survive.
#[inline(always)]
pub fn fault(stamps: &Stamps) {
    // SAFETY: the handler changes nothing but the instruction pointer.
    unsafe { timed!("ud2", stamps, 0_u64,) }
}

/// What the two readings take without anything between them.
static NOTHING: Stamps = Stamps::new();

/// Measures what every other measurement subtracts.
pub fn calibrate() {
    // SAFETY: writes the stamps.
    unsafe { timed!("", &NOTHING, 0_u64,) }
}
