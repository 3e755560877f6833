//! The door to the kernel: system calls, the IPC buffer, the time-stamp counter.
//!
//! Owns the choice of what is behind the door. In a program (feature `runtime`) it is the CPU's
//! `syscall` instruction; in a host library it is nothing, and using it is a panic; in this
//! crate's own tests it is a recorder. All three offer the same functions, so nothing above
//! this module knows which one it has.

use sel4_sys::message::{MESSAGE_WORDS, REGISTER_WORDS};
use sel4_sys::{CPtr, MessageInfo};

#[cfg(not(any(feature = "runtime", test)))]
mod absent;
#[cfg(all(test, not(feature = "runtime")))]
pub(crate) mod recorder;
#[cfg(feature = "runtime")]
#[allow(unsafe_code, reason = "the syscall instruction and the IPC buffer")]
mod x86_64;

#[cfg(not(any(feature = "runtime", test)))]
use absent as door;
#[cfg(all(test, not(feature = "runtime")))]
use recorder as door;
#[cfg(feature = "runtime")]
use x86_64 as door;

#[cfg(feature = "root-task")]
pub(crate) use door::set_thread_pointer;
#[cfg(feature = "runtime")]
pub(crate) use door::{buffer_page_bytes, stop};
pub(crate) use door::{
    buffer_word, buffer_words, set_buffer_word, set_buffer_words, set_extra_cap, set_receive_slot,
    system_call,
};
pub use door::{debug_put_char, time_stamp, yield_now};

/// The registers of a system call on the way in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Request {
    /// RDX.
    pub syscall: sel4_sys::Syscall,
    /// RDI: where to send to or receive from.
    pub target: CPtr,
    /// RSI.
    pub info: MessageInfo,
    /// R10, R8, R9, R15: MR0 to MR3.
    pub registers: [u64; REGISTER_WORDS],
    /// R12: the reply object.
    pub reply: CPtr,
}

/// The registers of a system call on the way out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Delivery {
    /// RDI: badge of what was received.
    pub badge: u64,
    /// RSI.
    pub info: MessageInfo,
    /// MR0 to MR3.
    pub registers: [u64; REGISTER_WORDS],
}

impl Delivery {
    /// Message register `index`. Registers from the fifth on are in the IPC buffer and valid
    /// until the thread's next system call; those past the message's length are 0.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        if index >= self.info.length() {
            0
        } else if let Some(register) = self.registers.get(index) {
            *register
        } else {
            buffer_word(index)
        }
    }
}

/// Places a message: the first words are returned for the registers, the rest is written to the
/// IPC buffer. Returns the number of words too.
pub(crate) fn place(words: impl Iterator<Item = u64>) -> ([u64; REGISTER_WORDS], usize) {
    let mut registers = [0; REGISTER_WORDS];
    let mut length = 0;
    for word in words.take(MESSAGE_WORDS) {
        match registers.get_mut(length) {
            Some(register) => *register = word,
            None => set_buffer_word(length, word),
        }
        length += 1;
    }
    (registers, length)
}
