//! What must hold of all capabilities at every moment, even between two steps of a deletion.

use std::collections::BTreeMap;

use microkernel::cap::{Cap, UntypedCap};
use microkernel::derivation::{Extent, extent, same_object};
use microkernel::object::Slot;
use microkernel::store::Ref;

use crate::world::World;

/// All capabilities of a world, by the address of their slot.
pub type Capabilities = BTreeMap<usize, Cap>;

/// The slot at an address.
pub fn slot(place: usize) -> Ref<Slot> {
    Ref::from_address(place)
}

/// The list is linked both ways, no memory is in two objects, everything lies below the watermark
/// of the memory that it came from, and what lies above is zero.
pub fn check_memory(world: &World, all: &Capabilities) {
    for &place in all.keys() {
        let here = slot(place);
        assert!(here.next().is_none_or(|next| next.previous() == Some(here)));
        assert!(
            here.previous()
                .is_none_or(|previous| previous.next() == Some(here))
        );
    }
    for (&place, &cap) in all {
        let Some(memory) = extent(cap) else { continue };
        for (_, &other) in all.range(place + 1..) {
            let Some(its) = extent(other) else { continue };
            let apart = memory.base + (1 << memory.size_bits) <= its.base
                || its.base + (1 << its.size_bits) <= memory.base;
            let holds = |outer, inner, cap| {
                matches!(cap, Cap::Untyped(_)) && Extent::contains(outer, inner)
            };
            assert!(
                apart
                    || same_object(cap, other)
                    || holds(memory, its, cap)
                    || holds(its, memory, other),
                "{cap:?} and {other:?} share memory"
            );
        }
        if let Cap::Untyped(untyped) = cap {
            check_untyped(world, untyped, all);
        }
    }
}

fn check_untyped(world: &World, untyped: UntypedCap, all: &Capabilities) {
    let whole = extent(Cap::Untyped(untyped)).expect("an untyped is memory");
    let free = untyped.base + untyped.watermark as usize;
    for &cap in all.values() {
        if let Some(inner) = extent(cap)
            && inner != whole
            && whole.contains(inner)
        {
            let end = inner.base + (1 << inner.size_bits);
            assert!(
                end <= free,
                "{cap:?} lies above the watermark of {untyped:?}"
            );
        }
    }
    if !untyped.device {
        let offset = untyped.base - world.arena;
        let above = offset + untyped.watermark as usize..offset + (1 << untyped.size_bits);
        let clean = world.arena_words(above).iter().all(|word| word.get() == 0);
        assert!(clean, "dirty memory above the watermark of {untyped:?}");
    }
}
