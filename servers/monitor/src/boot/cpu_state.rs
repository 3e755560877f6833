//! States in which a virtual CPU starts: as a boot protocol wants it, or after INIT.

use heapless::Vec;
use sel4_sys::VcpuField;
use sel4_sys::vcpu_field::segment_attributes as attribute;

use super::layout;
use crate::memory::{GuestAddress, GuestMemory, NoRam};
use crate::mode::{CR0_ET, CR0_PE, CR0_PG, CR4_PAE, EFER_LMA, EFER_LME};
use crate::vcpu::SegmentName;

/// Field writes that set up a CPU completely.
pub type InitialState = Vec<(VcpuField, u64), 80>;

const SELECTOR_CODE: u64 = 0x10;
const SELECTOR_DATA: u64 = 0x18;
/// Read, execute, accessed.
const TYPE_CODE: u64 = 0xb;
/// Read, write, accessed.
const TYPE_DATA: u64 = 0x3;
const TYPE_LDT: u64 = 0x2;
const TYPE_BUSY_TASK: u64 = 0xb;
const FLAT_LIMIT: u64 = 0xffff_ffff;
/// RFLAGS with only its fixed bit.
const RFLAGS_RESET: u64 = 1 << 1;
const DR6_RESET: u64 = 0xffff_0ff0;
const DR7_RESET: u64 = 0x400;
/// Write-back, write-through, uncached minus, uncached, twice.
const PAT_RESET: u64 = 0x0007_0406_0007_0406;

const DATA_SEGMENTS: [SegmentName; 5] = [
    SegmentName::Es,
    SegmentName::Ss,
    SegmentName::Ds,
    SegmentName::Fs,
    SegmentName::Gs,
];

/// A segment register to be set.
struct SegmentState {
    selector: u64,
    base: u64,
    limit: u64,
    attributes: u64,
}

fn set_segment(state: &mut InitialState, name: SegmentName, segment: &SegmentState) {
    let pairs = [
        (name.selector(), segment.selector),
        (name.base(), segment.base),
        (name.limit(), segment.limit),
        (name.attributes(), segment.attributes),
    ];
    set(state, &pairs);
}

/// The number of fields bounds what can be set, so nothing is dropped.
fn set(state: &mut InitialState, pairs: &[(VcpuField, u64)]) {
    state.extend(pairs.iter().copied());
}

/// Registers that every start has in common, general registers zero.
fn common(state: &mut InitialState) {
    for field in VcpuField::ALL {
        let is_general = (VcpuField::Rax..=VcpuField::R15).contains(field);
        if is_general {
            set(state, &[(*field, 0)]);
        }
    }
    set(
        state,
        &[
            (VcpuField::Rflags, RFLAGS_RESET),
            (VcpuField::Cr2, 0),
            (VcpuField::Dr6, DR6_RESET),
            (VcpuField::Dr7, DR7_RESET),
            (VcpuField::Pat, PAT_RESET),
            (VcpuField::Xcr0, 1),
            (VcpuField::Interruptibility, 0),
            (VcpuField::PendingEvent, 0),
        ],
    );
    let table = SegmentState {
        selector: 0,
        base: 0,
        limit: 0xffff,
        attributes: attribute::PRESENT | TYPE_LDT,
    };
    set_segment(state, SegmentName::Ldtr, &table);
    let task = SegmentState {
        attributes: attribute::PRESENT | TYPE_BUSY_TASK,
        ..table
    };
    set_segment(state, SegmentName::Tr, &task);
}

/// Replaces the value of a field that is already in the state.
fn replace(state: &mut InitialState, field: VcpuField, value: u64) {
    for pair in state.iter_mut().filter(|pair| pair.0 == field) {
        pair.1 = value;
    }
}

/// Flat segments over the descriptor table at [`layout::DESCRIPTOR_TABLE`].
fn flat_segments(state: &mut InitialState, code_width: u64) {
    let present = attribute::PRESENT | attribute::CODE_OR_DATA | attribute::GRANULARITY;
    let code = SegmentState {
        selector: SELECTOR_CODE,
        base: 0,
        limit: FLAT_LIMIT,
        attributes: present | TYPE_CODE | code_width,
    };
    set_segment(state, SegmentName::Cs, &code);
    let data = SegmentState {
        selector: SELECTOR_DATA,
        attributes: present | TYPE_DATA | attribute::DEFAULT_32,
        ..code
    };
    for name in DATA_SEGMENTS {
        set_segment(state, name, &data);
    }
    set(
        state,
        &[
            (VcpuField::GdtrBase, layout::DESCRIPTOR_TABLE.0),
            (VcpuField::GdtrLimit, 4 * 8 - 1),
            (VcpuField::IdtrBase, 0),
            (VcpuField::IdtrLimit, 0),
        ],
    );
}

