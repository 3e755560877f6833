//! The derivation list: where every capability came from, and what Revoke takes with it.
//!
//! All capabilities of the system stand in one doubly linked list through their slots, each
//! behind the one it was derived from. A slot's descendants are the run of slots behind it for
//! which [`is_parent_of`] holds, so no tree is stored: order, two flags in each slot, and the
//! comparisons of [`relation`] are enough. [`copy`] says what a derived capability looks like.
//! Everything here is a fixed number of steps; what is unbounded (delete, revoke) is `finalise`.

mod copy;
mod relation;

pub use copy::{Badges, derive_cap, mask_frame_rights, mask_rights, update_data};
pub use relation::{Extent, extent, same_object, same_region};

use crate::cap::Cap;
use crate::fault::SyscallError;
use crate::object::{DerivationFlags, Slot};
use crate::store::Ref;

/// A slot's place in the list.
#[derive(Clone, Copy)]
struct Place {
    previous: Option<Ref<Slot>>,
    next: Option<Ref<Slot>>,
    flags: DerivationFlags,
}

impl Place {
    fn of(slot: Ref<Slot>) -> Self {
        let flags = DerivationFlags {
            revocable: slot.is_revocable(),
            first_badged: slot.is_first_badged(),
        };
        Self {
            previous: slot.previous(),
            next: slot.next(),
            flags,
        }
    }

    fn give_to(self, slot: Ref<Slot>) {
        slot.set_previous(self.previous);
        slot.set_next(self.next);
        slot.set_flags(self.flags);
    }

    /// Makes the neighbours point at `slot`.
    fn point_neighbours_at(self, slot: Ref<Slot>) {
        if let Some(previous) = self.previous {
            previous.set_next(Some(slot));
        }
        if let Some(next) = self.next {
            next.set_previous(Some(slot));
        }
    }
}

/// Whether Revoke of `parent` takes `child`, given that it stands right behind it or behind its
/// other descendants.
#[must_use]
pub fn is_parent_of(parent: Ref<Slot>, child: Ref<Slot>) -> bool {
    if !parent.is_revocable() {
        return false;
    }
    let (of_parent, of_child) = (parent.cap(), child.cap());
    if !same_region(of_parent, of_child) {
        return false;
    }
    match (of_parent, of_child) {
        (Cap::Endpoint(p), Cap::Endpoint(c)) => shares_badge(p.badge, c.badge, child),
        (Cap::Notification(p), Cap::Notification(c)) => shares_badge(p.badge, c.badge, child),
        _ => true,
    }
}

/// A badged capability is the parent only of copies that keep its badge.
fn shares_badge(of_parent: u64, of_child: u64, child: Ref<Slot>) -> bool {
    of_parent == 0 || (of_parent == of_child && !child.is_first_badged())
}

/// Whether the capability has descendants.
#[must_use]
pub fn has_children(slot: Ref<Slot>) -> bool {
    slot.next().is_some_and(|next| is_parent_of(slot, next))
}

/// Whether no other capability names the object: its end is the object's end.
#[must_use]
pub fn is_final(slot: Ref<Slot>) -> bool {
    let cap = slot.cap();
    !slot
        .previous()
        .is_some_and(|previous| same_object(previous.cap(), cap))
        && !slot.next().is_some_and(|next| same_object(cap, next.cap()))
}

/// Whether deleting the capability can take many steps. Such a one may not stand in a slot that
/// an invocation has to empty in passing.
#[must_use]
pub fn is_long_running_delete(slot: Ref<Slot>) -> bool {
    matches!(
        slot.cap(),
        Cap::Thread { .. } | Cap::CNode(_) | Cap::Zombie(_)
    ) && is_final(slot)
}

/// Refuses a slot whose capability has descendants.
///
/// # Errors
/// `RevokeFirst`.
pub fn ensure_no_children(slot: Ref<Slot>) -> Result<(), SyscallError> {
    if has_children(slot) {
        Err(SyscallError::RevokeFirst)
    } else {
        Ok(())
    }
}

