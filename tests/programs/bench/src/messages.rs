//! Messages, signals and faults between two threads.

use libcap::capability::{Notification, Reply};
use sel4_sys::{CPtr, MessageInfo, ObjectType, Syscall};

use crate::figure::Samples;
use crate::report::Report;
use crate::timing::{self, FAULT_BYTES, Request, Stamps};
use crate::workshop::{Body, FloatingPoint, Plan, Worker, Workshop};

/// Priority of a thread that asks, and of one that answers it unless something else is said.
const PRIORITY: u8 = 100;
/// Priority of a thread that preempts the one that wakes it.
const HIGHER_PRIORITY: u8 = 101;

/// The thread that begins, and its partner.
static ASKING: Stamps = Stamps::new();
static ANSWERING: Stamps = Stamps::new();
/// From the one that begins to its partner, and back.
static THERE: Samples = Samples::new();
static BACK: Samples = Samples::new();

/// A system call of a body, from the body's arguments.
fn request(number: u64, target: u64, info: u64, reply: u64) -> Request {
    Request {
        syscall: Syscall::try_from(number).expect("from a plan"),
        target: CPtr(target),
        info: MessageInfo::from_word(info),
        reply: CPtr(reply),
    }
}

/// The arguments for [`request`].
fn arguments(syscall: Syscall, target: CPtr, length: usize, reply: CPtr) -> [u64; 4] {
    let info = MessageInfo::new(0, length, 0);
    [syscall.number(), target.0, info.word(), reply.0]
}

/// Begins every round; what the partner adds up to is known when the thread is back.
extern "C" fn ask(number: u64, target: u64, info: u64, rest: u64) -> ! {
    let request = request(number, target, info, 0);
    for round in Samples::rounds() {
        timing::system_call(&ASKING, request, 0);
        note(round);
    }
    rest_for_ever(rest)
}

/// Answers every round.
extern "C" fn answer(number: u64, target: u64, info: u64, reply: u64) -> ! {
    let request = request(number, target, info, reply);
    loop {
        timing::system_call(&ANSWERING, request, 0);
    }
}

/// Faults every round.
extern "C" fn fault(_: u64, _: u64, _: u64, rest: u64) -> ! {
    for round in Samples::rounds() {
        timing::fault(&ASKING);
        note(round);
    }
    rest_for_ever(rest)
}

/// Answers every fault: the thread goes on behind the instruction. The first word of the message is
/// its address.
extern "C" fn handle(number: u64, target: u64, info: u64, reply: u64) -> ! {
    let request = request(number, target, info, reply);
    let mut resume_at = 0;
    loop {
        resume_at = timing::system_call(&ANSWERING, request, resume_at) + FAULT_BYTES;
    }
}

/// Does nothing of note every round.
extern "C" fn alone(number: u64, target: u64, info: u64, rest: u64) -> ! {
    let request = request(number, target, info, 0);
    for round in Samples::rounds() {
        timing::system_call(&ASKING, request, 0);
        THERE.set(round, ASKING.until(&ASKING));
    }
    rest_for_ever(rest)
}

fn note(round: usize) {
    THERE.set(round, ASKING.until(&ANSWERING));
    BACK.set(round, ANSWERING.until(&ASKING));
}

/// Waits on a notification that nobody signals, so that the main thread goes on.
fn rest_for_ever(notification: u64) -> ! {
    loop {
        let _ = Notification::from_cptr(CPtr(notification)).wait();
    }
}

/// Where the partner is, and whether both have floating-point registers.
#[derive(Clone, Copy)]
enum Setting {
    OtherSpace,
    SameSpace,
    OtherSpaceFloating,
}

impl Setting {
    fn plan(self, workshop: &Workshop, body: Body, arguments: [u64; 4]) -> Plan {
        Plan {
            body,
            arguments,
            space: match self {
                Self::SameSpace => workshop.own_space,
                Self::OtherSpace | Self::OtherSpaceFloating => workshop.other_space,
            },
            priority: PRIORITY,
            fault: None,
            floating_point: match self {
                Self::OtherSpaceFloating => FloatingPoint::Switched,
                Self::OtherSpace | Self::SameSpace => FloatingPoint::None,
            },
        }
    }

    /// As `plan`, for the thread that stays in the program's own space.
    fn plan_here(self, workshop: &Workshop, body: Body, arguments: [u64; 4]) -> Plan {
        Plan {
            space: workshop.own_space,
            ..self.plan(workshop, body, arguments)
        }
    }
}

