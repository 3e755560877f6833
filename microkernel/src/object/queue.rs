//! A queue of threads. A thread is in one queue at a time, so one pair of links in it serves all.

use core::cell::Cell;

use super::Tcb;
use crate::store::Ref;

/// First and last of a queue of threads.
#[repr(C)]
pub struct QueueEnds {
    /// First to be served.
    pub head: Cell<Option<Ref<Tcb>>>,
    /// Last to be served.
    pub tail: Cell<Option<Ref<Tcb>>>,
}

impl QueueEnds {
    /// No threads.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            head: Cell::new(None),
            tail: Cell::new(None),
        }
    }

    /// Whether nobody waits.
    #[inline(always)]
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Puts `tcb` before everyone.
    pub fn push_front(&self, tcb: Ref<Tcb>) {
        self.insert_between(None, tcb, self.head.get());
    }

    /// Puts `tcb` behind everyone.
    #[inline]
    pub fn push_back(&self, tcb: Ref<Tcb>) {
        self.insert_between(self.tail.get(), tcb, None);
    }

    /// Puts `tcb` behind all threads of at least its priority.
    pub fn insert_by_priority(&self, tcb: Ref<Tcb>) {
        let priority = tcb.priority.get();
        self.insert_behind(tcb, |other| other.priority.get() >= priority);
    }

    /// Puts `tcb` behind the last thread that `goes_first`. The queue is sorted by it.
    pub fn insert_behind(&self, tcb: Ref<Tcb>, goes_first: impl Fn(Ref<Tcb>) -> bool) {
        let mut before = self.tail.get();
        while let Some(other) = before
            && !goes_first(other)
        {
            before = other.queue_previous.get();
        }
        let after = before.map_or(self.head.get(), |b| b.queue_next.get());
        self.insert_between(before, tcb, after);
    }

    #[inline]
    fn insert_between(&self, before: Option<Ref<Tcb>>, tcb: Ref<Tcb>, after: Option<Ref<Tcb>>) {
        tcb.queue_previous.set(before);
        tcb.queue_next.set(after);
        match before {
            Some(b) => b.queue_next.set(Some(tcb)),
            None => self.head.set(Some(tcb)),
        }
        match after {
            Some(a) => a.queue_previous.set(Some(tcb)),
            None => self.tail.set(Some(tcb)),
        }
    }

    /// Takes `tcb`, which is in this queue, out of it.
    #[inline]
    pub fn remove(&self, tcb: Ref<Tcb>) {
        let (before, after) = (tcb.queue_previous.take(), tcb.queue_next.take());
        match before {
            Some(b) => b.queue_next.set(after),
            None => self.head.set(after),
        }
        match after {
            Some(a) => a.queue_previous.set(before),
            None => self.tail.set(before),
        }
    }

    /// Takes `head`, which is the first thread of this queue, out of it. Its own links are left: in no
    /// queue they mean nothing.
    #[inline(always)]
    pub fn remove_head(&self, head: Ref<Tcb>) {
        let after = head.queue_next.get();
        self.head.set(after);
        match after {
            Some(a) => a.queue_previous.set(None),
            None => self.tail.set(None),
        }
    }

    /// Takes the first thread out.
    pub fn pop(&self) -> Option<Ref<Tcb>> {
        let head = self.head.get()?;
        self.remove(head);
        Some(head)
    }

    /// The threads in order. Taking the thread that was just yielded out of the queue is allowed.
    pub fn iter(&self) -> impl Iterator<Item = Ref<Tcb>> + use<> {
        let mut next = self.head.get();
        core::iter::from_fn(move || {
            let tcb = next?;
            next = tcb.queue_next.get();
            Some(tcb)
        })
    }
}

impl Default for QueueEnds {
    fn default() -> Self {
        Self::new()
    }
}
