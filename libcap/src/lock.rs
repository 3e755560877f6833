//! A lock between the threads of one program.
//!
//! Held for a few instructions (the heap, the log). A thread that finds it taken spins, then
//! gives up its budget, so that a holder of lower priority on the same CPU comes to an end.

use core::sync::atomic::{AtomicBool, Ordering};

use crate::kernel;

/// How often a thread looks again before it gives up its budget: longer than a holder on another
/// CPU needs, far shorter than a time slice.
const SPINS: u32 = 1000;

/// See the module.
#[derive(Debug)]
pub struct YieldLock(AtomicBool);

/// Data behind a [`YieldLock`].
pub type Mutex<T> = lock_api::Mutex<YieldLock, T>;

#[allow(unsafe_code, reason = "the trait's contract is mutual exclusion")]
// SAFETY: the flag goes from false to true for one thread only, and back by `unlock`; acquire and
// release order what the holders do.
unsafe impl lock_api::RawMutex for YieldLock {
    const INIT: Self = Self(AtomicBool::new(false));
    type GuardMarker = lock_api::GuardSend;

    fn lock(&self) {
        let mut spins = 0;
        while !self.try_lock() {
            spins += 1;
            if spins < SPINS {
                core::hint::spin_loop();
            } else {
                spins = 0;
                kernel::yield_now();
            }
        }
    }

    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    // SAFETY: the caller holds the lock, says the trait.
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_that_count_together_lose_nothing() {
        let counter = Mutex::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..10_000).for_each(|_| *counter.lock() += 1));
            }
        });
        assert_eq!(*counter.lock(), 40_000);
    }

    #[test]
    fn a_lock_that_is_taken_is_not_taken_again() {
        let lock = Mutex::new(());
        let held = lock.lock();
        assert!(lock.try_lock().is_none());
        drop(held);
        assert!(lock.try_lock().is_some());
    }
}
