//! A reply object: one call that waits for its answer, and its place in a chain of donated time.
//!
//! When A calls B and B calls C on A's scheduling context, the replies form a stack: C's on top,
//! held by the context; below it the reply of A's call. Answering the top hands the context back.

use core::cell::Cell;

use super::{SchedContext, Tcb};
use crate::store::Ref;

/// One pending answer.
#[repr(C, align(32))]
pub struct Reply {
    /// The thread that waits for the answer, or that receives with this reply object.
    pub tcb: Cell<Option<Ref<Tcb>>>,
    /// The call below this one in the stack.
    pub below: Cell<Option<Ref<Reply>>>,
    /// The call above this one, if this is not the top.
    pub above: Cell<Option<Ref<Reply>>>,
    /// The donated context, if this is the top.
    pub sched_context: Cell<Option<Ref<SchedContext>>>,
}

impl Reply {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 5;
}

const _: () = assert!(size_of::<Reply>() == 1 << Reply::SIZE_BITS);
