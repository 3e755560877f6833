//! A client and a server in one process: how protocols are tested on the host.
//!
//! Owns [`HostChannel`], a [`Transport`] that runs the dispatcher on the caller's thread. The
//! code of client and server is the very code that runs on the kernel. There are no threads and
//! no clock in it: a server that waits is continued by the `idle` argument, which stands for the
//! rest of the world (a fake device, a fake timer).

use core::cell::RefCell;
use core::marker::PhantomData;
use core::pin::pin;
use core::task::{Context, Poll, Waker};

use crate::message::{Malformed, Message, reply_label};
use crate::protocol::{AsyncTransport, Caller, Protocol, Serve, Transport, dispatch};

/// What the world did when a server was waiting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idle {
    /// Something: ask the server again.
    Progress,
    /// The server is dead, nothing will come.
    Died,
}

/// A channel to a server in the same process, as one client with one badge.
pub struct HostChannel<'s, P, S, W> {
    server: &'s S,
    caller: Caller,
    idle: RefCell<W>,
    protocol: PhantomData<P>,
}

impl<'s, P: Protocol, S: Serve<P>> HostChannel<'s, P, S, fn() -> Idle> {
    /// A channel to a server that never waits. If it does, the caller sees it die.
    pub fn new(server: &'s S, caller: Caller) -> Self {
        Self::with_idle(server, caller, || Idle::Died)
    }
}

impl<'s, P: Protocol, S: Serve<P>, W: FnMut() -> Idle> HostChannel<'s, P, S, W> {
    /// A channel to a server; `idle` is called each time the server waits.
    pub fn with_idle(server: &'s S, caller: Caller, idle: W) -> Self {
        Self {
            server,
            caller,
            idle: RefCell::new(idle),
            protocol: PhantomData,
        }
    }
}

impl<P: Protocol, S: Serve<P>, W: FnMut() -> Idle> Transport for HostChannel<'_, P, S, W> {
    fn call(&self, request: &Message) -> Result<Message, Malformed> {
        let mut answer = pin!(dispatch::<P, S>(self.server, self.caller, request));
        let mut context = Context::from_waker(Waker::noop());
        loop {
            if let Poll::Ready(reply) = answer.as_mut().poll(&mut context) {
                return Ok(reply);
            }
            if (self.idle.borrow_mut())() == Idle::Died {
                return Ok(Message::empty(reply_label::PEER_DIED));
            }
        }
    }
}

/// The server's waiting is the caller's own: `idle` has no part in it.
impl<P: Protocol, S: Serve<P>, W> AsyncTransport for HostChannel<'_, P, S, W> {
    async fn call(&self, request: Message) -> Result<Message, Malformed> {
        Ok(dispatch::<P, S>(self.server, self.caller, &request).await)
    }
}
