//! Slots: which of root's own are free.
//!
//! Root's capabilities lie in one large CNode that it makes for itself at the start, because the
//! one that the kernel gives it has no room for the frames of many programs. Slots are handed out
//! in contiguous runs, as Retype fills them.

use alloc::collections::BTreeMap;
use libcap::capability::{CNode, Slot};
use sel4_sys::CPtr;

/// log2 of the slots of root's CNode: 65,536 slots take 2 MiB, and eight monitors with the whole
/// boot archive mapped use a quarter of them.
pub const RADIX: u8 = 16;

/// Root's large CNode and what is free in it.
#[derive(Debug)]
pub struct CSpace {
    node: CNode,
    base: u64,
    /// Free runs: first slot and length, none adjacent to another.
    free: BTreeMap<u64, u64>,
}

/// There are no `count` free slots in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfSlots;

impl CSpace {
    /// The CNode `node`, all of whose slots are free. Its slot `n` is named by pointer `base + n`.
    #[must_use]
    pub fn new(node: CNode, base: u64) -> Self {
        Self {
            node,
            base,
            free: BTreeMap::from([(0, 1 << RADIX)]),
        }
    }

    /// The CNode, for Retype.
    #[must_use]
    pub const fn node(&self) -> CNode {
        self.node
    }

    /// Takes `count` slots in a row; the first that fit.
    ///
    /// # Errors
    /// [`OutOfSlots`].
    pub fn take(&mut self, count: u64) -> Result<u64, OutOfSlots> {
        let fits = self.free.iter().find(|(_, length)| **length >= count);
        let (first, length) = fits
            .map(|(first, length)| (*first, *length))
            .ok_or(OutOfSlots)?;
        self.free.remove(&first);
        if length > count {
            self.free.insert(first + count, length - count);
        }
        Ok(first)
    }

    /// Gives `count` slots back, which must be empty.
    pub fn give_back(&mut self, mut first: u64, mut count: u64) {
        if let Some((&before, &length)) = self.free.range(..first).next_back()
            && before + length == first
        {
            self.free.remove(&before);
            first = before;
            count += length;
        }
        if let Some(length) = self.free.remove(&(first + count)) {
            count += length;
        }
        self.free.insert(first, count);
    }

    /// How many slots are free.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.values().sum()
    }

    /// The pointer to the capability in a slot.
    #[must_use]
    pub const fn cptr(&self, index: u64) -> CPtr {
        CPtr(self.base + index)
    }

    /// The slot, for CNode invocations.
    #[must_use]
    pub const fn slot(&self, index: u64) -> Slot {
        self.node.slot_at_depth(index, RADIX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn space() -> CSpace {
        CSpace::new(CNode::from_cptr(CPtr(7)), 1 << 16)
    }

    #[test]
    fn a_slot_has_a_pointer_and_an_address_in_its_cnode() {
        let space = space();
        assert_eq!(space.cptr(5), CPtr(0x1_0005));
        assert_eq!((space.slot(5).index, space.slot(5).depth), (5, 16));
    }

    #[test]
    fn more_than_there_is_in_a_row_is_refused() {
        let mut space = space();
        assert_eq!(space.take((1 << 16) + 1), Err(OutOfSlots));
        let all = space.take(1 << 16).unwrap();
        assert_eq!(space.take(1), Err(OutOfSlots));
        space.give_back(all + 3, 1);
        assert_eq!(space.take(2), Err(OutOfSlots));
        assert_eq!(space.take(1), Ok(all + 3));
    }

    proptest! {
        #[test]
        fn runs_never_overlap_and_all_come_back(steps in prop::collection::vec((1u64..300, any::<bool>()), 1..200)) {
            let mut space = space();
            let mut held: Vec<(u64, u64)> = Vec::new();
            for (count, give) in steps {
                if give && !held.is_empty() {
                    let (first, count) = held.swap_remove(count as usize % held.len());
                    space.give_back(first, count);
                } else if let Ok(first) = space.take(count) {
                    for (other, length) in &held {
                        prop_assert!(first + count <= *other || other + length <= first);
                    }
                    held.push((first, count));
                }
            }
            for (first, count) in held {
                space.give_back(first, count);
            }
            prop_assert_eq!(space.free.len(), 1);
            prop_assert_eq!(space.free(), 1 << 16);
        }
    }
}
