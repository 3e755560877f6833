//! A root task whose stack runs over: it ends with a fault on the page below its stack.
//!
//! It says on the debug port where its stack stands, then calls itself without an end. It has no fault
//! handler, so the debug kernel says where it faulted. Boot it in place of root: `make iso ROOT=...`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::hint::black_box;

use libcap::log;
use libcap::runtime::{BootEnv, STACK_BYTES};

/// Bytes that each call has on the stack: less than a page, so that none steps over one.
const FRAME_BYTES: usize = 512;

libcap::root_task!(main, heap_bytes = 64 << 10);

fn main(_: BootEnv) -> ! {
    let here = 0_u8;
    let address = (&raw const here).addr();
    log!("DEEP stack at {address:#x} of {STACK_BYTES:#x} bytes");
    let depth = dig(1);
    panic!("DEEP stack held {depth} calls")
}

/// Calls itself until the stack is used up. Never returns; nothing that the compiler sees says so.
fn dig(depth: u64) -> u64 {
    let frame = black_box([depth as u8; FRAME_BYTES]);
    if black_box(depth) == 0 {
        return 0;
    }
    dig(depth + 1) + u64::from(black_box(&frame)[0])
}
