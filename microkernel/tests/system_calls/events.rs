//! What can happen to a CPU, at random, with calls that mean something often enough.

use proptest::collection::vec;
use proptest::prelude::*;
use sel4_sys::{InitialSlot, InvocationLabel as Label, ObjectType, Syscall};

use crate::objects::{Group, sched_control};
use crate::world::{CPUS, MICROSECOND};

/// Something that happens on a CPU, some time after the last thing.
#[derive(Clone, Debug)]
pub struct Step {
    pub cpu: usize,
    /// Ticks since the step before.
    pub passes: u64,
    /// Whether an interrupt waits, which ends long work.
    pub interrupted: bool,
    pub event: Event,
}

impl Step {
    /// Whether this may give a context another budget.
    pub fn configures_time(&self) -> bool {
        let label = Label::SchedControlConfigureFlags.number();
        matches!(&self.event, Event::Call(call) if call.label == label)
    }
}

/// What happens.
#[derive(Clone, Debug)]
pub enum Event {
    /// The current thread makes a system call.
    Call(Call),
    /// As a client the current thread makes this call. As a server it answers its caller with the
    /// call's words instead, if it has one.
    Exchange(Call, Role),
    PageFault(u64),
    Exception(u64),
    Interrupt(u8),
    Timer,
    Kick,
    /// A thread that the tests do not see resumes thread number ….
    Resume(u64),
}

/// Whether a thread would rather ask or answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Client,
    Server,
}

/// A system call. Words may stand for slots (see `objects::SLOT_WORDS`).
#[derive(Clone, Debug, Default)]
pub struct Call {
    pub number: u64,
    pub cap: u64,
    /// R12: the reply object.
    pub reply: u64,
    /// R13: where NBSendRecv sends.
    pub second: u64,
    pub label: u64,
    pub words: Vec<u64>,
    pub caps: Vec<u64>,
    /// Slot for a capability that is received.
    pub receive: u64,
}

fn of(group: Group) -> BoxedStrategy<u64> {
    (0..group.count())
        .prop_map(move |index| group.word(index))
        .boxed()
}

fn any_cap() -> BoxedStrategy<u64> {
    let groups = [
        Group::Threads,
        Group::Contexts,
        Group::Endpoints,
        Group::BadgedEndpoints,
        Group::Notifications,
        Group::BadgedNotifications,
        Group::Replies,
        Group::Timers,
        Group::Buffers,
        Group::Handlers,
        Group::Untyped,
        Group::CNode,
        Group::Free,
    ];
    prop_oneof![
        12 => proptest::sample::select(groups.to_vec()).prop_flat_map(of),
        2 => 0u64..18,
        1 => any::<u64>(),
    ]
    .boxed()
}

/// Mostly one that a server waits on.
fn endpoint() -> BoxedStrategy<u64> {
    let served = [Group::Endpoints, Group::BadgedEndpoints].map(|g| [g.word(0), g.word(1)]);
    prop_oneof![4 => proptest::sample::select(served.concat()), 1 => of(Group::Endpoints), 1 => of(Group::BadgedEndpoints)].boxed()
}

fn notification() -> BoxedStrategy<u64> {
    prop_oneof![of(Group::Notifications), of(Group::BadgedNotifications)].boxed()
}

fn thread() -> BoxedStrategy<u64> {
    prop_oneof![8 => of(Group::Threads), 1 => Just(InitialSlot::Tcb.number())].boxed()
}

