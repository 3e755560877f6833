//! The protocol, through the client and the host's channel.

use super::*;
use crate::mock::MockKernel;
use crate::supervisor::tests::{ADMIN, CONSOLE, Lines, MONITOR, OneProgram, system};
use proto::host::HostChannel;
use proto::protocol::CallError;
use proto::root::{Root, RootClient};

type Tested = Service<MockKernel, OneProgram, Lines, fn() -> u64>;

/// A second after root started.
fn one_second() -> u64 {
    1_000_000
}

fn service() -> Tested {
    let (mut system, _) = system();
    system.start_at_boot(0);
    Service::new(system, one_second)
}

/// A client as the instance `place` would be.
macro_rules! client {
    ($service:expr, $place:expr) => {
        RootClient::new(HostChannel::<Root, _, _>::new(
            &$service,
            badge::caller($place.0, $place.1),
        ))
    };
}

fn refused<T: core::fmt::Debug>(answer: Result<T, CallError<RootError>>) -> RootError {
    match answer {
        Err(CallError::Server(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_program_without_authority_may_only_report() {
    let service = service();
    let monitor = client!(service, (MONITOR, 0));
    assert_eq!(refused(monitor.list(0)), RootError::NotAllowed);
    assert_eq!(refused(monitor.caps(0)), RootError::NotAllowed);
    assert_eq!(refused(monitor.memory()), RootError::NotAllowed);
    assert_eq!(refused(monitor.machine()), RootError::NotAllowed);
    assert_eq!(
        refused(monitor.start("monitor".into(), 0, 0, vec![])),
        RootError::NotAllowed
    );
    assert_eq!(refused(monitor.stop(1)), RootError::NotAllowed);
    assert_eq!(refused(monitor.kill(1)), RootError::NotAllowed);
    assert_eq!(refused(monitor.restart(1)), RootError::NotAllowed);
    assert_eq!(refused(monitor.signal(1, 4)), RootError::NotAllowed);
    assert_eq!(refused(monitor.reboot()), RootError::NotAllowed);
    assert_eq!(refused(monitor.halt()), RootError::NotAllowed);
    assert_eq!(monitor.report(7), Ok(()));
    assert_eq!(service.power(), None);
    let nobody = client!(service, (77, 0));
    assert_eq!(refused(nobody.report(7)), RootError::NotAllowed);
}

#[test]
fn programs_are_listed_with_root_first() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    client!(service, (CONSOLE, 0)).report(5).unwrap();
    let part = admin.list(0).unwrap();
    assert_eq!(part.next, None);
    let names: Vec<_> = part
        .programs
        .iter()
        .map(|p| (p.pid, p.name.as_str()))
        .collect();
    assert_eq!(names, [(0, "root"), (1, "console"), (2, "admin")]);
    let console = &part.programs[1];
    assert_eq!((console.state, console.status), (ProgramState::Running, 5));
    assert!(console.memory_bytes >= 0x21_0000 && console.cpu_us == 1000);
    assert_eq!(admin.list(2).unwrap().programs[0].name, "admin");
    assert_eq!(admin.list(99).unwrap().programs, []);
}

#[test]
fn capabilities_come_in_parts_that_fit_a_message() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    admin.start("monitor".into(), 0, 4 << 20, vec![]).unwrap();
    let (mut caps, mut next) = (Vec::new(), Some(0));
    while let Some(from) = next {
        let part = admin.caps(from).unwrap();
        assert!(!part.caps.is_empty());
        caps.extend(part.caps);
        next = part.next;
    }
    let of = |pid| {
        caps.iter()
            .filter(move |cap| cap.pid == pid)
            .map(|cap| cap.name.as_str())
    };
    assert!(of(1).any(|name| name == "com1.irq"));
    assert!(of(3).any(|name| name == "vcpu.1"));
    assert_eq!(of(2).filter(|name| name.starts_with("com1")).count(), 0);
}

#[test]
fn an_instance_is_started_stopped_and_started_again() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    let start = || admin.start("monitor".into(), 1, 4 << 20, vec![1]);
    let pid = start().unwrap();
    assert_eq!(refused(start()), RootError::AlreadyRunning);
    assert_eq!(admin.memory().unwrap().guests, 4 << 20);
    admin.stop(pid).unwrap();
    assert_eq!(refused(admin.stop(pid)), RootError::NotRunning);
    assert_eq!(admin.memory().unwrap().guests, 0);
    let listed = admin.list(0).unwrap();
    assert_eq!(
        listed.programs[3].state,
        ProgramState::Ended(Ending::Stopped)
    );
    assert!(start().unwrap() > pid);
}

#[test]
fn a_start_that_the_manifest_does_not_allow_is_refused() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    let start = |name: &str, instance, guest_bytes, args| {
        refused(admin.start(name.into(), instance, guest_bytes, args))
    };
    assert_eq!(start("pool", 0, 0, vec![]), RootError::NotFound);
    assert_eq!(start("monitor", 2, 0, vec![]), RootError::NotFound);
    assert_eq!(start("monitor", 0, 1 << 20, vec![]), RootError::BadSize);
    assert_eq!(start("monitor", 0, 128 << 20, vec![]), RootError::BadSize);
    assert_eq!(
        start("monitor", 0, 0, vec![0; ARGUMENT_BYTES_MAX + 1]),
        RootError::BadSize
    );
    service.supervisor.borrow_mut().machine.virtualisation = Virtualisation::None;
    assert_eq!(start("monitor", 0, 4 << 20, vec![]), RootError::Unsupported);
}

