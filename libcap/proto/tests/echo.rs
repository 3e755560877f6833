//! Client, dispatcher and host channel of the example protocol, end to end.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;

use proto::echo::{Echo, EchoClient, EchoError, EchoServer, REPEAT_BYTES_MAX};
use proto::host::{HostChannel, Idle};
use proto::message::reply_label;
use proto::protocol::{CallError, Caller, Transport};
use proto::{Malformed, Message};

/// An echo server on a clock that the test turns.
#[derive(Default)]
struct TestServer {
    now_us: Rc<Cell<u64>>,
    served: RefCell<Vec<&'static str>>,
}

impl EchoServer for TestServer {
    async fn repeat(&self, _: Caller, bytes: Vec<u8>) -> Result<Vec<u8>, EchoError> {
        self.served.borrow_mut().push("repeat");
        Ok(bytes)
    }

    async fn add(&self, _: Caller, left: u64, right: u64) -> Result<u64, EchoError> {
        left.checked_add(right).ok_or(EchoError::Overflow)
    }

    async fn wait(&self, _: Caller, delay_us: u64) -> Result<(), EchoError> {
        let deadline = self.now_us.get() + delay_us;
        poll_fn(|_| {
            if self.now_us.get() < deadline {
                Poll::Pending
            } else {
                Poll::Ready(())
            }
        })
        .await;
        Ok(())
    }

    async fn who_am_i(&self, caller: Caller) -> Result<u64, EchoError> {
        Ok(caller.0)
    }
}

#[test]
fn a_client_gets_what_the_server_answers() {
    let server = TestServer::default();
    let client = EchoClient::new(HostChannel::<Echo, _, _>::new(&server, Caller(77)));
    assert_eq!(client.repeat(b"tessera".to_vec()), Ok(b"tessera".to_vec()));
    assert_eq!(client.add(40, 2), Ok(42));
    assert_eq!(client.who_am_i(), Ok(77));
}

#[test]
fn a_refusal_is_the_servers_own_error() {
    let server = TestServer::default();
    let client = EchoClient::new(HostChannel::<Echo, _, _>::new(&server, Caller(0)));
    assert_eq!(
        client.add(u64::MAX, 1),
        Err(CallError::Server(EchoError::Overflow))
    );
}

#[test]
fn a_server_that_waits_replies_when_its_event_came() {
    let server = TestServer::default();
    let clock = server.now_us.clone();
    let channel = HostChannel::<Echo, _, _>::with_idle(&server, Caller(0), move || {
        clock.set(clock.get() + 10);
        Idle::Progress
    });
    assert_eq!(EchoClient::new(channel).wait(95), Ok(()));
    assert_eq!(server.now_us.get(), 100);
}

#[test]
fn a_server_that_dies_while_it_waits_is_a_dead_peer() {
    let server = TestServer::default();
    let client = EchoClient::new(HostChannel::<Echo, _, _>::new(&server, Caller(0)));
    assert_eq!(client.wait(1), Err(CallError::PeerDied));
}

#[test]
fn the_longest_request_fits_and_a_longer_one_is_not_sent() {
    let server = TestServer::default();
    let client = EchoClient::new(HostChannel::<Echo, _, _>::new(&server, Caller(0)));
    let longest = vec![0xff; REPEAT_BYTES_MAX];
    assert_eq!(client.repeat(longest.clone()), Ok(longest));
    assert_eq!(
        client.repeat(vec![0; REPEAT_BYTES_MAX + 1]),
        Err(CallError::Malformed)
    );
    assert_eq!(server.served.borrow().len(), 1);
}

#[test]
fn nonsense_is_answered_without_the_server() {
    let server = TestServer::default();
    let channel = HostChannel::<Echo, _, _>::new(&server, Caller(0));
    for request in [
        Message::empty(0),
        Message::empty(5),
        Message::empty(reply_label::PEER_DIED),
        Message::from_body(1, &[200]).unwrap(),
        Message::from_body(4, &[0]).unwrap(),
    ] {
        let reply = channel.call(&request).unwrap();
        assert_eq!(reply, Message::empty(reply_label::MALFORMED), "{request:?}");
    }
    assert!(server.served.borrow().is_empty());
}

/// A server that answers everything with the same message.
struct Answers(Result<Message, Malformed>);

impl Transport for Answers {
    fn call(&self, _: &Message) -> Result<Message, Malformed> {
        self.0.clone()
    }
}

#[test]
fn a_client_refuses_replies_that_are_not_the_protocols() {
    for reply in [
        Message::empty(reply_label::OK),
        Message::empty(reply_label::MALFORMED),
        Message::empty(3),
        Message::from_body(reply_label::OK, &[1, 2]).unwrap(),
        Message::from_body(reply_label::SERVER_ERROR, &[2]).unwrap(),
    ] {
        let client = EchoClient::new(Answers(Ok(reply)));
        assert_eq!(client.add(1, 2), Err(CallError::Malformed));
    }
    let client = EchoClient::new(Answers(Err(Malformed)));
    assert_eq!(client.add(1, 2), Err(CallError::Malformed));
}

#[test]
fn the_label_of_a_dead_peer_is_not_taken_for_an_answer() {
    let client = EchoClient::new(Answers(Ok(Message::empty(reply_label::PEER_DIED))));
    assert_eq!(client.add(1, 2), Err(CallError::PeerDied));
}
