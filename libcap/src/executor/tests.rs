//! The event loop against a script of what arrives.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use proto::echo::{Add, Echo, EchoClient, EchoError, EchoRequest, EchoServer, Repeat, Wait};
use proto::message::reply_label;
use proto::protocol::{Awaited, CallError, Caller, Operation, Reply, Request, Transport};
use proto::{Malformed, Message};
use sel4_sys::CPtr;

use super::*;
use crate::capability::Notification;

/// What the test lets arrive, and what the event loop did.
#[derive(Default)]
struct Script {
    now: u64,
    arriving: VecDeque<Incoming>,
    replies: Vec<(usize, Message)>,
    deadlines: Vec<u64>,
    /// Reply objects that were offered, one for each wait.
    offered: Vec<Option<usize>>,
    blocked: usize,
}

#[derive(Clone)]
struct Scripted {
    script: Rc<RefCell<Script>>,
    replies: usize,
}

impl Scripted {
    fn new(replies: usize) -> Self {
        Self {
            script: Rc::default(),
            replies,
        }
    }

    fn arrives(&self, incoming: Incoming) {
        self.script.borrow_mut().arriving.push_back(incoming);
    }

    fn calls(&self, request: impl Into<EchoRequest>) {
        let message = request.into().encode();
        self.arrives(Incoming::Call {
            caller: Caller(1),
            message,
        });
    }

    fn answers(&self) -> Vec<(usize, Message)> {
        std::mem::take(&mut self.script.borrow_mut().replies)
    }
}

impl Events for Scripted {
    fn replies(&self) -> usize {
        self.replies
    }

    fn now(&mut self) -> u64 {
        self.script.borrow().now
    }

    fn set_deadline(&mut self, deadline: u64) {
        self.script.borrow_mut().deadlines.push(deadline);
    }

    fn receive(&mut self, reply: Option<usize>, patience: Patience) -> Option<Incoming> {
        let mut script = self.script.borrow_mut();
        script.offered.push(reply);
        script.blocked += usize::from(patience == Patience::Block);
        let next = script.arriving.pop_front();
        match next {
            // Nothing arrives: a blocking wait ends with a signal that nobody waits for.
            None => (patience == Patience::Block).then_some(Incoming::Signal(1 << 62)),
            Some(Incoming::Call { .. }) if reply.is_none() => {
                script.arriving.push_front(next.unwrap());
                Some(Incoming::Signal(1 << 62))
            }
            some => some,
        }
    }

    fn reply(&mut self, reply: usize, message: &Message) {
        self.script
            .borrow_mut()
            .replies
            .push((reply, message.clone()));
    }

    fn reply_and_receive(&mut self, reply: usize, message: &Message) -> Incoming {
        self.reply(reply, message);
        self.receive(Some(reply), Patience::Block)
            .expect("blocks until something arrives")
    }
}

/// An echo server that waits on the reactor.
struct Server<'r> {
    reactor: &'r Reactor,
}

impl EchoServer for Server<'_> {
    async fn repeat(&self, _: Caller, bytes: Vec<u8>) -> Result<Vec<u8>, EchoError> {
        Ok(bytes)
    }

    async fn add(&self, _: Caller, left: u64, right: u64) -> Result<u64, EchoError> {
        left.checked_add(right).ok_or(EchoError::Overflow)
    }

    async fn wait(&self, _: Caller, delay_us: u64) -> Result<(), EchoError> {
        self.reactor
            .sleep_until(self.reactor.now() + delay_us)
            .await;
        Ok(())
    }

    async fn who_am_i(&self, caller: Caller) -> Result<u64, EchoError> {
        self.reactor.signals(0b1).await;
        Ok(caller.0)
    }
}

fn ok<O: Operation>(_: &O, reply: O::Reply) -> Message {
    reply.encode(reply_label::OK).unwrap()
}