/// Descriptor of a flat segment with these attributes.
fn descriptor(attributes: u64) -> u64 {
    let limit = 0x000f_0000_0000_ffff;
    limit | (attributes & 0xff) << 40 | (attributes >> 12 & 0xf) << 52
}

fn write_descriptors(memory: &GuestMemory, code_width: u64) -> Result<(), NoRam> {
    let present = attribute::PRESENT | attribute::CODE_OR_DATA | attribute::GRANULARITY;
    let code = descriptor(present | TYPE_CODE | code_width);
    let data = descriptor(present | TYPE_DATA | attribute::DEFAULT_32);
    for (index, value) in [0, 0, code, data].iter().enumerate() {
        let address = layout::DESCRIPTOR_TABLE.offset(index as u64 * 8);
        memory.write(address, &value.to_le_bytes())?;
    }
    Ok(())
}

/// Tables that map the first 4 GiB to themselves; the address for CR3.
fn write_identity_tables(memory: &GuestMemory) -> Result<GuestAddress, NoRam> {
    const PRESENT_WRITABLE: u64 = 0b11;
    const LARGE: u64 = 1 << 7;
    let root = layout::PAGE_TABLES;
    let second = root.offset(0x1000);
    let third = root.offset(0x2000);
    memory.clear(root, 6 * 0x1000)?;
    memory.write(root, &(second.0 | PRESENT_WRITABLE).to_le_bytes())?;
    for index in 0..4 {
        let entry = third.offset(index * 0x1000).0 | PRESENT_WRITABLE;
        memory.write(second.offset(index * 8), &entry.to_le_bytes())?;
    }
    for index in 0..4 * 512 {
        let entry = index << 21 | PRESENT_WRITABLE | LARGE;
        memory.write(third.offset(index * 8), &entry.to_le_bytes())?;
    }
    Ok(root)
}

/// 64-bit code at `rip` with RSI = `rsi`, the first 4 GiB mapped to themselves.
///
/// # Errors
/// [`NoRam`].
pub fn long_mode(memory: &GuestMemory, rip: u64, rsi: u64) -> Result<InitialState, NoRam> {
    write_descriptors(memory, attribute::LONG)?;
    let root = write_identity_tables(memory)?;
    let mut state = InitialState::new();
    set(
        &mut state,
        &[
            (VcpuField::Cr0, CR0_PE | CR0_ET | CR0_PG),
            (VcpuField::Cr3, root.0),
            (VcpuField::Cr4, CR4_PAE),
            (VcpuField::Efer, EFER_LME | EFER_LMA),
            (VcpuField::Rip, rip),
        ],
    );
    flat_segments(&mut state, attribute::LONG);
    common(&mut state);
    replace(&mut state, VcpuField::Rsi, rsi);
    Ok(state)
}

/// 32-bit code at `rip` without paging, with EBX and ESI as given.
///
/// # Errors
/// [`NoRam`].
pub fn protected_mode(
    memory: &GuestMemory,
    rip: u64,
    rbx: u64,
    rsi: u64,
) -> Result<InitialState, NoRam> {
    write_descriptors(memory, attribute::DEFAULT_32)?;
    let mut state = InitialState::new();
    set(
        &mut state,
        &[
            (VcpuField::Cr0, CR0_PE | CR0_ET),
            (VcpuField::Cr3, 0),
            (VcpuField::Cr4, 0),
            (VcpuField::Efer, 0),
            (VcpuField::Rip, rip),
        ],
    );
    flat_segments(&mut state, attribute::DEFAULT_32);
    common(&mut state);
    replace(&mut state, VcpuField::Rbx, rbx);
    replace(&mut state, VcpuField::Rsi, rsi);
    Ok(state)
}

