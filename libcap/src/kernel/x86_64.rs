//! The kernel behind the CPU's `syscall` instruction.
//!
//! The only file with that instruction in it. What a system call does to objects is the kernel's
//! business and outside Rust's memory model, with one exception that this file relies on: the
//! kernel writes to no memory of the calling program but the calling thread's IPC buffer.
//! (Mapping and unmapping change what memory is there; root alone does that to others.)

use core::arch::asm;
use core::arch::x86_64::_rdtsc;
use core::ptr;

use proto::start::IPC_BUFFER_POINTER_OFFSET;
use sel4_sys::message::{EXTRA_CAPS, MESSAGE_WORDS};
use sel4_sys::{CPtr, IpcBuffer, MessageInfo, Syscall};

use super::{Delivery, Request};

/// Enters the kernel.
#[inline]
pub(crate) fn system_call(request: Request) -> Delivery {
    let [mut mr0, mut mr1, mut mr2, mut mr3] = request.registers;
    let badge: u64;
    let info: u64;
    // SAFETY: registers are as the ABI says; RCX and R11 are the instruction's, all others are
    // preserved. The kernel reads and writes the thread's IPC buffer, which no reference points
    // into (see `buffer`); the block counts as touching memory, so accesses stay in order.
    unsafe {
        asm!(
            "syscall",
            in("rdx") request.syscall.number(),
            inlateout("rdi") request.target.0 => badge,
            inlateout("rsi") request.info.word() => info,
            inlateout("r10") mr0,
            inlateout("r8") mr1,
            inlateout("r9") mr2,
            inlateout("r15") mr3,
            in("r12") request.reply.0,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    Delivery {
        badge,
        info: MessageInfo::from_word(info),
        registers: [mr0, mr1, mr2, mr3],
    }
}

/// A system call without a message.
fn plain(syscall: Syscall, target: CPtr) -> Delivery {
    system_call(Request {
        syscall,
        target,
        info: MessageInfo::default(),
        registers: [0; 4],
        reply: CPtr::NULL,
    })
}

/// Gives up what is left of the current budget.
pub fn yield_now() {
    plain(Syscall::Yield, CPtr::NULL);
}

/// Prints one byte on the kernel's debug port. Only a debug kernel has it; elsewhere it is a
/// fault of the caller.
pub fn debug_put_char(byte: u8) {
    plain(Syscall::DebugPutChar, CPtr(u64::from(byte)));
}

/// Sets the calling thread's FS base to the page of its IPC buffer.
#[cfg(feature = "root-task")]
pub(crate) fn set_thread_pointer(page: u64) {
    plain(Syscall::SetTlsBase, CPtr(page));
}

/// The time-stamp counter.
#[must_use]
pub fn time_stamp() -> u64 {
    // SAFETY: the kernel leaves RDTSC to user programs.
    unsafe { _rdtsc() }
}

/// Raises an exception, with which the program ends: root sees the fault.
pub(crate) fn stop() -> ! {
    // SAFETY: never returns.
    unsafe { asm!("ud2", options(noreturn)) }
}

/// The calling thread's IPC buffer. Never made into a reference: the kernel writes to it.
#[inline]
fn buffer() -> *mut IpcBuffer {
    let address: *mut IpcBuffer;
    // SAFETY: root set the FS base to the page of the IPC buffer before the thread started, with
    // the page's own address at this offset. The address never changes.
    unsafe {
        asm!(
            "mov {address}, fs:[{offset}]",
            address = out(reg) address,
            offset = const IPC_BUFFER_POINTER_OFFSET,
            options(nostack, pure, readonly, preserves_flags),
        );
    }
    address
}

/// Message register `index` in the IPC buffer.
#[inline]
pub(crate) fn buffer_word(index: usize) -> u64 {
    assert!(index < MESSAGE_WORDS);
    // SAFETY: in bounds; the buffer is mapped as long as the thread lives, and only this thread
    // and the kernel on its behalf touch it.
    unsafe { ptr::read((&raw const (*buffer()).message).cast::<u64>().add(index)) }
}

/// Sets message register `index` in the IPC buffer.
#[inline]
pub(crate) fn set_buffer_word(index: usize, word: u64) {
    assert!(index < MESSAGE_WORDS);
    // SAFETY: as in `buffer_word`.
    unsafe {
        ptr::write(
            (&raw mut (*buffer()).message).cast::<u64>().add(index),
            word,
        )
    }
}

/// The `N` message words from `index` on, in one copy.
#[inline]
pub(crate) fn buffer_words<const N: usize>(index: usize) -> [u64; N] {
    assert!(index + N <= MESSAGE_WORDS);
    // SAFETY: as in `buffer_word`, for all of the range.
    unsafe {
        let message = (&raw const (*buffer()).message).cast::<u64>();
        ptr::read(message.add(index).cast())
    }
}

/// Sets the `N` message words from `index` on, in one copy.
#[inline]
pub(crate) fn set_buffer_words<const N: usize>(index: usize, words: &[u64; N]) {
    assert!(index + N <= MESSAGE_WORDS);
    // SAFETY: as in `buffer_word`, for all of the range.
    unsafe {
        let message = (&raw mut (*buffer()).message).cast::<u64>();
        ptr::write(message.add(index).cast(), *words);
    }
}

/// Sets capability `index` that goes with the next message.
pub(crate) fn set_extra_cap(index: usize, cap: CPtr) {
    assert!(index < EXTRA_CAPS);
    // SAFETY: as in `buffer_word`.
    unsafe {
        ptr::write(
            (&raw mut (*buffer()).caps_or_badges)
                .cast::<u64>()
                .add(index),
            cap.0,
        )
    }
}

/// Sets the slot in which the next received capability lands: a CNode, the index in it, and how many
/// bits of that count. CNode 0 is none.
pub(crate) fn set_receive_slot(cnode: CPtr, index: u64, depth: u64) {
    let buffer = buffer();
    // SAFETY: as in `buffer_word`.
    unsafe {
        ptr::write(&raw mut (*buffer).receive_cnode, cnode.0);
        ptr::write(&raw mut (*buffer).receive_index, index);
        ptr::write(&raw mut (*buffer).receive_depth, depth);
    }
}

/// Writes bytes into the page of the IPC buffer, behind the buffer; what does not fit is cut.
pub(crate) fn buffer_page_bytes(offset: usize, bytes: &[u8]) {
    const PAGE_BYTES: usize = 4096;
    assert!(offset >= IPC_BUFFER_POINTER_OFFSET as usize + 8);
    let length = bytes.len().min(PAGE_BYTES.saturating_sub(offset));
    // SAFETY: within the page, which belongs to this thread and is never referenced.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), buffer().cast::<u8>().add(offset), length) }
}