#[test]
fn a_call_is_answered_in_the_next_wait() {
    let (reactor, events) = (Reactor::new(), Scripted::new(2));
    let server = Server { reactor: &reactor };
    let mut executor = Executor::new(&reactor, events.clone());
    let add = Add { left: 1, right: 2 };
    events.calls(add.clone());
    executor.turn::<Echo, _>(&server);
    assert_eq!(events.answers(), []);
    executor.turn::<Echo, _>(&server);
    assert_eq!(events.answers(), [(0, ok(&add, 3))]);
    // The answer's own reply object received the next.
    assert_eq!(events.script.borrow().offered, [Some(0), Some(0)]);
}

#[test]
fn a_request_that_waits_does_not_hold_up_others() {
    let (reactor, events) = (Reactor::new(), Scripted::new(2));
    let server = Server { reactor: &reactor };
    let mut executor = Executor::new(&reactor, events.clone());
    let (wait, repeat) = (Wait { delay_us: 100 }, Repeat { bytes: vec![9] });
    events.calls(wait.clone());
    events.calls(repeat.clone());
    for _ in 0..3 {
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(events.answers(), [(1, ok(&repeat, vec![9]))]);
    assert_eq!(events.script.borrow().deadlines.last(), Some(&100));
    events.script.borrow_mut().now = 100;
    executor.turn::<Echo, _>(&server);
    assert_eq!(events.answers(), [(0, ok(&wait, ()))]);
}

#[test]
fn callers_queue_while_every_reply_object_is_held() {
    let (reactor, events) = (Reactor::new(), Scripted::new(1));
    let server = Server { reactor: &reactor };
    let mut executor = Executor::new(&reactor, events.clone());
    events.calls(Wait { delay_us: 100 });
    events.calls(Add { left: 1, right: 2 });
    for _ in 0..3 {
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(events.script.borrow().offered, [Some(0), None, None]);
    assert_eq!(events.script.borrow().arriving.len(), 1);
    events.script.borrow_mut().now = 100;
    for _ in 0..2 {
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(events.answers().len(), 2);
}

#[test]
fn nonsense_is_answered_as_malformed_and_gives_its_reply_object_back() {
    let (reactor, events) = (Reactor::new(), Scripted::new(1));
    let server = Server { reactor: &reactor };
    let mut executor = Executor::new(&reactor, events.clone());
    let caller = Caller(1);
    events.arrives(Incoming::Call {
        caller,
        message: Err(Malformed),
    });
    events.arrives(Incoming::Call {
        caller,
        message: Ok(Message::empty(99)),
    });
    for _ in 0..3 {
        executor.turn::<Echo, _>(&server);
    }
    let malformed = (0, Message::empty(reply_label::MALFORMED));
    assert_eq!(events.answers(), [malformed.clone(), malformed]);
}

#[test]
fn a_signal_wakes_only_who_waits_for_it_and_is_kept_for_who_comes_late() {
    let (reactor, events) = (Reactor::new(), Scripted::new(0));
    let taken = RefCell::new(Vec::new());
    let mut executor = Executor::new(&reactor, events.clone());
    let listen = async |mask| {
        let signal = reactor.signals(mask).await;
        taken.borrow_mut().push((mask, signal));
    };
    executor.spawn(listen(0b0011)).unwrap();
    executor.spawn(listen(0b1000)).unwrap();
    events.arrives(Incoming::Signal(0b0110));
    let turn = |executor: &mut Executor<'_, Scripted>| {
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    };
    turn(&mut executor);
    turn(&mut executor);
    assert_eq!(*taken.borrow(), [(0b0011, 0b0010)]);
    executor.spawn(listen(0b0100)).unwrap();
    turn(&mut executor);
    assert_eq!(*taken.borrow(), [(0b0011, 0b0010), (0b0100, 0b0100)]);
}

#[test]
fn a_task_that_wakes_itself_lets_calls_through() {
    let (reactor, events) = (Reactor::new(), Scripted::new(1));
    let server = Server { reactor: &reactor };
    let turns = Cell::new(0);
    let mut executor = Executor::new(&reactor, events.clone());
    executor
        .spawn(future::poll_fn(|context| {
            turns.set(turns.get() + 1);
            context.waker().wake_by_ref();
            Poll::Pending
        }))
        .unwrap();
    events.calls(Add { left: 1, right: 1 });
    for _ in 0..3 {
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(turns.get(), 3);
    assert_eq!(events.answers().len(), 1);
    assert_eq!(events.script.borrow().blocked, 0);
}

#[test]
fn sleepers_share_one_deadline_the_earliest() {
    let (reactor, events) = (Reactor::new(), Scripted::new(0));
    let woken = RefCell::new(Vec::new());
    let mut executor = Executor::new(&reactor, events.clone());
    let sleep = async |deadline| {
        reactor.sleep_until(deadline).await;
        woken.borrow_mut().push(deadline);
    };
    for deadline in [300, 100, 200] {
        executor.spawn(sleep(deadline)).unwrap();
    }
    for now in [0, 100, 150, 250, 300] {
        events.script.borrow_mut().now = now;
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    }
    assert_eq!(*woken.borrow(), [100, 200, 300]);
    assert_eq!(events.script.borrow().deadlines, [100, 200, 200, 300]);
}

#[test]
fn waiting_with_a_deadline_leaves_nothing_behind() {
    let (reactor, events) = (Reactor::new(), Scripted::new(0));
    let results = RefCell::new(Vec::new());
    let mut executor = Executor::new(&reactor, events.clone());
    executor
        .spawn(async {
            for _ in 0..500 {
                let signal = reactor.until(1_000_000, reactor.signals(1)).await;
                results.borrow_mut().push(signal);
            }
        })
        .unwrap();
    for _ in 0..500 {
        events.arrives(Incoming::Signal(1));
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    }
    assert_eq!(results.borrow().len(), 499);
    assert!(results.borrow().iter().all(|signal| *signal == Some(1)));
    assert_eq!(
        events.script.borrow().blocked,
        500,
        "the loop never had to poll"
    );
    events.script.borrow_mut().now = 1_000_000;
    executor.turn_with(|_, _| unreachable!("nobody calls"));
    executor.turn_with(|_, _| unreachable!("nobody calls"));
    assert_eq!(reactor.next_deadline(), None);
}

#[test]
fn a_deadline_ends_a_wait_for_something_that_never_comes() {
    let (reactor, events) = (Reactor::new(), Scripted::new(0));
    let ended = Cell::new(None);
    let mut executor = Executor::new(&reactor, events.clone());
    executor
        .spawn(async { ended.set(Some(reactor.until(50, future::pending::<()>()).await)) })
        .unwrap();
    for now in [0, 49, 50] {
        assert_eq!(ended.get(), None);
        events.script.borrow_mut().now = now;
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    }
    assert_eq!(ended.get(), Some(None));
}

#[test]
fn a_condition_wakes_those_who_look_at_the_state() {
    let (reactor, events) = (Reactor::new(), Scripted::new(0));
    let (queue, filled) = (RefCell::new(VecDeque::new()), Condition::new());
    let seen = RefCell::new(Vec::new());
    let mut executor = Executor::new(&reactor, events);
    executor
        .spawn(async {
            loop {
                let item = filled.wait_for(|| queue.borrow_mut().pop_front()).await;
                seen.borrow_mut().push(item);
            }
        })
        .unwrap();
    executor
        .spawn(async {
            for item in 0..3 {
                queue.borrow_mut().push_back(item);
                filled.notify_all();
                reactor.sleep_until(reactor.now() + 1).await;
            }
        })
        .unwrap();
    for now in 0..5 {
        executor.events.script.borrow_mut().now = now;
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    }
    assert_eq!(*seen.borrow(), [0, 1, 2]);
}

#[test]
fn background_tasks_leave_room_for_every_request() {
    let (reactor, events) = (Reactor::new(), Scripted::new(REPLIES_MAX));
    let server = Server { reactor: &reactor };
    let mut executor = Executor::new(&reactor, events.clone());
    for _ in 0..TASKS_MAX - REPLIES_MAX {
        executor.spawn(future::pending()).unwrap();
    }
    assert_eq!(executor.spawn(future::pending()), Err(TooManyTasks));
    for _ in 0..REPLIES_MAX {
        events.calls(Wait { delay_us: 1 });
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(executor.free_replies, 0);
    assert!(executor.tasks.iter().all(Option::is_some));
}

/// A server at the other end of a line: it adds one, or is dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Far {
    Adds,
    Dead,
}

impl Transport for Far {
    fn call(&self, request: &Message) -> Result<Message, Malformed> {
        let EchoRequest::Add(add) = EchoRequest::decode(request)? else {
            return Err(Malformed);
        };
        Ok(match self {
            Self::Adds => ok(&add, add.left + add.right),
            Self::Dead => Message::empty(reply_label::PEER_DIED),
        })
    }
}

/// Wake bit of the test's line.
const LINE: u64 = 0b100;

fn line<'r>(shared: &'r CallLine<Far>, reactor: &'r Reactor) -> Line<'r, Far> {
    Line::new(shared, reactor, Notification::from_cptr(CPtr(9)), LINE)
}

/// The calling thread gets a chance, and says so if it did something.
fn let_call(shared: &CallLine<Far>, events: &Scripted) -> bool {
    let called = shared.work_once();
    if called {
        events.arrives(Incoming::Signal(LINE));
    }
    called
}

#[test]
fn a_call_through_a_line_lets_the_loop_serve_meanwhile() {
    let (reactor, events, shared) = (Reactor::new(), Scripted::new(1), CallLine::new());
    let (server, line) = (Server { reactor: &reactor }, line(&shared, &reactor));
    let sums = RefCell::new(Vec::new());
    let mut executor = Executor::new(&reactor, events.clone());
    for (far, left) in [(Far::Adds, 1), (Far::Adds, 10), (Far::Dead, 0)] {
        let client = EchoClient::new(Awaited(line.to(far)));
        let sums = &sums;
        let call = async move {
            let sum = client.add(left, 1).await;
            sums.borrow_mut().push(sum);
        };
        executor.spawn(call).unwrap();
    }
    events.calls(Repeat { bytes: vec![] });
    executor.turn::<Echo, _>(&server);
    executor.turn::<Echo, _>(&server);
    assert_eq!(events.answers().len(), 1, "served before the call was made");
    // One at a time, whoever comes first.
    while let_call(&shared, &events) {
        executor.turn::<Echo, _>(&server);
        executor.turn::<Echo, _>(&server);
    }
    assert_eq!(*sums.borrow(), [Ok(2), Ok(11), Err(CallError::PeerDied)]);
}

#[test]
fn a_call_that_was_given_up_does_not_answer_the_next() {
    let (reactor, events, shared) = (Reactor::new(), Scripted::new(0), CallLine::new());
    let line = line(&shared, &reactor);
    let sums = RefCell::new(Vec::new());
    let client = EchoClient::new(Awaited(line.to(Far::Adds)));
    let mut executor = Executor::new(&reactor, events.clone());
    let calls = async {
        for left in [1, 2, 3] {
            let deadline = reactor.now() + 10;
            let sum = reactor.until(deadline, client.add(left, 0)).await;
            sums.borrow_mut().push(sum);
        }
    };
    executor.spawn(calls).unwrap();
    let turn = |executor: &mut Executor<'_, Scripted>, now| {
        events.script.borrow_mut().now = now;
        executor.turn_with(|_, _| unreachable!("nobody calls"));
    };
    turn(&mut executor, 0);
    // Never begun: the next call takes its place.
    turn(&mut executor, 10);
    assert_eq!(*sums.borrow(), [None]);
    // Begun, and answered only when nobody waits.
    let (far, request) = shared.begin().expect("the second call waits");
    turn(&mut executor, 20);
    assert_eq!(*sums.borrow(), [None, None]);
    turn(&mut executor, 20);
    assert!(shared.begin().is_none(), "the line is not free");
    shared.finish(far.call(&request));
    events.arrives(Incoming::Signal(LINE));
    turn(&mut executor, 21);
    turn(&mut executor, 21);
    assert!(let_call(&shared, &events));
    turn(&mut executor, 22);
    turn(&mut executor, 22);
    assert_eq!(*sums.borrow(), [None, None, Some(Ok(3))]);
}
