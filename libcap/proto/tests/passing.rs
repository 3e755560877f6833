//! Capabilities beside the bytes: who may pass what, and when a received one is deleted.

use std::cell::{Cell, RefCell};
use std::num::NonZeroU64;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};

use proptest::prelude::*;
use proto::doorbell::{Doorbell, DoorbellClient, DoorbellError, DoorbellServer, TIMES_MAX};
use proto::host::HostChannel;
use proto::message::reply_label;
use proto::passing::{Attached, CapName, Keeper, Passed, WithCap, kind};
use proto::protocol::{Awaited, CallError, Caller, Transport, dispatch};
use proto::start::CapKind;
use proto::{Malformed, Message};

/// Remembers what it deleted.
#[derive(Default)]
struct Slots(Mutex<Vec<CapName>>);

impl Keeper for Slots {
    fn discard(&self, name: CapName) {
        self.0.lock().unwrap().push(name);
    }
}

fn name(number: u64) -> CapName {
    CapName(NonZeroU64::new(number).expect("not 0"))
}

fn bell(number: u64) -> Passed<kind::Notification> {
    Passed::lent(name(number))
}

#[derive(Default)]
struct Server {
    rung: RefCell<Vec<CapName>>,
    kept: RefCell<Option<Passed<kind::Notification>>>,
    times_rung: Cell<u32>,
}

impl DoorbellServer for Server {
    async fn ring(
        &self,
        _: Caller,
        times: u32,
        bell: Passed<kind::Notification>,
    ) -> Result<(), DoorbellError> {
        if times > TIMES_MAX {
            return Err(DoorbellError::TooOften);
        }
        let signals = (0..times).map(|_| bell.name());
        self.rung.borrow_mut().extend(signals);
        Ok(())
    }

    async fn keep(&self, _: Caller, bell: Passed<kind::Notification>) -> Result<(), DoorbellError> {
        self.kept.replace(Some(bell));
        Ok(())
    }

    async fn give(&self, _: Caller) -> Result<WithCap<u32, kind::Notification>, DoorbellError> {
        let cap = self.kept.take().ok_or(DoorbellError::NothingKept)?;
        let value = self.times_rung.get();
        Ok(WithCap { value, cap })
    }

    async fn ring_kept(&self, _: Caller) -> Result<(), DoorbellError> {
        let kept = self.kept.borrow();
        let bell = kept.as_ref().ok_or(DoorbellError::NothingKept)?;
        self.rung.borrow_mut().push(bell.name());
        self.times_rung.set(self.times_rung.get() + 1);
        Ok(())
    }
}

/// What the server answers to a message that arrived.
fn answered(server: &Server, message: &Message) -> Message {
    let answer = pin!(dispatch::<Doorbell, _>(server, Caller(1), message));
    match answer.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(reply) => reply,
        Poll::Pending => panic!("this server never waits"),
    }
}

#[test]
fn capabilities_go_both_ways() {
    let server = Server::default();
    let client = DoorbellClient::new(HostChannel::<Doorbell, _, _>::new(&server, Caller(1)));
    assert_eq!(client.ring(2, bell(5)), Ok(()));
    assert_eq!(*server.rung.borrow(), [name(5), name(5)]);
    let refusal = Err(CallError::Server(DoorbellError::NothingKept));
    assert_eq!(client.give(), refusal);
    assert_eq!(client.keep(bell(6)), Ok(()));
    assert_eq!(client.ring_kept(), Ok(()));
    let given = client.give().unwrap();
    assert_eq!((given.value, given.cap), (1, bell(6)));
}

#[test]
fn a_client_whose_calls_are_futures_says_the_same() {
    let server = Server::default();
    let channel = HostChannel::<Doorbell, _, _>::new(&server, Caller(1));
    let client = DoorbellClient::new(Awaited(channel));
    let talk = pin!(async {
        client.keep(bell(6)).await?;
        client.give().await
    });
    let Poll::Ready(given) = talk.poll(&mut Context::from_waker(Waker::noop())) else {
        panic!("this server never waits")
    };
    assert_eq!(given.map(|given| given.cap), Ok(bell(6)));
}

