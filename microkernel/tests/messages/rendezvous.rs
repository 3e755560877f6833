//! Calls, sends and answers on one endpoint.

use microkernel::object::ThreadState;
use sel4_sys::{MessageInfo, Syscall};

use crate::world::{BADGE, ENDPOINT, REPLY, SEND_ONLY, World};

#[test]
fn a_call_carries_words_badge_and_time_to_the_server() {
    let world = World::new();
    world.load(ENDPOINT, 0, 9, &[1, 2, 3]);
    world.syscall(Syscall::Call);
    assert_eq!(world.kernel.current(), world.server);
    assert_eq!(world.server.registers.rdi.get(), BADGE);
    assert_eq!(world.server.registers.r9.get(), 3);
    assert_eq!(world.server.sched_context.get(), Some(world.context));
    assert_eq!(world.client.state.get(), ThreadState::BlockedOnReply);
}

#[test]
fn an_answer_gives_the_time_back_and_the_server_waits_again() {
    let world = World::new();
    world.load(ENDPOINT, 0, 0, &[]);
    world.syscall(Syscall::Call);
    world.load(ENDPOINT, REPLY, 5, &[42]);
    world.syscall(Syscall::ReplyRecv);
    assert_eq!(world.kernel.current(), world.client);
    let info = MessageInfo::from_word(world.client.registers.rsi.get());
    assert_eq!((info.label(), info.length()), (5, 1));
    assert_eq!(world.client.registers.r10.get(), 42);
    assert_eq!(world.client.sched_context.get(), Some(world.context));
    assert_eq!(world.server.state.get(), ThreadState::BlockedOnReceive);
}

#[test]
fn a_call_that_may_not_be_answered_stops_the_caller() {
    let world = World::new();
    world.load(SEND_ONLY, 0, 0, &[]);
    world.syscall(Syscall::Call);
    assert_eq!(world.client.state.get(), ThreadState::Inactive);
}

#[test]
fn a_send_that_does_not_wait_is_dropped_without_a_receiver() {
    let world = World::new();
    world.kernel.suspend(world.server);
    world.load(ENDPOINT, 0, 0, &[1]);
    world.syscall(Syscall::NBSend);
    assert_eq!(world.kernel.current(), world.client);
    assert!(world.endpoint.queue.is_empty());
}

#[test]
fn a_call_to_an_empty_slot_says_which_argument_is_wrong() {
    let world = World::new();
    world.load(7, 0, 0, &[]);
    world.syscall(Syscall::Call);
    let info = MessageInfo::from_word(world.client.registers.rsi.get());
    assert_eq!((info.label(), world.client.registers.r10.get()), (2, 0));
}

#[test]
fn a_reply_object_that_goes_away_stops_the_caller_and_returns_its_time() {
    let world = World::new();
    world.load(ENDPOINT, 0, 0, &[]);
    world.syscall(Syscall::Call);
    world.kernel.finalise_reply(world.reply);
    assert_eq!(world.client.state.get(), ThreadState::Inactive);
    assert_eq!(world.context.tcb.get(), Some(world.client));
}

#[test]
fn an_endpoint_that_goes_away_restarts_who_waits() {
    let world = World::new();
    world.kernel.cancel_all_ipc(world.endpoint);
    assert_eq!(world.server.state.get(), ThreadState::Restart);
    assert!(world.endpoint.queue.is_empty());
}
