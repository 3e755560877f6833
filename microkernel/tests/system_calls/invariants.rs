//! What must hold after every kernel entry.

use std::collections::{BTreeMap, BTreeSet};

use microkernel::cap::{Cap, ZombieKind};
use microkernel::fault::Fault;
use microkernel::kernel::{Node, SchedulerAction};
use microkernel::object::{
    Endpoint, Notification, QueueEnds, Reply, SchedContext, Slot, Tcb, ThreadState, Timer,
};
use microkernel::store::Ref;

use crate::world::{CPUS, World};

/// More threads than there are.
const MANY: usize = 64;

/// The objects that some capability names.
#[derive(Default)]
struct Live {
    threads: BTreeSet<usize>,
    contexts: BTreeSet<usize>,
    endpoints: BTreeSet<usize>,
    notifications: BTreeSet<usize>,
    replies: BTreeSet<usize>,
    timers: BTreeSet<usize>,
}

impl Live {
    fn find(world: &World) -> Self {
        let mut live = Self::default();
        let mut seen = BTreeSet::new();
        for slot in world.slots() {
            let mut next = Some(slot);
            while let Some(slot) = next
                && seen.insert(slot.address())
            {
                live.note(slot);
                next = slot.next();
            }
        }
        for node in world.kernel.nodes.iter().take(CPUS) {
            live.threads.extend(node.idle.get().map(Ref::address));
        }
        live
    }

    fn note(&mut self, slot: Ref<Slot>) {
        match slot.cap() {
            Cap::Thread { tcb } => drop(self.threads.insert(tcb.address())),
            Cap::SchedContext { context, .. } => drop(self.contexts.insert(context.address())),
            Cap::Endpoint(e) => drop(self.endpoints.insert(e.endpoint.address())),
            Cap::Notification(n) => drop(self.notifications.insert(n.notification.address())),
            Cap::Reply { reply, .. } => drop(self.replies.insert(reply.address())),
            Cap::Timer { timer } => drop(self.timers.insert(timer.address())),
            Cap::Zombie(zombie) if zombie.kind == ZombieKind::Tcb => {
                let tcb: Ref<Tcb> = Ref::from_address(zombie.slots.address());
                assert_eq!(tcb.state.get(), ThreadState::Inactive, "a dying thread");
            }
            _ => {}
        }
    }
}

/// Where each queued thread stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ready,
    Release,
    Endpoint(usize),
    Notification(usize),
}

type Places = BTreeMap<usize, Place>;

/// Walks a queue, and notes where its threads stand.
fn walk(queue: &QueueEnds, place: Place, places: &mut Places) -> Vec<Ref<Tcb>> {
    let mut all: Vec<Ref<Tcb>> = Vec::new();
    for tcb in queue.iter() {
        assert!(all.len() < MANY, "a queue without end: {place:?}");
        assert_eq!(tcb.queue_previous.get(), all.last().copied(), "{place:?}");
        let other = places.insert(tcb.address(), place);
        assert_eq!(other, None, "a thread in two queues, one of them {place:?}");
        all.push(tcb);
    }
    assert_eq!(
        queue.tail.get(),
        all.last().copied(),
        "the tail of {place:?}"
    );
    all
}

/// Checks everything.
pub fn check(world: &World) {
    let live = Live::find(world);
    let mut places = Places::new();
    for (cpu, node) in world.kernel.nodes.iter().enumerate().take(CPUS) {
        check_ready(cpu, node, &mut places);
        check_release(cpu, node, &mut places);
        check_timers(cpu, node, &live);
    }
    live.endpoints
        .iter()
        .for_each(|at| check_endpoint(Ref::from_address(*at), &mut places));
    live.notifications
        .iter()
        .for_each(|at| check_notification(Ref::from_address(*at), &live, &mut places));
    live.contexts
        .iter()
        .for_each(|at| check_context(Ref::from_address(*at), &live));
    live.replies
        .iter()
        .for_each(|at| check_reply(Ref::from_address(*at), &live));
    for at in places.keys() {
        assert!(
            live.threads.contains(at),
            "a dead thread is queued: {:?}",
            places[at]
        );
    }
    for at in &live.threads {
        check_thread(
            world,
            Ref::from_address(*at),
            &live,
            places.get(at).copied(),
        );
    }
    for (cpu, node) in world.kernel.nodes.iter().enumerate().take(CPUS) {
        check_node(world, cpu, node, &live);
    }
}

