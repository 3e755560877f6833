use super::*;
use proptest::prelude::*;

/// One tick is one nanosecond.
const KHZ: u64 = 1_000_000;
/// 2024-02-29 23:59:58, a Thursday.
const START: i64 = 1_709_251_198;

fn clock() -> RealTimeClock {
    RealTimeClock::new(TimeBase::new(KHZ).unwrap(), START)
}

fn seconds(count: u64) -> Ticks {
    Ticks(count * 1_000_000_000)
}

fn read(clock: &mut RealTimeClock, index: u8, now: Ticks) -> u8 {
    clock.select(index);
    clock.read(now)
}

fn write(clock: &mut RealTimeClock, index: u8, value: u8, now: Ticks) {
    clock.select(index);
    clock.write(value, now);
}

fn date(clock: &mut RealTimeClock, now: Ticks) -> [u8; 8] {
    [CENTURY, 9, 8, 7, 6, 4, 2, 0].map(|index| read(clock, index, now))
}

#[test]
fn the_calendar_starts_where_it_was_set_and_goes_on() {
    let mut clock = clock();
    assert_eq!(
        date(&mut clock, seconds(0)),
        [0x20, 0x24, 2, 0x29, 5, 0x23, 0x59, 0x58]
    );
    assert_eq!(date(&mut clock, seconds(2)), [0x20, 0x24, 3, 1, 6, 0, 0, 0]);
}

#[test]
fn binary_and_twelve_hour_formats_are_shown() {
    let mut clock = clock();
    write(&mut clock, REGISTER_B, B_BINARY, seconds(0));
    assert_eq!(read(&mut clock, 4, seconds(0)), 0x80 | 11);
    assert_eq!(read(&mut clock, 2, seconds(0)), 59);
    assert_eq!(read(&mut clock, 4, seconds(2)), 12, "midnight is twelve");
}

#[test]
fn the_guest_can_set_the_clock() {
    let mut clock = clock();
    write(&mut clock, REGISTER_B, B_SET | B_24_HOURS, seconds(5));
    for (index, value) in [
        (0, 0x56),
        (2, 0x34),
        (4, 0x12),
        (7, 0x31),
        (8, 0x12),
        (9, 0x99),
        (CENTURY, 0x19),
    ] {
        write(&mut clock, index, value, seconds(5));
    }
    assert_eq!(
        read(&mut clock, 0, seconds(9)),
        0x56,
        "stands still while set"
    );
    write(&mut clock, REGISTER_B, B_24_HOURS, seconds(9));
    assert_eq!(
        date(&mut clock, seconds(10)),
        [0x19, 0x99, 0x12, 0x31, 6, 0x12, 0x34, 0x57]
    );
}

#[test]
fn the_update_interrupt_comes_every_second_and_reading_c_ends_it() {
    let mut clock = clock();
    write(
        &mut clock,
        REGISTER_B,
        B_24_HOURS | B_UPDATE_INTERRUPT,
        seconds(0),
    );
    assert_eq!(clock.line(), Line::Low);
    let deadline = clock.deadline(seconds(0)).unwrap();
    clock.advance(deadline);
    assert_eq!(clock.line(), Line::High);
    assert_eq!(read(&mut clock, REGISTER_C, deadline), C_REQUEST | C_UPDATE);
    assert_eq!(clock.line(), Line::Low);
    assert!(clock.deadline(deadline).unwrap() > deadline);
}

#[test]
fn the_alarm_rings_at_its_time_and_wildcards_match() {
    let mut clock = clock();
    for (index, value) in [(1, 0x03), (3, 0xff), (5, 0xff)] {
        write(&mut clock, index, value, seconds(0));
    }
    write(
        &mut clock,
        REGISTER_B,
        B_24_HOURS | B_ALARM_INTERRUPT,
        seconds(0),
    );
    for second in 1..5 {
        clock.advance(seconds(second));
        assert_eq!(clock.line(), Line::Low);
    }
    clock.advance(seconds(5));
    assert_eq!(clock.line(), Line::High);
}

#[test]
fn an_alarm_within_missed_seconds_still_rings() {
    let mut clock = clock();
    for (index, value) in [(1, 0x03), (3, 0xff), (5, 0xff)] {
        write(&mut clock, index, value, seconds(0));
    }
    write(
        &mut clock,
        REGISTER_B,
        B_24_HOURS | B_ALARM_INTERRUPT,
        seconds(0),
    );
    clock.advance(seconds(20));
    assert_eq!(clock.line(), Line::High);
}

#[test]
fn the_periodic_interrupt_has_its_rate() {
    let mut clock = clock();
    write(&mut clock, REGISTER_A, 0x26, seconds(0));
    write(
        &mut clock,
        REGISTER_B,
        B_24_HOURS | B_PERIODIC_INTERRUPT,
        seconds(0),
    );
    assert_eq!(clock.deadline(seconds(0)), Some(Ticks(976_562)));
    clock.advance(Ticks(976_562));
    assert_eq!(
        read(&mut clock, REGISTER_C, Ticks(976_562)),
        C_REQUEST | C_PERIODIC
    );
}

#[test]
fn the_update_bit_warns_before_the_second_turns() {
    let mut clock = clock();
    assert_eq!(read(&mut clock, REGISTER_A, Ticks(999_000_000)) & 0x80, 0);
    assert_eq!(
        read(&mut clock, REGISTER_A, Ticks(999_900_000)) & 0x80,
        0x80
    );
}

#[test]
fn cmos_memory_keeps_its_bytes() {
    let mut clock = clock();
    write(&mut clock, 0x5d, 0xaa, seconds(0));
    assert_eq!(read(&mut clock, 0x5d, seconds(0)), 0xaa);
    assert_eq!(read(&mut clock, REGISTER_D, seconds(0)), 0x80);
}

proptest! {
    #[test]
    fn no_access_panics(steps in proptest::collection::vec((any::<u8>(), any::<u8>(), 0u64..1 << 50), 0..200)) {
        let mut clock = clock();
        let mut now = Ticks(0);
        for (index, value, pause) in steps {
            now = now.after(Ticks(pause));
            clock.select(index);
            clock.write(value, now);
            clock.read(now);
            let _ = clock.line();
            prop_assert!(clock.deadline(now).is_none_or(|deadline| deadline > now));
        }
    }
}