/// A message through endpoints, notifications and replies.
fn message() -> impl Strategy<Value = Call> {
    let syscalls = [
        Syscall::Call,
        Syscall::Call,
        Syscall::Call,
        Syscall::Send,
        Syscall::NBSend,
        Syscall::Recv,
        Syscall::Recv,
        Syscall::Recv,
        Syscall::NBRecv,
        Syscall::Wait,
        Syscall::NBWait,
        Syscall::ReplyRecv,
        Syscall::ReplyRecv,
        Syscall::ReplyRecv,
        Syscall::NBSendRecv,
        Syscall::NBSendWait,
    ];
    let to = || prop_oneof![6 => endpoint(), 3 => notification(), 1 => any_cap()].boxed();
    let servers = [Group::Replies.word(0), Group::Replies.word(1)];
    let servers = || proptest::sample::select(servers.to_vec());
    let reply = || prop_oneof![6 => servers(), 2 => of(Group::Replies), 1 => to()].boxed();
    let details = (
        0u64..3,
        vec(any::<u64>(), 0..8),
        vec(any_cap(), 0..4),
        any_cap(),
    );
    (
        proptest::sample::select(syscalls.to_vec()),
        to(),
        reply(),
        to(),
        details,
    )
        .prop_map(
            |(syscall, cap, reply, second, (label, words, caps, receive))| Call {
                number: syscall.number(),
                cap,
                reply,
                second,
                label,
                words,
                caps,
                receive,
            },
        )
}

/// What clients and servers say to each other: short messages through few objects.
fn exchange() -> impl Strategy<Value = Event> {
    let caps = prop_oneof![8 => Just(Vec::new()), 1 => vec(any_cap(), 1..2)];
    let words = vec(any::<u64>(), 0..6);
    let role = prop_oneof![2 => Just(Role::Client), 3 => Just(Role::Server)];
    (0u64..3, words, caps, 0u64..3, role).prop_map(|(server, words, caps, label, role)| {
        let call = Call {
            number: Syscall::Call.number(),
            cap: Group::Endpoints.word(server),
            label,
            words,
            caps,
            ..Call::default()
        };
        Event::Exchange(call, role)
    })
}

/// A random step right after the one before, mostly of an exchange of messages.
pub fn exchange_step() -> impl Strategy<Value = Step> {
    let exchange = exchange().prop_map(|event| (0, false, event));
    let resume = (0..Group::Threads.count()).prop_map(|thread| (0, false, Event::Resume(thread)));
    // A domain whose time is over is noticed only by who reads the time.
    let domains = [
        Label::DomainScheduleConfigure,
        Label::DomainScheduleSetStart,
    ];
    let event = event().prop_filter("domains stay", move |event| {
        !matches!(event, Event::Call(call) if domains.iter().any(|label| call.label == label.number()))
    });
    let anything = (0..CPUS, any::<bool>(), event);
    prop_oneof![20 => exchange, 4 => resume, 1 => anything].prop_map(|(cpu, interrupted, event)| {
        Step {
            cpu,
            passes: 0,
            interrupted,
            event,
        }
    })
}

/// Words of one kind for an invocation.
type Words = BoxedStrategy<Vec<u64>>;

fn words<const N: usize>(each: [BoxedStrategy<u64>; N]) -> Words {
    each.to_vec().prop_map(|words| words).boxed()
}

fn small(range: core::ops::Range<u64>) -> BoxedStrategy<u64> {
    range.boxed()
}

/// Labels for a kind of capability, its words, and its extra capabilities.
fn invocation_of(
    cap: BoxedStrategy<u64>,
    labels: &'static [Label],
    arguments: Words,
    caps: Words,
) -> BoxedStrategy<Call> {
    let calls = proptest::sample::select(&[Syscall::Call, Syscall::Send][..]);
    (
        calls,
        cap,
        proptest::sample::select(labels),
        arguments,
        caps,
    )
        .prop_map(|(syscall, cap, label, words, caps)| Call {
            number: syscall.number(),
            cap,
            label: label.number(),
            words,
            caps,
            ..Call::default()
        })
        .boxed()
}

