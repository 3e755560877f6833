//! A timer: one deadline that signals a notification. Tessera's addition (docs/decisions/0003).

use core::cell::Cell;

use super::Notification;
use crate::store::{Object, Ref};

/// An entry of a node's deadline queue.
#[repr(C, align(64))]
pub struct Timer {
    /// Whom to signal.
    pub notification: Cell<Option<Ref<Notification>>>,
    /// With which badge: that of the capability it was bound with.
    pub badge: Cell<u64>,
    /// Absolute deadline in ticks, meaningful while `armed`.
    pub deadline: Cell<u64>,
    /// Neighbour with an earlier or equal deadline.
    pub previous: Cell<Option<Ref<Timer>>>,
    /// Neighbour with a later or equal deadline.
    pub next: Cell<Option<Ref<Timer>>>,
    /// In a queue.
    pub armed: Cell<bool>,
    /// Whose queue.
    pub node: Cell<u8>,
}

#[expect(unsafe_code, reason = "only the marker: zero is an idle timer, all fields are cells")]
// SAFETY: as the reason says.
unsafe impl Object for Timer {}

impl Timer {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 6;
}

const _: () = assert!(size_of::<Timer>() == 1 << Timer::SIZE_BITS);
