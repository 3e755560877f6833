use super::*;
use crate::exit::AccessSize::{Byte, Dword, Qword, Word};
use crate::memory::GuestAddress;
use proptest::prelude::*;

const NOW: Ticks = Ticks(0);

fn platform() -> Platform {
    Platform::new(2, TimeBase::new(1_000_000).unwrap(), 0)
}

#[test]
fn ports_that_nobody_claims_read_all_ones() {
    let mut platform = platform();
    assert_eq!(platform.read_port(0x1f0, Byte, NOW), 0xff);
    assert_eq!(platform.read_port(0x378, Word, NOW), 0xffff);
    assert_eq!(platform.read_port(0xffff, Dword, NOW), 0xffff_ffff);
    assert_eq!(
        platform.read_memory(0, GuestAddress(0xd000_0000), Qword, NOW),
        u64::MAX
    );
}

#[test]
fn every_way_to_reset_is_seen() {
    for (port, values) in [(0xcf9, &[0x06u8][..]), (0x64, &[0xfe]), (0x92, &[0x01])] {
        let mut platform = platform();
        for value in values {
            platform.write_port(port, Byte, u64::from(*value), NOW);
        }
        assert_eq!(
            platform.take_request(),
            Some(MachineRequest::Reset),
            "{port:#x}"
        );
        assert_eq!(platform.take_request(), None);
    }
}

#[test]
fn preparing_a_reset_is_none() {
    let mut platform = platform();
    platform.write_port(0xcf9, Byte, 0x02, NOW);
    platform.write_port(0x92, Byte, 0x02, NOW);
    assert_eq!(platform.take_request(), None);
    assert_eq!(platform.read_port(0xcf9, Byte, NOW), 0x02);
}

#[test]
fn sleep_type_five_powers_off() {
    let mut platform = platform();
    platform.write_port(0x604, Word, 0x3400, NOW);
    assert_eq!(platform.take_request(), Some(MachineRequest::PowerOff));
}

#[test]
fn the_debug_port_reports_its_value() {
    let mut platform = platform();
    platform.write_port(DEBUG_EXIT_PORT, Byte, 0x2a, NOW);
    assert_eq!(
        platform.take_request(),
        Some(MachineRequest::DebugExit(0x2a))
    );
}

#[test]
fn the_uart_interrupts_on_line_four() {
    let mut platform = platform();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 1), (0x21, 0)] {
        platform.write_port(port, Byte, value, NOW);
    }
    platform.write_port(0x3fc, Byte, 0x08, NOW);
    platform.write_port(0x3f9, Byte, 0x02, NOW);
    assert_eq!(platform.interrupts.acknowledge(0), Some(0x34));
}

#[test]
fn the_pit_interrupts_on_line_zero_every_period() {
    let mut platform = platform();
    for (port, value) in [(0x20, 0x11), (0x21, 0x30), (0x21, 4), (0x21, 3), (0x21, 0)] {
        platform.write_port(port, Byte, value, NOW);
    }
    platform.write_port(0x43, Byte, 0x34, NOW);
    platform.write_port(0x40, Byte, 0x9c, NOW);
    platform.write_port(0x40, Byte, 0x2e, NOW);
    platform.interrupts.acknowledge(0);
    let mut now = NOW;
    for _ in 0..3 {
        now = platform.deadline(now).unwrap();
        platform.advance(now);
        assert_eq!(platform.interrupts.acknowledge(0), Some(0x30));
        assert!(!platform.interrupts.has_maskable(0));
    }
    // 0x2e9c clocks are 10 ms.
    assert!((29_900_000..30_100_000).contains(&now.0), "{now:?}");
}

#[test]
fn the_pm_timer_reads_in_every_width() {
    let mut platform = platform();
    let now = Ticks(1_000_000_000);
    assert_eq!(platform.read_port(0x608, Dword, now), 3_579_545);
    assert_eq!(platform.read_port(0x608, Word, now), 3_579_545 & 0xffff);
    assert_eq!(platform.read_port(0x609, Byte, now), 3_579_545 >> 8 & 0xff);
}

