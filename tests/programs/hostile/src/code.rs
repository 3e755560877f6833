//! The threads' code: hostile.s, one page of this program that they get mapped.

use core::arch::global_asm;

global_asm!(include_str!("hostile.s"));

// SAFETY: hostile.s defines them; only their addresses are used.
unsafe extern "C" {
    safe static hostile_code: u8;
    safe static hostile_witness: u8;
}

/// Address of the page in this program. The hostile threads begin at its start.
pub fn address() -> u64 {
    (&raw const hostile_code).addr() as u64
}

/// Where in the page the witness begins.
pub fn witness_offset() -> u64 {
    (&raw const hostile_witness).addr() as u64 - address()
}
