//! Which capabilities belong together: equal objects, and memory within memory.
//!
//! Pure comparisons of two capability values. `same_region` is seL4's relation between an
//! ancestor and a descendant, `same_object` the one between two capabilities of one object.

use crate::cap::{Cap, ZombieKind};
use crate::object::{Endpoint, Notification, Reply, Slot, Tcb, Timer, Vcpu};

/// Base-2 logarithm of the bytes of a paging structure, an ASID pool or an I/O page table.
const TABLE_SIZE_BITS: u8 = 12;

/// The memory that a capability stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Kernel address of its first byte.
    pub base: usize,
    /// Base-2 logarithm of its size in bytes.
    pub size_bits: u8,
}

impl Extent {
    const fn new(base: usize, size_bits: u8) -> Self {
        Self { base, size_bits }
    }

    /// Whether all of `other` lies in this memory.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.base <= other.base && other.last() <= self.last()
    }

    /// Address of its last byte.
    const fn last(self) -> usize {
        self.base + ((1 << self.size_bits) - 1)
    }
}

/// The memory of a capability's object, or `None` for one that stands for no memory.
#[must_use]
pub fn extent(cap: Cap) -> Option<Extent> {
    let (base, size_bits) = match cap {
        Cap::Untyped(u) => (u.base, u.size_bits),
        Cap::Endpoint(e) => (e.endpoint.address(), Endpoint::SIZE_BITS),
        Cap::Notification(n) => (n.notification.address(), Notification::SIZE_BITS),
        Cap::Reply { reply, .. } => (reply.address(), Reply::SIZE_BITS),
        Cap::CNode(c) => (c.slots.address(), c.radix + Slot::SIZE_BITS),
        Cap::Thread { tcb } => (tcb.address(), Tcb::SIZE_BITS),
        Cap::SchedContext { context, size_bits } => (context.address(), size_bits),
        Cap::Zombie(z) => match z.kind {
            ZombieKind::Tcb => (z.slots.address(), Tcb::SIZE_BITS),
            ZombieKind::CNode { radix } => (z.slots.address(), radix + Slot::SIZE_BITS),
        },
        Cap::Frame(f) => (f.base, f.size.bits()),
        Cap::Table(t) => (t.table.address(), TABLE_SIZE_BITS),
        Cap::Root(r) => (r.table.address(), TABLE_SIZE_BITS),
        Cap::AsidPool { pool, .. } => (pool.address(), TABLE_SIZE_BITS),
        Cap::Vcpu { vcpu } => (vcpu.address(), Vcpu::SIZE_BITS),
        Cap::Timer { timer } => (timer.address(), Timer::SIZE_BITS),
        Cap::Null
        | Cap::SchedControl { .. }
        | Cap::IrqControl
        | Cap::IrqHandler { .. }
        | Cap::Domain
        | Cap::AsidControl
        | Cap::IoPortControl
        | Cap::IoPort { .. } => return None,
    };
    Some(Extent::new(base, size_bits))
}

/// Whether `descendant` stands for something that lies in what `ancestor` stands for.
#[must_use]
pub fn same_region(ancestor: Cap, descendant: Cap) -> bool {
    match (ancestor, descendant) {
        (Cap::Untyped(u), _) => {
            extent(descendant).is_some_and(|inner| Extent::new(u.base, u.size_bits).contains(inner))
        }
        (Cap::Frame(a), Cap::Frame(b)) => {
            Extent::new(a.base, a.size.bits()).contains(Extent::new(b.base, b.size.bits()))
        }
        (Cap::IrqControl, Cap::IrqControl | Cap::IrqHandler { .. })
        | (Cap::IoPortControl, Cap::IoPortControl | Cap::IoPort { .. })
        | (Cap::Domain, Cap::Domain)
        | (Cap::SchedControl { .. }, Cap::SchedControl { .. })
        | (Cap::AsidControl, Cap::AsidControl) => true,
        (Cap::IrqHandler { irq: a }, Cap::IrqHandler { irq: b }) => a == b,
        (Cap::IoPort { first, last }, Cap::IoPort { first: f, last: l }) => first == f && last == l,
        _ => same_memory_object(ancestor, descendant),
    }
}

