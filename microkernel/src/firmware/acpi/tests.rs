//! ACPI tables built by hand, whole and damaged.

use super::*;
use crate::firmware::test_memory::TestMemory;
use proptest::prelude::*;
use std::vec::Vec as StdVec;

const ROOT: u64 = 0x1000;
const MADT: u64 = 0x2000;
const FADT: u64 = 0x3000;

/// A table with its length and checksum filled in.
fn table(signature: &[u8; 4], body: &[u8]) -> StdVec<u8> {
    let mut bytes = signature.to_vec();
    bytes.extend((HEADER_BYTES as u32 + body.len() as u32).to_le_bytes());
    bytes.extend([0; HEADER_BYTES as usize - 8]);
    bytes.extend(body);
    bytes[9] = 0u8.wrapping_sub(sum(&bytes));
    bytes
}

fn rsdp(revision: u8) -> [u8; RSDP_BYTES] {
    let mut bytes = [0; RSDP_BYTES];
    bytes[..8].copy_from_slice(b"RSD PTR ");
    bytes[15] = revision;
    if revision >= 2 {
        bytes[24..32].copy_from_slice(&ROOT.to_le_bytes());
    } else {
        bytes[16..20].copy_from_slice(&(ROOT as u32).to_le_bytes());
    }
    bytes[8] = 0u8.wrapping_sub(sum(&bytes[..20]));
    bytes[32] = 0u8.wrapping_sub(sum(&bytes));
    bytes
}

fn madt(entries: &[StdVec<u8>]) -> StdVec<u8> {
    let mut body = 0xfee0_0000u32.to_le_bytes().to_vec();
    body.extend(1u32.to_le_bytes());
    body.extend(entries.concat());
    table(b"APIC", &body)
}

fn cpu(id: u8, flags: u32) -> StdVec<u8> {
    [&[0, 8, 0, id][..], &flags.to_le_bytes()].concat()
}

fn x2apic_cpu(id: u32, flags: u32) -> StdVec<u8> {
    [
        &[9, 16, 0, 0][..],
        &id.to_le_bytes(),
        &flags.to_le_bytes(),
        &[0; 4],
    ]
    .concat()
}

fn ioapic(address: u32, base: u32) -> StdVec<u8> {
    [
        &[1, 12, 0, 0][..],
        &address.to_le_bytes(),
        &base.to_le_bytes(),
    ]
    .concat()
}

fn machine(entries: &[StdVec<u8>]) -> TestMemory {
    let mut memory = TestMemory::zeroed(0, 0x4000);
    let list: StdVec<u8> = [FADT, MADT].iter().flat_map(|a| a.to_le_bytes()).collect();
    memory.put(ROOT, &table(b"XSDT", &list));
    memory.put(MADT, &madt(entries));
    let mut fadt = [0; 100];
    fadt[40..44].copy_from_slice(&0x608u32.to_le_bytes());
    memory.put(FADT, &table(b"FACP", &fadt));
    memory
}

#[test]
fn usable_cpus_and_ioapics_are_listed_once() {
    let memory = machine(&[
        cpu(0, 1),
        cpu(1, 0),
        cpu(2, 1),
        ioapic(0xfec0_0000, 0),
        x2apic_cpu(2, 1),
        x2apic_cpu(300, 1),
        std::vec![77, 4, 0, 0],
    ]);
    let tables = Tables::new(&rsdp(2)).unwrap();
    let found = tables.processors(&memory).unwrap();
    assert_eq!(found.apic_ids, [0, 2, 300]);
    let expected = IoApic {
        address: 0xfec0_0000,
        interrupt_base: 0,
    };
    assert_eq!(found.ioapics, [expected]);
    assert_eq!(found.local_apic, 0xfee0_0000);
}

#[test]
fn the_local_apic_address_can_be_overridden() {
    let entry = [&[5, 12, 0, 0][..], &0x1_fee0_0000u64.to_le_bytes()].concat();
    let memory = machine(&[entry]);
    let tables = Tables::new(&rsdp(2)).unwrap();
    assert_eq!(
        tables.processors(&memory).unwrap().local_apic,
        0x1_fee0_0000
    );
}

#[test]
fn the_power_management_timer_is_found() {
    let tables = Tables::new(&rsdp(2)).unwrap();
    assert_eq!(
        tables.pm_timer(&machine(&[])),
        Some(PmTimer { port: 0x608 })
    );
}

#[test]
fn an_old_root_pointer_leads_to_a_table_of_32_bit_addresses() {
    let mut memory = machine(&[cpu(5, 1)]);
    memory.put(ROOT, &table(b"RSDT", &(MADT as u32).to_le_bytes()));
    let tables = Tables::new(&rsdp(0)).unwrap();
    assert_eq!(tables.processors(&memory).unwrap().apic_ids, [5]);
}

#[test]
fn a_table_with_a_wrong_checksum_is_not_believed() {
    let mut memory = machine(&[cpu(0, 1)]);
    memory.put(MADT + 50, &[0x55]);
    let tables = Tables::new(&rsdp(2)).unwrap();
    assert!(tables.processors(&memory).is_none());
}

#[test]
fn the_root_pointer_is_found_in_the_bios_area_by_its_checksum() {
    let mut memory = TestMemory::zeroed(0, 0x10_0000);
    memory.put(0xe_0010, b"RSD PTR  not this one");
    memory.put(0xf_1230, &rsdp(2));
    assert_eq!(find_rsdp(&memory), Some(rsdp(2)));
    memory.put(0xf_1230 + 34, &[1]);
    assert_eq!(find_rsdp(&memory), None);
}

#[test]
fn more_cpus_than_the_kernel_supports_are_left_out() {
    let cpus: StdVec<_> = (0..=MAX_NODES as u8).map(|id| cpu(id, 1)).collect();
    let tables = Tables::new(&rsdp(2)).unwrap();
    let found = tables.processors(&machine(&cpus)).unwrap();
    assert_eq!(found.apic_ids.len(), MAX_NODES);
}

proptest! {
    #[test]
    fn any_madt_body_ends(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let mut memory = machine(&[]);
        memory.put(MADT, &table(b"APIC", &body));
        let tables = Tables::new(&rsdp(2)).unwrap();
        let _ = tables.processors(&memory);
    }

    #[test]
    fn random_tables_never_panic(
        bytes in prop::collection::vec(any::<u8>(), 0x200),
        pointer in any::<[u8; RSDP_BYTES]>(),
        root in 0u64..0x200,
    ) {
        let memory = TestMemory { base: 0, bytes };
        let mut pointer = pointer;
        pointer[24..32].copy_from_slice(&root.to_le_bytes());
        if let Some(tables) = Tables::new(&pointer) {
            let _ = tables.processors(&memory);
            let _ = tables.pm_timer(&memory);
        }
        let _ = find_rsdp(&memory);
    }
}