/// Measures everything that this module knows.
pub fn measure(workshop: &mut Workshop, report: &mut Report) {
    let calls = [
        ("0 words", 0, Setting::OtherSpace),
        ("0 words, same address space", 0, Setting::SameSpace),
        ("0 words, FPU in use", 0, Setting::OtherSpaceFloating),
        ("4 words", 4, Setting::OtherSpace),
        ("10 words", 10, Setting::OtherSpace),
    ];
    for (name, length, setting) in calls {
        call(workshop, length, setting);
        report.figure_of("Call", name, THERE.figure());
        report.figure_of("ReplyRecv", name, BACK.figure());
    }
    send(workshop);
    report.figure("Send", THERE.figure());
    report.figure("Recv that waits", BACK.figure());
    signal(workshop);
    report.figure("Signal to a waiting higher thread", THERE.figure());
    report.figure("Wait that waits", BACK.figure());
    faults(workshop);
    report.figure("Fault to its handler", THERE.figure());
    report.figure("Handler's answer to the faulting thread", BACK.figure());
    null_system_call(workshop);
    report.figure("Null system call", THERE.figure());
}

/// Runs the thread that begins until it has gone through all rounds.
fn run(workshop: &mut Workshop, plan: &Plan, partner: Worker) {
    let worker = workshop.start(plan);
    worker.stop();
    partner.stop();
}

/// Calls to a passive server with messages of `length` words both ways.
fn call(workshop: &mut Workshop, length: usize, setting: Setting) {
    let endpoint = workshop.endpoint().cptr();
    let reply: Reply = workshop.make(ObjectType::Reply);
    let rest = workshop.notification().cptr();
    let words = arguments(Syscall::ReplyRecv, endpoint, length, reply.cptr());
    let server = workshop.start(&setting.plan(workshop, answer, words));
    server.make_passive();
    let words = arguments(Syscall::Call, endpoint, length, rest);
    let client = setting.plan_here(workshop, ask, words);
    run(workshop, &client, server);
}

/// Sends without an answer, to a thread that preempts.
fn send(workshop: &mut Workshop) {
    let endpoint = workshop.endpoint().cptr();
    let reply: Reply = workshop.make(ObjectType::Reply);
    let rest = workshop.notification().cptr();
    let words = arguments(Syscall::Recv, endpoint, 0, reply.cptr());
    let receiver = Plan {
        priority: HIGHER_PRIORITY,
        ..Setting::OtherSpace.plan(workshop, answer, words)
    };
    let receiver = workshop.start(&receiver);
    let words = arguments(Syscall::Send, endpoint, 0, rest);
    let sender = Setting::OtherSpace.plan_here(workshop, ask, words);
    run(workshop, &sender, receiver);
}

/// Signals to a thread that preempts.
fn signal(workshop: &mut Workshop) {
    let notification = workshop.notification().cptr();
    let rest = workshop.notification().cptr();
    let words = arguments(Syscall::Wait, notification, 0, CPtr::NULL);
    let waiter = Plan {
        priority: HIGHER_PRIORITY,
        ..Setting::OtherSpace.plan(workshop, answer, words)
    };
    let waiter = workshop.start(&waiter);
    let words = arguments(Syscall::Send, notification, 0, rest);
    let signaller = Setting::OtherSpace.plan_here(workshop, ask, words);
    run(workshop, &signaller, waiter);
}

/// Exceptions of a thread whose handler is in the other space and passive.
fn faults(workshop: &mut Workshop) {
    let endpoint = workshop.endpoint();
    let reply: Reply = workshop.make(ObjectType::Reply);
    let rest = workshop.notification().cptr();
    let words = arguments(Syscall::ReplyRecv, endpoint.cptr(), 1, reply.cptr());
    let handler = workshop.start(&Setting::OtherSpace.plan(workshop, handle, words));
    handler.make_passive();
    let faulting = Plan {
        fault: Some(endpoint),
        ..Setting::OtherSpace.plan_here(workshop, fault, [0, 0, 0, rest.0])
    };
    run(workshop, &faulting, handler);
}

/// The system call that does least: it sets the FS base to what it is, 0.
fn null_system_call(workshop: &mut Workshop) {
    let rest = workshop.notification().cptr();
    let words = arguments(Syscall::SetTlsBase, CPtr::NULL, 0, rest);
    let plan = Setting::SameSpace.plan(workshop, alone, words);
    workshop.start(&plan).stop();
}
