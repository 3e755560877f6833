//! A root task that measures what the kernel costs, for `make bench`.
//!
//! It runs under an emulator whose time-stamp counter counts instructions, so a figure is how many
//! instructions passed from the one that entered the kernel to the next one in user mode, and two runs
//! are alike. `timing` reads the counter, `workshop` makes threads, the other modules have one
//! subject each. Every figure is a line `bench: NAME = MEDIAN (LEAST..MOST)` on COM1; the last line
//! is `bench: done`. What the figures stand beside is the host's matter (`images bench`).
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod exits;
mod figure;
mod messages;
mod report;
#[expect(
    unsafe_code,
    reason = "the counter has to be read right at a system call"
)]
mod timing;
mod workshop;

use libcap::runtime::BootEnv;
use report::Report;
use workshop::Workshop;

libcap::root_task!(main, heap_bytes = 256 << 10);

fn main(env: BootEnv) -> ! {
    timing::calibrate();
    let mut workshop = Workshop::new(env);
    let mut report = Report::new(&mut workshop);
    report.line(format_args!("begins"));
    messages::measure(&mut workshop, &mut report);
    exits::measure(&mut workshop, &mut report);
    report.line(format_args!("done"));
    report.end_emulator(&mut workshop)
}
