//! A timer: one deadline that signals a notification. Tessera's addition (docs/decisions/0003).

use core::cell::Cell;

use super::Slot;
use crate::store::Ref;

/// An entry of a node's deadline queue.
#[repr(C, align(64))]
pub struct Timer {
    /// The notification capability to signal through, or empty.
    pub slot: Slot,
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

impl Timer {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 6;
}

impl Ref<Timer> {
    /// Its capability slot: the first thing in it.
    #[must_use]
    pub fn slot(self) -> Ref<Slot> {
        Ref::from_address(self.address())
    }
}

const _: () = assert!(size_of::<Timer>() == 1 << Timer::SIZE_BITS);
