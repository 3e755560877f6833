//! Capability addresses: from a word and a depth to the slot that it names.
//!
//! A capability space is a tree of CNodes. Each level takes its guard and then its radix from the
//! most significant bits of the address that are left. Everything here only reads; what may be
//! done with the slot that was found is for `derivation` and the invocations to say.

use core::mem::offset_of;

use crate::cap::{CNodeCap, Cap, RawCap};
use crate::fault::{LookupFailure, SyscallError};
use crate::object::{Slot, Tcb, TcbSlot};
use crate::store::{IpcBuffer, Ref};

/// Bits of an address: how deep the addresses of system calls are resolved.
pub const WORD_BITS: u8 = 64;

/// What an invocation wants a slot for; it decides what the error says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SlotRole {
    /// A capability is taken from here.
    Source,
    /// A capability goes here, or is deleted or revoked here.
    Target,
    /// The middle slot of Rotate.
    Pivot,
}

impl SlotRole {
    /// A pivot is reported as a source, as in seL4.
    fn failed(self, failure: LookupFailure) -> SyscallError {
        SyscallError::FailedLookup {
            was_source: self != Self::Target,
            failure,
        }
    }
}

/// The slot where resolution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// The slot.
    pub slot: Ref<Slot>,
    /// Address bits that were not used because the slot holds no CNode.
    pub bits_left: u8,
}

/// The lowest `bits` bits, at most 63.
const fn low_mask(bits: u8) -> u64 {
    (1 << bits) - 1
}

/// Resolves the lowest `depth` bits of `address`, most significant first, from the CNode `root`.
///
/// # Errors
/// The level that does not fit: its guard differs, or it takes more bits than are left.
#[inline]
pub fn resolve(root: CNodeCap, address: u64, depth: u8) -> Result<Resolved, LookupFailure> {
    let mut node = root;
    let mut bits_left = depth;
    loop {
        let level_bits = node.radix + node.guard_size;
        // With no guard at depth 64 the shift would be by 64: the mask makes it 0, and the guard
        // of no bits is 0 whatever is shifted.
        let shift = u32::from(bits_left.wrapping_sub(node.guard_size)) & 63;
        let guard = (address >> shift) & low_mask(node.guard_size);
        if node.guard_size > bits_left || guard != node.guard {
            return Err(LookupFailure::GuardMismatch {
                bits_left,
                guard_found: node.guard,
                guard_bits: node.guard_size,
            });
        }
        if level_bits > bits_left {
            return Err(LookupFailure::DepthMismatch {
                bits_left,
                bits_found: level_bits,
            });
        }
        bits_left -= level_bits;
        let index = (address >> bits_left) & low_mask(node.radix);
        let slot = node.slots.element(index as usize);
        if bits_left == 0 {
            return Ok(Resolved { slot, bits_left });
        }
        match slot.raw().cnode() {
            Some(next) => node = next,
            None => return Ok(Resolved { slot, bits_left }),
        }
    }
}

/// The slot that `address` names in the capability space of `tcb`.
///
/// A path that ends early at something other than a CNode names that slot, as in seL4.
///
/// # Errors
/// Why the address does not resolve: what a capability fault reports.
#[inline(always)]
pub fn lookup_slot(tcb: Ref<Tcb>, address: u64) -> Result<Ref<Slot>, LookupFailure> {
    match direct_slot(tcb, address) {
        Some(slot) => Ok(slot),
        None => lookup_far_slot(tcb, address),
    }
}

/// As [`lookup_slot`], through any number of CNodes.
fn lookup_far_slot(tcb: Ref<Tcb>, address: u64) -> Result<Ref<Slot>, LookupFailure> {
    let root = tcb
        .slot(TcbSlot::CSpace)
        .raw()
        .cnode()
        .ok_or(LookupFailure::InvalidRoot)?;
    Ok(resolve(root, address, WORD_BITS)?.slot)
}

