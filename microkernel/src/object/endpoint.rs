//! An endpoint: a queue of threads that all want to send, or all want to receive.

use super::{QueueEnds, Tcb, ThreadState};
use crate::store::Ref;

/// A synchronous rendezvous. Whether its queue sends or receives is the state of its head.
#[repr(C, align(16))]
pub struct Endpoint {
    /// The threads that wait.
    pub queue: QueueEnds,
}

impl Endpoint {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 4;

    /// The first thread that waits to receive.
    #[inline(always)]
    #[must_use]
    pub fn receiver(&self) -> Option<Ref<Tcb>> {
        self.queue
            .head
            .get()
            .filter(|t| t.state.get() == ThreadState::BlockedOnReceive)
    }

    /// The first thread that waits to send.
    #[inline(always)]
    #[must_use]
    pub fn sender(&self) -> Option<Ref<Tcb>> {
        self.queue
            .head
            .get()
            .filter(|t| t.state.get() == ThreadState::BlockedOnSend)
    }
}

const _: () = assert!(size_of::<Endpoint>() == 1 << Endpoint::SIZE_BITS);
