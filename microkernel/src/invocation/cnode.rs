//! CNode invocations: copying, moving, deleting and revoking capabilities.

use super::{Answer, Arguments, Outcome};
use crate::cap::{CNodeCap, Cap, EndpointCap, Rights};
use crate::cap_type::cap_type;
use crate::derivation::{self, Badges};
use crate::fault::{LookupFailure, Preempted, SyscallError};
use crate::finalise;
use crate::kernel::Kernel;
use crate::lookup::{SlotRole, lookup_slot_in};
use crate::object::Slot;
use crate::store::Ref;
use sel4_sys::InvocationLabel;

/// An invocation with all its checks passed.
#[derive(Clone, Copy, Debug)]
enum Operation {
    /// Delete what was derived from this slot's capability.
    Revoke(Ref<Slot>),
    /// Empty this slot.
    Delete(Ref<Slot>),
    /// Abort sends that were made with this badge.
    CancelBadgedSends(EndpointCap),
    /// Put a capability derived from that of the source into the destination.
    Insert(Transfer),
    /// Move the capability of the source, which becomes `cap`, to the destination.
    Move(Transfer),
    /// Two moves, whose middle is the pivot: out of it, then into it. They exchange the two slots if
    /// the one that is moved out goes to where the other comes from.
    Rotate { out: Transfer, into: Transfer },
}

/// A capability, where it comes from and where it goes.
#[derive(Clone, Copy, Debug)]
struct Transfer {
    cap: Cap,
    source: Ref<Slot>,
    destination: Ref<Slot>,
}

/// Serves an invocation of the CNode capability `node`.
///
/// # Errors
/// As seL4's reference says for the CNode methods, or `Preempted`.
pub fn invoke(kernel: &Kernel, node: CNodeCap, arguments: &Arguments) -> Outcome {
    if arguments.label == InvocationLabel::CNodeIdentify.number() {
        let (index, depth) = (arguments.word(0)?, arguments.word(1)?);
        let slot = lookup_slot_in(SlotRole::Target, Cap::CNode(node), index, depth)?;
        return Ok(Answer::words(&[cap_type(slot.cap()).number()]));
    }
    let operation = decode(node, arguments)?;
    perform(kernel, operation)?;
    Ok(Answer::empty())
}

fn decode(node: CNodeCap, arguments: &Arguments) -> Result<Operation, SyscallError> {
    let label = InvocationLabel::try_from(arguments.label)
        .ok()
        .filter(|l| (InvocationLabel::CNodeRevoke..=InvocationLabel::CNodeRotate).contains(l))
        .ok_or(SyscallError::IllegalOperation)?;
    let (index, depth) = (arguments.word(0)?, arguments.word(1)?);
    let target = lookup_slot_in(SlotRole::Target, Cap::CNode(node), index, depth)?;
    match label {
        InvocationLabel::CNodeRevoke => Ok(Operation::Revoke(target)),
        InvocationLabel::CNodeDelete => Ok(Operation::Delete(target)),
        InvocationLabel::CNodeCancelBadgedSends => match target.cap() {
            Cap::Endpoint(e) if e.rights == Rights::ALL => Ok(Operation::CancelBadgedSends(e)),
            _ => Err(SyscallError::IllegalOperation),
        },
        InvocationLabel::CNodeRotate => decode_rotate(target, arguments),
        _ => decode_transfer(label, target, arguments),
    }
}

/// Copy, Mint, Move and Mutate.
fn decode_transfer(
    label: InvocationLabel,
    destination: Ref<Slot>,
    arguments: &Arguments,
) -> Result<Operation, SyscallError> {
    let (index, depth) = (arguments.word(2)?, arguments.word(3)?);
    let root = arguments.extra_slot(0)?;
    derivation::ensure_empty(destination)?;
    let source = lookup_slot_in(SlotRole::Source, root.cap(), index, depth)?;
    if source.is_empty() {
        return Err(empty_slot(SlotRole::Source, depth));
    }
    let cap = match label {
        InvocationLabel::CNodeMove => source.cap(),
        InvocationLabel::CNodeMutate => {
            derivation::update_data(Badges::Kept, arguments.word(4)?, source.cap())
        }
        _ => decode_copy(label, source, arguments)?,
    };
    if cap.is_null() {
        return Err(SyscallError::IllegalOperation);
    }
    let transfer = Transfer {
        cap,
        source,
        destination,
    };
    Ok(match label {
        InvocationLabel::CNodeMove | InvocationLabel::CNodeMutate => Operation::Move(transfer),
        _ => Operation::Insert(transfer),
    })
}

