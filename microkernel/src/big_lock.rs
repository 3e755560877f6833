//! The big lock: one CPU at a time is in the kernel, in the order of their coming.
//!
//! Under a hypervisor or an emulator the CPU whose turn it is may be one that does not run just
//! now, and strict order would let all others wait until it does. So those who wait pass it when
//! the lock has been free for a while; it takes its turn when it is back. It is apart from `arch`
//! so that host threads can contend for it.

use core::hint::spin_loop;
use core::sync::atomic::{AtomicU32, Ordering};

/// Looks at a free lock before one passes those whose turn it is. A CPU that runs sees within a
/// few looks that the lock is free; so many are some microseconds.
const PATIENCE: u32 = 64;

/// State of a lock that nobody has and nobody waits for.
const FREE: u32 = 0;
/// State of a lock that somebody has. Its bit is what keeps others out: a lock that was given up
/// while some wait has it too, so nobody who comes later takes it from them.
const HELD: u32 = 1 << 30;

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
    /// [`HELD`], or what `when_given_up` was when the lock was given up.
    state: AtomicU32,
    /// Minus the number of those who wait: [`FREE`], or something with the bit of [`HELD`], which
    /// every small negative number has.
    when_given_up: AtomicU32,
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
            state: AtomicU32::new(FREE),
            when_given_up: AtomicU32::new(FREE),
            next: AtomicU32::new(0),
            turn: AtomicU32::new(0),
        }
    }

    /// Takes the lock. While it waits, it calls `meanwhile` again and again.
    #[inline(always)]
    pub fn acquire(&self, meanwhile: impl Fn()) -> Acquired {
        // One instruction on x86 (not for the sign bit), which changes nothing if the bit is there.
        if self.state.fetch_or(HELD, Ordering::Acquire) & HELD == 0 {
            return Acquired::AtOnce;
        }
        self.wait(meanwhile);
        Acquired::AfterWaiting
    }

    #[cold]
    fn wait(&self, meanwhile: impl Fn()) {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        self.when_given_up.fetch_sub(1, Ordering::Relaxed);
        let mut looks = 0;
        loop {
            let state = self.state.load(Ordering::Relaxed);
            if state != HELD {
                looks += 1;
                let turn = self.turn.load(Ordering::Relaxed);
                let has_come = turn.wrapping_sub(number).cast_signed() >= 0;
                if (has_come || looks > PATIENCE) && self.take(state) {
                    break;
                }
            }
            meanwhile();
            spin_loop();
        }
        // Only the holder writes, so this needs no read-modify-write.
        let turn = self.turn.load(Ordering::Relaxed);
        self.turn.store(turn.wrapping_add(1), Ordering::Relaxed);
        self.when_given_up.fetch_add(1, Ordering::Relaxed);
    }

    /// Takes a lock that was just seen to be in `state`, which is not [`HELD`].
    fn take(&self, state: u32) -> bool {
        self.state
            .compare_exchange(state, HELD, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Gives the lock up. For its holder. One who begins to wait just now may be passed by one who
    /// comes.
    #[inline(always)]
    pub fn release(&self) {
        let state = self.when_given_up.load(Ordering::Relaxed);
        self.state.store(state, Ordering::Release);
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

    /// Somebody draws the next number.
    fn draw(lock: &BigLock) {
        lock.next.fetch_add(1, Ordering::Relaxed);
        lock.when_given_up.fetch_sub(1, Ordering::Relaxed);
    }

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
        assert_eq!(lock.state.into_inner(), FREE);
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
        draw(&lock);
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
        draw(&lock);
        lock.release();
        let looks = std::cell::Cell::new(0);
        let acquired = lock.acquire(|| looks.set(looks.get() + 1));
        assert_eq!((acquired, looks.get()), (Acquired::AfterWaiting, PATIENCE));
        lock.release();
        // His number still counts: nobody else takes the lock at once before he came.
        assert_eq!(lock.acquire(|| ()), Acquired::AfterWaiting);
    }
}
