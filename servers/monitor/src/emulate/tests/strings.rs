use super::*;

#[test]
fn repeated_stores_fill_and_count_down() {
    let mut bench = Bench::long().set(RDI, DEVICE).set(RCX, 3).set(RAX, 0xab);
    bench.done(&[0xf3, 0xab]); // rep stosd
    assert_eq!(bench.registers.general[RCX], 0);
    assert_eq!(bench.registers.general[RDI], DEVICE + 12);
    assert_eq!(
        bench.bus.writes,
        [
            (DEVICE, 4, 0xab),
            (DEVICE + 4, 4, 0xab),
            (DEVICE + 8, 4, 0xab)
        ]
    );
}

#[test]
fn a_zero_count_does_nothing() {
    let mut bench = Bench::long().set(RDI, DEVICE);
    bench.done(&[0xf3, 0xa4]); // rep movsb
    assert!(bench.bus.writes.is_empty());
}

#[test]
fn string_moves_go_backwards_with_the_direction_flag() {
    let mut bench = Bench::long()
        .set(RSI, 0x2001)
        .set(RDI, DEVICE + 1)
        .set(RCX, 2);
    bench.memory().write(GuestAddress(0x2000), &[1, 2]).unwrap();
    bench.registers.rflags = DF;
    bench.done(&[0xf3, 0xa4]); // rep movsb
    assert_eq!(bench.bus.writes, [(DEVICE + 1, 1, 2), (DEVICE, 1, 1)]);
    assert_eq!(bench.registers.general[RSI], 0x1fff);
}

#[test]
fn a_huge_count_is_done_in_shares() {
    let mut bench = Bench::long().set(RDI, DEVICE).set(RCX, u64::MAX);
    assert_eq!(bench.run(&[0xf3, 0xaa]), Ok(Progress::Partial)); // rep stosb
    assert_eq!(bench.registers.rip, 0x1000);
    assert_eq!(
        bench.registers.general[RCX],
        u64::MAX - string::MAXIMUM_STEPS
    );
}

#[test]
fn string_comparison_stops_where_it_should() {
    let mut bench = Bench::long().set(RSI, 0x2000).set(RDI, DEVICE).set(RCX, 4);
    bench.bus.answers = vec![1, 2, 9];
    bench
        .memory()
        .write(GuestAddress(0x2000), &[1, 2, 3, 4])
        .unwrap();
    bench.done(&[0xf3, 0xa6]); // repe cmpsb
    assert_eq!(bench.registers.general[RCX], 1);
    assert_eq!(bench.registers.rflags & (ZF | CF), CF);
    bench.bus.answers = vec![5, 7];
    let mut scan = bench.set(RAX, 7).set(RCX, 10).set(RDI, DEVICE);
    scan.done(&[0xf2, 0xae]); // repne scasb
    assert_eq!(scan.registers.general[RCX], 8);
}

#[test]
fn string_input_and_output_use_the_port_in_dx() {
    let mut bench = Bench::long().set(RDX, 0x1f0).set(RDI, 0x3000).set(RCX, 2);
    bench.bus.answers = vec![0x1111, 0x2222];
    bench.done(&[0xf3, 0x66, 0x6d]); // rep insw
    assert_eq!(
        bench
            .memory()
            .read_value(GuestAddress(0x3000), AccessSize::Dword),
        Ok(0x2222_1111)
    );
    bench.registers.general[RSI] = 0x3000;
    bench.done(&[0x6f]); // outsd
    assert_eq!(bench.bus.writes, [(0x1f0, 4, 0x2222_1111)]);
    assert_eq!(bench.registers.general[RSI], 0x3004);
}

#[test]
fn real_mode_strings_wrap_their_16_bit_pointers() {
    let mut bench = Bench::real()
        .set(RDX, 0x80)
        .set(RSI, 0x1_ffff)
        .set(RCX, 0x5_0001);
    bench.done(&[0xf3, 0x6e]); // rep outsb
    assert_eq!(bench.registers.general[RSI], 0x1_0000);
    assert_eq!(bench.registers.general[RCX], 0x5_0000);
}

#[test]
fn thirty_two_bit_addresses_in_long_mode_clear_the_upper_half() {
    let mut bench = Bench::long().set(RDI, 0xffff_0000_0010_0000).set(RAX, 1);
    bench.done(&[0x67, 0xaa]); // stosb [edi]
    assert_eq!(bench.registers.general[RDI], DEVICE + 1);
}