/// Real mode at `page << 12`, as a start-up message leaves a CPU. RDX identifies the CPU.
#[must_use]
pub fn after_startup(page: u8, signature: u32) -> InitialState {
    let mut state = InitialState::new();
    set(
        &mut state,
        &[
            (VcpuField::Cr0, CR0_ET),
            (VcpuField::Cr3, 0),
            (VcpuField::Cr4, 0),
            (VcpuField::Efer, 0),
            (VcpuField::Rip, 0),
        ],
    );
    let present = attribute::PRESENT | attribute::CODE_OR_DATA;
    let code = SegmentState {
        selector: u64::from(page) << 8,
        base: u64::from(page) << 12,
        limit: 0xffff,
        attributes: present | TYPE_CODE,
    };
    set_segment(&mut state, SegmentName::Cs, &code);
    let data = SegmentState {
        selector: 0,
        base: 0,
        limit: 0xffff,
        attributes: present | TYPE_DATA,
    };
    for name in DATA_SEGMENTS {
        set_segment(&mut state, name, &data);
    }
    set(
        &mut state,
        &[
            (VcpuField::GdtrBase, 0),
            (VcpuField::GdtrLimit, 0xffff),
            (VcpuField::IdtrBase, 0),
            (VcpuField::IdtrLimit, 0xffff),
        ],
    );
    common(&mut state);
    replace(&mut state, VcpuField::Rdx, u64::from(signature));
    state
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::AccessSize;
    use crate::memory::tests::ram;
    use crate::mode::CpuMode;
    use crate::paging::{Intent, translate};
    use libcap::vcpu::ExitRecord;
    use sel4_sys::vcpu::exit;

    fn value(state: &InitialState, field: VcpuField) -> u64 {
        let mut found = state.iter().filter(|pair| pair.0 == field);
        let value = found.next().expect("the field is set").1;
        assert!(found.next().is_none(), "{field:?} is set twice");
        value
    }

    #[test]
    fn every_state_sets_each_field_once() {
        let words = ram(1 << 20);
        let memory = GuestMemory::new(&words);
        for state in [
            long_mode(&memory, 0x10_0200, 0x7000).unwrap(),
            protected_mode(&memory, 0x10_0000, 1, 2).unwrap(),
            after_startup(0x9a, 0),
        ] {
            for field in VcpuField::ALL {
                let kept = matches!(
                    field,
                    VcpuField::TscOffset | VcpuField::ExceptionIntercepts | VcpuField::TscAux
                ) || (VcpuField::SysenterCs..=VcpuField::KernelGsBase).contains(field)
                    || (VcpuField::Dr0..=VcpuField::Dr3).contains(field);
                if !kept {
                    value(&state, *field);
                }
            }
        }
    }

    #[test]
    fn long_mode_maps_four_gib_to_themselves() {
        let words = ram(1 << 20);
        let memory = GuestMemory::new(&words);
        let state = long_mode(&memory, 0x10_0200, 0x7000).unwrap();
        let mut record = [0; exit::LENGTH];
        record[exit::CR0] = value(&state, VcpuField::Cr0);
        record[exit::CR3] = value(&state, VcpuField::Cr3);
        record[exit::CR4] = value(&state, VcpuField::Cr4);
        record[exit::EFER] = value(&state, VcpuField::Efer);
        let mode = CpuMode::of(&ExitRecord::from_words(record));
        for address in [0, 0x1234_5678, 0xffff_f000] {
            let found = translate(&memory, &mode, address, Intent::Write).unwrap();
            assert_eq!(found.address, GuestAddress(address));
        }
        assert!(translate(&memory, &mode, 1 << 32, Intent::Read).is_err());
        assert_eq!(value(&state, VcpuField::Rsi), 0x7000);
    }

    #[test]
    fn descriptors_in_memory_agree_with_the_registers() {
        let words = ram(1 << 20);
        let memory = GuestMemory::new(&words);
        long_mode(&memory, 0, 0).unwrap();
        let at = |index: u64| {
            let address = layout::DESCRIPTOR_TABLE.offset(index * 8);
            memory.read_value(address, AccessSize::Qword).unwrap()
        };
        assert_eq!(at(2), 0x00af_9b00_0000_ffff);
        assert_eq!(at(3), 0x00cf_9300_0000_ffff);
    }

    #[test]
    fn a_started_cpu_is_in_real_mode_at_its_page() {
        let state = after_startup(0x9a, 0x600);
        assert_eq!(value(&state, VcpuField::CsBase), 0x9_a000);
        assert_eq!(value(&state, VcpuField::CsSelector), 0x9a00);
        assert_eq!(value(&state, VcpuField::Rip), 0);
        assert_eq!(value(&state, VcpuField::Cr0) & CR0_PE, 0);
        assert_eq!(value(&state, VcpuField::Rdx), 0x600);
    }
}
