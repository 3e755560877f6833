//! Budgets: the ring of refills of a scheduling context, seL4's sporadic server.
//!
//! Invariants of an active context: the amounts add up to the budget; refills are ordered and do
//! not overlap; the head has at least the minimum budget. A round-robin context (period 0) has two
//! refills: what is left of the slice, and what was used of it.

use crate::object::{Refill, SchedContext};
use crate::store::Ref;

/// What time it is, and how little budget is not worth a switch. All in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// Time of this kernel entry.
    pub now: u64,
    /// Smallest budget: twice the worst-case time of a kernel entry.
    pub min_budget: u64,
    /// Refills are never moved beyond this, so that times do not wrap.
    pub max_release_time: u64,
}

/// A refill as a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Amount {
    time: u64,
    amount: u64,
}

fn read(refill: Ref<Refill>) -> Amount {
    Amount {
        time: refill.time.get(),
        amount: refill.amount.get(),
    }
}

fn write(refill: Ref<Refill>, value: Amount) {
    refill.time.set(value.time);
    refill.amount.set(value.amount);
}

impl Ref<SchedContext> {
    /// The refill in use.
    #[inline(always)]
    #[must_use]
    pub fn head(self) -> Ref<Refill> {
        self.refill(self.refill_head.get())
    }

    fn tail(self) -> Ref<Refill> {
        self.refill(self.refill_tail.get())
    }

    fn index_after(self, index: u32) -> u32 {
        if index + 1 == self.refill_max.get() {
            0
        } else {
            index + 1
        }
    }

    fn is_single(self) -> bool {
        self.refill_head.get() == self.refill_tail.get()
    }

    fn refill_count(self) -> u32 {
        let (head, tail) = (self.refill_head.get(), self.refill_tail.get());
        if head <= tail {
            tail - head + 1
        } else {
            tail + 1 + self.refill_max.get() - head
        }
    }

    fn is_full(self) -> bool {
        self.refill_count() == self.refill_max.get()
    }

    fn pop_head(self) -> Amount {
        let head = read(self.head());
        self.refill_head
            .set(self.index_after(self.refill_head.get()));
        head
    }

    fn push_tail(self, value: Amount) {
        self.refill_tail
            .set(self.index_after(self.refill_tail.get()));
        write(self.tail(), value);
    }

    /// Whether the head refill may be used now.
    #[inline(always)]
    #[must_use]
    pub fn is_ready(self, clock: &Clock) -> bool {
        self.head().time.get() <= clock.now
    }

    /// Whether the head refill still has the minimum budget after `usage` more.
    #[inline(always)]
    #[must_use]
    pub fn is_sufficient(self, usage: u64, clock: &Clock) -> bool {
        self.head().amount.get().saturating_sub(usage) >= clock.min_budget
    }

    /// Whether it is configured and a thread on it could run now.
    #[must_use]
    pub fn is_released(self, clock: &Clock) -> bool {
        self.is_active() && self.is_ready(clock)
    }

    /// Sets up a context that nobody uses. `period` 0 is round-robin.
    pub fn configure_new(self, max_refills: u32, budget: u64, period: u64, clock: &Clock) {
        self.period.set(period);
        self.refill_head.set(0);
        self.refill_tail.set(0);
        self.refill_max.set(max_refills);
        write(
            self.head(),
            Amount {
                time: clock.now,
                amount: budget,
            },
        );
        self.add_round_robin_tail();
    }

    fn add_round_robin_tail(self) {
        if self.is_round_robin() {
            self.push_tail(Amount {
                time: self.head().time.get(),
                amount: 0,
            });
        }
    }

    /// Changes a context in use without giving more than the new budget in any new period.
    pub fn configure_update(self, max_refills: u32, budget: u64, period: u64, clock: &Clock) {
        write(self.refill(0), read(self.head()));
        self.refill_head.set(0);
        self.refill_tail.set(0);
        self.refill_max.set(max_refills);
        self.period.set(period);
        if self.is_ready(clock) {
            self.head().time.set(clock.now);
        }
        let head = read(self.head());
        if head.amount >= budget {
            self.head().amount.set(budget);
            self.add_round_robin_tail();
        } else {
            self.push_tail(Amount {
                time: head.time + period,
                amount: budget - head.amount,
            });
        }
    }

    /// Puts used time back, a period later, merging it with the tail where they touch or the
    /// ring is full.
    fn schedule_used(self, used: Amount) {
        let tail = read(self.tail());
        if tail.time + tail.amount >= used.time {
            self.tail().amount.set(tail.amount + used.amount);
        } else if !self.is_full() {
            self.push_tail(used);
        } else {
            let merged = Amount {
                time: used.time - tail.amount,
                amount: tail.amount + used.amount,
            };
            write(self.tail(), merged);
        }
    }

    /// Charges whole head refills while `usage` covers them; what is left of it.
    fn charge_whole_heads(self, mut usage: u64, clock: &Clock) -> u64 {
        loop {
            let head = read(self.head());
            if head.amount > usage || head.time >= clock.max_release_time {
                return usage;
            }
            let later = Amount {
                time: head.time + self.period.get(),
                ..head
            };
            if self.is_single() {
                write(self.head(), later);
            } else {
                self.pop_head();
                self.schedule_used(later);
            }
            usage -= head.amount;
        }
    }

