//! The bytes of every protocol, frozen.
//!
//! One function for each protocol gives one exchange for every operation. `check_protocol` then
//! compares their bytes with `wire/<protocol>.hex`, wants every operation covered, and feeds the
//! decoders damaged and random bytes. To freeze a new protocol, add its function and its test
//! here and run the test once with `FREEZE_WIRE=1`. A line that is already frozen never changes:
//! a changed message is a new operation.

mod support;

use proto::console::{
    Attach, Clear, Console, Detach, Dimensions, Event, LogLine, LogPart, Read, ReadLog, Severity,
    Size, VirtualConsole, Write,
};
use proto::echo::{Add, Echo, Repeat, Wait, WhoAmI};
use support::{Exchanges, check_protocol, protocol_modules};

/// Protocols of this crate that have a test below, by module.
const CHECKED: &[&str] = &["console", "echo"];

#[test]
fn every_protocol_is_checked_here() {
    assert_eq!(
        protocol_modules(),
        CHECKED,
        "add the protocol's exchanges to this file"
    );
}

#[test]
fn echo() {
    check_protocol(
        "echo",
        Exchanges::<Echo>::new()
            .with(
                Repeat {
                    bytes: b"tile".to_vec(),
                },
                b"tile".to_vec(),
            )
            .with(
                Add {
                    left: 300,
                    right: 2,
                },
                302,
            )
            .with(
                Wait {
                    delay_us: 1_000_000,
                },
                (),
            )
            .with(WhoAmI {}, u64::MAX),
    );
}

#[test]
fn console() {
    let line = LogLine {
        number: 300,
        time_us: 12_345_678,
        program: "root".into(),
        severity: Severity::Warning,
        text: "hot".into(),
    };
    check_protocol(
        "console",
        Exchanges::<Console>::new()
            .with(
                Write {
                    bytes: b"tile".to_vec(),
                },
                (),
            )
            .with(
                Read {
                    wait: proto::console::Wait::Forever,
                },
                Event::Input(b"ls".to_vec()),
            )
            .with(
                Read {
                    wait: proto::console::Wait::Milliseconds(500),
                },
                Event::Notice("hot".into()),
            )
            .with(
                Read {
                    wait: proto::console::Wait::Forever,
                },
                Event::Detached,
            )
            .with(
                Read {
                    wait: proto::console::Wait::Milliseconds(0),
                },
                Event::TimedOut,
            )
            .with(
                Attach {
                    console: VirtualConsole::Machine(7),
                },
                (),
            )
            .with(Detach {}, ())
            .with(
                ReadLog { from: 300 },
                LogPart {
                    lines: vec![line],
                    next: 301,
                },
            )
            .with(
                Clear {
                    console: VirtualConsole::Log,
                },
                (),
            )
            .with(
                Size {},
                Dimensions {
                    columns: 80,
                    rows: 24,
                },
            ),
    );
}
