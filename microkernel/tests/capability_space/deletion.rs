//! Deleting and revoking: what goes, what stays, and what an interrupt may break off.

use microkernel::arch::host::MACHINE;
use microkernel::cap::{Cap, Rights};
use microkernel::config::WORK_UNITS_LIMIT;
use microkernel::derivation;
use microkernel::fault::SyscallError;
use microkernel::finalise;
use microkernel::object::TcbSlot;
use sel4_sys::{InvocationLabel as Label, ObjectType};

use crate::world::{FREE, ROOT_CNODE, ROOT_RADIX, UNTYPED, World};

const A: usize = FREE;
const B: usize = FREE + 1;
const C: usize = FREE + 2;
const D: usize = FREE + 3;

/// Puts an endpoint into `A`.
fn with_endpoint() -> World {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::Endpoint, 0, A, 1), Ok(()));
    world
}

/// Moves a capability from a root slot into slot `index` of the CNode in root slot `node`.
fn move_into(world: &World, source: usize, node: usize, index: usize) {
    let Cap::CNode(inner) = world.cap(node) else {
        panic!("no CNode")
    };
    let words = [
        index as u64,
        u64::from(inner.radix),
        source as u64,
        u64::from(ROOT_RADIX),
    ];
    assert_eq!(
        world
            .call(node, Label::CNodeMove, &words, &[ROOT_CNODE])
            .map(drop),
        Ok(())
    );
}

fn is_empty(world: &World, slots: &[usize]) -> Vec<bool> {
    slots
        .iter()
        .map(|&slot| world.root(slot).is_empty())
        .collect()
}

#[test]
fn revoke_takes_copies_and_badges_but_not_the_capability() {
    let world = with_endpoint();
    assert_eq!(world.copy(A, B), Ok(()));
    assert_eq!(world.mint(A, C, 7), Ok(()));
    assert_eq!(world.copy(C, D), Ok(()));
    world.revoke(A);
    assert_eq!(is_empty(&world, &[A, B, C, D]), [false, true, true, true]);
}

#[test]
fn revoke_of_a_badge_takes_only_that_badge() {
    let world = with_endpoint();
    assert_eq!(world.mint(A, B, 7), Ok(()));
    assert_eq!(world.copy(B, C), Ok(()));
    assert_eq!(world.mint(A, D, 8), Ok(()));
    world.revoke(B);
    assert_eq!(is_empty(&world, &[A, B, C, D]), [false, false, true, false]);
}

#[test]
fn equal_badges_of_two_mints_are_two_lines() {
    let world = with_endpoint();
    assert_eq!(world.mint(A, B, 7), Ok(()));
    assert_eq!(world.mint(A, C, 7), Ok(()));
    world.revoke(C);
    assert_eq!(is_empty(&world, &[B, C]), [false, false]);
    world.revoke(B);
    assert_eq!(is_empty(&world, &[B, C]), [false, false]);
}

#[test]
fn copies_of_a_deleted_badge_do_not_join_another_line() {
    let world = with_endpoint();
    assert_eq!(world.mint(A, B, 7), Ok(()));
    assert_eq!(world.copy(B, C), Ok(()));
    assert_eq!(world.mint(A, D, 7), Ok(()));
    world.delete(B);
    world.revoke(D);
    assert_eq!(is_empty(&world, &[C, D]), [false, false]);
    world.revoke(A);
    assert_eq!(is_empty(&world, &[C, D]), [true, true]);
}

#[test]
fn a_copy_of_a_copy_is_no_ones_child_but_the_originals() {
    let world = with_endpoint();
    assert_eq!(world.copy(A, B), Ok(()));
    assert_eq!(world.copy(B, C), Ok(()));
    world.revoke(B);
    assert_eq!(is_empty(&world, &[B, C]), [false, false]);
    world.delete(A);
    assert_eq!(is_empty(&world, &[B, C]), [false, false]);
    world.revoke(UNTYPED);
    assert_eq!(is_empty(&world, &[B, C]), [true, true]);
}