/// Two capabilities of one type whose object is memory.
fn same_memory_object(a: Cap, b: Cap) -> bool {
    match (a, b) {
        (Cap::Endpoint(a), Cap::Endpoint(b)) => a.endpoint == b.endpoint,
        (Cap::Notification(a), Cap::Notification(b)) => a.notification == b.notification,
        (Cap::Reply { reply: a, .. }, Cap::Reply { reply: b, .. }) => a == b,
        (Cap::CNode(a), Cap::CNode(b)) => a.slots == b.slots && a.radix == b.radix,
        (Cap::Thread { tcb: a }, Cap::Thread { tcb: b }) => a == b,
        (
            Cap::SchedContext {
                context: a,
                size_bits: n,
            },
            Cap::SchedContext {
                context: b,
                size_bits: m,
            },
        ) => a == b && n == m,
        (Cap::Table(a), Cap::Table(b)) => {
            a.table == b.table && a.level == b.level && a.space == b.space
        }
        (Cap::Root(a), Cap::Root(b)) => a.table == b.table && a.space == b.space,
        (Cap::AsidPool { pool: a, .. }, Cap::AsidPool { pool: b, .. }) => a == b,
        (Cap::Vcpu { vcpu: a }, Cap::Vcpu { vcpu: b }) => a == b,
        (Cap::Timer { timer: a }, Cap::Timer { timer: b }) => a == b,
        _ => false,
    }
}

/// Whether both capabilities stand for one object, which lives until the last of them goes.
#[must_use]
pub fn same_object(a: Cap, b: Cap) -> bool {
    match (a, b) {
        // A control capability, or untyped memory, is nothing that lives or dies.
        (Cap::Untyped(_) | Cap::IrqControl, _) | (Cap::IoPortControl, Cap::IoPort { .. }) => false,
        (Cap::Frame(a), Cap::Frame(b)) => {
            a.base == b.base && a.size == b.size && a.device == b.device
        }
        _ => same_region(a, b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cap::{FrameCap, FrameSize, MapSpace, Rights, UntypedCap};

    fn untyped(base: usize, size_bits: u8) -> Cap {
        Cap::Untyped(UntypedCap {
            base,
            size_bits,
            device: false,
            watermark: 0,
        })
    }

    fn frame(base: usize, size: FrameSize) -> Cap {
        Cap::Frame(FrameCap {
            base,
            size,
            device: false,
            rights: Rights::ALL,
            space: MapSpace::Virtual,
            mapping: None,
        })
    }

    #[test]
    fn untyped_memory_covers_exactly_what_lies_in_it() {
        let parent = untyped(0x20_0000, 21);
        assert!(same_region(parent, frame(0x20_0000, FrameSize::Large)));
        assert!(same_region(parent, frame(0x3f_f000, FrameSize::Small)));
        assert!(same_region(parent, parent));
        assert!(!same_region(parent, frame(0x40_0000, FrameSize::Small)));
        assert!(!same_region(parent, frame(0, FrameSize::Huge)));
        assert!(!same_region(parent, untyped(0x20_0000, 22)));
    }

    #[test]
    fn memory_at_the_end_of_the_address_space_does_not_wrap() {
        let top = usize::MAX - 0xf;
        assert!(same_region(untyped(top, 4), untyped(top, 4)));
        assert!(!same_region(untyped(top, 4), untyped(0x1000, 4)));
    }

    #[test]
    fn untyped_memory_covers_nothing_that_is_not_memory() {
        let parent = untyped(0x20_0000, 21);
        for other in [
            Cap::Null,
            Cap::Domain,
            Cap::IrqHandler { irq: 3 },
            Cap::AsidControl,
        ] {
            assert!(!same_region(parent, other), "{other:?}");
        }
    }

    #[test]
    fn control_capabilities_are_ancestors_but_not_the_object() {
        let pairs = [
            (Cap::IrqControl, Cap::IrqHandler { irq: 5 }),
            (Cap::IoPortControl, Cap::IoPort { first: 1, last: 2 }),
        ];
        for (control, child) in pairs {
            assert!(same_region(control, child), "{control:?}");
            assert!(!same_object(control, child), "{control:?}");
            assert!(!same_region(child, control), "{control:?}");
        }
    }

    #[test]
    fn frames_of_other_sizes_are_other_objects() {
        let (small, large) = (frame(0, FrameSize::Small), frame(0, FrameSize::Large));
        assert!(same_region(large, small));
        assert!(!same_object(large, small));
        assert!(same_object(small, small));
    }
}
