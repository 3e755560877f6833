//! Invocations of ASID control and ASID pools: giving address spaces their identifiers.

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::cap::{Asid, Cap, RootCap, UntypedCap};
use crate::config::ASIDS_PER_POOL;
use crate::derivation;
use crate::fault::{LookupFailure, SyscallError};
use crate::kernel::Kernel;
use crate::lookup::{self, SlotRole};
use crate::object::{AsidPool, Slot};
use crate::store::{self, Ref, Table};

/// Size of a pool as a power of two.
const POOL_SIZE_BITS: u8 = 12;

/// Serves ASIDControl.MakePool.
///
/// # Errors
/// As seL4's; `DeleteFirst` when all pools are in use.
pub fn invoke_control(kernel: &Kernel, arguments: &Arguments) -> Outcome {
    if Label::try_from(arguments.label) != Ok(Label::X86AsidControlMakePool) {
        return Err(SyscallError::IllegalOperation.into());
    }
    let root_slot = arguments.extra_slot(1)?;
    let parent = arguments.extra_slot(0)?;
    let (depth, index) = (arguments.word(1)?, arguments.word(0)?);
    let free = kernel
        .asid_pools
        .iter()
        .position(|pool| pool.get().is_none());
    let number = free.ok_or(SyscallError::DeleteFirst)?;
    let untyped = pool_memory(parent)?;
    derivation::ensure_no_children(parent)?;
    let destination = lookup::lookup_slot_in(SlotRole::Target, root_slot.cap(), index, depth)?;
    derivation::ensure_empty(destination)?;

    parent.set_cap(Cap::Untyped(untyped.used_up()));
    store::clear(untyped.base, size_of::<Table>());
    let pool = Ref::from_address(untyped.base);
    let base = (number * ASIDS_PER_POOL) as u16;
    derivation::insert(Cap::AsidPool { pool, base }, parent, destination);
    kernel.asid_pools[number].set(Some(pool));
    Ok(Answer::empty())
}

fn pool_memory(slot: Ref<Slot>) -> Result<UntypedCap, SyscallError> {
    match slot.cap() {
        Cap::Untyped(u) if u.size_bits == POOL_SIZE_BITS && !u.device => Ok(u),
        _ => Err(SyscallError::InvalidCapability(1)),
    }
}

/// Serves ASIDPool.Assign of the pool that begins at `base`.
///
/// # Errors
/// As seL4's; `DeleteFirst` when the pool is full.
pub fn invoke_pool(
    kernel: &Kernel,
    pool: Ref<AsidPool>,
    base: u16,
    arguments: &Arguments,
) -> Outcome {
    if Label::try_from(arguments.label) != Ok(Label::X86AsidPoolAssign) {
        return Err(SyscallError::IllegalOperation.into());
    }
    let slot = arguments.extra_slot(0)?;
    let root = match slot.cap() {
        Cap::Root(root) if root.asid.is_none() => root,
        _ => return Err(SyscallError::InvalidCapability(1).into()),
    };
    let asid = free_in(kernel, pool, base)?;
    let assigned = RootCap {
        asid: Some(asid),
        ..root
    };
    slot.set_cap(Cap::Root(assigned));
    kernel.assign_asid(pool, asid, &assigned);
    Ok(Answer::empty())
}

fn free_in(kernel: &Kernel, pool: Ref<AsidPool>, base: u16) -> Result<Asid, SyscallError> {
    let failure = LookupFailure::InvalidRoot;
    match kernel.asid_pools[usize::from(base) / ASIDS_PER_POOL].get() {
        None => Err(SyscallError::FailedLookup {
            was_source: false,
            failure,
        }),
        Some(current) if current != pool => Err(SyscallError::InvalidCapability(0)),
        Some(_) => kernel
            .free_asid(pool, base)
            .ok_or(SyscallError::DeleteFirst),
    }
}