#[test]
fn the_local_apic_page_is_each_cpus_own() {
    let mut platform = platform();
    let id = GuestAddress(0xfee0_0020);
    assert_eq!(platform.read_memory(0, id, Dword, NOW), 0);
    assert_eq!(platform.read_memory(1, id, Dword, NOW), 0x0100_0000);
    let spurious = GuestAddress(0xfee0_00f0);
    platform.write_memory(1, spurious, Dword, 0x1ff, NOW);
    assert_eq!(platform.read_memory(0, spurious, Dword, NOW) & 0x100, 0x100);
    assert_eq!(platform.read_memory(1, spurious, Byte, NOW), 0xff);
    assert_eq!(
        platform.read_memory(1, GuestAddress(0xfee0_00f1), Byte, NOW),
        1
    );
}

#[test]
fn the_io_apic_is_selected_and_read() {
    let mut platform = platform();
    platform.write_memory(0, GuestAddress(IO_APIC_ADDRESS), Dword, 1, NOW);
    assert_eq!(
        platform.read_memory(0, GuestAddress(IO_APIC_ADDRESS + 0x10), Dword, NOW),
        0x0017_0011
    );
}

#[test]
fn the_power_button_is_an_sci() {
    let mut platform = platform();
    for (port, value) in [
        (0x20, 0x11),
        (0x21, 0x30),
        (0x21, 4),
        (0x21, 1),
        (0x21, 0),
        (0xa0, 0x11),
        (0xa1, 0x38),
        (0xa1, 2),
        (0xa1, 1),
        (0xa1, 0),
    ] {
        platform.write_port(port, Byte, value, NOW);
    }
    platform.write_port(0x602, Word, 0x100, NOW);
    platform.press_power_button();
    assert_eq!(platform.interrupts.acknowledge(0), Some(0x39));
    assert_eq!(platform.read_port(0x600, Word, NOW), 0x100);
}

#[test]
fn a_snapshot_of_all_devices_goes_on_where_it_was() {
    let mut platform = platform();
    platform.write_port(0x43, Byte, 0x34, NOW);
    platform.write_port(0x40, Byte, 0x9c, NOW);
    platform.write_port(0x40, Byte, 0x2e, NOW);
    platform.write_port(0x3f8, Byte, 0x41, NOW);
    let bytes = postcard::to_allocvec(&platform).unwrap();
    let mut copy: Platform = postcard::from_bytes(&bytes).unwrap();
    assert_eq!(copy.uart.take_output(), Some(0x41));
    assert_eq!(copy.deadline(NOW), platform.deadline(NOW));
    assert_eq!(
        copy.read_port(0x40, Byte, Ticks(5000)),
        platform.read_port(0x40, Byte, Ticks(5000))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]
    #[test]
    fn garbage_in_every_register_never_panics(
        steps in proptest::collection::vec(
            (any::<bool>(), prop_oneof![0u64..0x1000, any::<u64>(), 0xfec0_0000u64..0xfec0_1000, 0xfee0_0000u64..0xfee0_1000],
             0usize..4, any::<u64>(), 0u64..1 << 34, 0usize..2),
            0..300,
        ),
    ) {
        let mut platform = platform();
        let mut now = NOW;
        for (write, address, size, value, pause, vcpu) in steps {
            now = now.after(Ticks(pause));
            let size = [Byte, Word, Dword, Qword][size];
            if address < 0x1_0000 {
                if write {
                    platform.write_port(address as u16, size, value, now);
                } else {
                    prop_assert!(platform.read_port(address as u16, size, now) <= size.mask());
                }
            } else if write {
                platform.write_memory(vcpu, GuestAddress(address), size, value, now);
            } else {
                prop_assert!(platform.read_memory(vcpu, GuestAddress(address), size, now) <= size.mask());
            }
            platform.advance(now);
            prop_assert!(platform.deadline(now).is_none_or(|deadline| deadline > now));
            for index in 0..2 {
                platform.interrupts.advance(index, now);
                platform.interrupts.acknowledge(index);
                platform.interrupts.take_start_signal(index);
            }
            platform.take_request();
        }
    }
}
