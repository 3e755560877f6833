//! Where operands turn out to be: faults, reported addresses, page boundaries.

use super::*;

#[test]
fn a_fault_leaves_registers_as_they_were() {
    let mut bench = Bench::long().set(RDI, 1 << 47).set(RAX, 3);
    let before = bench.registers;
    assert_eq!(
        bench.run(&[0x01, 0x07]), // add [rdi], eax
        Err(GuestException::GeneralProtection(0).into())
    );
    assert_eq!(bench.registers, before);
    bench.mode.cr0 |= CR0_PG;
    bench.mode.cr4 |= CR4_PAE;
    bench.registers.general[RDI] = 0x5000;
    let before = bench.registers;
    assert_eq!(
        bench.run(&[0x01, 0x07]),
        Err(EmulationError::Exception(GuestException::PageFault {
            error_code: 2,
            address: 0x5000
        }))
    );
    assert_eq!(bench.registers, before);
}

#[test]
fn the_reported_address_spares_the_walk() {
    let mut bench = Bench::long().set(RDI, 0xffff_8000_0000_0020).set(RAX, 3);
    bench.mode.cr0 |= CR0_PG;
    bench.reported = Some(GuestAddress(0xfee0_0020));
    bench.done(&[0x89, 0x07]); // mov [rdi], eax
    assert_eq!(bench.bus.writes, [(0xfee0_0020, 4, 3)]);
}

#[test]
fn a_report_about_the_second_half_of_an_access_is_not_taken_for_the_whole() {
    let mut bench = Bench::long().set(RDI, RAM as u64 - 2).set(RAX, 0x4433_2211);
    bench.reported = Some(GuestAddress(RAM as u64));
    bench.done(&[0x89, 0x07]); // mov [rdi], eax
    assert_eq!(
        bench
            .memory()
            .read_value(GuestAddress(RAM as u64 - 2), AccessSize::Word),
        Ok(0x2211)
    );
    assert_eq!(bench.bus.writes.len(), 2);
}

#[test]
fn a_reported_address_serves_scaled_and_rip_relative_operands() {
    let mut bench = Bench::long()
        .set(RDI, 0xffff_8000_0000_0000)
        .set(RSI, 8)
        .set(RAX, 3);
    bench.mode.cr0 |= CR0_PG;
    bench.reported = Some(GuestAddress(0xfee0_0030));
    bench.done(&[0x89, 0x44, 0xb7, 0x10]); // mov [rdi+rsi*4+0x10], eax
    bench.registers.rip = 0x1000;
    bench.done(&[0x89, 0x05, 0x2a, 0xf0, 0xff, 0xff]); // mov [rip-0xfd6], eax
    assert_eq!(bench.bus.writes, [(0xfee0_0030, 4, 3); 2]);
}

#[test]
fn an_access_across_a_page_boundary_is_made_in_bytes() {
    let mut bench = Bench::long().set(RDI, RAM as u64 - 2).set(RAX, 0x4433_2211);
    bench.done(&[0x89, 0x07]); // mov [rdi], eax
    assert_eq!(
        bench
            .memory()
            .read_value(GuestAddress(RAM as u64 - 2), AccessSize::Word),
        Ok(0x2211)
    );
    let beyond = RAM as u64;
    assert_eq!(bench.bus.writes, [(beyond, 1, 0x33), (beyond + 1, 1, 0x44)]);
}
