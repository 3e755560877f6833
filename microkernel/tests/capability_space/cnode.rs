//! CNode invocations and their errors.

use microkernel::cap::{Cap, EndpointCap, Rights};
use microkernel::fault::{LookupFailure, SyscallError};
use sel4_sys::{CNodeData, InvocationLabel as Label, ObjectType};

use crate::world::{
    DEVICE, FREE, IO_PORT_CONTROL, IRQ_CONTROL, ROOT_CNODE, ROOT_RADIX, UNTYPED, World,
};

const DEPTH: u64 = ROOT_RADIX as u64;

/// Root slots that the tests use.
const ENDPOINT: usize = FREE;
const A: usize = FREE + 1;
const B: usize = FREE + 2;
const C: usize = FREE + 3;
const EMPTY: usize = 63;

fn with_endpoint() -> World {
    let world = World::new();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Endpoint, 0, ENDPOINT, 1),
        Ok(())
    );
    world
}

fn endpoint(world: &World, slot: usize) -> EndpointCap {
    match world.cap(slot) {
        Cap::Endpoint(endpoint) => endpoint,
        other => panic!("no endpoint: {other:?}"),
    }
}

/// The error of an invocation that must have changed nothing.
fn refused(world: &World, label: Label, words: &[u64], caps: &[usize]) -> SyscallError {
    let before = world.snapshot();
    let error = world
        .call(ROOT_CNODE, label, words, caps)
        .expect_err("must be refused");
    assert!(before == world.snapshot(), "{label:?} changed something");
    error
}

fn missing(was_source: bool) -> SyscallError {
    let failure = LookupFailure::MissingCapability {
        bits_left: ROOT_RADIX,
    };
    SyscallError::FailedLookup {
        was_source,
        failure,
    }
}

#[test]
fn a_copy_has_the_rights_that_both_sides_allow() {
    let world = with_endpoint();
    let read = Rights::READ.bits();
    let words = [ENDPOINT as u64, DEPTH, read];
    assert_eq!(world.cnode(Label::CNodeCopy, A, &words), Ok(()));
    assert_eq!(endpoint(&world, A).rights, Rights::READ);
    assert_eq!(world.copy(A, B), Ok(()));
    assert_eq!(endpoint(&world, B).rights, Rights::READ);
    assert_eq!(endpoint(&world, ENDPOINT).rights, Rights::ALL);
}

#[test]
fn a_badge_is_given_once() {
    let world = with_endpoint();
    assert_eq!(world.mint(ENDPOINT, A, 7), Ok(()));
    assert_eq!(endpoint(&world, A).badge, 7);
    assert_eq!(world.mint(A, B, 8), Err(SyscallError::IllegalOperation));
    assert_eq!(world.copy(A, B), Ok(()));
    assert_eq!(endpoint(&world, B).badge, 7);
}

#[test]
fn a_moved_capability_leaves_its_slot_and_keeps_its_children() {
    let world = with_endpoint();
    assert_eq!(world.copy(ENDPOINT, A), Ok(()));
    assert_eq!(
        world.cnode(Label::CNodeMove, B, &[ENDPOINT as u64, DEPTH]),
        Ok(())
    );
    assert!(world.root(ENDPOINT).is_empty());
    world.revoke(B);
    assert!(world.root(A).is_empty());
    assert!(!world.root(B).is_empty());
}

#[test]
fn mutate_sets_a_guard_but_no_badge() {
    let world = with_endpoint();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 4, A, 1), Ok(()));
    let data = CNodeData::new(5, 10).word();
    assert_eq!(
        world.cnode(Label::CNodeMutate, B, &[A as u64, DEPTH, data]),
        Ok(())
    );
    let Cap::CNode(node) = world.cap(B) else {
        panic!("no CNode")
    };
    assert_eq!((node.guard, node.guard_size, node.radix), (5, 10, 4));
    let words = [C as u64, DEPTH, ENDPOINT as u64, DEPTH, 7];
    assert_eq!(
        refused(&world, Label::CNodeMutate, &words, &[ROOT_CNODE]),
        SyscallError::IllegalOperation
    );
}

