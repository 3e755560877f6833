//! What a copy of a capability looks like: fewer rights, another badge or guard, or no copy at all.

use crate::cap::{CNodeCap, Cap, EndpointCap, FrameCap, NotificationCap, Rights, UntypedCap};
use crate::derivation::ensure_no_children;
use crate::fault::SyscallError;
use crate::lookup::WORD_BITS;
use crate::object::Slot;
use crate::store::Ref;

/// Whether data given to a capability may badge it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Badges {
    /// A copy is made: one without a badge may get one (Mint).
    Settable,
    /// The capability itself changes: its badge must stay (Mutate, Rotate).
    Kept,
}

impl UntypedCap {
    /// The same memory with nothing left to hand out.
    #[must_use]
    pub const fn used_up(self) -> Self {
        Self {
            watermark: 1 << self.size_bits,
            ..self
        }
    }
}

/// What a copy of `cap`, the (perhaps reduced) capability in `slot`, is. `Null` for one that
/// cannot be copied at all; the caller says what that means.
///
/// # Errors
/// `RevokeFirst` for an untyped that has children, `IllegalOperation` for a paging structure
/// that is not mapped yet: its place must be known to all copies.
pub fn derive_cap(slot: Ref<Slot>, cap: Cap) -> Result<Cap, SyscallError> {
    let unmapped = match cap {
        Cap::Null | Cap::Zombie(_) | Cap::IrqControl | Cap::IoPortControl => {
            return Ok(Cap::Null);
        }
        Cap::Untyped(_) => return ensure_no_children(slot).map(|()| cap),
        Cap::Frame(frame) => {
            return Ok(Cap::Frame(FrameCap {
                mapping: None,
                ..frame
            }));
        }
        Cap::Table(table) => table.mapping.is_none(),
        Cap::Root(root) => root.asid.is_none(),
        _ => false,
    };
    if unmapped {
        Err(SyscallError::IllegalOperation)
    } else {
        Ok(cap)
    }
}

/// The capability with no more rights than `mask`.
#[must_use]
pub fn mask_rights(mask: Rights, cap: Cap) -> Cap {
    match cap {
        Cap::Endpoint(e) => Cap::Endpoint(EndpointCap {
            rights: e.rights.masked_by(mask),
            ..e
        }),
        Cap::Notification(n) => Cap::Notification(NotificationCap {
            rights: n.rights.masked_by(mask),
            ..n
        }),
        Cap::Reply { reply, can_grant } => Cap::Reply {
            reply,
            can_grant: can_grant && mask.contains(Rights::GRANT),
        },
        Cap::Frame(frame) => Cap::Frame(FrameCap {
            rights: mask_frame_rights(frame.rights, mask),
            ..frame
        }),
        _ => cap,
    }
}

/// A frame that may be written but not read does not exist on x86: it may be neither.
#[must_use]
pub fn mask_frame_rights(rights: Rights, mask: Rights) -> Rights {
    let masked = rights.masked_by(mask);
    if masked.contains(Rights::READ) {
        masked
    } else {
        Rights::NONE
    }
}

/// The capability with the badge or guard that `data` encodes; `Null` if it cannot have it.
/// Types without such data stay as they are.
#[must_use]
pub fn update_data(badges: Badges, data: u64, cap: Cap) -> Cap {
    let may_badge = |badge| badges == Badges::Settable && badge == 0;
    match cap {
        Cap::Endpoint(e) if may_badge(e.badge) => Cap::Endpoint(EndpointCap { badge: data, ..e }),
        Cap::Notification(n) if may_badge(n.badge) => {
            Cap::Notification(NotificationCap { badge: data, ..n })
        }
        Cap::Endpoint(_) | Cap::Notification(_) => Cap::Null,
        Cap::CNode(node) => with_guard(node, data),
        _ => cap,
    }
}

/// Bits 0..5 of `data` are the guard's size, the others the guard.
fn with_guard(node: CNodeCap, data: u64) -> Cap {
    let data = sel4_sys::CNodeData::from_word(data);
    let guard_size = data.guard_size() as u8;
    if guard_size + node.radix > WORD_BITS {
        return Cap::Null;
    }
    let guard = data.guard() & ((1 << guard_size) - 1);
    Cap::CNode(CNodeCap {
        guard_size,
        guard,
        ..node
    })
}