/// As [`lookup_slot`], for the usual space that is one CNode and resolves all bits of an address at
/// once. `None`: it takes more, or `address` does not resolve.
#[inline(always)]
#[must_use]
pub fn direct_slot(tcb: Ref<Tcb>, address: u64) -> Option<Ref<Slot>> {
    resolve_directly(tcb.slot(TcbSlot::CSpace).raw(), address)
}

#[inline(always)]
fn resolve_directly(root: RawCap, address: u64) -> Option<Ref<Slot>> {
    let (radix, guard) = root.direct_cnode()?;
    // Radix and guard fill a word, so nothing of the guard is lost; if it is right the index remains.
    let index = address ^ guard << radix;
    (index >> radix == 0).then(|| {
        let slots: Ref<Slot> = Ref::from_address(root.address());
        slots.element(index as usize)
    })
}

/// The capability that `address` names in the capability space of `tcb`; an empty slot is `Null`.
///
/// # Errors
/// As [`lookup_slot`].
pub fn lookup_cap(tcb: Ref<Tcb>, address: u64) -> Result<Cap, LookupFailure> {
    Ok(lookup_slot(tcb, address)?.cap())
}

/// The slot that an invocation's arguments name: exactly `depth` bits of `address` below `root`.
///
/// # Errors
/// `FailedLookup` if `root` is no CNode or the bits do not end at a slot, `RangeError` for a depth
/// outside 1..=64.
pub fn lookup_slot_in(
    role: SlotRole,
    root: Cap,
    address: u64,
    depth: u64,
) -> Result<Ref<Slot>, SyscallError> {
    let Cap::CNode(root) = root else {
        return Err(role.failed(LookupFailure::InvalidRoot));
    };
    if depth < 1 || depth > u64::from(WORD_BITS) {
        return Err(SyscallError::RangeError {
            min: 1,
            max: u64::from(WORD_BITS),
        });
    }
    let found = resolve(root, address, depth as u8).map_err(|failure| role.failed(failure))?;
    match found.bits_left {
        0 => Ok(found.slot),
        bits_left => Err(role.failed(LookupFailure::DepthMismatch {
            bits_left,
            bits_found: 0,
        })),
    }
}

/// The empty slot in which `receiver` wants a capability of a message, named in its IPC buffer.
///
/// `None` if it named none, or nothing that is an empty slot: the message then carries none.
#[must_use]
pub fn receive_slot(receiver: Ref<Tcb>, buffer: Ref<IpcBuffer>) -> Option<Ref<Slot>> {
    let root = lookup_cap(receiver, buffer.word(RECEIVE_ROOT_WORD).get()).ok()?;
    let index = buffer.word(RECEIVE_ROOT_WORD + 1).get();
    let depth = buffer.word(RECEIVE_ROOT_WORD + 2).get();
    let slot = lookup_slot_in(SlotRole::Target, root, index, depth).ok()?;
    slot.is_empty().then_some(slot)
}

/// Word of the IPC buffer with the root of the receive slot; its index and depth follow.
const RECEIVE_ROOT_WORD: usize = offset_of!(sel4_sys::IpcBuffer, receive_cnode) / size_of::<u64>();

#[cfg(test)]
mod tests {
    use super::*;
    use std::boxed::Box;

    /// A CNode of 16 slots that is never freed.
    fn node(guard: u64, guard_size: u8) -> CNodeCap {
        let slots: &'static [Slot; 16] = Box::leak(Box::new([const { Slot::empty() }; 16]));
        let slots = Ref::from_address(core::ptr::from_ref(slots) as usize);
        CNodeCap {
            slots,
            radix: 4,
            guard_size,
            guard,
        }
    }

    #[test]
    fn a_full_depth_address_resolves_through_guard_and_radix() {
        let root = node(0, 60);
        let found = resolve(root, 5, 64);
        assert_eq!(
            found,
            Ok(Resolved {
                slot: root.slots.element(5),
                bits_left: 0
            })
        );
    }