#[test]
fn a_received_capability_is_deleted_when_nobody_holds_it_any_more() {
    let (server, slots) = (Server::default(), Arc::new(Slots::default()));
    for number in [7, 8] {
        let cap = Attached::received(name(number), CapKind::Notification, slots.clone());
        let message = Message::empty(2).with_cap(cap);
        assert_eq!(answered(&server, &message).label(), reply_label::OK);
    }
    // The first went when the second took its place.
    assert_eq!(*slots.0.lock().unwrap(), [name(7)]);
    let reply = answered(&server, &Message::empty(3));
    assert_eq!(slots.0.lock().unwrap().len(), 1, "the reply has it");
    drop(reply);
    assert_eq!(*slots.0.lock().unwrap(), [name(7), name(8)]);
}

/// A server that answers everything with the same message.
struct Answers(Result<Message, Malformed>);

impl Transport for Answers {
    fn call(&self, _: &Message) -> Result<Message, Malformed> {
        self.0.clone()
    }
}

#[test]
fn a_client_refuses_a_reply_with_the_wrong_capability_and_deletes_it() {
    let slots = Arc::new(Slots::default());
    let body = Message::from_body(reply_label::OK, &[2]).unwrap();
    let wrong = Attached::received(name(9), CapKind::Frame, slots.clone());
    for reply in [body.clone(), body.with_cap(wrong)] {
        let client = DoorbellClient::new(Answers(Ok(reply)));
        assert_eq!(client.give(), Err(CallError::Malformed));
    }
    let unasked = Attached::received(name(9), CapKind::Notification, slots.clone());
    let client = DoorbellClient::new(Answers(Ok(
        Message::empty(reply_label::OK).with_cap(unasked)
    )));
    assert_eq!(client.ring_kept(), Err(CallError::Malformed));
    drop(client);
    assert_eq!(*slots.0.lock().unwrap(), [name(9), name(9)]);
}

/// A capability that may come with a message: none, or one of these kinds.
fn any_kind() -> impl Strategy<Value = Option<CapKind>> {
    prop::sample::select(vec![
        None,
        Some(CapKind::Notification),
        Some(CapKind::Endpoint),
        Some(CapKind::Frame),
        Some(CapKind::Untyped),
    ])
}

proptest! {
    /// Whatever arrives: the server sees a capability only where one is declared, and of each that
    /// landed exactly one copy of the hold is left, the server's, or none.
    #[test]
    fn no_capability_is_lost_or_deleted_twice(
        arrivals in prop::collection::vec(
            (0_u64..7, prop::collection::vec(any::<u8>(), 0..4), any_kind()),
            0..40,
        )
    ) {
        let (server, slots) = (Server::default(), Arc::new(Slots::default()));
        let mut landed = Vec::new();
        for ((label, body, kind), number) in arrivals.into_iter().zip(1..) {
            let mut message = Message::from_body(label, &body).unwrap();
            if let Some(kind) = kind {
                landed.push(name(number));
                message = message.with_cap(Attached::received(name(number), kind, slots.clone()));
            }
            let declares_cap = label == 1 || label == 2;
            let reply = answered(&server, &message);
            let cap_fits = if declares_cap {
                kind == Some(CapKind::Notification)
            } else {
                kind.is_none()
            };
            if !cap_fits {
                prop_assert_eq!(reply, Message::empty(reply_label::MALFORMED));
            }
        }
        let held = server.kept.take().map(|bell| bell.name());
        let mut deleted = slots.0.lock().unwrap().clone();
        deleted.sort_by_key(|name| name.0);
        prop_assert_eq!(deleted, landed, "held last: {:?}", held);
    }
}