#[test]
fn a_killed_program_restarts_and_a_finished_one_does_not() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    admin.kill(1).unwrap();
    let console = |admin: &dyn Fn() -> ProgramPart| admin().programs[1].clone();
    let list = || admin.list(0).unwrap();
    assert_eq!(console(&list).state, ProgramState::Restarting(100));
    assert_eq!(console(&list).restarts, 1);
    assert_eq!(refused(admin.kill(1)), RootError::NotRunning);
    assert_eq!(admin.restart(1), Ok(3));
    client!(service, (CONSOLE, 0))
        .finish(Ending::Finished)
        .unwrap();
    assert_eq!(console(&list).state, ProgramState::Ended(Ending::Finished));
    assert_eq!(refused(admin.kill(99)), RootError::NotFound);
}

#[test]
fn only_declared_signals_are_passed_on() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    let pid = admin.start("monitor".into(), 0, 4 << 20, vec![]).unwrap();
    admin.signal(pid, 0b10100).unwrap();
    for bits in [0, 1, 0b10101, u64::MAX] {
        assert_eq!(
            refused(admin.signal(pid, bits)),
            RootError::BadSignal,
            "{bits:#x}"
        );
    }
    let supervisor = service.supervisor.borrow();
    assert_eq!(supervisor.resources.kernel.signals, [0b10100]);
}

#[test]
fn the_machine_is_described_and_its_end_is_noted_once() {
    let service = service();
    let admin = client!(service, (ADMIN, 0));
    let machine = admin.machine().unwrap();
    assert_eq!((machine.cpus, machine.uptime_us), (2, 1_000_000));
    admin.reboot().unwrap();
    assert_eq!(service.power(), Some(Power::Reset));
    assert_eq!(service.power(), None);
    admin.halt().unwrap();
    assert_eq!(service.power(), Some(Power::Off));
}

#[test]
fn a_whole_part_of_either_list_fits_a_message() {
    let program = ProgramInfo {
        pid: u32::MAX,
        name: "x".repeat(16),
        instance: 63,
        state: ProgramState::Ended(Ending::Died(Death::MemoryFault {
            ip: u64::MAX,
            address: u64::MAX,
        })),
        status: u32::MAX,
        priority: 255,
        threads: 32,
        memory_bytes: 1 << 40,
        cpu_us: 1 << 50,
        restarts: u32::MAX,
    };
    let part = ProgramPart {
        programs: vec![program; PROGRAMS_PER_PART],
        next: Some(u32::MAX),
    };
    assert!(proto::Message::encode(0, &part).is_ok());
    let cap = CapInfo {
        pid: u32::MAX,
        name: "x".repeat(28),
        kind: proto::start::CapKind::IoSpace,
    };
    let part = CapPart {
        caps: vec![cap; CAPS_PER_PART],
        next: Some(u32::MAX),
    };
    assert!(proto::Message::encode(0, &part).is_ok());
}