    #[test]
    fn the_direct_way_finds_what_the_ordinary_way_finds_or_nothing() {
        for (guard, guard_size) in [(0, 60), (0x123, 60), (0, 0), (0, 59), (1, 4), (0, 63)] {
            let root = node(guard, guard_size);
            for address in [0, 5, 15, 16, 0x1230, 0x1235, 0x1240, 1 << 60, u64::MAX] {
                let ordinary = resolve(root, address, WORD_BITS);
                match resolve_directly(Cap::CNode(root).pack(), address) {
                    Some(slot) => assert_eq!(ordinary.map(|found| found.slot), Ok(slot)),
                    None => assert!(guard_size != 60 || ordinary.is_err(), "{address:#x}"),
                }
            }
        }
        assert_eq!(resolve_directly(Cap::Domain.pack(), 0), None);
    }

    #[test]
    fn an_unguarded_root_at_full_depth_uses_the_top_bits() {
        let root = node(0, 0);
        let found = resolve(root, 0x7 << 60, 64);
        assert_eq!(
            found,
            Ok(Resolved {
                slot: root.slots.element(7),
                bits_left: 60
            })
        );
    }

    #[test]
    #[expect(
        clippy::unusual_byte_groupings,
        reason = "guard and index of one level, then of the other"
    )]
    fn two_levels_use_the_bits_in_turn() {
        let (root, leaf) = (node(0b10, 2), node(0b1, 1));
        root.slots.element(3).set_cap(Cap::CNode(leaf));
        let found = resolve(root, 0b10_0011_1_1001, 11);
        assert_eq!(
            found,
            Ok(Resolved {
                slot: leaf.slots.element(9),
                bits_left: 0
            })
        );
    }

    #[test]
    fn another_guard_is_reported_with_the_one_that_is_there() {
        let root = node(0b10, 2);
        let failure = LookupFailure::GuardMismatch {
            bits_left: 6,
            guard_found: 2,
            guard_bits: 2,
        };
        assert_eq!(resolve(root, 0b11_0000, 6), Err(failure));
    }

    #[test]
    fn a_guard_longer_than_the_depth_is_a_guard_mismatch() {
        let root = node(0, 60);
        let failure = LookupFailure::GuardMismatch {
            bits_left: 8,
            guard_found: 0,
            guard_bits: 60,
        };
        assert_eq!(resolve(root, 0, 8), Err(failure));
    }

    #[test]
    fn a_depth_inside_a_level_is_a_depth_mismatch() {
        let root = node(0, 2);
        let failure = LookupFailure::DepthMismatch {
            bits_left: 5,
            bits_found: 6,
        };
        assert_eq!(resolve(root, 0, 5), Err(failure));
    }

    #[test]
    fn an_argument_must_use_all_its_bits() {
        let root = Cap::CNode(node(0, 0));
        assert_eq!(
            lookup_slot_in(SlotRole::Pivot, root, 0, 6),
            Err(SyscallError::FailedLookup {
                was_source: true,
                failure: LookupFailure::DepthMismatch {
                    bits_left: 2,
                    bits_found: 0
                },
            })
        );
    }

    #[test]
    fn an_argument_root_that_is_no_cnode_is_refused_before_its_depth() {
        assert_eq!(
            lookup_slot_in(SlotRole::Target, Cap::Domain, 0, 65),
            Err(SyscallError::FailedLookup {
                was_source: false,
                failure: LookupFailure::InvalidRoot,
            })
        );
    }

    #[test]
    fn an_argument_depth_lies_between_1_and_64() {
        let root = Cap::CNode(node(0, 60));
        for depth in [0, 65, u64::MAX] {
            assert_eq!(
                lookup_slot_in(SlotRole::Source, root, 0, depth),
                Err(SyscallError::RangeError { min: 1, max: 64 })
            );
        }
        assert!(lookup_slot_in(SlotRole::Source, root, 0, 64).is_ok());
    }
}
