//! An endpoint: a queue of threads that all want to send, or all want to receive.

use core::cell::Cell;

use super::tcb::{Tcb, ThreadState};
use crate::store::{Object, Ref};

/// First and last of a queue of threads, linked through [`Tcb::ipc_links`], by falling priority.
#[repr(C)]
pub struct QueueEnds {
    /// First to be served.
    pub head: Cell<Option<Ref<Tcb>>>,
    /// Last to be served.
    pub tail: Cell<Option<Ref<Tcb>>>,
}

impl QueueEnds {
    /// Whether nobody waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.head.get().is_none()
    }

    /// Puts `tcb` behind all threads of at least its priority.
    pub fn enqueue(&self, tcb: Ref<Tcb>) {
        let priority = tcb.priority.get();
        let mut before = self.tail.get();
        while let Some(t) = before
            && t.priority.get() < priority
        {
            before = t.ipc_previous.get();
        }
        let after = match before {
            Some(t) => t.ipc_next.get(),
            None => self.head.get(),
        };
        tcb.ipc_previous.set(before);
        tcb.ipc_next.set(after);
        match before {
            Some(t) => t.ipc_next.set(Some(tcb)),
            None => self.head.set(Some(tcb)),
        }
        match after {
            Some(t) => t.ipc_previous.set(Some(tcb)),
            None => self.tail.set(Some(tcb)),
        }
    }

    /// Takes `tcb`, which is in this queue, out of it.
    #[inline]
    pub fn remove(&self, tcb: Ref<Tcb>) {
        let (before, after) = (tcb.ipc_previous.get(), tcb.ipc_next.get());
        match before {
            Some(t) => t.ipc_next.set(after),
            None => self.head.set(after),
        }
        match after {
            Some(t) => t.ipc_previous.set(before),
            None => self.tail.set(before),
        }
        tcb.ipc_previous.set(None);
        tcb.ipc_next.set(None);
    }

    /// Takes the first thread out.
    pub fn pop(&self) -> Option<Ref<Tcb>> {
        let head = self.head.get()?;
        self.remove(head);
        Some(head)
    }
}

/// A synchronous rendezvous. Whether its queue sends or receives is the state of its head.
#[repr(C, align(16))]
pub struct Endpoint {
    /// The threads that wait.
    pub queue: QueueEnds,
}

#[expect(unsafe_code, reason = "only the marker: zero is an idle endpoint, all fields are cells")]
// SAFETY: as the reason says.
unsafe impl Object for Endpoint {}

impl Endpoint {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 4;

    /// The first thread that waits to receive.
    #[inline(always)]
    #[must_use]
    pub fn receiver(&self) -> Option<Ref<Tcb>> {
        self.queue.head.get().filter(|t| t.state.get() == ThreadState::BlockedOnReceive)
    }

    /// The first thread that waits to send.
    #[inline(always)]
    #[must_use]
    pub fn sender(&self) -> Option<Ref<Tcb>> {
        self.queue.head.get().filter(|t| t.state.get() == ThreadState::BlockedOnSend)
    }
}

const _: () = assert!(size_of::<Endpoint>() == 1 << Endpoint::SIZE_BITS);
