//! Two CPUs: a thread that runs on the other one is taken away from it.
//!
//! The tests act as one CPU after the other. CPU 1 runs `client`; CPU 0 runs `boss`.

use microkernel::arch::host::MACHINE;
use microkernel::kernel::Kernel;
use microkernel::object::{Notification, Slot, Tcb, TcbSlot, ThreadState};
use microkernel::store::Ref;
use microkernel::time::Entry;
use sel4_sys::{InvocationLabel, MessageInfo, Syscall};

use crate::world::{CONTEXT, THREAD, World, object};

/// Ticks of a microsecond in the test's kernel.
const MICROSECOND: u64 = 1000;

/// A world whose client runs on CPU 1, where it started at tick 0, while CPU 0 runs `boss`.
struct Processors {
    world: World,
    boss: Ref<Tcb>,
}

impl Processors {
    fn new() -> Self {
        let world = World::new();
        let boss: Ref<Tcb> = object();
        boss.state.set(ThreadState::Running);
        boss.priority.set(50);
        boss.max_controlled_priority.set(255);
        let slot = boss.slot(TcbSlot::CSpace);
        slot.set_cap(world.client.slot(TcbSlot::CSpace).cap());
        let context = world.new_context();
        context.tcb.set(Some(boss));
        boss.sched_context.set(Some(context));

        let (here, there) = (&world.kernel.nodes[0], &world.kernel.nodes[1]);
        world.kernel.node_count.set(2);
        let idle: Ref<Tcb> = object();
        idle.state.set(ThreadState::Idle);
        idle.node.set(1);
        there.idle.set(Some(idle));
        there.domain_time.set(u64::MAX);
        there.current.set(Some(world.client));
        there.current_context.set(Some(world.context));
        world.client.node.set(1);
        world.context.node.set(1);
        here.current.set(Some(boss));
        here.current_context.set(Some(context));
        Self { world, boss }
    }

    /// The boss invokes a capability.
    fn invoke(&self, cap: u64, label: InvocationLabel, words: &[u64]) -> u64 {
        self.world.load(cap, 0, label.number(), words);
        self.world.syscall(Syscall::Call);
        MessageInfo::from_word(self.boss.registers.rsi.get()).label()
    }

    /// CPU 1 gets the lock for the entry that it waited with, and chooses a thread.
    fn let_other_cpu_go_on(&self) -> Entry {
        MACHINE.with(|m| m.node.set(1));
        let entry = self.world.kernel.enter();
        self.world.kernel.leave();
        MACHINE.with(|m| m.node.set(0));
        entry
    }

    fn ready_on_other_cpu(&self) -> Vec<Ref<Tcb>> {
        let queues = &self.world.kernel.nodes[1].ready[0].queues;
        queues.iter().flat_map(|queue| queue.iter()).collect()
    }
}

fn at(us: u64) {
    MACHINE.with(|m| m.now.set(us * MICROSECOND));
}

#[test]
fn a_suspended_thread_leaves_its_cpu_and_that_cpus_entry_is_void() {
    let both = Processors::new();
    at(100);
    assert_eq!(both.invoke(THREAD, InvocationLabel::TcbSuspend, &[]), 0);
    assert_eq!(both.world.client.state.get(), ThreadState::Inactive);
    let there = &both.world.kernel.nodes[1];
    assert_eq!(there.current.get(), there.idle.get());
    assert_eq!(both.let_other_cpu_go_on(), Entry::Void);
    assert_eq!(there.current.get(), there.idle.get());
}

#[test]
fn what_it_used_until_then_is_charged_and_nothing_after() {
    let both = Processors::new();
    at(100);
    both.invoke(THREAD, InvocationLabel::TcbSuspend, &[]);
    at(150);
    both.let_other_cpu_go_on();
    let context = both.world.context;
    assert_eq!(context.consumed.get(), 100 * MICROSECOND);
    assert_eq!(context.head().amount.get(), 900 * MICROSECOND);
}

#[test]
fn consumed_counts_the_slice_under_way_on_another_cpu() {
    let both = Processors::new();
    at(70);
    let label = InvocationLabel::SchedContextConsumed;
    assert_eq!(both.invoke(CONTEXT, label, &[]), 0);
    assert_eq!(both.boss.registers.r10.get(), 70);
}

