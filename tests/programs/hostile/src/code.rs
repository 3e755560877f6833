//! The hostile threads' code: hostile.s, one page of this program that they get mapped.

use core::arch::global_asm;

global_asm!(include_str!("hostile.s"));

// SAFETY: hostile.s defines it; only its address is used.
unsafe extern "C" {
    safe static hostile_code: u8;
}

/// Address of the page in this program.
pub fn address() -> u64 {
    (&raw const hostile_code).addr() as u64
}
