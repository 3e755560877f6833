//! Retype: what it makes, where, and in which order it refuses.

use microkernel::arch::host::MACHINE;
use microkernel::cap::{Cap, UntypedCap};
use microkernel::config::WORK_UNITS_LIMIT;
use microkernel::fault::{LookupFailure, SyscallError};
use microkernel::invocation::Refusal;
use microkernel::store::{Ref, Table};
use sel4_sys::{InvocationLabel as Label, ObjectType};

use crate::world::{ARENA_BITS, DEVICE, FREE, ROOT_CNODE, ROOT_RADIX, UNTYPED, World};

const A: usize = FREE;
const B: usize = FREE + 1;
const RETYPE: Label = Label::UntypedRetype;

fn refused(world: &World, words: &[u64], caps: &[usize]) -> SyscallError {
    let before = world.snapshot();
    let error = world
        .call(UNTYPED, RETYPE, words, caps)
        .expect_err("must be refused");
    assert!(
        before == world.snapshot(),
        "a refused Retype changed something"
    );
    error
}

fn watermark(world: &World) -> u64 {
    match world.cap(UNTYPED) {
        Cap::Untyped(UntypedCap { watermark, .. }) => watermark,
        other => panic!("no untyped: {other:?}"),
    }
}

#[test]
fn objects_follow_each_other_aligned_to_their_size() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::Endpoint, 0, A, 1), Ok(()));
    assert_eq!(watermark(&world), 16);
    assert_eq!(
        world.retype(UNTYPED, ObjectType::SmallPage, 0, B, 2),
        Ok(())
    );
    assert_eq!(watermark(&world), 3 << 12);
    let bases: Vec<_> = [B, B + 1]
        .iter()
        .map(|&slot| match world.cap(slot) {
            Cap::Frame(frame) => frame.base - world.arena,
            other => panic!("no frame: {other:?}"),
        })
        .collect();
    assert_eq!(bases, [1 << 12, 2 << 12]);
}

#[test]
fn every_type_of_object_can_be_made() {
    for &object in ObjectType::ALL {
        let world = World::new();
        let size_bits = match object {
            ObjectType::Untyped => 4,
            ObjectType::CapTable => 1,
            ObjectType::SchedContext => 7,
            ObjectType::HugePage | ObjectType::LargePage => {
                assert_eq!(
                    world.retype(UNTYPED, object, 0, A, 1),
                    Err(SyscallError::NotEnoughMemory {
                        bytes_left: 1 << ARENA_BITS
                    })
                );
                continue;
            }
            // Its number is reserved: nothing translates for devices.
            ObjectType::IoPageTable => {
                assert_eq!(
                    world.retype(UNTYPED, object, 0, A, 1),
                    Err(SyscallError::InvalidArgument(0))
                );
                continue;
            }
            _ => 0,
        };
        assert_eq!(
            world.retype(UNTYPED, object, size_bits, A, 2),
            Ok(()),
            "{object:?}"
        );
        assert_ne!(world.cap(A), Cap::Null, "{object:?}");
        assert_ne!(world.cap(A), world.cap(B), "{object:?}");
        assert_eq!(
            watermark(&world),
            2 << object.size_bits(size_bits as u32),
            "{object:?}"
        );
        world.revoke(UNTYPED);
        assert_eq!(world.cap(A), Cap::Null, "{object:?}");
    }
}

#[test]
fn a_new_thread_has_interrupts_on_and_the_current_domain() {
    let world = World::new();
    world.kernel.node().domain.set(3);
    assert_eq!(world.retype(UNTYPED, ObjectType::Tcb, 0, A, 1), Ok(()));
    let Cap::Thread { tcb } = world.cap(A) else {
        panic!("no thread")
    };
    assert_eq!(tcb.registers.rflags.get(), 0x202);
    assert_eq!(tcb.domain.get(), 3);
}

