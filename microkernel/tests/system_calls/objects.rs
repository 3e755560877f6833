//! The objects of the tests: how many of each, in which slots, and how they are joined at first.

use microkernel::cap::{CNodeCap, Cap};
use sel4_sys::capability::INITIAL_SLOTS;
use sel4_sys::{InitialSlot, InvocationLabel as Label, ObjectType};

use crate::world::World;

/// The first slot that the tests use: behind those that boot fills, whose number depends on where
/// the host put the machine's memory.
pub const FIRST_SLOT: u64 = 512;
/// Slots that the tests use.
pub const SLOTS: u64 = 64;
/// Words from here on stand for the addresses of those slots.
pub const SLOT_WORDS: u64 = 0x5107_0000;
/// Priorities of the threads.
pub const PRIORITIES: [u64; THREADS as usize] = [100, 100, 100, 50, 120, 200];

const THREADS: u64 = 6;
/// This thread and those behind it have no time of their own: they serve calls.
pub const FIRST_SERVER: u64 = 4;
/// Room for ten refills.
const CONTEXT_SIZE_BITS: u64 = 8;

/// Slots with objects of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    Threads,
    Contexts,
    Endpoints,
    BadgedEndpoints,
    Notifications,
    BadgedNotifications,
    Replies,
    Timers,
    Buffers,
    Handlers,
    Untyped,
    CNode,
    Free,
}

impl Group {
    /// Offset of its first slot, and how many there are.
    const fn range(self) -> (u64, u64) {
        match self {
            Self::Threads => (0, THREADS),
            Self::Contexts => (6, 8),
            Self::Endpoints => (14, 3),
            Self::BadgedEndpoints => (17, 3),
            Self::Notifications => (20, 4),
            Self::BadgedNotifications => (24, 4),
            Self::Replies => (28, 6),
            Self::Timers => (34, 3),
            Self::Buffers => (37, THREADS),
            Self::Handlers => (43, 2),
            Self::Untyped => (45, 1),
            Self::CNode => (46, 1),
            Self::Free => (47, SLOTS - 47),
        }
    }

    /// Offset of its first slot.
    pub const fn offset(self) -> u64 {
        self.range().0
    }

    /// How many slots it has.
    pub const fn count(self) -> u64 {
        self.range().1
    }

    /// The word that stands for slot `index` of the group.
    pub const fn word(self, index: u64) -> u64 {
        SLOT_WORDS + self.offset() + index % self.count()
    }
}

/// Slot of the largest untyped memory that is no device's, below `end`.
pub fn largest_untyped(root: CNodeCap, end: u64) -> u64 {
    (0..end)
        .filter_map(|index| match root.slots.element(index as usize).cap() {
            Cap::Untyped(untyped) if !untyped.device => Some((untyped.size_bits, index)),
            _ => None,
        })
        .max()
        .expect("boot left no memory")
        .1
}

/// Makes all objects and starts the threads.
pub fn make_all(world: &World) {
    let make = |object, size_bits, group: Group| {
        world.retype(object, size_bits, group.offset(), group.count());
    };
    make(ObjectType::Tcb, 0, Group::Threads);
    make(ObjectType::SchedContext, CONTEXT_SIZE_BITS, Group::Contexts);
    make(ObjectType::Endpoint, 0, Group::Endpoints);
    make(ObjectType::Notification, 0, Group::Notifications);
    make(ObjectType::Reply, 0, Group::Replies);
    make(ObjectType::Timer, 0, Group::Timers);
    make(ObjectType::SmallPage, 0, Group::Buffers);
    make(ObjectType::Untyped, 14, Group::Untyped);
    make(ObjectType::CapTable, 3, Group::CNode);
    for index in 0..Group::BadgedEndpoints.count() {
        mint(
            world,
            Group::Endpoints.word(index),
            Group::BadgedEndpoints.word(index),
            index + 1,
        );
    }
    for index in 0..Group::BadgedNotifications.count() {
        let from = Group::Notifications.word(index);
        mint(
            world,
            from,
            Group::BadgedNotifications.word(index),
            1 << index,
        );
    }
    for index in 0..Group::Handlers.count() {
        let destination = Group::Handlers.word(index);
        let words = [destination, 64, 0, 0, 0, 0, index];
        let control = InitialSlot::IrqControl.number();
        let cnode = InitialSlot::CNode.number();
        world.call(control, Label::X86IrqIssueIrqHandlerMsi, &words, &[cnode]);
        let notification = Group::BadgedNotifications.word(index);
        world.call(destination, Label::IrqSetIrqHandler, &[], &[notification]);
    }
    for index in 0..Group::Timers.count() {
        let notification = Group::BadgedNotifications.word(index + 1);
        world.call(
            Group::Timers.word(index),
            Label::TimerBind,
            &[],
            &[notification],
        );
    }
    (0..THREADS).for_each(|index| start_thread(world, index));
    world.join_the_others();
}

fn mint(world: &World, from: u64, to: u64, badge: u64) {
    let cnode = InitialSlot::CNode.number();
    let words = [to, 64, from, 64, 0xf, badge];
    world.call(cnode, Label::CNodeMint, &words, &[cnode]);
}

/// Threads that do not serve get a context each, the odd ones on CPU 1 and some with a budget below
/// their period. Some have handlers and a bound notification.
fn start_thread(world: &World, index: u64) {
    let tcb = Group::Threads.word(index);
    let buffer = Group::Buffers.word(index);
    let (cnode, vspace) = (InitialSlot::CNode.number(), InitialSlot::VSpace.number());
    world.call(
        tcb,
        Label::TcbConfigure,
        &[0, 0, 0x1000 * (index + 1)],
        &[cnode, vspace, buffer],
    );
    let handler = if index < 2 {
        Group::BadgedEndpoints.word(2)
    } else {
        0
    };
    if index % 3 == 1 {
        let timeouts = Group::BadgedEndpoints.word(1);
        world.call(tcb, Label::TcbSetTimeoutEndpoint, &[], &[timeouts]);
    }
    if index < FIRST_SERVER && index.is_multiple_of(2) {
        let notification = Group::Notifications.word(index / 2);
        world.call(tcb, Label::TcbBindNotification, &[], &[notification]);
    }
    let context = if index < 5 {
        configure(world, index)
    } else {
        0
    };
    let words = [255, PRIORITIES[index as usize]];
    let own = InitialSlot::Tcb.number();
    world.call(
        tcb,
        Label::TcbSetSchedParams,
        &words,
        &[own, context, handler],
    );
    if index < FIRST_SERVER {
        world.call(tcb, Label::TcbResume, &[], &[]);
    }
}

fn configure(world: &World, index: u64) -> u64 {
    let context = Group::Contexts.word(index);
    let period = [1000, 4000, 1000, 20_000, 5000, 1000][index as usize];
    let sporadic = index / 3;
    let words = [1000, period, index, 0xb0 + index, sporadic];
    let control = sched_control(index % 2);
    world.call(
        control,
        Label::SchedControlConfigureFlags,
        &words,
        &[context],
    );
    context
}

/// The first slots that are not fixed hold the control of each CPU's time.
pub const fn sched_control(cpu: u64) -> u64 {
    INITIAL_SLOTS + cpu
}
