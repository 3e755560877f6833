//! The bytes of every protocol, frozen.
//!
//! One function for each protocol gives one exchange for every operation. `check_protocol` then
//! compares their bytes with `wire/<protocol>.hex`, wants every operation covered, and feeds the
//! decoders damaged and random bytes. To freeze a new protocol, add its function and its test
//! here and run the test once with `FREEZE_WIRE=1`. A line that is already frozen never changes:
//! a changed message is a new operation.

mod support;

use std::num::NonZeroU64;

use proto::console::{
    Attach, Clear, Console, Detach, Dimensions, Event, LogLine, LogPart, Read, ReadLog, Severity,
    Size, VirtualConsole, Write,
};
use proto::doorbell::{Doorbell, Give, Keep, Ring, RingKept};
use proto::echo::{Add, Echo, Repeat, Wait, WhoAmI};
use proto::passing::{CapName, Passed, WithCap};
use proto::root::{
    CapInfo, CapPart, Caps, Death, Ending, Finish, Halt, Kill, List, Machine, MachineInfo, Memory,
    MemoryUse, ProgramInfo, ProgramPart, ProgramState, Reboot, Report, Restart, Root, Signal,
    Start, Started, StartedWith, Stop, Virtualisation,
};
use support::{Exchanges, check_protocol, protocol_modules};

/// Protocols of this crate that have a test below, by module.
const CHECKED: &[&str] = &["console", "doorbell", "echo", "root"];

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
fn doorbell() {
    let name = CapName(NonZeroU64::new(40).expect("not 0"));
    let (times, bell) = (300, Passed::lent(name));
    let given = WithCap {
        value: 2,
        cap: Passed::lent(name),
    };
    check_protocol(
        "doorbell",
        Exchanges::<Doorbell>::new()
            .with(Ring { times, bell }, ())
            .with(
                Keep {
                    bell: Passed::lent(name),
                },
                (),
            )
            .with(Give {}, given)
            .with(RingKept {}, ()),
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

#[test]
fn root() {
    let program = ProgramInfo {
        pid: 300,
        name: "monitor".into(),
        instance: 2,
        state: ProgramState::Ended(Ending::Died(Death::MemoryFault {
            ip: 0x40_1000,
            address: 0,
        })),
        status: 1,
        priority: 90,
        threads: 5,
        memory_bytes: 300 << 20,
        cpu_us: 12_345_678,
        restarts: 1,
    };
    let cap = CapInfo {
        pid: 300,
        name: "vcpu.0".into(),
        kind: proto::start::CapKind::Vcpu,
    };
    let memory = MemoryUse {
        total: 2 << 30,
        free: 1 << 30,
        largest_free: 1 << 29,
        programs: 32 << 20,
        guests: 256 << 20,
        archive: 12 << 20,
    };
    let machine = MachineInfo {
        cpus: 2,
        virtualisation: Virtualisation::Svm,
        uptime_us: 1_000_000,
    };
    let start = Start {
        program: "monitor".into(),
        instance: 2,
        guest_bytes: 256 << 20,
        args: vec![1, 2],
    };
    check_protocol(
        "root",
        Exchanges::<Root>::new()
            .with(
                List { from: 0 },
                ProgramPart {
                    programs: vec![program],
                    next: Some(1),
                },
            )
            .with(
                Caps { from: 7 },
                CapPart {
                    caps: vec![cap],
                    next: None,
                },
            )
            .with(Memory {}, memory)
            .with(Machine {}, machine)
            .with(start, 301)
            .with(Stop { pid: 301 }, ())
            .with(Kill { pid: 301 }, ())
            .with(Restart { pid: 301 }, 302)
            .with(
                Signal {
                    pid: 302,
                    bits: 0b100,
                },
                (),
            )
            .with(Report { status: 1 }, ())
            .with(
                Finish {
                    ending: Ending::Finished,
                },
                (),
            )
            .with(Reboot {}, ())
            .with(Halt {}, ())
            .with(
                StartedWith { pid: 300 },
                Started {
                    guest_bytes: 1 << 28,
                    args: vec![1, 2],
                },
            ),
    );
}