#[test]
fn a_guard_that_does_not_fit_is_refused() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 4, A, 1), Ok(()));
    let data = CNodeData::new(0, 61).word();
    assert_eq!(world.mint(A, B, data), Err(SyscallError::IllegalOperation));
    assert_eq!(world.mint(A, B, CNodeData::new(0, 60).word()), Ok(()));
}

#[test]
fn rotate_moves_the_pivot_on_and_the_source_into_its_place() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 4, A, 2), Ok(()));
    let (first, second) = (world.cap(A), world.cap(B));
    let rest = [0, B as u64, DEPTH, 0, A as u64, DEPTH];
    assert_eq!(world.cnode(Label::CNodeRotate, C, &rest), Ok(()));
    assert!(world.root(A).is_empty());
    assert_eq!((world.cap(B), world.cap(C)), (first, second));
}

#[test]
fn rotate_onto_the_source_exchanges_two_slots() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 4, A, 2), Ok(()));
    let (first, second) = (world.cap(A), world.cap(B));
    let rest = [0, B as u64, DEPTH, 0, A as u64, DEPTH];
    assert_eq!(world.cnode(Label::CNodeRotate, A, &rest), Ok(()));
    assert_eq!((world.cap(A), world.cap(B)), (second, first));
    world.revoke(UNTYPED);
    assert!(world.root(A).is_empty() && world.root(B).is_empty());
}

#[test]
fn rotate_needs_a_pivot_of_its_own() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 4, A, 1), Ok(()));
    let rotate = |destination: usize, pivot: usize, source: usize| {
        let (pivot, source) = (pivot as u64, source as u64);
        let words = [destination as u64, DEPTH, 0, pivot, DEPTH, 0, source, DEPTH];
        refused(
            &world,
            Label::CNodeRotate,
            &words,
            &[ROOT_CNODE, ROOT_CNODE],
        )
    };
    assert_eq!(rotate(C, A, A), SyscallError::IllegalOperation);
    assert_eq!(rotate(A, A, B), SyscallError::IllegalOperation);
    assert_eq!(rotate(UNTYPED, B, A), SyscallError::DeleteFirst);
    assert_eq!(rotate(C, A, B), missing(true));
    assert_eq!(rotate(C, B, A), missing(false));
}

#[test]
fn an_occupied_destination_is_reported_before_a_bad_source() {
    let world = with_endpoint();
    for label in [
        Label::CNodeCopy,
        Label::CNodeMint,
        Label::CNodeMove,
        Label::CNodeMutate,
    ] {
        let words = [ENDPOINT as u64, DEPTH, 0, 99, 0, 0];
        assert_eq!(
            refused(&world, label, &words, &[ENDPOINT]),
            SyscallError::DeleteFirst
        );
    }
}

#[test]
fn an_empty_source_is_a_missing_capability() {
    let world = World::new();
    for label in [
        Label::CNodeCopy,
        Label::CNodeMint,
        Label::CNodeMove,
        Label::CNodeMutate,
    ] {
        let words = [A as u64, DEPTH, EMPTY as u64, DEPTH, 0, 0];
        assert_eq!(refused(&world, label, &words, &[ROOT_CNODE]), missing(true));
    }
}

#[test]
fn a_source_root_that_is_no_cnode_is_an_invalid_root() {
    let world = with_endpoint();
    let words = [A as u64, DEPTH, EMPTY as u64, DEPTH, 0];
    let failure = LookupFailure::InvalidRoot;
    assert_eq!(
        refused(&world, Label::CNodeCopy, &words, &[ENDPOINT]),
        SyscallError::FailedLookup {
            was_source: true,
            failure
        }
    );
}

#[test]
fn whoever_holds_a_cnode_can_ask_what_is_in_its_slots() {
    let world = with_endpoint();
    let before = world.snapshot();
    for (slot, number) in [
        (EMPTY, 0),
        (UNTYPED, 2),
        (ENDPOINT, 4),
        (ROOT_CNODE, 10),
        (IRQ_CONTROL, 14),
        (IO_PORT_CONTROL, 31),
    ] {
        let answer = world.call(ROOT_CNODE, Label::CNodeIdentify, &[slot as u64, DEPTH], &[]);
        assert_eq!(answer, Ok(vec![number]), "slot {slot}");
    }
    assert!(before == world.snapshot());
    let words = [EMPTY as u64, DEPTH + 1];
    let error = refused(&world, Label::CNodeIdentify, &words, &[]);
    assert!(
        matches!(error, SyscallError::FailedLookup { .. }),
        "{error:?}"
    );
}

