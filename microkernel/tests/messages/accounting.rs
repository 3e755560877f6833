//! Who pays: CPU time goes to the scheduling context that was in use, and to no other.

use microkernel::arch::host::MACHINE;
use microkernel::object::{SchedContext, Tcb, ThreadState};
use microkernel::store::Ref;
use sel4_sys::{InvocationLabel, Syscall};

use crate::world::{ENDPOINT, REPLY, THREAD, World, object};

/// Ticks of a microsecond in the test's kernel.
const MICROSECOND: u64 = 1000;

fn at(us: u64) {
    MACHINE.with(|m| m.now.set(us * MICROSECOND));
}

/// Microseconds that were charged to `context`, up to the last kernel entry.
fn charged_us(world: &World, context: Ref<SchedContext>) -> u64 {
    world.kernel.commit_time();
    context.consumed.get() / MICROSECOND
}

/// A timer interrupt.
fn interrupt(world: &World) {
    world.kernel.enter();
    world.kernel.handle_timer_interrupt();
    world.kernel.leave();
}

/// A thread of lower priority with time of its own, ready to run.
fn add_thread(world: &World) -> Ref<SchedContext> {
    let (tcb, context): (Ref<Tcb>, _) = (object(), world.new_context());
    tcb.state.set(ThreadState::Running);
    tcb.priority.set(10);
    context.tcb.set(Some(tcb));
    tcb.sched_context.set(Some(context));
    world.kernel.ready_enqueue(tcb);
    context
}

#[test]
fn a_server_without_time_works_at_the_clients_expense() {
    let world = World::new();
    let other = add_thread(&world);
    at(10);
    world.load(ENDPOINT, 0, 0, &[]);
    world.syscall(Syscall::Call);
    assert_eq!(world.kernel.current(), world.server);
    at(40);
    world.load(ENDPOINT, REPLY, 0, &[]);
    world.syscall(Syscall::ReplyRecv);
    assert_eq!(world.kernel.current(), world.client);
    at(60);
    interrupt(&world);
    assert_eq!(charged_us(&world, world.context), 60);
    assert_eq!(charged_us(&world, other), 0);
}

#[test]
fn the_short_way_through_a_call_charges_the_same() {
    let world = World::new();
    at(10);
    let info = world.load(ENDPOINT, 0, 0, &[]);
    let next = world
        .kernel
        .fast_syscall(world.client, Syscall::Call, ENDPOINT, info);
    assert_eq!(next, Some(world.server));
    at(40);
    let info = world.load(ENDPOINT, REPLY, 0, &[]);
    let next = world
        .kernel
        .fast_syscall(world.server, Syscall::ReplyRecv, ENDPOINT, info);
    assert_eq!(next, Some(world.client));
    at(60);
    interrupt(&world);
    assert_eq!(charged_us(&world, world.context), 60);
}

#[test]
fn two_threads_share_what_passed() {
    let world = World::new();
    let other = add_thread(&world);
    at(10);
    world.load(THREAD, 0, InvocationLabel::TcbSuspend.number(), &[]);
    world.syscall(Syscall::Call);
    at(35);
    world.kernel.enter();
    world.kernel.restart(world.client);
    world.kernel.leave();
    at(50);
    interrupt(&world);
    let charged = [world.context, other].map(|context| charged_us(&world, context));
    assert_eq!(charged, [10 + 15, 25]);
}

#[test]
fn idle_time_is_nobodys() {
    let world = World::new();
    at(10);
    world.load(THREAD, 0, InvocationLabel::TcbSuspend.number(), &[]);
    world.syscall(Syscall::Call);
    assert_eq!(world.kernel.current(), world.idle);
    for us in [500, 700] {
        at(us);
        interrupt(&world);
    }
    at(900);
    world.kernel.enter();
    world.kernel.restart(world.client);
    world.kernel.leave();
    at(905);
    interrupt(&world);
    assert_eq!(charged_us(&world, world.context), 10 + 5);
}
