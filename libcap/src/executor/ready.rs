//! Which tasks were woken.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::sync::atomic::{AtomicU64, Ordering};
use core::task::Waker;

/// Most tasks of an executor: the bits of one word, which say who was woken.
pub const TASKS_MAX: usize = 64;

/// A set of slots, and a waker for each that adds it.
pub(super) struct ReadySet {
    bits: Arc<AtomicU64>,
    wakers: [Waker; TASKS_MAX],
}

/// Adds one slot. Wakers must be shareable between threads by their type, hence the atomics; they
/// are used by one.
struct SlotWaker {
    bits: Arc<AtomicU64>,
    slot: usize,
}

impl Wake for SlotWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.bits.fetch_or(1 << self.slot, Ordering::AcqRel);
    }
}

impl ReadySet {
    /// The empty set. Makes all wakers, so that waking and polling allocate nothing.
    pub(super) fn new() -> Self {
        let bits = Arc::new(AtomicU64::new(0));
        let wakers = core::array::from_fn(|slot| {
            Waker::from(Arc::new(SlotWaker {
                bits: Arc::clone(&bits),
                slot,
            }))
        });
        Self { bits, wakers }
    }

    /// Adds a slot.
    pub(super) fn set(&self, slot: usize) {
        self.bits.fetch_or(1 << slot, Ordering::AcqRel);
    }

    /// Takes every slot out, lowest first.
    pub(super) fn take(&self) -> impl Iterator<Item = usize> + use<> {
        let mut bits = self.bits.swap(0, Ordering::AcqRel);
        core::iter::from_fn(move || {
            let slot = bits.trailing_zeros() as usize;
            if bits == 0 {
                return None;
            }
            bits &= bits - 1;
            Some(slot)
        })
    }

    /// Whether nobody was woken.
    pub(super) fn is_empty(&self) -> bool {
        self.bits.load(Ordering::Acquire) == 0
    }

    /// The waker that adds this slot.
    pub(super) fn waker(&self, slot: usize) -> &Waker {
        &self.wakers[slot]
    }
}
