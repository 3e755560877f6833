//! How threads of one VM get each other's attention without a system call where none is needed.
//!
//! A virtual CPU's thread looks at the machine's lock-protected state only when its bell was rung.
//! Ringing signals the thread's notification only if the thread is in the guest or asleep: else it
//! will see the flag by itself before it goes there.

use core::sync::atomic::{AtomicBool, Ordering};

/// One VCPU thread's bell.
#[derive(Debug, Default)]
pub struct Bell {
    rung: AtomicBool,
    away: AtomicBool,
}

impl Bell {
    /// Rings; true if the thread must be signalled as well.
    #[must_use]
    pub fn ring(&self) -> bool {
        // Both sides write their own flag and then read the other's; sequential consistency
        // lets at least one of them see the other, so no ring is lost.
        self.rung.store(true, Ordering::SeqCst);
        self.away.load(Ordering::SeqCst)
    }

    /// The thread is about to enter the guest or to sleep. False if the bell was rung before:
    /// then it must not.
    #[must_use]
    pub fn leave(&self) -> bool {
        self.away.store(true, Ordering::SeqCst);
        if self.rung.load(Ordering::SeqCst) {
            self.away.store(false, Ordering::Relaxed);
            return false;
        }
        true
    }

    /// The thread is back.
    pub fn arrive(&self) {
        self.away.store(false, Ordering::Release);
    }

    /// Takes the ring, if there was one.
    pub fn answer(&self) -> bool {
        self.rung.load(Ordering::Relaxed) && self.rung.swap(false, Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ring_while_the_thread_is_here_needs_no_signal_and_keeps_it_here() {
        let bell = Bell::default();
        assert!(!bell.ring());
        assert!(!bell.leave());
        assert!(bell.answer());
        assert!(bell.leave());
    }

    #[test]
    fn a_ring_while_the_thread_is_away_needs_a_signal() {
        let bell = Bell::default();
        assert!(bell.leave());
        assert!(bell.ring());
        bell.arrive();
        assert!(bell.answer());
        assert!(!bell.answer());
    }

    #[test]
    fn no_ring_is_lost_between_two_threads() {
        use std::sync::atomic::AtomicU32;
        const RINGS: u32 = 2000;
        let bell = Bell::default();
        let signals = AtomicU32::new(0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for _ in 0..RINGS {
                    if bell.ring() {
                        signals.store(1, Ordering::SeqCst);
                    }
                    while bell.rung.load(Ordering::SeqCst) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut seen = 0;
            while seen < RINGS {
                if bell.leave() {
                    // Asleep: only a signal ends this. Were one lost, the test would not end.
                    while signals.swap(0, Ordering::SeqCst) == 0 {
                        std::thread::yield_now();
                    }
                    bell.arrive();
                }
                seen += u32::from(bell.answer());
            }
        });
    }
}
