//! The one big lock, as this machine's CPUs take it.

use super::cpu::Cpu;
use super::remote;
use crate::big_lock::BigLock;

pub use crate::big_lock::Acquired;

static LOCK: BigLock = BigLock::new();

/// Takes the lock for this CPU, which answers other CPUs' questions while it waits.
#[inline(always)]
pub fn acquire(cpu: &Cpu) -> Acquired {
    LOCK.acquire(|| {
        remote::answer(cpu);
    })
}

/// Gives the lock up.
#[inline(always)]
pub fn release() {
    LOCK.release();
}