#[test]
fn the_last_capability_of_a_cnode_takes_what_is_in_it() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 2, A, 1), Ok(()));
    assert_eq!(world.retype(UNTYPED, ObjectType::Endpoint, 0, B, 1), Ok(()));
    assert_eq!(world.copy(B, C), Ok(()));
    move_into(&world, B, A, 3);
    assert_eq!(world.copy(A, D), Ok(()));
    world.delete(A);
    world.revoke(D);
    assert!(!world.root(C).is_empty());
    // The original endpoint in the CNode still has its child: revoking it through D shows that.
    let words = [3, 2];
    assert_eq!(
        world.call(D, Label::CNodeRevoke, &words, &[]).map(drop),
        Ok(())
    );
    assert!(world.root(C).is_empty());
    world.delete(D);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

/// As in seL4: deleting is not as deep as users can nest. What was in the inner CNode is out of
/// everybody's reach and goes when its memory is revoked.
#[test]
fn a_cnode_that_was_last_in_another_waits_for_its_memory_to_be_revoked() {
    let world = World::new();
    let chain = 40;
    assert_eq!(
        world.retype(UNTYPED, ObjectType::CapTable, 1, FREE, chain),
        Ok(())
    );
    let Cap::CNode(second) = world.cap(FREE + 1) else {
        panic!("no CNode")
    };
    for node in (FREE + 1..FREE + chain as usize).rev() {
        move_into(&world, node, node - 1, 1);
    }
    world.delete(FREE);
    let Cap::Zombie(zombie) = second.slots.cap() else {
        panic!("no zombie")
    };
    assert_eq!(zombie.slots, second.slots);
    assert!(derivation::has_children(world.root(UNTYPED)));
    world.revoke(UNTYPED);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn cnodes_that_hold_each_other_die_with_their_memory() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 2, A, 2), Ok(()));
    let node_a = world.cap(A);
    assert_eq!(world.copy(B, C), Ok(()));
    move_into(&world, C, A, 2);
    // B goes into A and A into B: through A's only capability, which is then in B.
    let Cap::CNode(inner) = world.cap(B) else {
        panic!("no CNode")
    };
    move_into(&world, A, B, 1);
    assert_eq!(inner.slots.element(1).cap(), node_a);
    world.delete(B);
    assert!(derivation::has_children(world.root(UNTYPED)));
    world.revoke(UNTYPED);
    assert!(!derivation::has_children(world.root(UNTYPED)));
    assert_eq!(world.retype(UNTYPED, ObjectType::Endpoint, 0, A, 1), Ok(()));
}

#[test]
fn cnodes_whose_first_slots_hold_each_other_go_together() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 2, A, 2), Ok(()));
    let Cap::CNode(inner) = world.cap(B) else {
        panic!("no CNode")
    };
    assert_eq!(world.retype(UNTYPED, ObjectType::Endpoint, 0, C, 1), Ok(()));
    move_into(&world, C, B, 3);
    move_into(&world, B, A, 0);
    // Two levels down: root slot A, then slot 0 of each of the two.
    let words = [
        (A as u64) << 4,
        u64::from(ROOT_RADIX) + 4,
        A as u64,
        u64::from(ROOT_RADIX),
    ];
    assert_eq!(
        world
            .call(ROOT_CNODE, Label::CNodeMove, &words, &[ROOT_CNODE])
            .map(drop),
        Ok(())
    );
    assert!(matches!(inner.slots.cap(), Cap::CNode(_)));
    assert_eq!(finalise::delete(&world.kernel, inner.slots), Ok(()));
    assert!(inner.slots.is_empty());
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn a_cnode_that_holds_itself_goes_but_for_what_lies_before_it() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 2, A, 1), Ok(()));
    let Cap::CNode(inner) = world.cap(A) else {
        panic!("no CNode")
    };
    move_into(&world, A, A, 2);
    assert_eq!(
        finalise::delete(&world.kernel, inner.slots.element(2)),
        Ok(())
    );
    let Cap::Zombie(zombie) = inner.slots.cap() else {
        panic!("no zombie")
    };
    assert_eq!((zombie.slots, zombie.remaining), (inner.slots, 3));
    assert_eq!(finalise::delete(&world.kernel, inner.slots), Ok(()));
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn a_thread_takes_the_capabilities_in_its_slots() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::Tcb, 0, A, 1), Ok(()));
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 2, B, 1), Ok(()));
    let (Cap::Thread { tcb }, node) = (world.cap(A), world.cap(B)) else {
        panic!("no thread")
    };
    derivation::insert(node, world.root(B), tcb.slot(TcbSlot::CSpace));
    derivation::insert(node, world.root(B), tcb.slot(TcbSlot::TimeoutHandler));
    world.delete(A);
    assert!(tcb.slot(TcbSlot::CSpace).is_empty());
    world.delete(B);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn deleting_an_empty_slot_does_nothing() {
    let world = World::new();
    let before = world.snapshot();
    world.delete(A);
    world.revoke(A);
    assert!(before == world.snapshot());
}

