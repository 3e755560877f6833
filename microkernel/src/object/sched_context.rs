//! A scheduling context: a budget in each period, kept as a ring of refills behind the object.

use core::cell::Cell;

use super::{Notification, Reply, Tcb};
use crate::store::Ref;

/// An amount of time that may be used from a moment on. Both in timer ticks.
#[repr(C, align(16))]
pub struct Refill {
    /// When it becomes usable.
    pub time: Cell<u64>,
    /// How much.
    pub amount: Cell<u64>,
}

/// Time on one node. Refills follow the object in memory.
#[repr(C, align(32))]
pub struct SchedContext {
    /// Ticks between refills; equal to the budget for round-robin.
    pub period: Cell<u64>,
    /// Ticks used since Consumed was last asked.
    pub consumed: Cell<u64>,
    /// The thread that runs on it.
    pub tcb: Cell<Option<Ref<Tcb>>>,
    /// Top of the stack of calls that lent it on.
    pub reply: Cell<Option<Ref<Reply>>>,
    /// The notification that it is bound to.
    pub notification: Cell<Option<Ref<Notification>>>,
    /// Word that identifies it in timeout faults.
    pub badge: Cell<u64>,
    /// The thread that waits in YieldTo for it.
    pub yield_from: Cell<Option<Ref<Tcb>>>,
    /// Refills that fit in use; 0 until configured.
    pub refill_max: Cell<u32>,
    /// Index of the first refill.
    pub refill_head: Cell<u32>,
    /// Index of the last refill.
    pub refill_tail: Cell<u32>,
    /// The node whose SchedControl configured it.
    pub node: Cell<u8>,
    /// Whether unused budget keeps its sporadic replenishment.
    pub sporadic: Cell<bool>,
    reserved: [u64; 2],
}

impl SchedContext {
    /// Smallest size as a power of two: part of the ABI.
    pub const MIN_SIZE_BITS: u8 = 7;

    /// Refills that a context of 2^`size_bits` bytes has room for.
    #[must_use]
    pub const fn capacity(size_bits: u8) -> u64 {
        ((1u64 << size_bits) - size_of::<Self>() as u64) / size_of::<Refill>() as u64
    }

    /// Whether it was configured, so that threads can run on it.
    #[inline(always)]
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.refill_max.get() > 0
    }

    /// Whether its budget fills the whole period.
    #[inline(always)]
    #[must_use]
    pub fn is_round_robin(&self) -> bool {
        self.period.get() == 0
    }
}

impl Ref<SchedContext> {
    /// The refill at `index` of the ring, which is below `refill_max`.
    #[inline(always)]
    #[must_use]
    pub fn refill(self, index: u32) -> Ref<Refill> {
        Ref::<Refill>::from_address(self.address() + size_of::<SchedContext>())
            .element(index as usize)
    }

    /// Puts `reply`, which is on no stack, on top of the stack of calls that lent it on.
    #[inline(always)]
    pub fn push_reply(self, reply: Ref<Reply>) {
        let below = self.reply.replace(Some(reply));
        if let Some(below) = below {
            below.sched_context.set(None);
            below.above.set(Some(reply));
        }
        reply.below.set(below);
        reply.sched_context.set(Some(self));
    }

    /// Takes `reply` from the top of that stack.
    #[inline(always)]
    pub fn pop_reply(self, reply: Ref<Reply>) {
        let below = reply.below.take();
        self.reply.set(below);
        if let Some(below) = below {
            below.above.set(None);
            below.sched_context.set(Some(self));
        }
        reply.sched_context.set(None);
    }
}

const _: () = assert!(size_of::<SchedContext>() == 96);
const _: () =
    assert!(SchedContext::capacity(SchedContext::MIN_SIZE_BITS) == crate::config::MIN_REFILLS);