/// The capability that Copy or Mint makes of the one in `source`.
fn decode_copy(
    label: InvocationLabel,
    source: Ref<Slot>,
    arguments: &Arguments,
) -> Result<Cap, SyscallError> {
    let minted = match label {
        InvocationLabel::CNodeMint => Some(arguments.word(5)?),
        _ => None,
    };
    let rights = Rights::from_word(arguments.word(4)?);
    let masked = derivation::mask_rights(rights, source.cap());
    let cap = match minted {
        Some(data) => derivation::update_data(Badges::Settable, data, masked),
        None => masked,
    };
    derivation::derive_cap(source, cap)
}

fn decode_rotate(destination: Ref<Slot>, arguments: &Arguments) -> Result<Operation, SyscallError> {
    let mut words = [0; 6];
    for (index, word) in words.iter_mut().enumerate() {
        *word = arguments.word(2 + index)?;
    }
    let [
        pivot_data,
        pivot_index,
        pivot_depth,
        source_data,
        source_index,
        source_depth,
    ] = words;
    let (pivot_root, source_root) = (arguments.extra_slot(0)?, arguments.extra_slot(1)?);
    let source = lookup_slot_in(
        SlotRole::Source,
        source_root.cap(),
        source_index,
        source_depth,
    )?;
    let pivot = lookup_slot_in(SlotRole::Pivot, pivot_root.cap(), pivot_index, pivot_depth)?;
    if pivot == source || pivot == destination {
        return Err(SyscallError::IllegalOperation);
    }
    if source != destination {
        derivation::ensure_empty(destination)?;
    }
    if source.is_empty() {
        return Err(empty_slot(SlotRole::Source, source_depth));
    }
    if pivot.is_empty() {
        return Err(empty_slot(SlotRole::Pivot, pivot_depth));
    }
    let source_cap = derivation::update_data(Badges::Kept, source_data, source.cap());
    let pivot_cap = derivation::update_data(Badges::Kept, pivot_data, pivot.cap());
    if source_cap.is_null() || pivot_cap.is_null() {
        return Err(SyscallError::IllegalOperation);
    }
    Ok(Operation::Rotate {
        out: Transfer {
            cap: pivot_cap,
            source: pivot,
            destination,
        },
        into: Transfer {
            cap: source_cap,
            source,
            destination: pivot,
        },
    })
}

/// The slot is empty; unlike a pivot that does not resolve, an empty one is not reported as a source.
/// `depth` resolved, so it is at most 64.
fn empty_slot(role: SlotRole, depth: u64) -> SyscallError {
    SyscallError::FailedLookup {
        was_source: role == SlotRole::Source,
        failure: LookupFailure::MissingCapability {
            bits_left: depth as u8,
        },
    }
}

fn perform(kernel: &Kernel, operation: Operation) -> Result<(), Preempted> {
    match operation {
        Operation::Revoke(slot) => finalise::revoke(kernel, slot)?,
        Operation::Delete(slot) => finalise::delete(kernel, slot)?,
        // Sends without a badge are everybody's: there is none to single out.
        Operation::CancelBadgedSends(EndpointCap { badge: 0, .. }) => {}
        Operation::CancelBadgedSends(e) => kernel.cancel_badged_sends(e.endpoint, e.badge),
        Operation::Insert(t) => derivation::insert(t.cap, t.source, t.destination),
        Operation::Move(t) => derivation::move_cap(t.cap, t.source, t.destination),
        Operation::Rotate { out, into } if out.destination == into.source => {
            derivation::swap(into.source, into.cap, out.source, out.cap);
        }
        Operation::Rotate { out, into } => {
            derivation::move_cap(out.cap, out.source, out.destination);
            derivation::move_cap(into.cap, into.source, into.destination);
        }
    }
    Ok(())
}
