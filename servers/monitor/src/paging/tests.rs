use super::*;
use crate::exit::AccessSize;
use crate::memory::tests::ram;
use crate::mode::{CR0_PE, CR0_PG};
use libcap::vcpu::ExitRecord;
use proptest::prelude::*;
use sel4_sys::vcpu::{exit, exit_mode};

const ROOT: u64 = 0x1000;

fn mode(cr0: u64, cr4: u64, efer: u64, privilege_level: u8) -> CpuMode {
    let mut words = [0; exit::LENGTH];
    words[exit::CR0] = cr0 | CR0_PE | CR0_PG;
    words[exit::CR3] = ROOT;
    words[exit::CR4] = cr4;
    words[exit::EFER] = efer;
    words[exit::MODE] = u64::from(privilege_level) | exit_mode::CS_LONG;
    CpuMode::of(&ExitRecord::from_words(words))
}

fn long(privilege_level: u8) -> CpuMode {
    mode(CR0_WP, CR4_PAE, EFER_LMA | EFER_NXE, privilege_level)
}

fn put(memory: &GuestMemory, address: u64, value: u64) {
    memory
        .write_value(GuestAddress(address), AccessSize::Qword, value)
        .unwrap();
}

fn get(memory: &GuestMemory, address: u64) -> u64 {
    memory.read_word(GuestAddress(address)).unwrap()
}

/// Long-mode tables for linear 0x40_0000: a 4 KiB page at 0x9000 with `leaf` flags.
fn long_tables(memory: &GuestMemory, leaf: u64) {
    put(memory, 0x1000, 0x2000 | 7);
    put(memory, 0x2000, 0x3000 | 7);
    put(memory, 0x3000 + 2 * 8, 0x4000 | 7);
    put(memory, 0x4000, 0x9000 | leaf);
}

fn page_fault(result: Result<Translation, WalkFault>) -> u32 {
    match result {
        Err(WalkFault::Page { error_code, .. }) => error_code,
        other => panic!("no page fault: {other:?}"),
    }
}

#[test]
fn a_long_mode_walk_reaches_the_page_and_sets_accessed_and_dirty() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 7);
    let found = translate(&memory, &long(0), 0x40_0123, Intent::Read).unwrap();
    assert_eq!(found.address, GuestAddress(0x9123));
    assert_eq!(get(&memory, 0x4000) & (ACCESSED | DIRTY), ACCESSED);
    translate(&memory, &long(0), 0x40_0123, Intent::Write).unwrap();
    assert_eq!(get(&memory, 0x4000) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
    assert_eq!(get(&memory, 0x2000) & (ACCESSED | DIRTY), ACCESSED);
}

#[test]
fn a_remembered_translation_ends_when_an_entry_changes() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 7);
    let found = translate(&memory, &long(0), 0x40_0000, Intent::Fetch).unwrap();
    assert!(found.still_holds(&memory));
    put(&memory, 0x3000 + 2 * 8, 0);
    assert!(!found.still_holds(&memory));
}

#[test]
fn refusals_have_the_error_code_of_their_cause() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 0);
    assert_eq!(
        page_fault(translate(&memory, &long(0), 0x40_0000, Intent::Read)),
        0
    );
    assert_eq!(
        page_fault(translate(&memory, &long(3), 0x40_0000, Intent::Write)),
        6
    );
    // Present, read-only, supervisor.
    long_tables(&memory, 1);
    assert_eq!(
        page_fault(translate(&memory, &long(0), 0x40_0000, Intent::Write)),
        3
    );
    assert_eq!(
        page_fault(translate(&memory, &long(3), 0x40_0000, Intent::Read)),
        5
    );
    // Not executable.
    long_tables(&memory, 7 | NO_EXECUTE);
    assert_eq!(
        page_fault(translate(&memory, &long(3), 0x40_0000, Intent::Fetch)),
        0x15
    );
    // Reserved: without EFER.NXE the same bit.
    let without_nx = mode(CR0_WP, CR4_PAE, EFER_LMA, 0);
    assert_eq!(
        page_fault(translate(&memory, &without_nx, 0x40_0000, Intent::Read)),
        9
    );
}

#[test]
fn without_write_protect_the_supervisor_writes_read_only_pages() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 1);
    let lax = mode(0, CR4_PAE, EFER_LMA, 0);
    assert!(translate(&memory, &lax, 0x40_0000, Intent::Write).is_ok());
}