/// Refuses a slot that holds a capability.
///
/// # Errors
/// `DeleteFirst`.
pub fn ensure_empty(slot: Ref<Slot>) -> Result<(), SyscallError> {
    if slot.is_empty() {
        Ok(())
    } else {
        Err(SyscallError::DeleteFirst)
    }
}

/// Puts `cap`, derived from that in `source`, into the empty slot `destination`.
#[inline]
pub fn insert(cap: Cap, source: Ref<Slot>, destination: Ref<Slot>) {
    debug_assert!(destination.is_empty() && destination.next().is_none());
    let origin = source.cap();
    let original = copy::is_original(cap, origin);
    if let (Cap::Untyped(of_source), Cap::Untyped(copied)) = (origin, cap)
        && of_source.base == copied.base
        && of_source.size_bits == copied.size_bits
    {
        // Two capabilities that hand out the same memory: only the copy may.
        source.set_cap(Cap::Untyped(of_source.used_up()));
    }
    link_behind(
        source,
        destination,
        cap,
        DerivationFlags {
            revocable: original,
            first_badged: original,
        },
    );
}

/// Puts a capability that comes from no other one into the empty slot `destination`, at boot.
pub fn insert_root(cap: Cap, destination: Ref<Slot>) {
    debug_assert!(destination.is_empty() && destination.next().is_none());
    destination.set_cap(cap);
    destination.set_flags(DerivationFlags {
        revocable: true,
        first_badged: true,
    });
}

/// Puts the first capability of a new object into the empty slot `destination`, as a child of the
/// untyped in `parent`.
pub fn insert_original(cap: Cap, parent: Ref<Slot>, destination: Ref<Slot>) {
    debug_assert!(destination.is_empty() && destination.next().is_none());
    let flags = DerivationFlags {
        revocable: true,
        first_badged: true,
    };
    link_behind(parent, destination, cap, flags);
}

#[inline]
fn link_behind(before: Ref<Slot>, slot: Ref<Slot>, cap: Cap, flags: DerivationFlags) {
    slot.set_cap(cap);
    let place = Place {
        previous: Some(before),
        next: before.next(),
        flags,
    };
    place.give_to(slot);
    place.point_neighbours_at(slot);
}

/// Moves the capability in `source` to the empty slot `destination`, where it becomes `cap`.
pub fn move_cap(cap: Cap, source: Ref<Slot>, destination: Ref<Slot>) {
    debug_assert!(destination.is_empty() && destination.next().is_none());
    let place = Place::of(source);
    source.clear();
    destination.set_cap(cap);
    place.give_to(destination);
    place.point_neighbours_at(destination);
}

/// Exchanges two slots: `first_cap` (of `first`) goes to `second`, `second_cap` to `first`.
pub fn swap(first: Ref<Slot>, first_cap: Cap, second: Ref<Slot>, second_cap: Cap) {
    first.set_cap(second_cap);
    second.set_cap(first_cap);
    // The second place is read when the first one's neighbours are already right, because the
    // two slots may be neighbours.
    let place = Place::of(first);
    place.point_neighbours_at(second);
    let other = Place::of(second);
    other.give_to(first);
    place.give_to(second);
    other.point_neighbours_at(first);
}

/// Empties a slot whose object needs nothing more, and closes the gap in the list.
pub fn remove(slot: Ref<Slot>) {
    let place = Place::of(slot);
    if let Some(previous) = place.previous {
        previous.set_next(place.next);
    }
    if let Some(next) = place.next {
        next.set_previous(place.previous);
        // The next one now begins the run of its badge.
        next.set_flags(DerivationFlags {
            revocable: next.is_revocable(),
            first_badged: next.is_first_badged() || place.flags.first_badged,
        });
    }
    slot.clear();
}
