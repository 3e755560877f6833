//! What one timer has to serve for a whole VM: a deadline for each VCPU, one for the devices, and
//! calls for the service thread.
//!
//! Plain data that [`crate::native`] keeps behind a lock, together with the timer that it arms: a
//! deadline that is set while due ones are taken must be in what the timer is armed with next.

use crate::interrupts::{MAXIMUM_VCPUS, VcpuSet};

/// Deadlines of a VM, in host time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Deadlines {
    vcpus: [Option<u64>; MAXIMUM_VCPUS],
    platform: Option<u64>,
    /// The service thread is wanted at once. Not part of `platform`, which another thread may set.
    is_called: bool,
}

impl Deadlines {
    /// Wakes VCPU `index` at `deadline`, and no longer at an earlier call's.
    pub fn set_vcpu(&mut self, index: usize, deadline: u64) {
        self.vcpus[index % MAXIMUM_VCPUS] = Some(deadline);
    }

    /// Wakes the service thread at `deadline`, and no longer at an earlier call's.
    pub fn set_platform(&mut self, deadline: u64) {
        self.platform = Some(deadline);
    }

    /// Wakes the service thread now.
    pub fn call_service(&mut self) {
        self.is_called = true;
    }

    /// When the timer must fire next, if it must.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        if self.is_called {
            return Some(0);
        }
        let vcpus = self.vcpus.iter().flatten();
        vcpus.chain(&self.platform).min().copied()
    }

    /// The service thread is awake: forgets what is due at `now`. Returns the VCPUs to be woken.
    pub fn take_due(&mut self, now: u64) -> VcpuSet {
        self.is_called = false;
        self.platform = self.platform.filter(|&deadline| deadline > now);
        let mut due = VcpuSet::default();
        for (index, deadline) in self.vcpus.iter_mut().enumerate() {
            if deadline.take_if(|deadline| *deadline <= now).is_some() {
                due.insert(index);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_deadline_is_next() {
        let mut deadlines = Deadlines::default();
        assert_eq!(deadlines.next(), None);
        deadlines.set_platform(30);
        deadlines.set_vcpu(1, 20);
        deadlines.set_vcpu(0, 25);
        assert_eq!(deadlines.next(), Some(20));
    }

    #[test]
    fn what_is_due_is_taken_once_and_the_rest_stays() {
        let mut deadlines = Deadlines::default();
        deadlines.set_platform(10);
        deadlines.set_vcpu(0, 10);
        deadlines.set_vcpu(2, 11);
        assert_eq!(deadlines.take_due(10).iter().collect::<Vec<_>>(), [0]);
        assert_eq!(deadlines.next(), Some(11));
        assert!(deadlines.take_due(10).is_empty());
        assert_eq!(deadlines.take_due(11).iter().collect::<Vec<_>>(), [2]);
        assert_eq!(deadlines.next(), None);
    }

    #[test]
    fn a_later_deadline_replaces_an_earlier_one() {
        let mut deadlines = Deadlines::default();
        deadlines.set_vcpu(0, 10);
        deadlines.set_vcpu(0, 40);
        assert!(deadlines.take_due(20).is_empty());
        assert_eq!(deadlines.next(), Some(40));
    }

    #[test]
    fn a_call_is_not_lost_when_another_thread_sets_the_devices_deadline() {
        let mut deadlines = Deadlines::default();
        deadlines.call_service();
        deadlines.set_platform(50);
        assert_eq!(deadlines.next(), Some(0));
        assert!(deadlines.take_due(1).is_empty());
        assert_eq!(deadlines.next(), Some(50));
    }

    /// VCPUs sleep until their own deadlines while a service thread with one timer serves them all.
    /// With a deadline lost, a VCPU would sleep for ever.
    #[test]
    fn no_deadline_is_lost_between_threads() {
        use std::sync::Mutex;
        use std::sync::atomic::{AtomicU64, Ordering};
        const ROUNDS: u64 = 2000;
        let state = Mutex::new((Deadlines::default(), None));
        let clock = AtomicU64::new(0);
        let woken = [const { AtomicU64::new(0) }; MAXIMUM_VCPUS];
        let finished = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for (index, woken) in woken.iter().enumerate() {
                let (state, clock, finished) = (&state, &clock, &finished);
                scope.spawn(move || {
                    for round in 1..=ROUNDS {
                        let mut state = state.lock().unwrap();
                        state.0.set_vcpu(index, clock.load(Ordering::SeqCst) + 2);
                        state.1 = state.0.next();
                        drop(state);
                        while woken.load(Ordering::SeqCst) < round {
                            std::thread::yield_now();
                        }
                    }
                    finished.fetch_add(1, Ordering::SeqCst);
                });
            }
            while finished.load(Ordering::SeqCst) < MAXIMUM_VCPUS as u64 {
                let now = clock.fetch_add(1, Ordering::SeqCst) + 1;
                let mut state = state.lock().unwrap();
                if state.1.is_some_and(|armed| armed <= now) {
                    for index in state.0.take_due(now).iter() {
                        woken[index].fetch_add(1, Ordering::SeqCst);
                    }
                    state.1 = state.0.next();
                }
                drop(state);
                std::thread::yield_now();
            }
        });
    }
}