#[test]
fn the_destination_may_be_a_cnode_below_the_root() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 3, A, 1), Ok(()));
    let depth = u64::from(ROOT_RADIX);
    let words = [ObjectType::Endpoint.number(), 0, A as u64, depth, 6, 2];
    assert_eq!(
        world.call(UNTYPED, RETYPE, &words, &[ROOT_CNODE]).map(drop),
        Ok(())
    );
    let Cap::CNode(node) = world.cap(A) else {
        panic!("no CNode")
    };
    assert!(matches!(node.slots.element(7).cap(), Cap::Endpoint(_)));
}

/// Each row breaks one rule and all that are checked after it.
#[test]
fn the_first_broken_rule_is_the_one_that_is_reported() {
    let world = World::new();
    let (ep, cnode) = (ObjectType::Endpoint.number(), ObjectType::CapTable.number());
    let depth = u64::from(ROOT_RADIX);
    let missing = |bits_left| SyscallError::FailedLookup {
        was_source: false,
        failure: LookupFailure::MissingCapability { bits_left },
    };
    let range = |min, max| SyscallError::RangeError { min, max };
    let rows: [(&[u64], SyscallError); 12] = [
        (&[99, 64, 9, 99, 99, 0], SyscallError::InvalidArgument(0)),
        (&[ep, 64, 9, 99, 99, 0], range(0, 47)),
        (&[cnode, 43, 9, 99, 99, 0], range(0, 47)),
        (&[cnode, 0, 9, 99, 99, 0], SyscallError::InvalidArgument(1)),
        (
            &[ObjectType::Untyped.number(), 3, 9, 99, 99, 0],
            SyscallError::InvalidArgument(1),
        ),
        (
            &[ObjectType::SchedContext.number(), 6, 9, 99, 99, 0],
            SyscallError::InvalidArgument(1),
        ),
        (&[ep, 0, 9, 99, 99, 0], range(1, 64)),
        (&[ep, 0, 60, depth, 99, 0], missing(ROOT_RADIX)),
        (&[ep, 0, 0, 0, 64, 0], range(0, 63)),
        (&[ep, 0, 0, 0, 60, 257], range(1, 256)),
        (&[ep, 0, 0, 0, 60, 5], range(1, 4)),
        (
            &[cnode, 20, 0, 0, UNTYPED as u64, 1],
            SyscallError::DeleteFirst,
        ),
    ];
    for (words, error) in rows {
        assert_eq!(refused(&world, words, &[ROOT_CNODE]), error, "{words:?}");
    }
    assert_eq!(
        refused(&world, &[99, 0, 0, 0, 0], &[ROOT_CNODE]),
        SyscallError::TruncatedMessage
    );
    assert_eq!(
        refused(&world, &[99, 0, 0, 0, 0, 0], &[]),
        SyscallError::TruncatedMessage
    );
    assert_eq!(
        refused(&world, &[ep, 0, 0, 0, 8, 1], &[UNTYPED]),
        missing(0)
    );
}

#[test]
fn memory_that_is_left_is_told() {
    let world = World::new();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::SmallPage, 0, A, 1),
        Ok(())
    );
    let bytes_left = (1 << ARENA_BITS) - 4096;
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Untyped, u64::from(ARENA_BITS), B, 1),
        Err(SyscallError::NotEnoughMemory { bytes_left })
    );
}

#[test]
fn device_memory_becomes_frames_and_untyped_only() {
    let world = World::new();
    assert_eq!(world.retype(DEVICE, ObjectType::SmallPage, 0, A, 1), Ok(()));
    assert_eq!(world.retype(DEVICE, ObjectType::Untyped, 12, B, 1), Ok(()));
    for (slot, is_frame) in [(A, true), (B, false)] {
        match world.cap(slot) {
            Cap::Frame(frame) => assert!(frame.device && is_frame),
            Cap::Untyped(untyped) => assert!(untyped.device && !is_frame),
            other => panic!("{other:?}"),
        }
    }
    for object in [
        ObjectType::Endpoint,
        ObjectType::PageTable,
        ObjectType::Timer,
    ] {
        assert_eq!(
            world.retype(DEVICE, object, 0, B + 1, 1),
            Err(SyscallError::InvalidArgument(1)),
            "{object:?}"
        );
    }
}

