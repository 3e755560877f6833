//! A root task that proves virtual CPUs: it runs small guests and checks every exit record.
//!
//! `bench` makes kernel objects, `memory` is the guest's memory, `machine` one virtual CPU as a
//! monitor sees it, `code` what the guests run. Each scenario prints `PROBE ok` or `PROBE FAILED`;
//! the last line is `PROBE done`. Boot it in place of root on a kernel with debug system calls; it
//! ends QEMU if QEMU has the device for that.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod bench;
#[expect(unsafe_code, reason = "data that the assembler made")]
mod code;
mod failure;
mod machine;
mod memory;
mod scenarios;

use bench::{Bench, Engine};
use libcap::log;
use libcap::runtime::BootEnv;

libcap::root_task!(main, heap_bytes = 256 << 10);

fn main(env: BootEnv) -> ! {
    let mut bench = Bench::new(env);
    log!("PROBE begins on {:?}", bench.engine());
    let mut failed = 0;
    if bench.engine() == Engine::None {
        log!("PROBE FAILED: this machine runs no guests");
        failed += 1;
    } else {
        for (name, scenario) in scenarios::ALL {
            match scenario(&mut bench) {
                Ok(()) => log!("PROBE ok {name}"),
                Err(failure) => {
                    log!("PROBE FAILED {name}: {failure}");
                    failed += 1;
                }
            }
        }
    }
    log!("PROBE done, {failed} of {} failed", scenarios::ALL.len());
    bench.end_emulator(failed)
}