/// Ready threads can run, stand where their priority says, and the bitmaps say so too.
fn check_ready(cpu: usize, node: &Node, places: &mut Places) {
    for (domain, ready) in node.ready.iter().enumerate() {
        for (priority, queue) in ready.queues.iter().enumerate() {
            let threads = walk(queue, Place::Ready, places);
            let bit = ready.words[priority / 64].get() >> (priority % 64) & 1;
            assert_eq!(
                bit == 1,
                !threads.is_empty(),
                "the bit of priority {priority}"
            );
            for tcb in threads {
                assert!(tcb.in_ready_queue.get() && !tcb.in_release_queue.get());
                assert_eq!(usize::from(tcb.node.get()), cpu);
                assert_eq!(usize::from(tcb.domain.get()), domain);
                assert_eq!(usize::from(tcb.priority.get()), priority);
            }
        }
        for (index, word) in ready.words.iter().enumerate() {
            assert_eq!(ready.summary.get() >> index & 1 == 1, word.get() != 0);
        }
    }
}

fn release_time(tcb: Ref<Tcb>) -> u64 {
    let context = tcb
        .sched_context
        .get()
        .expect("a thread without time waits for time");
    context.head().time.get()
}

fn check_release(cpu: usize, node: &Node, places: &mut Places) {
    let threads = walk(&node.release, Place::Release, places);
    for tcb in &threads {
        assert!(tcb.in_release_queue.get() && !tcb.in_ready_queue.get());
        assert_eq!(usize::from(tcb.node.get()), cpu);
    }
    assert!(threads.is_sorted_by_key(|tcb| release_time(*tcb)));
}

fn check_timers(cpu: usize, node: &Node, live: &Live) {
    let mut before: Option<Ref<Timer>> = None;
    let mut next = node.timer_head.get();
    while let Some(timer) = next {
        assert!(
            live.timers.contains(&timer.address()),
            "a dead timer is armed"
        );
        assert!(timer.armed.get());
        assert_eq!(usize::from(timer.node.get()), cpu);
        assert_eq!(timer.previous.get(), before);
        assert!(before.is_none_or(|b| b.deadline.get() <= timer.deadline.get()));
        before = next;
        next = timer.next.get();
    }
}

fn check_endpoint(endpoint: Ref<Endpoint>, places: &mut Places) {
    let threads = walk(&endpoint.queue, Place::Endpoint(endpoint.address()), places);
    let states: BTreeSet<u8> = threads.iter().map(|tcb| tcb.state.get() as u8).collect();
    assert!(states.len() < 2, "an endpoint with senders and receivers");
    assert!(threads.is_sorted_by(|a, b| a.priority.get() >= b.priority.get()));
}

fn check_notification(notification: Ref<Notification>, live: &Live, places: &mut Places) {
    let at = notification.address();
    let threads = walk(&notification.queue, Place::Notification(at), places);
    assert!(threads.is_empty() || !notification.active.get());
    assert!(threads.is_sorted_by(|a, b| a.priority.get() >= b.priority.get()));
    if let Some(tcb) = notification.bound_tcb.get() {
        assert!(live.threads.contains(&tcb.address()));
        assert_eq!(tcb.bound_notification.get(), Some(notification));
    }
    if let Some(context) = notification.sched_context.get() {
        assert!(live.contexts.contains(&context.address()));
        assert_eq!(context.notification.get(), Some(notification));
    }
}

fn check_context(context: Ref<SchedContext>, live: &Live) {
    if let Some(tcb) = context.tcb.get() {
        assert!(
            live.threads.contains(&tcb.address()),
            "time of a dead thread"
        );
        assert_eq!(tcb.sched_context.get(), Some(context));
    }
    if let Some(notification) = context.notification.get() {
        assert_eq!(notification.sched_context.get(), Some(context));
    }
    if let Some(tcb) = context.yield_from.get() {
        assert!(
            live.threads.contains(&tcb.address()),
            "a dead thread yields"
        );
        assert_eq!(tcb.yield_to.get(), Some(context));
    }
    check_stack(context, live);
    if context.is_active() {
        check_refills(context);
    }
}

