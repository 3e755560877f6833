//! Calls that an event loop does not wait for.
//!
//! Call blocks the thread that makes it, so another thread of the program makes it: a [`CallLine`] is
//! what the two share, and a call is a future of the event loop. The server sees an ordinary call,
//! and PeerDied comes as it does to everyone (docs/decisions/0007). A line carries one call at a
//! time and others wait for it; a program that wants more calls under way has more lines.

use core::mem;

use proto::protocol::{AsyncTransport, Transport};
use proto::{Malformed, Message};

use super::Reactor;
use crate::capability::Notification;
use crate::lock::Mutex;

/// Where the one call of a line stands.
#[derive(Debug)]
enum State<T> {
    /// There is none.
    Idle,
    /// The event loop wants it made.
    Asked(T, Message),
    /// The calling thread is in it.
    Calling,
    /// As `Calling`, but nobody waits for the answer any more.
    Abandoned,
    /// It is done.
    Answered(Result<Message, Malformed>),
}

/// What an event loop and its calling thread share: calls through transports `T`.
#[derive(Debug)]
pub struct CallLine<T>(Mutex<State<T>>);

impl<T: Transport> CallLine<T> {
    /// A line that nobody uses.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default could not be a constant"
    )]
    pub const fn new() -> Self {
        Self(Mutex::new(State::Idle))
    }

    /// The calling thread's whole work. `bell` is what the event loop rings for it, `done` sets the
    /// line's signal in the event loop.
    pub fn work(&self, bell: Notification, done: Notification) -> ! {
        loop {
            if self.work_once() {
                done.signal();
            } else {
                // Rung again for a call that was made already, or taken back: it looks again.
                let _ = bell.wait();
            }
        }
    }

    /// Makes the call that is wanted; false if none is.
    pub(super) fn work_once(&self) -> bool {
        let Some((transport, request)) = self.begin() else {
            return false;
        };
        self.finish(transport.call(&request));
        true
    }

    /// Takes the call that is wanted.
    pub(super) fn begin(&self) -> Option<(T, Message)> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Calling) {
            State::Asked(transport, request) => Some((transport, request)),
            other => {
                *state = other;
                None
            }
        }
    }

    /// The call that was begun has this answer.
    pub(super) fn finish(&self, answer: Result<Message, Malformed>) {
        let mut state = self.0.lock();
        *state = match *state {
            State::Abandoned => State::Idle,
            _ => State::Answered(answer),
        };
    }

    /// Leaves a call for the calling thread, if the line is free; takes it out of `call` then.
    fn ask(&self, call: &mut Option<(T, Message)>) -> Option<()> {
        let mut state = self.0.lock();
        if !matches!(*state, State::Idle) {
            return None;
        }
        let (transport, request) = call.take()?;
        *state = State::Asked(transport, request);
        Some(())
    }

    /// The answer, when it is there; the line is free then.
    fn take_answer(&self) -> Option<Result<Message, Malformed>> {
        let mut state = self.0.lock();
        match mem::replace(&mut *state, State::Idle) {
            State::Answered(answer) => Some(answer),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Nobody waits for the answer any more: a call that was not begun is not made, of another the
    /// answer is dropped.
    fn abandon(&self) {
        let before = {
            let mut state = self.0.lock();
            let next = match *state {
                State::Calling | State::Abandoned => State::Abandoned,
                State::Idle | State::Asked(..) | State::Answered(_) => State::Idle,
            };
            mem::replace(&mut *state, next)
        };
        // Here, because a capability in it is deleted by a system call, which no lock is held over.
        drop(before);
    }
}

/// The event loop's end of a [`CallLine`].
#[derive(Debug)]
pub struct Line<'r, T: Transport> {
    shared: &'r CallLine<T>,
    reactor: &'r Reactor,
    bell: Notification,
    signal: u64,
}

impl<'r, T: Transport + Clone> Line<'r, T> {
    /// The end that rings `bell` for the calling thread, and hears of it by the bits `signal` of
    /// `wake`, which are nobody else's.
    #[must_use]
    pub const fn new(
        shared: &'r CallLine<T>,
        reactor: &'r Reactor,
        bell: Notification,
        signal: u64,
    ) -> Self {
        Self {
            shared,
            reactor,
            bell,
            signal,
        }
    }

    /// Calls through `transport`: for clients, `Client::new(Awaited(line.to(server)))`.
    #[must_use]
    pub const fn to(&self, transport: T) -> LineTo<'_, 'r, T> {
        LineTo {
            line: self,
            transport,
        }
    }
}

/// See [`Line::to`].
#[derive(Debug)]
pub struct LineTo<'l, 'r, T: Transport> {
    line: &'l Line<'r, T>,
    transport: T,
}

impl<T: Transport + Clone> AsyncTransport for LineTo<'_, '_, T> {
    async fn call(&self, request: Message) -> Result<Message, Malformed> {
        let Line {
            shared,
            reactor,
            bell,
            signal,
        } = self.line;
        let mut call = Some((self.transport.clone(), request));
        reactor
            .after_signals(*signal, || shared.ask(&mut call))
            .await;
        let under_way = UnderWay(self.line);
        bell.signal();
        let answer = reactor
            .after_signals(*signal, || shared.take_answer())
            .await;
        drop(under_way);
        answer
    }
}

/// A call that its future waits for.
struct UnderWay<'l, 'r, T: Transport>(&'l Line<'r, T>);

/// The call is over or given up; whoever waits for the line looks whether it is free.
impl<T: Transport> Drop for UnderWay<'_, '_, T> {
    fn drop(&mut self) {
        self.0.shared.abandon();
        self.0.reactor.look_again(self.0.signal);
    }
}
