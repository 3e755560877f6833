//! The big lock: one CPU at a time is in the kernel, in the order of their coming.
//!
//! Under a hypervisor or an emulator the CPU whose turn it is may be one that does not run just
//! now, and strict order would let all others wait until it does. So those who wait pass it when
//! the lock has been free for a while; it takes its turn when it is back. It is apart from `arch`
//! so that host threads can contend for it.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// Looks at a free lock before one passes those whose turn it is. A CPU that runs sees within a
/// few looks that the lock is free; so many are some microseconds.
const PATIENCE: u32 = 64;

/// Whether others were before us: while we waited, one of them may have taken our thread away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acquired {
    /// The lock was free.
    AtOnce,
    /// We waited for it.
    AfterWaiting,
}

/// The lock. Its words are in one cache line of their own.
///
/// Everyone who has to wait draws a number. `turn` counts those who waited and got the lock, so
/// numbers up to it may have the lock: one of them, or more if somebody passed somebody.
#[repr(align(64))]
pub struct BigLock {
    held: AtomicBool,
    /// The next number.
    next: AtomicU32,
    /// Written by the holder.
    turn: AtomicU32,
}

impl Default for BigLock {
    fn default() -> Self {
        Self::new()
    }
}

impl BigLock {
    /// Free.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            held: AtomicBool::new(false),
            next: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// Takes the lock. While it waits, it calls `meanwhile` again and again.
    #[inline(always)]
    pub fn acquire(&self, meanwhile: impl Fn()) -> Acquired {
        let nobody_waits = self.next.load(Ordering::Relaxed) == self.turn.load(Ordering::Relaxed);
        if nobody_waits && self.try_take() {
            return Acquired::AtOnce;
        }
        self.wait(meanwhile);
        Acquired::AfterWaiting
    }

    #[inline(always)]
    fn try_take(&self) -> bool {
        !self.held.swap(true, Ordering::Acquire)
    }

    #[cold]
    fn wait(&self, meanwhile: impl Fn()) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let mut looks = 0;
        loop {
            if !self.held.load(Ordering::Relaxed) {
                looks += 1;
                let turn = self.turn.load(Ordering::Relaxed);
                let has_come = turn.wrapping_sub(number).cast_signed() >= 0;
                if (has_come || looks > PATIENCE) && self.try_take() {
                    break;
                }
            }
            meanwhile();
            spin_loop();
        }
        // Only the holder writes, so this needs no read-modify-write.
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
    }

    /// Gives the lock up. For its holder.
    #[inline(always)]
    pub fn release(&self) {
        self.held.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::thread;

    /// Looks after which the lock is given up: more than anyone's patience.
    const HELD_LOOKS: u32 = 1000;
    /// Looks after which number 1 may have it: within its patience.
    const TURN_LOOKS: u32 = HELD_LOOKS + PATIENCE / 2;

    #[test]
    fn one_at_a_time_has_it() {
        const ROUNDS: u32 = 2000;
        let (lock, count) = (BigLock::new(), AtomicU32::new(0));
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..ROUNDS {
                        lock.acquire(thread::yield_now);
                        // Not atomic as a whole: lost if two are inside.
                        let old = count.load(Ordering::Relaxed);
                        thread::yield_now();
                        count.store(old + 1, Ordering::Relaxed);
                        lock.release();
                    }
                });
            }
        });
        assert_eq!(count.into_inner(), 4 * ROUNDS);
        assert_eq!(lock.next.into_inner(), lock.turn.into_inner());
    }

    #[test]
    fn a_free_lock_is_taken_at_once_and_a_held_one_after_waiting() {
        let lock = BigLock::new();
        assert_eq!(lock.acquire(|| ()), Acquired::AtOnce);
        let acquired = lock.acquire(|| lock.release());
        assert_eq!(acquired, Acquired::AfterWaiting);
        lock.release();
        assert_eq!(lock.acquire(|| ()), Acquired::AtOnce);
    }

    #[test]
    fn nobody_passes_one_who_waits_while_the_lock_is_held() {
        let lock = BigLock::new();
        lock.acquire(|| ());
        // Number 0 waits; number 1 comes, and looks often while the lock is held.
        lock.next.store(1, Ordering::Relaxed);
        let looks = std::cell::Cell::new(0);
        let acquired = lock.acquire(|| {
            looks.set(looks.get() + 1);
            match looks.get() {
                HELD_LOOKS => lock.release(),
                // Number 0 had it.
                TURN_LOOKS => lock.turn.store(1, Ordering::Relaxed),
                _ => {}
            }
        });
        assert_eq!(
            (acquired, looks.get()),
            (Acquired::AfterWaiting, TURN_LOOKS)
        );
    }

    #[test]
    fn one_that_does_not_run_when_its_turn_comes_is_passed_and_comes_later() {
        let lock = BigLock::new();
        lock.acquire(|| ());
        // Somebody draws number 0 and is seen no more.
        lock.next.store(1, Ordering::Relaxed);
        lock.release();
        let looks = std::cell::Cell::new(0);
        let acquired = lock.acquire(|| looks.set(looks.get() + 1));
        assert_eq!((acquired, looks.get()), (Acquired::AfterWaiting, PATIENCE));
        lock.release();
        // His number still counts: nobody else takes the lock at once before he came.
        assert_ne!(
            lock.next.load(Ordering::Relaxed),
            lock.turn.load(Ordering::Relaxed)
        );
    }
}
