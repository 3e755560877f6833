//! The fast path does what the ordinary path does, or nothing.

use microkernel::object::{Tcb, TcbFlags};
use microkernel::store::Ref;
use proptest::prelude::*;
use sel4_sys::Syscall;

use crate::world::{ENDPOINT, REPLY, SEND_ONLY, World};

/// Lets the current thread make a system call by the fast path; the thread that it switched to.
fn fast(world: &World, syscall: Syscall, cap: u64, info: u64) -> Option<Ref<Tcb>> {
    let current = world.kernel.current();
    world.kernel.fast_syscall(current, syscall, cap, info)
}

#[test]
fn a_plain_call_and_its_answer_are_fast() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 1, &[1, 2]);
    assert_eq!(
        fast(&world, Syscall::Call, ENDPOINT, info),
        Some(world.server)
    );
    let info = world.load(ENDPOINT, REPLY, 0, &[7]);
    let next = fast(&world, Syscall::ReplyRecv, ENDPOINT, info);
    assert_eq!(next, Some(world.client));
    assert_eq!(world.client.registers.r10.get(), 7);
}

#[test]
fn what_it_refuses_it_does_not_touch() {
    let world = World::new();
    for (cap, words) in [(SEND_ONLY, 1), (7, 1), (REPLY, 0), (ENDPOINT, 5)] {
        let info = world.load(cap, 0, 0, &vec![3; words]);
        let before = world.snapshot();
        assert_eq!(fast(&world, Syscall::Call, cap, info), None, "{cap}");
        assert_eq!(world.snapshot(), before);
    }
}

#[test]
fn other_system_calls_are_not_for_it() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    assert_eq!(fast(&world, Syscall::Send, ENDPOINT, info), None);
}

#[test]
fn a_ready_thread_of_higher_priority_than_the_caller_makes_the_answer_slow() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    assert!(fast(&world, Syscall::Call, ENDPOINT, info).is_some());
    world.client.priority.set(99);
    world.kernel.node().ready[0].summary.set(1 << 1);
    world.kernel.node().ready[0].words[1].set(1 << (100 - 64));
    let info = world.load(ENDPOINT, REPLY, 0, &[]);
    assert_eq!(fast(&world, Syscall::ReplyRecv, ENDPOINT, info), None);
}

#[test]
fn an_address_space_that_may_be_gone_makes_the_call_slow() {
    let world = World::new();
    world.kernel.forget_spaces();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    assert_eq!(fast(&world, Syscall::Call, ENDPOINT, info), None);
    assert!(world.kernel.space_of(world.server).is_some());
    assert!(fast(&world, Syscall::Call, ENDPOINT, info).is_some());
}

#[test]
fn a_thread_with_foreign_system_calls_never_takes_it() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    world.client.flags.set(TcbFlags(TcbFlags::FOREIGN_SYSCALLS));
    let before = world.snapshot();
    assert_eq!(fast(&world, Syscall::Call, ENDPOINT, info), None);
    assert_eq!(world.snapshot(), before);
}

proptest! {
    #[test]
    fn both_paths_leave_the_same_state(
        label in 0u64..1 << 52,
        words in proptest::collection::vec(any::<u64>(), 0..5),
        answer in proptest::collection::vec(any::<u64>(), 0..5),
    ) {
        let (fast, slow) = (World::new(), World::new());
        let info = fast.load(ENDPOINT, 0, label, &words);
        let next = self::fast(&fast, Syscall::Call, ENDPOINT, info);
        prop_assert_eq!(next, Some(fast.server));
        slow.load(ENDPOINT, 0, label, &words);
        slow.syscall(Syscall::Call);
        prop_assert_eq!(fast.snapshot(), slow.snapshot());

        let info = fast.load(ENDPOINT, REPLY, label, &answer);
        let next = self::fast(&fast, Syscall::ReplyRecv, ENDPOINT, info);
        prop_assert_eq!(next, Some(fast.client));
        slow.load(ENDPOINT, REPLY, label, &answer);
        slow.syscall(Syscall::ReplyRecv);
        prop_assert_eq!(fast.snapshot(), slow.snapshot());
    }
}
