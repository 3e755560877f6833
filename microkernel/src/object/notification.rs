//! A notification: a word of badges that were signalled, or a queue of threads that wait for one.

use core::cell::Cell;

use super::{QueueEnds, SchedContext, Tcb};
use crate::store::Ref;

/// An asynchronous signal.
#[repr(C, align(64))]
pub struct Notification {
    /// Threads that wait; empty while `active`.
    pub queue: QueueEnds,
    /// Badges or-ed together since the last wait; meaningful while `active`.
    pub badge: Cell<u64>,
    /// Signalled and not yet received.
    pub active: Cell<bool>,
    /// The thread that also receives this notification's signals on any endpoint.
    pub bound_tcb: Cell<Option<Ref<Tcb>>>,
    /// Scheduling context lent to a passive thread that a signal wakes.
    pub sched_context: Cell<Option<Ref<SchedContext>>>,
}

impl Notification {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 6;

    /// Takes the signalled badges, if any.
    pub fn take(&self) -> Option<u64> {
        self.active.replace(false).then(|| self.badge.replace(0))
    }
}

const _: () = assert!(size_of::<Notification>() == 1 << Notification::SIZE_BITS);
