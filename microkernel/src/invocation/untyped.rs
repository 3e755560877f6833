//! Untyped.Retype: memory becomes objects, with a capability to each in a window of slots.
//!
//! An untyped hands out its memory from the bottom up; the watermark in its capability says how
//! far. When nothing derived from it is left, all of it can be handed out again, after what lies
//! below the watermark has been cleared. Clearing starts at the top and lowers the watermark, so
//! that it can be broken off at any chunk and everything above the watermark is always zero.

use super::{Answer, Arguments, Outcome};
use crate::cap::{CNodeCap, Cap, UntypedCap};
use crate::config::{CLEAR_CHUNK_BYTES, RETYPE_FAN_OUT_LIMIT};
use crate::derivation;
use crate::fault::{LookupFailure, Preempted, SyscallError};
use crate::kernel::Kernel;
use crate::lookup::{SlotRole, lookup_slot_in};
use crate::object::Slot;
use crate::retype::Blueprint;
use crate::store::{self, Ref};
use sel4_sys::InvocationLabel;

/// Empty slots for the new capabilities: some in a row of one CNode.
#[derive(Clone, Copy, Debug)]
struct Window {
    first: Ref<Slot>,
    count: u64,
}

/// Whether the memory is handed out from the start again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Memory {
    /// There are objects below the watermark.
    InUse,
    /// Nothing lives in it, and what is below the watermark must be cleared.
    Vacant,
}

/// A Retype with all its checks passed.
#[derive(Clone, Copy, Debug)]
struct Retype {
    memory: Memory,
    /// Offset of the first object, aligned to its size.
    offset: u64,
    blueprint: Blueprint,
    window: Window,
}

/// Serves an invocation of the untyped capability `untyped` in `arguments.slot`.
///
/// # Errors
/// As docs/abi.md and seL4's reference say for Untyped.Retype, or `Preempted`.
pub fn invoke(kernel: &Kernel, untyped: UntypedCap, arguments: &Arguments) -> Outcome {
    let retype = decode(untyped, arguments)?;
    perform(kernel, arguments.slot, retype)?;
    Ok(Answer::empty())
}

fn decode(untyped: UntypedCap, arguments: &Arguments) -> Result<Retype, SyscallError> {
    if arguments.label != InvocationLabel::UntypedRetype.number() {
        return Err(SyscallError::IllegalOperation);
    }
    let count = arguments.word(5)?;
    let root = arguments.extra_slot(0)?;
    let blueprint = Blueprint::decode(arguments.word(0)?, arguments.word(1)?)?;
    let node = destination(root, arguments.word(2)?, arguments.word(3)?)?;
    let window = window(node, arguments.word(4)?, count)?;
    let memory = if derivation::has_children(arguments.slot) {
        Memory::InUse
    } else {
        Memory::Vacant
    };
    let used = match memory {
        Memory::InUse => untyped.watermark,
        Memory::Vacant => 0,
    };
    let bytes_left = (1u64 << untyped.size_bits) - used;
    // Nothing is lost to alignment here: what fits at all fits at the right end, aligned.
    if bytes_left >> blueprint.size_bits() < window.count {
        return Err(SyscallError::NotEnoughMemory { bytes_left });
    }
    if untyped.device {
        blueprint.ensure_fits_device_memory()?;
    }
    let offset = used.next_multiple_of(1 << blueprint.size_bits());
    Ok(Retype {
        memory,
        offset,
        blueprint,
        window,
    })
}

/// The CNode for the new capabilities: with depth 0 `root` itself.
fn destination(root: Ref<Slot>, index: u64, depth: u64) -> Result<CNodeCap, SyscallError> {
    let cap = match depth {
        0 => root.cap(),
        _ => lookup_slot_in(SlotRole::Target, root.cap(), index, depth)?.cap(),
    };
    match cap {
        Cap::CNode(node) => Ok(node),
        _ => Err(SyscallError::FailedLookup {
            was_source: false,
            failure: LookupFailure::MissingCapability {
                bits_left: depth as u8,
            },
        }),
    }
}

fn window(node: CNodeCap, offset: u64, count: u64) -> Result<Window, SyscallError> {
    let slots = 1u64 << node.radix;
    if offset > slots - 1 {
        return Err(SyscallError::RangeError {
            min: 0,
            max: slots - 1,
        });
    }
    if !(1..=RETYPE_FAN_OUT_LIMIT).contains(&count) {
        return Err(SyscallError::RangeError {
            min: 1,
            max: RETYPE_FAN_OUT_LIMIT,
        });
    }
    if count > slots - offset {
        return Err(SyscallError::RangeError {
            min: 1,
            max: slots - offset,
        });
    }
    let window = Window {
        first: node.slots.element(offset as usize),
        count,
    };
    for slot in window.slots() {
        derivation::ensure_empty(slot)?;
    }
    Ok(window)
}

impl Window {
    fn slots(self) -> impl Iterator<Item = Ref<Slot>> {
        (0..self.count as usize).map(move |index| self.first.element(index))
    }
}

fn perform(kernel: &Kernel, source: Ref<Slot>, retype: Retype) -> Result<(), Preempted> {
    if retype.memory == Memory::Vacant {
        reset(kernel, source)?;
    }
    let Cap::Untyped(untyped) = source.cap() else {
        return Ok(());
    };
    let size = 1u64 << retype.blueprint.size_bits();
    let watermark = retype.offset + retype.window.count * size;
    source.set_cap(Cap::Untyped(UntypedCap {
        watermark,
        ..untyped
    }));
    let mut address = untyped.base + retype.offset as usize;
    for slot in retype.window.slots() {
        let cap = retype.blueprint.build(kernel, address, untyped.device);
        derivation::insert_original(cap, source, slot);
        address += size as usize;
    }
    Ok(())
}

/// Clears the memory below the watermark, from its top down, and lowers the watermark to 0.
/// Device memory is left as it is.
fn reset(kernel: &Kernel, source: Ref<Slot>) -> Result<(), Preempted> {
    let Cap::Untyped(untyped) = source.cap() else {
        return Ok(());
    };
    let set_watermark = |watermark| {
        source.set_cap(Cap::Untyped(UntypedCap {
            watermark,
            ..untyped
        }))
    };
    if untyped.device {
        set_watermark(0);
        return Ok(());
    }
    let chunk = CLEAR_CHUNK_BYTES.min(1 << untyped.size_bits);
    let mut dirty = untyped.watermark.next_multiple_of(chunk as u64);
    while dirty > 0 {
        dirty -= chunk as u64;
        store::clear(untyped.base + dirty as usize, chunk);
        set_watermark(dirty);
        kernel.preemption_point()?;
    }
    Ok(())
}
