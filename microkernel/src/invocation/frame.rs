//! Invocations of frames: mapping memory into threads' and guests' address spaces.

use sel4_sys::InvocationLabel as Label;
use sel4_sys::VmAttributes;

use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::{Asid, Cap, FrameCap, FrameSize, MapSpace, Mapping, Rights, RootCap};
use crate::config::USER_TOP;
use crate::derivation::mask_frame_rights;
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::object::Slot;
use crate::store::{Ref, Table};
use crate::vspace::{self, GuestPaging, Position, entry};

/// Addresses of a guest-physical space: what four levels of tables can translate.
const GUEST_TOP: u64 = 1 << 48;

/// A checked mapping: the entry and what goes there.
struct Map {
    at: Position,
    value: u64,
    cap: FrameCap,
    root: Ref<Table>,
    mapping: Mapping,
}

/// Serves an invocation of the frame in `arguments.slot`.
///
/// # Errors
/// As seL4's Page invocations; `FailedLookup` names the missing level.
pub fn invoke(kernel: &Kernel, frame: FrameCap, arguments: &Arguments) -> Outcome {
    match Label::try_from(arguments.label) {
        Ok(Label::X86PageMap) => {
            let map = decode_map(kernel, frame, arguments, MapSpace::Virtual)?;
            Ok(perform_map(arguments.slot, &map))
        }
        Ok(Label::X86PageMapGuest) => {
            let map = decode_map(kernel, frame, arguments, MapSpace::Guest)?;
            Ok(perform_map(arguments.slot, &map))
        }
        Ok(Label::X86PageUnmap) => {
            kernel.unmap_frame(frame);
            arguments.slot.set_cap(Cap::Frame(FrameCap {
                mapping: None,
                ..frame
            }));
            Ok(Answer::empty())
        }
        Ok(Label::X86PageGetAddress) => Ok(Answer::words(&[arch::physical_address(frame.base)])),
        _ => Err(SyscallError::IllegalOperation.into()),
    }
}

fn decode_map(
    kernel: &Kernel,
    frame: FrameCap,
    arguments: &Arguments,
    space: MapSpace,
) -> Result<Map, SyscallError> {
    let root_slot = arguments.extra_slot(0)?;
    let attributes = VmAttributes::from_word(arguments.word(2)?);
    let (address, rights_mask) = (arguments.word(0)?, Rights::from_word(arguments.word(1)?));
    let (root, asid) = assigned_root(root_slot, space)?;
    check_place(&frame, address, space, asid)?;
    check_current(kernel, &root)?;
    if !address.is_multiple_of(1 << frame.size.bits()) {
        return Err(SyscallError::AlignmentError);
    }
    let rights = mask_frame_rights(frame.rights, rights_mask);
    let at = vspace::find_for(root.table, address, frame.size.bits())?;
    // A table stands where a large page would go.
    if at.is_used() && frame.size != FrameSize::Small && at.entry().get() & entry::LARGE == 0 {
        return Err(SyscallError::DeleteFirst);
    }
    let value = match space {
        MapSpace::Guest => GuestPaging::here().frame_entry(&frame, rights, attributes),
        _ => page_entry(&frame, rights, attributes),
    };
    let mapping = Mapping { asid, address };
    let cap = FrameCap {
        space,
        mapping: Some(mapping),
        ..frame
    };
    Ok(Map {
        at,
        value,
        cap,
        root: root.table,
        mapping,
    })
}

/// The root in `slot` and its identifier.
///
/// # Errors
/// `InvalidCapability(1)` if it is no root of a `space` with an identifier.
pub fn assigned_root(slot: Ref<Slot>, space: MapSpace) -> Result<(RootCap, Asid), SyscallError> {
    match slot.cap() {
        Cap::Root(root) if root.space == space => match root.asid {
            Some(asid) => Ok((root, asid)),
            None => Err(SyscallError::InvalidCapability(1)),
        },
        _ => Err(SyscallError::InvalidCapability(1)),
    }
}

/// Checks that `root`'s identifier still names it.
///
/// # Errors
/// `FailedLookup` if the identifier names nothing, `InvalidCapability(1)` if another root.
pub fn check_current(kernel: &Kernel, root: &RootCap) -> Result<(), SyscallError> {
    match root
        .asid
        .and_then(|asid| kernel.find_root(asid, root.space))
    {
        Some(table) if table == root.table => Ok(()),
        Some(_) => Err(SyscallError::InvalidCapability(1)),
        None => Err(SyscallError::FailedLookup {
            was_source: false,
            failure: crate::fault::LookupFailure::InvalidRoot,
        }),
    }
}

/// A mapped frame may be mapped again only where it is; a new one only inside the space.
fn check_place(
    frame: &FrameCap,
    address: u64,
    space: MapSpace,
    asid: Asid,
) -> Result<(), SyscallError> {
    match frame.mapping {
        Some(mapping) if mapping.asid != asid => Err(SyscallError::InvalidCapability(1)),
        Some(_) if frame.space != space => Err(SyscallError::IllegalOperation),
        Some(mapping) if mapping.address != address => Err(SyscallError::InvalidArgument(0)),
        Some(_) => Ok(()),
        None => {
            let top = if space == MapSpace::Guest {
                GUEST_TOP
            } else {
                USER_TOP
            };
            let end = address.checked_add(1 << frame.size.bits());
            if address > top || end.is_none_or(|end| end > top) {
                return Err(SyscallError::InvalidArgument(0));
            }
            Ok(())
        }
    }
}

/// A page-table entry for a thread's address space.
fn page_entry(frame: &FrameCap, rights: Rights, attributes: VmAttributes) -> u64 {
    let pick = |condition: bool, bit: u64| if condition { bit } else { 0 };
    // The attribute is an index into the PAT, whose third bit moves with the page size.
    let pat = attributes.memory_type();
    let pat_high = if frame.size == FrameSize::Small {
        entry::PAT_SMALL
    } else {
        entry::PAT_LARGE
    };
    arch::physical_address(frame.base)
        | entry::PRESENT
        | frame.size.leaf_bits()
        | pick(rights.contains(Rights::READ), entry::USER)
        | pick(rights.contains(Rights::WRITE), entry::WRITE)
        | pick(pat & 1 != 0, entry::WRITE_THROUGH)
        | pick(pat & 2 != 0, entry::CACHE_DISABLE)
        | pick(pat & 4 != 0, pat_high)
        | pick(
            attributes.contains(VmAttributes::EXECUTE_NEVER),
            entry::EXECUTE_NEVER,
        )
}

fn perform_map(slot: Ref<Slot>, map: &Map) -> Answer {
    let was_used = map.at.is_used();
    slot.set_cap(Cap::Frame(map.cap));
    map.at.entry().set(map.value);
    if was_used {
        vspace::forget_page(map.root, map.cap.space, map.mapping);
    }
    Answer::empty()
}
