//! The echo server: messages, long and short, and a server that sleeps.

use alloc::vec::Vec;

use libcap::executor::{Executor, KernelEvents, Reactor};
use libcap::lock::Mutex;
use libcap::{Endpoint, Notification, Reply, kernel, log};
use proto::echo::{Echo, EchoClient, EchoError, EchoServer};
use proto::protocol::{CallError, Caller};
use sel4_sys::ObjectType;

use crate::workshop::{BufferPage, Workshop};

static BUFFER: BufferPage = BufferPage::new();

/// What the server thread starts with.
static EVENTS: Mutex<Option<KernelEvents>> = Mutex::new(None);

/// Starts the server; the way to it and to its bound notification.
pub fn start(workshop: &mut Workshop) -> (Endpoint, Notification) {
    let endpoint: Endpoint = workshop.make(ObjectType::Endpoint, 0);
    let wake: Notification = workshop.make(ObjectType::Notification, 0);
    let timer = workshop.timer(wake, 0b01);
    let replies = (0..4)
        .map(|_| workshop.make::<Reply>(ObjectType::Reply, 0))
        .collect();
    *EVENTS.lock() = Some(KernelEvents::new(
        Some(endpoint),
        wake,
        replies,
        Some(timer),
    ));
    workshop.start(serve, &BUFFER, wake);
    (
        workshop.badged(endpoint, Caller(7).badge()),
        workshop.badged(wake, 0b10),
    )
}

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

    async fn wait(&self, _: Caller, delay: u64) -> Result<(), EchoError> {
        self.reactor.sleep_until(kernel::time_stamp() + delay).await;
        Ok(())
    }

    async fn who_am_i(&self, caller: Caller) -> Result<u64, EchoError> {
        Ok(caller.0)
    }
}

extern "C" fn serve() -> ! {
    let events = EVENTS.lock().take().expect("main put it there");
    let reactor = Reactor::new();
    let server = Server { reactor: &reactor };
    Executor::new(&reactor, events).serve::<Echo, _>(&server)
}

pub fn converse(client: &EchoClient<Endpoint>) {
    const DELAY: u64 = 10_000_000;
    assert_eq!(client.add(40, 2), Ok(42));
    assert_eq!(
        client.add(u64::MAX, 1),
        Err(CallError::Server(EchoError::Overflow))
    );
    assert_eq!(client.who_am_i(), Ok(7));
    for length in [0, 1, 29, 30, 31, 500, 950] {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 31) as u8).collect();
        assert_eq!(client.repeat(bytes.clone()), Ok(bytes));
    }
    let before = kernel::time_stamp();
    assert_eq!(client.wait(DELAY), Ok(()));
    assert!(kernel::time_stamp() - before >= DELAY);
    log!("the server speaks the protocol and sleeps");
}