#[test]
fn a_half_deleted_container_can_be_neither_invoked_nor_copied() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 7, A, 1), Ok(()));
    break_off_deletion(&world, A);
    assert!(matches!(world.cap(A), Cap::Zombie(_)));
    assert_eq!(
        world.call(A, Label::CNodeDelete, &[0, 7], &[]).map(drop),
        Err(SyscallError::InvalidCapability(0))
    );
    assert_eq!(world.copy(A, B), Err(SyscallError::IllegalOperation));
    world.delete(A);
    assert!(world.root(A).is_empty());
}

/// Deletes root slot `slot` until the first preemption point at which an interrupt stops it.
fn break_off_deletion(world: &World, slot: usize) {
    world.kernel.node().work_units.set(WORK_UNITS_LIMIT - 1);
    MACHINE.with(|machine| machine.interrupt.set(true));
    assert!(finalise::delete(&world.kernel, world.root(slot)).is_err());
    MACHINE.with(|machine| machine.interrupt.set(false));
}

#[test]
fn a_deletion_that_is_interrupted_at_every_point_ends() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::CapTable, 3, A, 2), Ok(()));
    assert_eq!(world.retype(UNTYPED, ObjectType::Tcb, 0, C, 1), Ok(()));
    move_into(&world, C, B, 0);
    move_into(&world, B, A, 7);
    MACHINE.with(|machine| machine.interrupt.set(true));
    let mut attempts = 1;
    world.kernel.node().work_units.set(WORK_UNITS_LIMIT - 1);
    while finalise::delete(&world.kernel, world.root(A)).is_err() {
        world.kernel.node().work_units.set(WORK_UNITS_LIMIT - 1);
        attempts += 1;
        assert!(attempts < 100, "no progress");
    }
    MACHINE.with(|machine| machine.interrupt.set(false));
    assert!(attempts > 8, "only {attempts} points for 8 slots");
    assert!(world.root(A).is_empty());
    world.revoke(UNTYPED);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn rights_do_not_matter_for_deletion() {
    let world = with_endpoint();
    let words = [A as u64, u64::from(ROOT_RADIX), Rights::NONE.bits()];
    assert_eq!(world.cnode(Label::CNodeCopy, B, &words), Ok(()));
    world.delete(A);
    world.delete(B);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}

#[test]
fn a_revoke_that_takes_its_own_slot_ends() {
    let world = World::new();
    assert_eq!(world.retype(UNTYPED, ObjectType::Untyped, 12, A, 1), Ok(()));
    assert_eq!(world.retype(A, ObjectType::CapTable, 2, B, 1), Ok(()));
    move_into(&world, A, B, 1);
    assert_eq!(
        world.call(B, Label::CNodeRevoke, &[1, 2], &[]).map(drop),
        Ok(())
    );
    assert!(world.root(B).is_empty());
    world.revoke(UNTYPED);
    assert!(!derivation::has_children(world.root(UNTYPED)));
}