#[test]
fn smap_and_smep_keep_the_supervisor_off_user_pages() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 7);
    let mut guarded = mode(
        CR0_WP,
        CR4_PAE | CR4_SMAP | CR4_SMEP,
        EFER_LMA | EFER_NXE,
        0,
    );
    assert_eq!(
        page_fault(translate(&memory, &guarded, 0x40_0000, Intent::Read)),
        1
    );
    assert_eq!(
        page_fault(translate(&memory, &guarded, 0x40_0000, Intent::Fetch)),
        0x11
    );
    guarded.rflags = RFLAGS_AC;
    assert!(translate(&memory, &guarded, 0x40_0000, Intent::Read).is_ok());
}

#[test]
fn large_pages_keep_the_offset_below_them() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    long_tables(&memory, 7);
    put(&memory, 0x3000 + 2 * 8, 0x20_0000 | LARGE | 7);
    let found = translate(&memory, &long(0), 0x51_2345, Intent::Read).unwrap();
    assert_eq!(found.address, GuestAddress(0x31_2345));
    put(&memory, 0x2000, 0x4000_0000 | LARGE | 7);
    let found = translate(&memory, &long(0), 0x51_2345, Intent::Read).unwrap();
    assert_eq!(found.address, GuestAddress(0x4051_2345));
    // A large page that is not aligned has reserved bits set.
    put(&memory, 0x2000, 0x4000_2000 | LARGE | 7);
    assert_eq!(
        page_fault(translate(&memory, &long(0), 0x51_2345, Intent::Read)),
        9
    );
}

#[test]
fn pae_tables_have_three_levels_and_no_rights_at_the_top() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    let pae = mode(CR0_WP, CR4_PAE, 0, 0);
    put(&memory, 0x1000 + 8, 0x2000 | 1);
    put(&memory, 0x2000, 0x3000 | 7);
    put(&memory, 0x3000 + 5 * 8, 0x8000 | 7);
    let found = translate(&memory, &pae, 0x4000_5678, Intent::Write).unwrap();
    assert_eq!(found.address, GuestAddress(0x8678));
    assert_eq!(
        get(&memory, 0x1008),
        0x2001,
        "top entries have no accessed bit"
    );
}

#[test]
fn two_level_tables_use_both_halves_of_a_word_and_4_mib_pages() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    let old = mode(CR0_WP, CR4_PSE, 0, 0);
    put(
        &memory,
        0x1000,
        (0x3000 | 7) | (0x40_0000 | LARGE | 7) << 32,
    );
    put(&memory, 0x3000, (0x5000 | 7) | (0x6000 | 7) << 32);
    let first = translate(&memory, &old, 0x0123, Intent::Read).unwrap();
    assert_eq!(first.address, GuestAddress(0x5123));
    let second = translate(&memory, &old, 0x1123, Intent::Write).unwrap();
    assert_eq!(second.address, GuestAddress(0x6123));
    assert_eq!(get(&memory, 0x3000) >> 32 & DIRTY, DIRTY);
    assert_eq!(get(&memory, 0x3000) & DIRTY, 0);
    let large = translate(&memory, &old, 0x45_6789, Intent::Read).unwrap();
    assert_eq!(large.address, GuestAddress(0x45_6789));
}

#[test]
fn tables_outside_ram_are_told_from_a_page_fault() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    put(&memory, 0x1000, 0xd000_0000 | 7);
    assert_eq!(
        translate(&memory, &long(0), 0, Intent::Read),
        Err(WalkFault::TablesOutsideRam(GuestAddress(0xd000_0000)))
    );
    assert_eq!(
        translate(&memory, &long(0), 1 << 47, Intent::Read),
        Err(WalkFault::NonCanonical)
    );
}

#[test]
fn without_paging_linear_is_physical() {
    let words = ram(1 << 16);
    let memory = GuestMemory::new(&words);
    let real = CpuMode::of(&ExitRecord::default());
    let found = translate(&memory, &real, 0x1_0000_1234, Intent::Write).unwrap();
    assert_eq!(found.address, GuestAddress(0x1234));
    assert!(found.still_holds(&memory));
}

proptest! {
    #[test]
    fn no_table_content_panics(
        entries in proptest::collection::vec((0u64..0x8000, any::<u64>()), 0..200),
        cr0: u64, cr4: u64, efer: u64, level in 0u8..4, linear: u64, root in 0u64..0x8000,
    ) {
        let words = ram(1 << 15);
        let memory = GuestMemory::new(&words);
        for (address, value) in entries {
            let _ = memory.write_value(GuestAddress(address), AccessSize::Qword, value & 0xfff0_0000_0000_7fff);
        }
        let mut mode = mode(cr0, cr4, efer, level);
        mode.cr3 = root;
        for intent in [Intent::Read, Intent::Write, Intent::Fetch] {
            let _ = translate(&memory, &mode, linear, intent);
        }
    }
}
