//! No kernel: what a host library has behind the door.
//!
//! Logic that is tested on the host gets its effects as arguments and never comes here.

use sel4_sys::CPtr;

use super::{Delivery, Request};

const NO_KERNEL: &str = "a system call without a kernel: host code must not come here";

pub(crate) fn system_call(request: Request) -> Delivery {
    panic!(
        "{NO_KERNEL} ({:?} on {:?})",
        request.syscall, request.target
    )
}

pub(crate) fn buffer_word(_: usize) -> u64 {
    panic!("{NO_KERNEL}")
}

pub(crate) fn set_buffer_word(_: usize, _: u64) {
    panic!("{NO_KERNEL}")
}

pub(crate) fn buffer_words<const N: usize>(_: usize) -> [u64; N] {
    panic!("{NO_KERNEL}")
}

pub(crate) fn set_buffer_words<const N: usize>(_: usize, _: &[u64; N]) {
    panic!("{NO_KERNEL}")
}

pub(crate) fn set_extra_cap(_: usize, _: CPtr) {
    panic!("{NO_KERNEL}")
}

pub(crate) fn set_receive_slot(_: CPtr, _: u64, _: u64) {
    panic!("{NO_KERNEL}")
}

/// Gives other threads a chance.
pub fn yield_now() {
    core::hint::spin_loop();
}

/// Prints nothing.
pub fn debug_put_char(_: u8) {}

/// Time stands still.
#[must_use]
pub fn time_stamp() -> u64 {
    0
}