    /// Charges `usage` ticks to a context that is not round-robin.
    pub fn charge(self, usage: u64, clock: &Clock) {
        let rest = self.charge_whole_heads(usage, clock);
        let head = read(self.head());
        if rest > 0 && head.time < clock.max_release_time {
            write(
                self.head(),
                Amount {
                    time: head.time + rest,
                    amount: head.amount - rest,
                },
            );
            self.schedule_used(Amount {
                time: head.time + self.period.get(),
                amount: rest,
            });
        }
        while self.head().amount.get() < clock.min_budget && !self.is_single() {
            let head = self.pop_head();
            let next = read(self.head());
            let merged = Amount {
                time: next.time - head.amount,
                amount: next.amount + head.amount,
            };
            write(self.head(), merged);
        }
    }

    /// Charges part of a round-robin slice: moves it from the first refill to the second.
    pub fn charge_slice(self, usage: u64) {
        let (head, tail) = (self.head(), self.tail());
        head.amount.set(head.amount.get().saturating_sub(usage));
        tail.amount.set(tail.amount.get() + usage);
    }

    /// Gives a round-robin context its next full slice.
    pub fn renew_slice(self) {
        let (head, tail) = (self.head(), self.tail());
        head.amount.set(head.amount.get() + tail.amount.replace(0));
    }

    /// Charges `usage` ticks to any context. One that has not enough left for that has used its
    /// slice: round-robin contexts get the next one, others wait for their refills.
    pub fn charge_any(self, usage: u64, clock: &Clock) {
        if !self.is_round_robin() {
            self.charge(usage, clock);
        } else if self.is_sufficient(usage, clock) {
            self.charge_slice(usage);
        } else {
            self.renew_slice();
        }
    }

    /// A context comes back into use: what is available starts now, merged into one refill.
    /// Whether the time of the head changed.
    pub fn unblock(self, clock: &Clock) -> bool {
        if self.is_round_robin() || !self.is_ready(clock) {
            return false;
        }
        self.head().time.set(clock.now);
        while !self.is_single() {
            let head = read(self.head());
            let next = read(self.refill(self.index_after(self.refill_head.get())));
            if next.time > head.time + head.amount {
                break;
            }
            self.pop_head();
            write(
                self.head(),
                Amount {
                    time: head.time,
                    amount: next.amount + head.amount,
                },
            );
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CLOCK: Clock = Clock {
        now: 1000,
        min_budget: 20,
        max_release_time: u64::MAX / 2,
    };

    fn context() -> Ref<SchedContext> {
        let memory: &'static mut [[u64; 4]; 32] =
            std::boxed::Box::leak(std::boxed::Box::new([[0; 4]; 32]));
        let address = memory.as_ptr() as usize;
        Ref::from_address(address.next_multiple_of(32))
    }

    fn total(context: Ref<SchedContext>) -> u64 {
        let mut index = context.refill_head.get();
        let mut sum = context.refill(index).amount.get();
        while index != context.refill_tail.get() {
            index = context.index_after(index);
            sum += context.refill(index).amount.get();
        }
        sum
    }

    #[test]
    fn a_charge_comes_back_one_period_later() {
        let c = context();
        c.configure_new(4, 100, 500, &CLOCK);
        c.charge(40, &CLOCK);
        assert_eq!(
            read(c.head()),
            Amount {
                time: 1040,
                amount: 60
            }
        );
        assert_eq!(
            read(c.tail()),
            Amount {
                time: 1500,
                amount: 40
            }
        );
    }

    #[test]
    fn a_used_up_budget_is_not_ready_before_the_period_ends() {
        let c = context();
        c.configure_new(2, 100, 500, &CLOCK);
        c.charge(100, &CLOCK);
        assert!(!c.is_ready(&Clock { now: 1499, ..CLOCK }));
        assert!(c.is_ready(&Clock { now: 1500, ..CLOCK }));
    }

    #[test]
    fn a_round_robin_slice_that_was_overdrawn_is_followed_by_a_whole_one() {
        let c = context();
        c.configure_new(2, 100, 0, &CLOCK);
        c.charge_any(70, &CLOCK);
        assert_eq!(c.head().amount.get(), 30);
        c.charge_any(70, &CLOCK);
        assert_eq!((c.head().amount.get(), total(c)), (100, 100));
    }

    #[test]
    fn a_round_robin_slice_is_renewed_whole() {
        let c = context();
        c.configure_new(2, 100, 0, &CLOCK);
        c.charge_slice(70);
        assert_eq!(c.head().amount.get(), 30);
        c.renew_slice();
        assert_eq!(c.head().amount.get(), 100);
    }

    proptest! {
        #[test]
        fn the_budget_is_constant_and_heads_suffice(
            refills in 2u32..10, budget in 40u64..400, slack in 1u64..1000,
            uses in proptest::collection::vec((0u64..500, any::<bool>()), 1..60),
        ) {
            let c = context();
            c.configure_new(refills, budget, budget + slack, &CLOCK);
            let mut clock = CLOCK;
            for (usage, blocks) in uses {
                clock.now = clock.now.max(c.head().time.get());
                c.unblock(&clock);
                let usage = usage.min(c.head().amount.get());
                clock.now += usage;
                c.charge(usage, &clock);
                prop_assert_eq!(total(c), budget);
                prop_assert!(c.head().amount.get() >= clock.min_budget);
                if blocks { clock.now += 7 * usage + 3; }
            }
        }
    }
}
