//! A capability slot: 32 bytes, of which 16 are the capability and 16 its place in the derivation list.

use core::cell::Cell;

use crate::cap::{Cap, RawCap};
use crate::store::Ref;

/// One slot of a CNode or TCB.
///
/// `next` carries two flags in its low bits; a slot is 32-byte aligned.
#[repr(C, align(32))]
pub struct Slot {
    cap: Cell<RawCap>,
    previous: Cell<Option<Ref<Slot>>>,
    next_and_flags: Cell<u64>,
}

const REVOCABLE: u64 = 2;
const FIRST_BADGED: u64 = 1;
const FLAGS: u64 = 3;

impl Slot {
    /// Size of a slot as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 5;

    /// An empty slot, for the kernel's static tables.
    #[must_use]
    pub const fn empty() -> Self {
        Self {
            cap: Cell::new(RawCap::NULL),
            previous: Cell::new(None),
            next_and_flags: Cell::new(0),
        }
    }

    /// The capability as a value.
    #[must_use]
    pub fn cap(&self) -> Cap {
        self.cap.get().unpack()
    }
    /// The capability as it is stored.
    #[inline(always)]
    #[must_use]
    pub fn raw(&self) -> RawCap {
        self.cap.get()
    }
    /// Replaces the capability; the place in the derivation list stays.
    pub fn set_cap(&self, cap: Cap) {
        self.cap.set(cap.pack());
    }
    /// Whether the slot holds no capability.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.cap.get().tag() == crate::cap::tag::NULL
    }
    /// The slot before this one in the derivation list.
    #[must_use]
    pub fn previous(&self) -> Option<Ref<Slot>> {
        self.previous.get()
    }
    /// Links the slot before.
    pub fn set_previous(&self, slot: Option<Ref<Slot>>) {
        self.previous.set(slot);
    }
    /// The slot after this one in the derivation list.
    #[must_use]
    pub fn next(&self) -> Option<Ref<Slot>> {
        let address = self.next_and_flags.get() & !FLAGS;
        (address != 0).then(|| Ref::from_address(address as usize))
    }
    /// Links the slot after; the flags stay.
    pub fn set_next(&self, slot: Option<Ref<Slot>>) {
        let flags = self.next_and_flags.get() & FLAGS;
        self.next_and_flags
            .set(slot.map_or(0, |s| s.address() as u64) | flags);
    }
    /// Whether this capability can have children that Revoke takes.
    #[must_use]
    pub fn is_revocable(&self) -> bool {
        self.next_and_flags.get() & REVOCABLE != 0
    }
    /// Whether this is the first of the capabilities with its badge.
    #[must_use]
    pub fn is_first_badged(&self) -> bool {
        self.next_and_flags.get() & FIRST_BADGED != 0
    }
    /// Sets the two flags of the derivation tree.
    pub fn set_flags(&self, flags: DerivationFlags) {
        let bits = if flags.revocable { REVOCABLE } else { 0 }
            | if flags.first_badged { FIRST_BADGED } else { 0 };
        self.next_and_flags
            .set(self.next_and_flags.get() & !FLAGS | bits);
    }
    /// Empties the slot and forgets its place.
    pub fn clear(&self) {
        self.cap.set(RawCap::NULL);
        self.previous.set(None);
        self.next_and_flags.set(0);
    }
}

/// The two flags that, with the order of the list, make the derivation tree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DerivationFlags {
    /// The capability is an original: later ones of its object are its children.
    pub revocable: bool,
    /// The badge was set when this capability was made.
    pub first_badged: bool,
}

const _: () = assert!(size_of::<Slot>() == 1 << Slot::SIZE_BITS);
