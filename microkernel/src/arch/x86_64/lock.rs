//! The big lock: one CPU at a time is in the kernel, in the order of their coming.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

use super::cpu::Cpu;
use super::remote;

static NEXT: AtomicU32 = AtomicU32::new(0);
static SERVING: AtomicU32 = AtomicU32::new(0);

/// Whether others were before us: while we waited, one of them may have taken our thread away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The lock was free.
    AtOnce,
    /// We waited for it.
    AfterWaiting,
}

/// Takes the lock for this CPU, which answers other CPUs' questions while it waits.
#[inline(always)]
pub fn acquire(cpu: &Cpu) -> Acquired {
    let ticket = NEXT.fetch_add(1, Ordering::Acquire);
    if SERVING.load(Ordering::Acquire) == ticket {
        return Acquired::AtOnce;
    }
    wait(cpu, ticket);
    Acquired::AfterWaiting
}

#[cold]
fn wait(cpu: &Cpu, ticket: u32) {
    while SERVING.load(Ordering::Acquire) != ticket {
        remote::answer(cpu);
        spin_loop();
    }
}

/// Gives the lock up.
#[inline(always)]
pub fn release() {
    // Only the holder writes, so this needs no read-modify-write.
    SERVING.store(
        SERVING.load(Ordering::Relaxed).wrapping_add(1),
        Ordering::Release,
    );
}
