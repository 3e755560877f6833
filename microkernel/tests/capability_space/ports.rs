//! Issuing I/O ports and using them.

use microkernel::arch::host::MACHINE;
use microkernel::cap::Cap;
use microkernel::fault::SyscallError;
use sel4_sys::InvocationLabel as Label;

use crate::world::{FREE, IO_PORT_CONTROL, ROOT_CNODE, ROOT_RADIX, UNTYPED, World};

const PORTS: usize = FREE;
const OTHER: usize = FREE + 1;
const DEPTH: u64 = ROOT_RADIX as u64;

fn issue(world: &World, first: u64, last: u64, slot: usize) -> Result<(), SyscallError> {
    let words = [first, last, slot as u64, DEPTH];
    world
        .call(
            IO_PORT_CONTROL,
            Label::X86IoPortControlIssue,
            &words,
            &[ROOT_CNODE],
        )
        .map(drop)
}

fn with_ports() -> World {
    let world = World::new();
    assert_eq!(issue(&world, 0x3f8, 0x3ff, PORTS), Ok(()));
    world
}

#[test]
fn a_port_has_one_owner_at_a_time() {
    let world = with_ports();
    assert_eq!(
        world.cap(PORTS),
        Cap::IoPort {
            first: 0x3f8,
            last: 0x3ff
        }
    );
    assert_eq!(
        issue(&world, 0x3ff, 0x400, OTHER),
        Err(SyscallError::RevokeFirst)
    );
    assert_eq!(world.copy(PORTS, OTHER), Ok(()));
    world.delete(PORTS);
    assert_eq!(
        issue(&world, 0x3f8, 0x3f8, PORTS),
        Err(SyscallError::RevokeFirst)
    );
    world.delete(OTHER);
    assert_eq!(issue(&world, 0x3f8, 0x3f8, PORTS), Ok(()));
}

#[test]
fn revoking_port_control_takes_every_port() {
    let world = with_ports();
    assert_eq!(world.copy(PORTS, OTHER), Ok(()));
    world.revoke(IO_PORT_CONTROL);
    assert_eq!((world.cap(PORTS), world.cap(OTHER)), (Cap::Null, Cap::Null));
    assert_eq!(issue(&world, 0, 0xffff, PORTS), Ok(()));
}

#[test]
fn issue_checks_the_range_then_its_use_then_the_slot() {
    let world = with_ports();
    let before = world.snapshot();
    assert_eq!(
        issue(&world, 0x3f9, 0x3f8, UNTYPED),
        Err(SyscallError::InvalidArgument(1))
    );
    assert_eq!(
        issue(&world, 0x3f8, 0x3f9, UNTYPED),
        Err(SyscallError::RevokeFirst)
    );
    assert_eq!(
        issue(&world, 0x60, 0x64, UNTYPED),
        Err(SyscallError::DeleteFirst)
    );
    let short = world.call(
        IO_PORT_CONTROL,
        Label::X86IoPortControlIssue,
        &[1, 0, 0],
        &[ROOT_CNODE],
    );
    assert_eq!(short, Err(SyscallError::TruncatedMessage));
    assert_eq!(
        world.call(IO_PORT_CONTROL, Label::X86IoPortIn8, &[0; 4], &[ROOT_CNODE]),
        Err(SyscallError::IllegalOperation)
    );
    assert!(before == world.snapshot());
}

#[test]
fn reading_answers_the_value() {
    let world = with_ports();
    let read = |label, port| world.call(PORTS, label, &[port], &[]);
    assert_eq!(
        read(Label::X86IoPortIn8, 0x3ff),
        Ok(vec![u64::from(u32::MAX)])
    );
    assert_eq!(
        read(Label::X86IoPortIn32, 0x3fc),
        Ok(vec![u64::from(u32::MAX)])
    );
}

#[test]
fn writing_takes_as_many_bits_as_the_access_is_wide() {
    let world = with_ports();
    for (label, written) in [
        (Label::X86IoPortOut8, 0xcd),
        (Label::X86IoPortOut16, 0xabcd),
        (Label::X86IoPortOut32, 0x1234_abcd),
    ] {
        let words = [0x3f8, 0xffff_ffff_1234_abcd];
        assert_eq!(world.call(PORTS, label, &words, &[]), Ok(vec![]));
        assert_eq!(
            MACHINE.with(|machine| machine.port.get()),
            Some((0x3f8, written))
        );
    }
}

#[test]
fn an_access_lies_wholly_in_the_range() {
    let world = with_ports();
    MACHINE.with(|machine| machine.port.set(None));
    for (label, port) in [
        (Label::X86IoPortOut8, 0x3f7),
        (Label::X86IoPortOut8, 0x400),
        (Label::X86IoPortOut16, 0x3ff),
        (Label::X86IoPortOut32, 0x3fd),
        (Label::CNodeCopy, 0x3f8),
    ] {
        assert_eq!(
            world.call(PORTS, label, &[port, 0], &[]),
            Err(SyscallError::IllegalOperation),
            "{label:?} {port:#x}"
        );
    }
    assert_eq!(
        world.call(PORTS, Label::X86IoPortOut8, &[0x3f8], &[]),
        Err(SyscallError::TruncatedMessage)
    );
    assert_eq!(
        world.call(PORTS, Label::X86IoPortIn8, &[], &[]),
        Err(SyscallError::TruncatedMessage)
    );
    assert_eq!(MACHINE.with(|machine| machine.port.get()), None);
}