/// Whether `cap`, inserted behind `origin`, is the first of its own line: Revoke of it then takes
/// what is derived from it later.
pub(super) fn is_original(cap: Cap, origin: Cap) -> bool {
    match (cap, origin) {
        (Cap::Endpoint(new), Cap::Endpoint(old)) => new.badge != old.badge,
        (Cap::Notification(new), Cap::Notification(old)) => new.badge != old.badge,
        (Cap::IrqHandler { .. }, Cap::IrqControl)
        | (Cap::IoPort { .. }, Cap::IoPortControl)
        | (Cap::Untyped(_), _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cap::{FrameSize, MapSpace, Mapping};
    use crate::object::Endpoint;

    fn endpoint(badge: u64) -> Cap {
        let endpoint = Ref::<Endpoint>::from_address(0x1000);
        Cap::Endpoint(EndpointCap {
            endpoint,
            badge,
            rights: Rights::ALL,
        })
    }

    fn node(radix: u8) -> CNodeCap {
        CNodeCap {
            slots: Ref::from_address(0x1000),
            radix,
            guard_size: 0,
            guard: 0,
        }
    }

    #[test]
    fn only_an_unbadged_endpoint_gets_a_badge_and_only_in_a_copy() {
        assert_eq!(update_data(Badges::Settable, 7, endpoint(0)), endpoint(7));
        assert_eq!(update_data(Badges::Settable, 7, endpoint(3)), Cap::Null);
        assert_eq!(update_data(Badges::Settable, 0, endpoint(3)), Cap::Null);
        assert_eq!(update_data(Badges::Kept, 7, endpoint(0)), Cap::Null);
    }

    #[test]
    fn a_guard_is_cut_to_its_size() {
        let data = sel4_sys::CNodeData::new(0xff, 4).word();
        let expected = CNodeCap {
            guard_size: 4,
            guard: 0xf,
            ..node(8)
        };
        assert_eq!(
            update_data(Badges::Kept, data, Cap::CNode(node(8))),
            Cap::CNode(expected)
        );
    }

    #[test]
    fn guard_and_radix_together_fit_a_word() {
        let data = |size| sel4_sys::CNodeData::new(0, size).word();
        assert_ne!(
            update_data(Badges::Kept, data(56), Cap::CNode(node(8))),
            Cap::Null
        );
        assert_eq!(
            update_data(Badges::Kept, data(57), Cap::CNode(node(8))),
            Cap::Null
        );
    }

    #[test]
    fn a_frame_that_may_not_be_read_may_not_be_written() {
        let rights = Rights::READ.union(Rights::WRITE);
        assert_eq!(mask_frame_rights(rights, Rights::WRITE), Rights::NONE);
        assert_eq!(mask_frame_rights(rights, Rights::READ), Rights::READ);
        assert_eq!(mask_frame_rights(Rights::READ, rights), Rights::READ);
    }

    #[test]
    fn a_copy_of_a_frame_is_mapped_nowhere() {
        let frame = FrameCap {
            base: 0x1000,
            size: FrameSize::Small,
            device: false,
            rights: Rights::READ,
            space: MapSpace::Virtual,
            mapping: crate::cap::Asid::new(3).map(|asid| Mapping {
                asid,
                address: 0x5000,
            }),
        };
        let slot = Slot::empty();
        let slot = Ref::from_address(core::ptr::from_ref(&slot) as usize);
        let copy = Cap::Frame(FrameCap {
            mapping: None,
            ..frame
        });
        assert_eq!(derive_cap(slot, Cap::Frame(frame)), Ok(copy));
    }

    #[test]
    fn control_of_interrupts_and_ports_is_not_copied() {
        let slot = Slot::empty();
        let slot = Ref::from_address(core::ptr::from_ref(&slot) as usize);
        for cap in [Cap::IrqControl, Cap::IoPortControl] {
            assert_eq!(derive_cap(slot, cap), Ok(Cap::Null));
        }
    }
}