/// The replies of the calls that lent this context on.
fn check_stack(context: Ref<SchedContext>, live: &Live) {
    let mut above: Option<Ref<Reply>> = None;
    let mut next = context.reply.get();
    while let Some(reply) = next {
        assert!(
            live.replies.contains(&reply.address()),
            "a dead reply in a stack"
        );
        let top = above.is_none().then_some(context);
        assert_eq!(reply.sched_context.get(), top);
        assert_eq!(reply.above.get(), above);
        let caller = reply.tcb.get().expect("a reply in a stack has a caller");
        assert_eq!(caller.state.get(), ThreadState::BlockedOnReply);
        above = next;
        next = reply.below.get();
    }
}

/// Refills are in order and fit in the object; the first is worth a switch.
fn check_refills(context: Ref<SchedContext>) {
    let max = context.refill_max.get();
    let (mut index, tail) = (context.refill_head.get(), context.refill_tail.get());
    assert!(index < max && tail < max);
    let mut end = 0;
    loop {
        let refill = context.refill(index);
        let (time, amount) = (refill.time.get(), refill.amount.get());
        assert!(context.is_round_robin() || time >= end, "refills overlap");
        end = time + amount;
        if index == tail {
            return;
        }
        index = (index + 1) % max;
    }
}

/// What each live, configured context's refills add up to.
#[derive(Debug, PartialEq, Eq)]
pub struct Budgets(BTreeMap<usize, u64>);

impl Budgets {
    pub fn of(world: &World) -> Self {
        let contexts = Live::find(world).contexts.into_iter();
        let active = contexts.filter_map(|at| {
            let context: Ref<SchedContext> = Ref::from_address(at);
            context.is_active().then(|| (at, budget(context)))
        });
        Self(active.collect())
    }

    /// Time is neither lost nor made.
    pub fn check_unchanged(&self, after: &Self) {
        for (context, budget) in &self.0 {
            let now = after.0.get(context);
            assert!(
                now.is_none_or(|now| now == budget),
                "{now:?} instead of {budget} ticks"
            );
        }
    }
}

fn budget(context: Ref<SchedContext>) -> u64 {
    let (mut index, tail) = (context.refill_head.get(), context.refill_tail.get());
    let mut sum = context.refill(index).amount.get();
    while index != tail {
        index = (index + 1) % context.refill_max.get();
        sum += context.refill(index).amount.get();
    }
    sum
}

/// CPU time that was booked so far, and the time that passed on the CPUs, in ticks.
#[derive(Clone, Copy, Debug)]
pub struct Accounts {
    booked: u64,
    passed: u64,
}

impl Accounts {
    pub fn of(world: &World) -> Self {
        let contexts = Live::find(world).contexts.into_iter();
        let charged: u64 = contexts
            .map(|at| Ref::<SchedContext>::from_address(at).consumed.get())
            .sum();
        let nodes = || world.kernel.nodes.iter().take(CPUS);
        Self {
            booked: charged + nodes().map(|node| node.consumed.get()).sum::<u64>(),
            passed: nodes().map(|node| node.now.get()).sum(),
        }
    }

    /// Nobody pays for time that did not pass, or twice for the same.
    pub fn check_later(&self, later: &Self) {
        let (booked, passed) = (
            later.booked.saturating_sub(self.booked),
            later.passed - self.passed,
        );
        assert!(booked <= passed, "{booked} ticks are booked of {passed}");
    }
}

fn check_reply(reply: Ref<Reply>, live: &Live) {
    match reply.tcb.get() {
        Some(tcb) => {
            assert!(
                live.threads.contains(&tcb.address()),
                "a reply for a dead thread"
            );
            assert_eq!(tcb.reply.get(), Some(reply));
        }
        None => {
            let linked = reply.above.get().is_some() || reply.below.get().is_some();
            assert!(
                !linked && reply.sched_context.get().is_none(),
                "an unused reply is linked"
            );
        }
    }
}

