//! CNodes and the slots in them.

use sel4_sys::{CNodeData, CPtr, CapRights, CapType, InvocationLabel};

use super::capabilities;
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// A table of capability slots.
    CNode,
}

impl CNode {
    /// The slot that pointer `cptr` names when it is resolved from this CNode with all its bits.
    #[must_use]
    pub const fn slot(self, cptr: CPtr) -> Slot {
        self.slot_at_depth(cptr.0, CPtr::DEPTH as u8)
    }

    /// The slot `index` when only `depth` bits of it are resolved: for CNodes whose capability
    /// has no guard, `depth` is their radix.
    #[must_use]
    pub const fn slot_at_depth(self, index: u64, depth: u8) -> Slot {
        Slot {
            root: self,
            index,
            depth,
        }
    }
}

/// A slot: where a capability is or shall be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The CNode that resolution starts from.
    pub root: CNode,
    /// The pointer to resolve.
    pub index: u64,
    /// How many of its bits.
    pub depth: u8,
}

impl Slot {
    const fn depth(self) -> u64 {
        self.depth as u64
    }

    fn between(
        self,
        label: InvocationLabel,
        source: Self,
        more: &[u64],
    ) -> Result<(), KernelError> {
        let mut words = [self.index, self.depth(), source.index, source.depth(), 0, 0];
        words[4..4 + more.len()].copy_from_slice(more);
        perform(
            self.root.cptr(),
            label,
            &words[..4 + more.len()],
            &[source.root.cptr()],
        )
    }

    /// Copies the capability in `source` here, with at most `rights`.
    ///
    /// # Errors
    /// `DeleteFirst` if this slot is taken, `FailedLookup`, `InvalidCapability`, `IllegalOperation`
    /// for capabilities that cannot be copied.
    pub fn copy_from(self, source: Self, rights: CapRights) -> Result<(), KernelError> {
        self.between(InvocationLabel::CNodeCopy, source, &[rights.word()])
    }

    /// Copies the capability in `source` here with a badge (endpoints, notifications, I/O spaces).
    ///
    /// # Errors
    /// As [`Slot::copy_from`]; `IllegalOperation` if it has a badge already.
    pub fn mint_from(self, source: Self, rights: CapRights, badge: u64) -> Result<(), KernelError> {
        self.between(InvocationLabel::CNodeMint, source, &[rights.word(), badge])
    }

    /// Copies the CNode capability in `source` here with another guard.
    ///
    /// # Errors
    /// As [`Slot::copy_from`]; `IllegalOperation` if guard and radix exceed 64 bits.
    pub fn mint_cnode_from(self, source: Self, data: CNodeData) -> Result<(), KernelError> {
        self.mint_from(source, CapRights::ALL, data.word())
    }

    /// Moves the capability in `source` here.
    ///
    /// # Errors
    /// `DeleteFirst` if this slot is taken, `FailedLookup` if `source` is empty.
    pub fn move_from(self, source: Self) -> Result<(), KernelError> {
        self.between(InvocationLabel::CNodeMove, source, &[])
    }

    /// Moves the capability in `source` here and gives it a badge or guard.
    ///
    /// # Errors
    /// As [`Slot::move_from`]; `IllegalOperation` if it cannot have that badge or guard.
    pub fn mutate_from(self, source: Self, badge_or_data: u64) -> Result<(), KernelError> {
        self.between(InvocationLabel::CNodeMutate, source, &[badge_or_data])
    }

    /// Deletes the capability; the object dies with the last one. An empty slot is fine.
    ///
    /// # Errors
    /// `FailedLookup`.
    pub fn delete(self) -> Result<(), KernelError> {
        perform(
            self.root.cptr(),
            InvocationLabel::CNodeDelete,
            &[self.index, self.depth()],
            &[],
        )
    }

    /// Deletes everything derived from the capability, but not itself.
    ///
    /// # Errors
    /// `FailedLookup`.
    pub fn revoke(self) -> Result<(), KernelError> {
        perform(
            self.root.cptr(),
            InvocationLabel::CNodeRevoke,
            &[self.index, self.depth()],
            &[],
        )
    }

    /// What is in the slot.
    ///
    /// # Errors
    /// `FailedLookup`.
    ///
    /// # Panics
    /// If the kernel answers a type that the ABI does not have.
    pub fn identify(self) -> Result<CapType, KernelError> {
        let words = [self.index, self.depth()];
        let label = InvocationLabel::CNodeIdentify;
        let answer = invoke(self.root.cptr(), label, &words, &[])?;
        Ok(CapType::try_from(answer.word(0)).expect("the kernel numbers them so"))
    }

    /// Breaks off every send that waits with this capability's badge.
    ///
    /// # Errors
    /// `IllegalOperation` if it is no endpoint capability with all rights.
    pub fn cancel_badged_sends(self) -> Result<(), KernelError> {
        let words = [self.index, self.depth()];
        perform(
            self.root.cptr(),
            InvocationLabel::CNodeCancelBadgedSends,
            &words,
            &[],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::take;

    #[test]
    fn a_mint_names_both_slots_rights_and_badge() {
        let child = CNode::from_cptr(CPtr(40)).slot_at_depth(3, 8);
        let own = CNode::from_cptr(CPtr(2)).slot(CPtr(77));
        child.mint_from(own, CapRights::CALL, 9).unwrap();
        let [recorded] = &take()[..] else {
            panic!("one call")
        };
        assert_eq!(recorded.request.target, CPtr(40));
        assert_eq!(
            recorded.request.info.label(),
            InvocationLabel::CNodeMint.number()
        );
        assert_eq!(recorded.words, [3, 8, 77, 64, 9, 9]);
        assert_eq!(recorded.caps, [CPtr(2)]);
    }

    #[test]
    fn a_move_carries_four_words() {
        let root = CNode::from_cptr(CPtr(2));
        root.slot(CPtr(5)).move_from(root.slot(CPtr(6))).unwrap();
        assert_eq!(take()[0].words, [5, 64, 6, 64]);
    }
}
