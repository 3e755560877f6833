//! When a thread's time is over.

use microkernel::arch::host::MACHINE;
use sel4_sys::InvocationLabel;

use crate::world::{CONTEXT, CONTROL, World};

/// Ticks of a microsecond in the test's kernel.
const MICROSECOND: u64 = 1000;

#[test]
fn a_thread_that_gives_itself_less_time_is_stopped_when_that_is_over() {
    let world = World::new();
    let deadline = || MACHINE.with(|m| m.deadline.get());
    let words = [200, 1000, 0, 0, 0];
    let label = InvocationLabel::SchedControlConfigureFlags;
    assert_eq!(world.invoke(CONTROL, label, &words, &[CONTEXT]), 0);
    assert_eq!(world.kernel.current(), world.client);
    assert_eq!(deadline(), 200 * MICROSECOND);
}