const REGISTERS: &[Label] = &[
    Label::TcbReadRegisters,
    Label::TcbWriteRegisters,
    Label::TcbCopyRegisters,
];
const RUNNING: &[Label] = &[
    Label::TcbSuspend,
    Label::TcbResume,
    Label::TcbBindNotification,
    Label::TcbUnbindNotification,
];
const PRIORITY: &[Label] = &[Label::TcbSetPriority, Label::TcbSetMcPriority];
const CONTEXT: &[Label] = &[
    Label::SchedContextBind,
    Label::SchedContextUnbindObject,
    Label::SchedContextUnbind,
    Label::SchedContextConsumed,
    Label::SchedContextYieldTo,
];
const TIMER: &[Label] = &[Label::TimerArm, Label::TimerCancel, Label::TimerBind];
const DELETION: &[Label] = &[
    Label::CNodeRevoke,
    Label::CNodeDelete,
    Label::CNodeCancelBadgedSends,
];
const COPIES: &[Label] = &[
    Label::CNodeCopy,
    Label::CNodeMint,
    Label::CNodeMove,
    Label::CNodeMutate,
];

fn thread_call() -> BoxedStrategy<Call> {
    let null = || Just(0u64).boxed();
    let priority = || small(0..256);
    let time = || prop_oneof![of(Group::Contexts), null()].boxed();
    let handler = || prop_oneof![endpoint(), null()].boxed();
    prop_oneof![
        2 => invocation_of(thread(), REGISTERS, words([small(0..16), small(0..22), any::<u64>().boxed(),
            any::<u64>().boxed(), any::<u64>().boxed()]), words([thread()])),
        6 => invocation_of(thread(), RUNNING, words([]), words([notification()])),
        3 => invocation_of(thread(), PRIORITY, words([priority()]), words([thread()])),
        3 => invocation_of(thread(), &[Label::TcbSetSchedParams], words([priority(), priority()]),
            words([thread(), time(), handler()])),
        1 => invocation_of(thread(), &[Label::TcbSetTimeoutEndpoint], words([]), words([handler()])),
        1 => invocation_of(thread(), &[Label::TcbSetFlags], words([any::<u64>().boxed(), small(0..2)]), words([])),
        1 => invocation_of(thread(), &[Label::TcbSetSpace], words([null(), null()]), words([handler(),
            prop_oneof![6 => Just(2u64), 1 => any_cap()].boxed(),
            prop_oneof![6 => Just(3u64), 1 => any_cap()].boxed()])),
        1 => invocation_of(thread(), &[Label::TcbSetIpcBuffer], words([small(0..4).prop_map(|n| n << 12).boxed()]),
            words([of(Group::Buffers)])),
    ]
    .boxed()
}

fn time_call() -> BoxedStrategy<Call> {
    let context = || of(Group::Contexts);
    let owner = || prop_oneof![3 => thread(), 1 => notification()].boxed();
    let control = || (0..CPUS as u64).prop_map(sched_control).boxed();
    let us = || prop_oneof![Just(1000u64), 20u64..5000, any::<u64>()].boxed();
    let configure = words([us(), us(), small(0..11), any::<u64>().boxed(), small(0..2)]);
    prop_oneof![
        5 => invocation_of(context(), CONTEXT, words([]), words([owner()])),
        3 => invocation_of(control(), &[Label::SchedControlConfigureFlags], configure, words([context()])),
        2 => invocation_of(of(Group::Timers), TIMER, words([prop_oneof![
            0u64..100_000 * MICROSECOND, any::<u64>()].boxed()]), words([notification()])),
    ]
    .boxed()
}

