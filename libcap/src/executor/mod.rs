//! The event loop of a server.
//!
//! Owns the turn: let everything go on that can, send replies, take one call or signal. A request
//! becomes a future that holds its reply object, so a server that waits for one thing serves
//! everybody else meanwhile. Neighbours: [`Reactor`] is what futures wait on; [`Events`] is where
//! calls and signals come from (the kernel's are [`KernelEvents`]); `proto` reads the requests.
//!
//! One thread, no locks; every number is bounded: requests by the reply objects, tasks by
//! [`TASKS_MAX`]. While all reply objects are held, callers wait in the kernel's queue and
//! signals still come through.

use alloc::boxed::Box;
use core::future;
use core::pin::Pin;
use core::task::{Context, Poll};

use proto::Message;
use proto::message::reply_label;
use proto::protocol::{Caller, Protocol, Serve, dispatch};

mod condition;
mod events;
mod line;
mod reactor;
mod ready;
#[cfg(test)]
mod tests;
mod waiters;

pub use condition::Condition;
pub use events::{Events, Incoming, KernelEvents, Patience};
pub use line::{CallLine, Line, LineTo};
pub use reactor::Reactor;
use ready::ReadySet;
pub use ready::TASKS_MAX;

/// Most reply objects of a server: half of the tasks, so that there is room for its own.
pub const REPLIES_MAX: usize = TASKS_MAX / 2;

/// There are as many tasks as [`TASKS_MAX`] leaves room for beside the requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooManyTasks;

/// A request under way.
type Answer<'s> = Pin<Box<dyn Future<Output = Message> + 's>>;

/// What runs in a slot.
enum Task<'s> {
    /// A request.
    Request(Answer<'s>),
    /// Something of the server's own.
    Background(Pin<Box<dyn Future<Output = ()> + 's>>),
}

/// The event loop over `E`; see the module.
pub struct Executor<'s, E> {
    reactor: &'s Reactor,
    events: E,
    ready: ReadySet,
    /// The request that holds reply object n is in slot n; behind those are background tasks.
    tasks: [Option<Task<'s>>; TASKS_MAX],
    /// Bit n: reply object n is free.
    free_replies: u64,
    /// A reply that goes out together with the next wait.
    outgoing: Option<(usize, Message)>,
}

impl<'s, E: Events> Executor<'s, E> {
    /// An event loop without tasks.
    ///
    /// # Panics
    /// If there are more than [`REPLIES_MAX`] reply objects.
    #[must_use]
    pub fn new(reactor: &'s Reactor, events: E) -> Self {
        let replies = events.replies();
        assert!(
            replies <= REPLIES_MAX,
            "{replies} reply objects, more than {REPLIES_MAX}"
        );
        Self {
            reactor,
            ready: ReadySet::new(),
            tasks: [const { None }; TASKS_MAX],
            free_replies: (1 << replies) - 1,
            outgoing: None,
            events,
        }
    }

    /// Adds a task of the server's own.
    ///
    /// # Errors
    /// There are too many.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 's) -> Result<(), TooManyTasks> {
        let first = self.events.replies();
        let free = self.tasks[first..].iter().position(Option::is_none);
        let slot = first + free.ok_or(TooManyTasks)?;
        self.start(slot, Task::Background(Box::pin(future)));
        Ok(())
    }

    /// Serves protocol `P` for good.
    pub fn serve<P: Protocol, S: Serve<P>>(mut self, server: &'s S) -> ! {
        loop {
            self.turn(server);
        }
    }

    /// Runs the background tasks for good: a program that serves nobody.
    pub fn run(mut self) -> ! {
        loop {
            self.turn_with(|_, _| Box::pin(future::ready(Message::empty(reply_label::MALFORMED))));
        }
    }

    /// One turn of [`Executor::serve`]: everything that can go on goes on, then one call or signal
    /// is taken.
    pub fn turn<P: Protocol, S: Serve<P>>(&mut self, server: &'s S) {
        self.turn_with(|caller, message| Box::pin(dispatch(server, caller, message)));
    }

    fn turn_with(&mut self, answer: impl FnOnce(Caller, &Message) -> Answer<'s>) {
        self.reactor.set_now(self.events.now());
        self.poll_ready();
        let offered = self.offered_reply();
        match self.wait(offered) {
            None => {}
            Some(Incoming::Signal(bits)) => self.reactor.signal(bits),
            Some(Incoming::Call { caller, message }) => {
                let reply = offered.expect("a call comes only with a reply object");
                self.free_replies &= !(1 << reply);
                let task = match message {
                    Ok(message) => answer(caller, &message),
                    Err(_) => Box::pin(future::ready(Message::empty(reply_label::MALFORMED))),
                };
                self.start(reply, Task::Request(task));
            }
        }
    }

    /// Puts a task into a free slot.
    fn start(&mut self, slot: usize, task: Task<'s>) {
        self.tasks[slot] = Some(task);
        self.ready.set(slot);
    }

    /// Polls each task that was woken, once. One that wakes itself is polled again next turn.
    fn poll_ready(&mut self) {
        for slot in self.ready.take() {
            let mut context = Context::from_waker(self.ready.waker(slot));
            let reply = match &mut self.tasks[slot] {
                None => continue,
                Some(Task::Background(future)) => future.as_mut().poll(&mut context).map(|()| None),
                Some(Task::Request(answer)) => answer.as_mut().poll(&mut context).map(Some),
            };
            if let Poll::Ready(reply) = reply {
                self.tasks[slot] = None;
                if let Some(message) = reply {
                    self.finish(slot, message);
                }
            }
        }
    }

    /// A request is done. The last reply of a turn waits for the next system call to go with it.
    fn finish(&mut self, reply: usize, message: Message) {
        self.free_replies |= 1 << reply;
        if let Some((earlier, message)) = self.outgoing.replace((reply, message)) {
            self.events.reply(earlier, &message);
        }
    }

    /// The reply object that the next wait offers: the outgoing reply's own, or any free one.
    fn offered_reply(&self) -> Option<usize> {
        match &self.outgoing {
            Some((reply, _)) => Some(*reply),
            None => (self.free_replies != 0).then(|| self.free_replies.trailing_zeros() as usize),
        }
    }

    /// Sends what is outgoing and takes the next call or signal. Does not block while a task is
    /// ready.
    fn wait(&mut self, offered: Option<usize>) -> Option<Incoming> {
        let patience = if self.ready.is_empty() {
            Patience::Block
        } else {
            Patience::Poll
        };
        if patience == Patience::Block
            && let Some(deadline) = self.reactor.next_deadline()
        {
            self.events.set_deadline(deadline);
        }
        match (self.outgoing.take(), patience) {
            (Some((reply, message)), Patience::Block) => {
                return Some(self.events.reply_and_receive(reply, &message));
            }
            (Some((reply, message)), Patience::Poll) => self.events.reply(reply, &message),
            (None, _) => {}
        }
        self.events.receive(offered, patience)
    }
}