/// A thread is in the queue that its state says, and its relations are mutual.
fn check_thread(world: &World, tcb: Ref<Tcb>, live: &Live, place: Option<Place>) {
    let state = tcb.state.get();
    let node = world.kernel.node_of(tcb);
    let is_current = node.current.get() == Some(tcb);
    let expected = match state {
        ThreadState::BlockedOnReceive | ThreadState::BlockedOnSend => {
            let endpoint = tcb.blocking.get().endpoint.expect("blocked on an endpoint");
            assert!(
                live.endpoints.contains(&endpoint.address()),
                "blocked on a dead endpoint"
            );
            Some(Place::Endpoint(endpoint.address()))
        }
        ThreadState::BlockedOnNotification => {
            let notification = tcb
                .blocking
                .get()
                .notification
                .expect("blocked on a notification");
            Some(Place::Notification(notification.address()))
        }
        _ if tcb.in_release_queue.get() => Some(Place::Release),
        _ if world.kernel.is_schedulable(tcb) && !is_current => Some(Place::Ready),
        _ => None,
    };
    assert_eq!(place, expected, "{state:?}, current: {is_current}");
    assert_eq!(tcb.in_ready_queue.get(), place == Some(Place::Ready));

    let waits = matches!(
        state,
        ThreadState::BlockedOnReply | ThreadState::BlockedOnReceive
    );
    match tcb.reply.get() {
        Some(reply) => {
            assert!(waits, "{state:?} with a reply object");
            assert!(
                live.replies.contains(&reply.address()),
                "a dead reply object"
            );
            assert_eq!(reply.tcb.get(), Some(tcb));
        }
        None => assert_ne!(state, ThreadState::BlockedOnReply),
    }
    if let Some(context) = tcb.sched_context.get()
        && state != ThreadState::Idle
    {
        assert!(
            live.contexts.contains(&context.address()),
            "time of a dead context"
        );
        assert_eq!(context.tcb.get(), Some(tcb));
        assert_eq!(context.node.get(), tcb.node.get());
    }
    if let Some(notification) = tcb.bound_notification.get() {
        assert!(live.notifications.contains(&notification.address()));
        assert_eq!(notification.bound_tcb.get(), Some(tcb));
    }
    if let Some(context) = tcb.yield_to.get() {
        assert!(
            live.contexts.contains(&context.address()),
            "yields to a dead context"
        );
        assert_eq!(context.yield_from.get(), Some(tcb));
    }
    // A fault that nobody can answer stops the thread, which keeps it until it is resumed.
    let may_fault = matches!(
        state,
        ThreadState::BlockedOnReply | ThreadState::BlockedOnSend | ThreadState::Inactive
    );
    assert!(
        may_fault || tcb.fault.get() == Fault::Null,
        "{state:?} with a fault"
    );
}

/// The current thread can run, no better one is forgotten, and the timer comes in time.
fn check_node(world: &World, cpu: usize, node: &Node, live: &Live) {
    let current = node.current();
    let idles = node.idle.get() == Some(current);
    assert!(
        idles || current.is_runnable(),
        "{:?} runs",
        current.state.get()
    );
    assert!(
        live.threads.contains(&current.address()),
        "a dead thread runs"
    );
    if node.stalled.get() {
        return;
    }
    assert_eq!(node.action.get(), SchedulerAction::ResumeCurrent);
    assert_eq!(node.current_context.get(), current.sched_context.get());
    let best = node.ready[usize::from(node.domain.get())].highest();
    let is_content = match best {
        None => true,
        Some(best) => !idles && current.priority.get() >= best,
    };
    assert!(
        is_content || world.is_kicked(cpu),
        "priority {best:?} waits on CPU {cpu}"
    );
    if !world.is_kicked(cpu) {
        check_deadline(world, cpu, node);
    }
}

fn check_deadline(world: &World, cpu: usize, node: &Node) {
    let deadline = world.deadline(cpu);
    let idles = node.idle.get() == node.current.get();
    if let Some(context) = node.current_context.get()
        && !idles
    {
        let slice_began = node.now.get() - node.consumed.get();
        assert!(
            deadline <= slice_began + context.head().amount.get(),
            "a slice without end"
        );
    }
    if let Some(tcb) = node.release.head.get() {
        assert!(deadline <= release_time(tcb), "nobody wakes a thread");
    }
    if let Some(timer) = node.timer_head.get() {
        assert!(deadline <= timer.deadline.get(), "a timer will not fire");
    }
    if node.domain_time.get() != u64::MAX {
        assert!(
            deadline <= node.now.get() + node.domain_time.get(),
            "a domain without end"
        );
    }
}
