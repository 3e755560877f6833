//! Invocations of paging structures below the root: putting them into an address space.

use sel4_sys::InvocationLabel as Label;

use super::frame::{assigned_root, check_current};
use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::{Cap, MapSpace, Mapping, TableCap, TableLevel};
use crate::config::{CLEAR_CHUNK_BYTES, USER_TOP};
use crate::derivation;
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::store::{self, Table};
use crate::vspace::{self, GuestPaging, entry};

/// What an invocation asks of a table.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Map,
    Unmap,
}

fn operation(cap: &TableCap, label: u64) -> Option<Operation> {
    use Operation::{Map, Unmap};
    let label = Label::try_from(label).ok()?;
    match (cap.space, cap.level, label) {
        (MapSpace::Guest, _, Label::GuestTableMap) => Some(Map),
        (MapSpace::Guest, _, Label::GuestTableUnmap) => Some(Unmap),
        (MapSpace::Virtual, TableLevel::Pdpt, Label::X86PdptMap) => Some(Map),
        (MapSpace::Virtual, TableLevel::Pdpt, Label::X86PdptUnmap) => Some(Unmap),
        (MapSpace::Virtual, TableLevel::PageDirectory, Label::X86PageDirectoryMap) => Some(Map),
        (MapSpace::Virtual, TableLevel::PageDirectory, Label::X86PageDirectoryUnmap) => Some(Unmap),
        (MapSpace::Virtual, TableLevel::PageTable, Label::X86PageTableMap) => Some(Map),
        (MapSpace::Virtual, TableLevel::PageTable, Label::X86PageTableUnmap) => Some(Unmap),
        _ => None,
    }
}

/// Serves an invocation of the paging structure in `arguments.slot`.
///
/// # Errors
/// As seL4's PageTable, PageDirectory and PDPT invocations.
pub fn invoke(kernel: &Kernel, cap: TableCap, arguments: &Arguments) -> Outcome {
    match operation(&cap, arguments.label) {
        Some(Operation::Map) => map(kernel, cap, arguments),
        Some(Operation::Unmap) => unmap(kernel, cap, arguments),
        None => Err(SyscallError::IllegalOperation.into()),
    }
}

fn map(kernel: &Kernel, cap: TableCap, arguments: &Arguments) -> Outcome {
    let root_slot = arguments.extra_slot(0)?;
    // The attributes say nothing here, but seL4's calls have them; a guest's have none.
    if cap.space == MapSpace::Virtual {
        arguments.word(1)?;
    }
    if cap.mapping.is_some() {
        return Err(SyscallError::InvalidCapability(0).into());
    }
    let span = cap.level.span_bits();
    let address = arguments.word(0)? & !((1 << span) - 1);
    let (root, asid) = assigned_root(root_slot, cap.space)?;
    if address > USER_TOP {
        return Err(SyscallError::InvalidArgument(0).into());
    }
    check_current(kernel, &root)?;
    let at = vspace::find_for(root.table, address, span)?;
    if at.is_used() {
        return Err(SyscallError::DeleteFirst.into());
    }
    let physical = arch::physical_address(cap.table.address());
    let value = match cap.space {
        MapSpace::Guest => GuestPaging::here().table_entry(physical),
        _ => physical | entry::PRESENT | entry::WRITE | entry::USER,
    };
    let mapping = Some(Mapping { asid, address });
    arguments
        .slot
        .set_cap(Cap::Table(TableCap { mapping, ..cap }));
    at.entry().set(value);
    Ok(Answer::empty())
}

fn unmap(kernel: &Kernel, cap: TableCap, arguments: &Arguments) -> Outcome {
    if !derivation::is_final(arguments.slot) {
        return Err(SyscallError::RevokeFirst.into());
    }
    if cap.mapping.is_some() {
        kernel.unmap_table(cap);
        for offset in (0..size_of::<Table>()).step_by(CLEAR_CHUNK_BYTES) {
            store::clear(cap.table.address() + offset, CLEAR_CHUNK_BYTES);
        }
        arguments.slot.set_cap(Cap::Table(TableCap {
            mapping: None,
            ..cap
        }));
    }
    Ok(Answer::empty())
}