#[test]
fn device_memory_is_reused_without_being_cleared() {
    let world = World::new();
    assert_eq!(world.retype(DEVICE, ObjectType::SmallPage, 0, A, 1), Ok(()));
    world.delete(A);
    assert_eq!(world.retype(DEVICE, ObjectType::Untyped, 16, A, 1), Ok(()));
}

fn scribble(world: &World, slot: usize) {
    let Cap::Frame(frame) = world.cap(slot) else {
        panic!("no frame")
    };
    let page = Ref::<Table>::from_address(frame.base);
    (0..512).for_each(|index| page.entry(index).set(u64::MAX));
}

#[test]
fn memory_is_clear_when_it_is_used_again() {
    let world = World::new();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::SmallPage, 0, A, 3),
        Ok(())
    );
    (A..A + 3).for_each(|slot| scribble(&world, slot));
    world.delete(A);
    world.delete(A + 1);
    assert_eq!(world.retype(UNTYPED, ObjectType::Untyped, 12, A, 1), Ok(()));
    assert_eq!(watermark(&world), 4 << 12, "one frame is still there");
    world.revoke(UNTYPED);
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 7, A, 1), Ok(()));
    assert_eq!(watermark(&world), 1 << 12);
    assert!(
        world
            .arena_words(0..1 << ARENA_BITS)
            .iter()
            .all(|word| word.get() == 0)
    );
}

#[test]
fn clearing_stops_for_interrupts_and_never_shows_a_dirty_byte_above_the_watermark() {
    let world = World::new();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::SmallPage, 0, A, 1),
        Ok(())
    );
    scribble(&world, A);
    world.delete(A);
    let words = [ObjectType::Endpoint.number(), 0, 0, 0, A as u64, 1];
    let mut stops = 0;
    MACHINE.with(|machine| machine.interrupt.set(true));
    loop {
        world.kernel.node().work_units.set(WORK_UNITS_LIMIT - 1);
        match world.invoke(
            world.root(UNTYPED),
            RETYPE,
            &words,
            &[world.root(ROOT_CNODE)],
        ) {
            Err(Refusal::Preempted) => stops += 1,
            other => {
                assert!(other.is_ok(), "{other:?}");
                break;
            }
        }
        let clean = world.arena_words(watermark(&world) as usize..1 << ARENA_BITS);
        assert!(clean.iter().all(|word| word.get() == 0));
        assert_eq!(world.cap(A), Cap::Null);
    }
    MACHINE.with(|machine| machine.interrupt.set(false));
    assert_eq!(stops, 4096 / 256);
    assert_eq!(watermark(&world), 16);
}

#[test]
fn untyped_memory_smaller_than_a_chunk_is_cleared_alone() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::Untyped, 6, A, 2), Ok(()));
    let slot = FREE + 8;
    assert_eq!(world.retype(A, ObjectType::Endpoint, 0, slot, 1), Ok(()));
    world.delete(slot);
    world
        .arena_words(0..128)
        .iter()
        .for_each(|word| word.set(7));
    assert_eq!(world.retype(A, ObjectType::Endpoint, 0, slot, 1), Ok(()));
    assert!(world.arena_words(0..64).iter().all(|word| word.get() == 0));
    assert!(
        world
            .arena_words(64..128)
            .iter()
            .all(|word| word.get() == 7)
    );
}

#[test]
fn other_labels_are_illegal() {
    let world = World::new();
    assert_eq!(
        world.call(UNTYPED, Label::CNodeCopy, &[], &[]).map(drop),
        Err(SyscallError::IllegalOperation)
    );
}