#[test]
fn every_invocation_says_when_its_message_is_too_short() {
    let world = with_endpoint();
    let (a, source) = (A as u64, ENDPOINT as u64);
    let full = [a, DEPTH, source, DEPTH, 0, 0, source, DEPTH];
    for (label, words) in [
        (Label::CNodeRevoke, 2),
        (Label::CNodeDelete, 2),
        (Label::CNodeCancelBadgedSends, 2),
        (Label::CNodeMove, 4),
        (Label::CNodeCopy, 5),
        (Label::CNodeMutate, 5),
        (Label::CNodeMint, 6),
        (Label::CNodeRotate, 8),
        (Label::CNodeIdentify, 2),
    ] {
        let short = &full[..words - 1];
        assert_eq!(
            refused(&world, label, short, &[ROOT_CNODE, ROOT_CNODE]),
            SyscallError::TruncatedMessage,
            "{label:?}"
        );
    }
    for (label, caps) in [
        (Label::CNodeMove, &[][..]),
        (Label::CNodeRotate, &[ROOT_CNODE]),
    ] {
        let error = refused(&world, label, &full, caps);
        assert_eq!(error, SyscallError::TruncatedMessage, "{label:?}");
    }
}

#[test]
fn labels_of_other_objects_are_illegal() {
    let world = World::new();
    for label in [
        Label::UntypedRetype,
        Label::IrqIssueIrqHandler,
        Label::TimerArm,
    ] {
        assert_eq!(
            refused(&world, label, &[], &[]),
            SyscallError::IllegalOperation,
            "{label:?}"
        );
    }
}

#[test]
fn badged_sends_are_cancelled_only_with_every_right() {
    let world = with_endpoint();
    assert_eq!(world.mint(ENDPOINT, A, 7), Ok(()));
    assert_eq!(world.cnode(Label::CNodeCancelBadgedSends, A, &[]), Ok(()));
    assert_eq!(
        world.cnode(Label::CNodeCancelBadgedSends, ENDPOINT, &[]),
        Ok(())
    );
    let words = [ENDPOINT as u64, DEPTH, Rights::WRITE.bits(), 9];
    assert_eq!(world.cnode(Label::CNodeMint, B, &words), Ok(()));
    for slot in [B, EMPTY, UNTYPED] {
        assert_eq!(
            world.cnode(Label::CNodeCancelBadgedSends, slot, &[]),
            Err(SyscallError::IllegalOperation)
        );
    }
}

#[test]
fn unmapped_paging_structures_and_controls_are_not_copied() {
    let world = World::new();
    let structures = [
        ObjectType::PageTable,
        ObjectType::PageDirectory,
        ObjectType::Pdpt,
        ObjectType::Pml4,
        ObjectType::GuestPml4,
        ObjectType::GuestPageTable,
    ];
    for (index, object) in structures.into_iter().enumerate() {
        assert_eq!(
            world.retype(UNTYPED, object, 0, FREE + index, 1),
            Ok(()),
            "{object:?}"
        );
        assert_eq!(
            world.copy(FREE + index, EMPTY),
            Err(SyscallError::IllegalOperation),
            "{object:?}"
        );
    }
    assert_eq!(
        world.copy(IRQ_CONTROL, EMPTY),
        Err(SyscallError::IllegalOperation)
    );
}

#[test]
fn untyped_memory_in_use_is_not_copied() {
    let world = with_endpoint();
    assert_eq!(world.copy(UNTYPED, A), Err(SyscallError::RevokeFirst));
    assert_eq!(world.copy(DEVICE, A), Ok(()));
}

#[test]
fn a_copied_untyped_has_nothing_left_for_the_original_to_give() {
    let world = World::new();
    assert_eq!(world.copy(UNTYPED, A), Ok(()));
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Endpoint, 0, B, 1),
        Err(SyscallError::NotEnoughMemory { bytes_left: 0 })
    );
    assert_eq!(world.retype(A, ObjectType::Endpoint, 0, B, 1), Ok(()));
    world.delete(A);
    assert!(!world.root(B).is_empty());
    world.revoke(UNTYPED);
    assert!(world.root(B).is_empty());
}