fn space_call() -> BoxedStrategy<Call> {
    let cnode = || Just(InitialSlot::CNode.number()).boxed();
    let deep = || Just(64u64).boxed();
    let slot = any_cap;
    let victims = [
        Group::Replies,
        Group::Threads,
        Group::Contexts,
        Group::Endpoints,
    ];
    let victim = prop_oneof![
        2 => any_cap(),
        3 => proptest::sample::select(victims.to_vec()).prop_flat_map(of),
    ];
    let types: Vec<u64> = ObjectType::ALL
        .iter()
        .map(|object| object.number())
        .collect();
    let object = proptest::sample::select(types).boxed();
    let free = || {
        (0..Group::Free.count())
            .prop_map(|n| Group::Free.word(n))
            .boxed()
    };
    let retype = words([
        object,
        small(4..9),
        small(0..1),
        small(0..1),
        free(),
        small(1..3),
    ]);
    let domain = || Just(InitialSlot::Domain.number()).boxed();
    let handlers = &[
        Label::IrqAckIrq,
        Label::IrqSetIrqHandler,
        Label::IrqClearIrqHandler,
    ];
    prop_oneof![
        3 => invocation_of(cnode(), DELETION, words([victim.boxed(), deep()]), words([])),
        4 => invocation_of(cnode(), COPIES, words([slot(), deep(), slot(), deep(), small(0..16), small(0..8)]),
            words([cnode()])),
        3 => invocation_of(of(Group::Untyped), &[Label::UntypedRetype], retype, words([cnode()])),
        1 => invocation_of(of(Group::Handlers), handlers, words([]), words([notification()])),
        1 => invocation_of(domain(), &[Label::DomainSetSet], words([small(0..3)]), words([thread()])),
        1 => invocation_of(domain(), &[Label::DomainScheduleConfigure], words([small(0..3), small(0..3),
            prop_oneof![Just(0u64), 10 * MICROSECOND..3000 * MICROSECOND].boxed()]), words([])),
        1 => invocation_of(domain(), &[Label::DomainScheduleSetStart], words([small(0..3)]), words([])),
    ]
    .boxed()
}

/// Anything at all.
fn noise() -> BoxedStrategy<Call> {
    let number = prop_oneof![
        proptest::sample::select(Syscall::ALL).prop_map(Syscall::number),
        any::<u64>()
    ];
    let label = prop_oneof![
        8 => proptest::sample::select(Label::ALL).prop_map(Label::number),
        1 => 0u64..1 << 52
    ];
    let word = prop_oneof![2 => any_cap(), 1 => 0u64..64, 1 => any::<u64>()];
    (
        number,
        any_cap(),
        any_cap(),
        any_cap(),
        label,
        vec(word, 0..10),
        vec(any_cap(), 0..4),
        any_cap(),
    )
        .prop_map(
            |(number, cap, reply, second, label, words, caps, receive)| Call {
                number,
                cap,
                reply,
                second,
                label,
                words,
                caps,
                receive,
            },
        )
        .boxed()
}

fn event() -> impl Strategy<Value = Event> {
    let yields = Call {
        number: Syscall::Yield.number(),
        ..Call::default()
    };
    prop_oneof![
        40 => message().prop_map(Event::Call),
        12 => thread_call().prop_map(Event::Call),
        10 => time_call().prop_map(Event::Call),
        5 => space_call().prop_map(Event::Call),
        3 => noise().prop_map(Event::Call),
        2 => Just(Event::Call(yields)),
        2 => any::<u64>().prop_map(Event::PageFault),
        1 => (0u64..32).prop_map(Event::Exception),
        3 => (0u8..124).prop_map(Event::Interrupt),
        4 => (16u8..18).prop_map(Event::Interrupt),
        2 => Just(Event::Timer),
        5 => Just(Event::Kick),
        2 => (0..Group::Threads.count()).prop_map(Event::Resume),
    ]
}

/// A random step.
pub fn step() -> impl Strategy<Value = Step> {
    let passes = prop_oneof![
        2 => 0..10 * MICROSECOND,
        3 => 0..400 * MICROSECOND,
        1 => 0..6000 * MICROSECOND,
    ];
    (0..CPUS, passes, any::<bool>(), event()).prop_map(|(cpu, passes, interrupted, event)| Step {
        cpu,
        passes,
        interrupted,
        event,
    })
}
