//! A root task that tries libcap on the kernel: system calls, invocations, the event loop.
//!
//! It makes threads out of untyped memory, speaks protocols with them, passes capabilities, and counts
//! what a call costs. It says what it finds on the debug port and ends with `SELF TEST PASSED`; whatever
//! goes wrong is a panic instead. Boot it in place of root: `make iso ROOT=...`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

mod bells;
mod echoes;
mod later;
mod workshop;

use libcap::capability::Tcb;
use libcap::runtime::BootEnv;
use libcap::{KernelError, kernel, log};
use proto::echo::EchoClient;
use sel4_sys::{InitialSlot, ObjectType};
use workshop::Workshop;

/// Calls of one measurement.
const CALLS: u64 = 10_000;

libcap::root_task!(main, heap_bytes = 512 << 10);

fn main(env: BootEnv) -> ! {
    log!(
        "self test: {} untyped capabilities",
        env.boot_info.untyped.length()
    );
    let mut workshop = Workshop::new(&env);
    refusals_are_told(&workshop);
    let (endpoint, bell) = echoes::start(&mut workshop);
    let client = EchoClient::new(endpoint);
    echoes::converse(&client);
    log!(
        "a signal costs {} ticks",
        ticks_each(CALLS, || bell.signal())
    );
    log!(
        "a call with its reply costs {} ticks",
        ticks_each(CALLS, || assert_eq!(client.add(1, 2), Ok(3)))
    );
    bells::try_all(&mut workshop);
    later::call_and_count(&mut workshop, endpoint)
}

fn refusals_are_told(workshop: &Workshop) {
    let taken = InitialSlot::Tcb.number();
    let node = workshop.root;
    let refused = workshop
        .untyped
        .retype(ObjectType::Endpoint, 0, node, taken, 1);
    assert_eq!(refused, Err(KernelError::DeleteFirst));
    let thread = Tcb::from_cptr(InitialSlot::Tcb.cptr());
    let refused = thread.set_priority(Tcb::from_cptr(InitialSlot::CNode.cptr()), 1);
    assert!(
        matches!(refused, Err(KernelError::InvalidCapability { .. })),
        "{refused:?}"
    );
}

/// Ticks of the time-stamp counter that `action` takes on average.
fn ticks_each(times: u64, mut action: impl FnMut()) -> u64 {
    let before = kernel::time_stamp();
    for _ in 0..times {
        action();
    }
    (kernel::time_stamp() - before) / times
}
