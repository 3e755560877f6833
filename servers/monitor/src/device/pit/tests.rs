use super::*;
use proptest::prelude::*;

/// At this frequency one clock of the timer is exactly 1000 ticks.
const KHZ: u64 = 1_193_182;

fn pit() -> Pit {
    Pit::new(TimeBase::new(KHZ).unwrap())
}

/// `clocks` of the timer.
fn at(clocks: u64) -> Ticks {
    Ticks(clocks * 1000 + 1)
}

fn program(pit: &mut Pit, control: u8, count: u16, now: Ticks) {
    let index = usize::from(control >> 6);
    pit.write_control(control, now);
    pit.write_channel(index, count as u8, now);
    pit.write_channel(index, (count >> 8) as u8, now);
}

fn latched(pit: &mut Pit, index: usize, now: Ticks) -> u16 {
    pit.write_control((index as u8) << 6, now);
    u16::from_le_bytes([pit.read_channel(index, now), pit.read_channel(index, now)])
}

#[test]
fn a_rate_generator_interrupts_every_period() {
    let mut pit = pit();
    program(&mut pit, 0x34, 11_932, Ticks(0));
    assert!(!pit.advance(at(11_930)));
    assert!(pit.advance(at(11_932)));
    assert!(!pit.advance(at(12_000)));
    assert!(pit.advance(at(5 * 11_932)), "missed periods come as one");
    assert!(!pit.advance(at(5 * 11_932 + 1)));
}

#[test]
fn a_one_shot_interrupts_once() {
    let mut pit = pit();
    program(&mut pit, 0x30, 1000, Ticks(0));
    assert_eq!(pit.line(at(999)), Line::Low);
    assert!(pit.advance(at(1000)));
    assert_eq!(pit.line(at(1000)), Line::High);
    assert_eq!(pit.deadline(), None);
    assert!(!pit.advance(at(100_000)));
}

#[test]
fn a_guest_cannot_ask_for_an_interrupt_storm() {
    let mut pit = pit();
    program(&mut pit, 0x34, 1, Ticks(0));
    let mut fired = 0;
    let mut now = Ticks(0);
    while let Some(deadline) = pit.deadline().filter(|deadline| *deadline < at(11_932)) {
        now = deadline.max(now);
        fired += u32::from(pit.advance(now));
    }
    assert!(fired <= 101, "{fired} interrupts in 10 ms");
}

#[test]
fn a_latched_count_stands_still_until_it_is_read() {
    let mut pit = pit();
    program(&mut pit, 0x34, 0x1000, Ticks(0));
    pit.write_control(0x00, at(0x10));
    assert_eq!(pit.read_channel(0, at(0x20)), 0xf0);
    assert_eq!(pit.read_channel(0, at(0x30)), 0x0f);
    assert_eq!(latched(&mut pit, 0, at(0x40)), 0xfc0);
}

#[test]
fn mode_three_counts_by_two() {
    let mut pit = pit();
    program(&mut pit, 0x36, 0x1000, Ticks(0));
    assert_eq!(latched(&mut pit, 0, at(0x10)), 0xfe0);
    assert_eq!(latched(&mut pit, 0, at(0x810)), 0xfe0);
}

#[test]
fn the_gated_one_shot_shows_its_end_in_port_61() {
    let mut pit = pit();
    pit.write_system_control(0x01, Ticks(0));
    program(&mut pit, 0xb0, 59_659, Ticks(0));
    assert_eq!(pit.read_system_control(at(59_000)) & 0x21, 0x01);
    assert_eq!(pit.read_system_control(at(59_660)) & 0x21, 0x21);
}

#[test]
fn a_closed_gate_stops_the_count() {
    let mut pit = pit();
    program(&mut pit, 0xb0, 1000, Ticks(0));
    assert_eq!(latched(&mut pit, 2, at(500)), 1000);
    pit.write_system_control(1, at(500));
    assert_eq!(latched(&mut pit, 2, at(600)), 900);
    pit.write_system_control(0, at(700));
    assert_eq!(latched(&mut pit, 2, at(5000)), 800);
    pit.write_system_control(1, at(6000));
    assert_eq!(latched(&mut pit, 2, at(6100)), 700);
}

#[test]
fn the_refresh_bit_toggles() {
    let pit = pit();
    let first = pit.read_system_control(at(0)) & 0x10;
    let second = pit.read_system_control(at(REFRESH_TOGGLE_COUNTS)) & 0x10;
    assert_ne!(first, second);
}

#[test]
fn read_back_gives_status_then_count() {
    let mut pit = pit();
    program(&mut pit, 0x34, 0x1000, Ticks(0));
    pit.write_control(0xc2, at(1));
    assert_eq!(pit.read_channel(0, at(9)), 0xb4);
    assert_eq!(pit.read_channel(0, at(9)), 0xff);
    assert_eq!(pit.read_channel(0, at(9)), 0x0f);
}

#[test]
fn decimal_counts_are_decimal() {
    let mut pit = pit();
    program(&mut pit, 0x35, 0x1000, Ticks(0));
    assert_eq!(latched(&mut pit, 0, at(1)), 0x0999);
    assert_eq!((to_bcd(1234), from_bcd(0x1234)), (0x1234, 1234));
}

proptest! {
    #[test]
    fn no_sequence_panics_or_schedules_the_past(
        steps in proptest::collection::vec((0u8..7, any::<u8>(), 0u64..1 << 40), 0..200),
    ) {
        let mut pit = pit();
        let mut now = Ticks(0);
        for (kind, value, pause) in steps {
            now = now.after(Ticks(pause));
            match kind {
                0..=2 => pit.write_channel(usize::from(kind), value, now),
                3 => pit.write_control(value, now),
                4 => pit.write_system_control(value, now),
                5 => { pit.read_channel(usize::from(value & 3), now); }
                _ => { let _ = pit.read_system_control(now); }
            }
            pit.advance(now);
            prop_assert!(pit.deadline().is_none_or(|deadline| deadline > now));
        }
    }
}
