//! The fast path does what the ordinary path does, or nothing.

use microkernel::object::TcbFlags;
use proptest::prelude::*;
use sel4_sys::Syscall;

use crate::world::{ENDPOINT, REPLY, SEND_ONLY, World};

/// Makes a Call by the fast path if it wants to; whether it did.
fn fast_call(world: &World, cap: u64, info: u64) -> bool {
    let node = world.kernel.node();
    world
        .kernel
        .fast_call(node, world.kernel.current(), cap, info)
        .is_some()
}

#[test]
fn a_plain_call_and_its_answer_are_fast() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 1, &[1, 2]);
    assert!(fast_call(&world, ENDPOINT, info));
    let info = world.load(ENDPOINT, REPLY, 0, &[7]);
    let node = world.kernel.node();
    let next = world
        .kernel
        .fast_reply_receive(node, world.server, ENDPOINT, REPLY, info);
    assert_eq!(next, Some(world.client));
    assert_eq!(world.client.registers.r10.get(), 7);
}

#[test]
fn what_it_refuses_it_does_not_touch() {
    let world = World::new();
    for (cap, words) in [(SEND_ONLY, 1), (7, 1), (REPLY, 0), (ENDPOINT, 5)] {
        let info = world.load(cap, 0, 0, &vec![3; words]);
        let before = world.snapshot();
        assert!(!fast_call(&world, cap, info), "{cap}");
        assert_eq!(world.snapshot(), before);
    }
}

#[test]
fn a_ready_thread_of_higher_priority_than_the_caller_makes_the_answer_slow() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    assert!(fast_call(&world, ENDPOINT, info));
    world.kernel.node().ready[0].summary.set(1 << 3);
    world.kernel.node().ready[0].words[3].set(1 << 60);
    let info = world.load(ENDPOINT, REPLY, 0, &[]);
    let node = world.kernel.node();
    let next = world
        .kernel
        .fast_reply_receive(node, world.server, ENDPOINT, REPLY, info);
    assert_eq!(next, None);
}

#[test]
fn a_thread_with_foreign_system_calls_never_takes_it() {
    let world = World::new();
    let info = world.load(ENDPOINT, 0, 0, &[]);
    world.client.flags.set(TcbFlags(TcbFlags::FOREIGN_SYSCALLS));
    let before = world.snapshot();
    let call = Syscall::Call.number();
    let next = world
        .kernel
        .fast_syscall(world.client, call, ENDPOINT, info);
    assert_eq!(next, None);
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
        prop_assert!(fast_call(&fast, ENDPOINT, info));
        slow.load(ENDPOINT, 0, label, &words);
        slow.syscall(Syscall::Call);
        prop_assert_eq!(fast.snapshot(), slow.snapshot());

        let info = fast.load(ENDPOINT, REPLY, label, &answer);
        let node = fast.kernel.node();
        let next = fast.kernel.fast_reply_receive(node, fast.server, ENDPOINT, REPLY, info);
        prop_assert_eq!(next, Some(fast.client));
        slow.load(ENDPOINT, REPLY, label, &answer);
        slow.syscall(Syscall::ReplyRecv);
        prop_assert_eq!(fast.snapshot(), slow.snapshot());
    }
}
