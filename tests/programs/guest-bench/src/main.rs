//! What runs inside a virtual machine while `make bench` measures it.
//!
//! As a kernel (`images bench` wraps it into Linux's boot format) it measures what exits to the
//! monitor cost: it waits for a byte on COM1, executes each kind of instruction a thousand times
//! between two readings of the time-stamp counter, and prints the means. As the first process of a
//! Linux kernel it prints the counter, which says how long the start took. Under instruction
//! counting a tick is an instruction; the figure of a thousand plain instructions proves it.
//!
//! All of it is in bench.s: a library would only be between the two readings.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

#[expect(unsafe_code, reason = "the program, which the assembler makes")]
mod code {
    core::arch::global_asm!(include_str!("bench.s"));
}

/// Rust wants one; nothing here panics.
#[panic_handler]
fn panic(_: &core::panic::PanicInfo) -> ! {
    loop {}
}