#[test]
fn it_is_in_one_queue_and_goes_on_where_it_was() {
    let both = Processors::new();
    both.invoke(CONTEXT, InvocationLabel::SchedContextYieldTo, &[]);
    assert_eq!(both.ready_on_other_cpu(), [both.world.client]);
    assert_eq!(both.world.client.state.get(), ThreadState::Restart);
    both.let_other_cpu_go_on();
    assert!(both.ready_on_other_cpu().is_empty());
    let there = &both.world.kernel.nodes[1];
    assert_eq!(there.current.get(), Some(both.world.client));
    assert_eq!(there.current_context.get(), Some(both.world.context));
}

#[test]
fn one_that_has_used_up_its_budget_waits_for_the_next() {
    let both = Processors::new();
    let (context, client) = (both.world.context, both.world.client);
    context.configure_new(
        2,
        500 * MICROSECOND,
        2000 * MICROSECOND,
        &both.world.kernel.clock(),
    );
    at(500);
    both.invoke(CONTEXT, InvocationLabel::SchedContextConsumed, &[]);
    assert!(client.in_release_queue.get() && !client.in_ready_queue.get());
    both.let_other_cpu_go_on();
    let there = &both.world.kernel.nodes[1];
    assert_eq!(there.current.get(), there.idle.get());
    at(2001);
    both.let_other_cpu_go_on();
    assert_eq!(there.current.get(), Some(client));
}

#[test]
fn a_deleted_thread_is_nowhere_on_the_other_cpu() {
    let both = Processors::new();
    let slot: Ref<Slot> = both.world.cnode.element(THREAD as usize);
    microkernel::finalise::delete(both.world.kernel, slot).unwrap();
    assert!(both.ready_on_other_cpu().is_empty());
    assert_eq!(both.world.context.tcb.get(), None);
    both.let_other_cpu_go_on();
    let there = &both.world.kernel.nodes[1];
    assert_eq!(there.current.get(), there.idle.get());
}

/// The client is in its guest on CPU 1, bound to a notification.
fn enter_guest(both: &Processors) -> Ref<Notification> {
    let client = both.world.client;
    let bell: Ref<Notification> = object();
    bell.bound_tcb.set(Some(client));
    client.bound_notification.set(Some(bell));
    client.state.set(ThreadState::RunningVm);
    bell
}

/// Whether VMEnter of the client ended with this badge.
fn left_with(both: &Processors, badge: u64) -> bool {
    let client = both.world.client;
    client.state.get() == ThreadState::Running && client.registers.rdi.get() == badge
}

#[test]
fn a_signal_kicks_a_guest_out_on_another_cpu() {
    let both = Processors::new();
    let bell = enter_guest(&both);
    MACHINE.with(|m| m.kicked.set(0));
    both.world.kernel.signal(bell, 5);
    both.world.kernel.leave();
    assert_eq!(MACHINE.with(|m| m.kicked.get()), 1 << 1);
    assert_eq!(both.world.client.state.get(), ThreadState::RunningVm);
    MACHINE.with(|m| m.node.set(1));
    both.world.kernel.enter();
    both.world.kernel.handle_kick();
    both.world.kernel.leave();
    MACHINE.with(|m| m.node.set(0));
    assert!(left_with(&both, 5) && !bell.active.get());
}

#[test]
fn a_signal_is_not_lost_if_the_kick_finds_another_thread() {
    let both = Processors::new();
    let bell = enter_guest(&both);
    let (kernel, there) = (both.world.kernel, &both.world.kernel.nodes[1]);
    // CPU 1 is on its way to a better thread when the signal comes.
    let better: Ref<Tcb> = object();
    better.state.set(ThreadState::Running);
    better.priority.set(200);
    better.node.set(1);
    let context = both.world.new_context();
    context.node.set(1);
    context.tcb.set(Some(better));
    better.sched_context.set(Some(context));
    kernel.ready_enqueue(better);
    kernel.signal(bell, 5);
    kernel.leave();
    MACHINE.with(|m| m.node.set(1));
    for entry in [Kernel::handle_timer_interrupt, Kernel::handle_kick] {
        kernel.enter();
        kernel.reschedule_required();
        entry(kernel);
        kernel.leave();
        assert_eq!(there.current.get(), Some(better));
    }
    kernel.enter();
    kernel.set_thread_state(better, ThreadState::Inactive);
    kernel.leave();
    MACHINE.with(|m| m.node.set(0));
    assert_eq!(there.current.get(), Some(both.world.client));
    assert!(left_with(&both, 5) && !bell.active.get());
}
