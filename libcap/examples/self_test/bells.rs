//! Capabilities through a protocol: a notification goes to the server, is signalled there, and comes
//! back; everything else than one notification is refused.

use alloc::sync::Arc;
use core::cell::{Cell, RefCell};

use libcap::executor::{Executor, KernelEvents, Reactor};
use libcap::lock::Mutex;
use libcap::{Endpoint, Notification, Reply, log};
use proto::doorbell::{Doorbell, DoorbellClient, DoorbellError, DoorbellServer, TIMES_MAX};
use proto::passing::{Passed, WithCap, kind};
use proto::protocol::{CallError, Caller, Transport};
use sel4_sys::{CapRights, CapType, ObjectType};

use crate::workshop::{BufferPage, Workshop};

/// Slots for received capabilities, of the server and of the client: fewer than are passed.
const SLOTS: u32 = 3;

static BUFFER: BufferPage = BufferPage::new();
static EVENTS: Mutex<Option<KernelEvents>> = Mutex::new(None);

#[derive(Default)]
struct Server {
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
        (0..times).for_each(|_| Notification::from(&bell).try_signal());
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
        Notification::from(bell).try_signal();
        self.times_rung.set(self.times_rung.get() + 1);
        Ok(())
    }
}

extern "C" fn serve() -> ! {
    let events = EVENTS.lock().take().expect("main put it there");
    let (reactor, server) = (Reactor::new(), Server::default());
    Executor::new(&reactor, events).serve::<Doorbell, _>(&server)
}

/// Starts the server; its endpoint.
fn start(workshop: &mut Workshop) -> Endpoint {
    let endpoint: Endpoint = workshop.make(ObjectType::Endpoint, 0);
    let wake: Notification = workshop.make(ObjectType::Notification, 0);
    let replies = (0..2)
        .map(|_| workshop.make::<Reply>(ObjectType::Reply, 0))
        .collect();
    let events = KernelEvents::new(Some(endpoint), wake, replies, None);
    *EVENTS.lock() = Some(events.with_inbox(workshop.inbox(SLOTS)));
    workshop.start(serve, &BUFFER, wake);
    endpoint
}

/// Starts the server and tries all that can be passed.
pub fn try_all(workshop: &mut Workshop) {
    let endpoint = start(workshop);
    let door = workshop.badged(endpoint, Caller(8).badge());
    let inbox = workshop.inbox(SLOTS);
    let client = DoorbellClient::new(door.receiving(Arc::clone(&inbox)));
    let heard: Notification = workshop.make(ObjectType::Notification, 0);
    a_bell_goes_there_and_back(workshop, &client, heard);
    let bell = workshop.badged(heard, 0b100);
    // As often as would fill every slot, were one lost.
    for _ in 0..4 * SLOTS {
        assert_eq!(client.keep(bell), Ok(()));
        for wrong in [door.cptr(), workshop.root.cptr(), workshop.untyped.cptr()] {
            let wrong = Notification::from_cptr(wrong);
            assert_eq!(client.keep(wrong), Err(CallError::Malformed));
        }
    }
    // The kernel moves no capability through an endpoint without the right to grant.
    let rights = CapRights::CALL;
    let narrow = workshop.minted(endpoint, rights, Caller(9).badge());
    assert_eq!(
        DoorbellClient::new(narrow).keep(bell),
        Err(CallError::Malformed)
    );
    // And none into a client that offers no slot; the server has let go of it all the same.
    let closed = DoorbellClient::new(door);
    assert_eq!(closed.give(), Err(CallError::Malformed));
    let nothing = Err(CallError::Server(DoorbellError::NothingKept));
    assert_eq!(closed.ring_kept(), nothing);
    a_bell_that_is_gone_is_not_rung(workshop, &client);
    log!("capabilities go through a protocol, and only those that it declares");
}

fn a_bell_goes_there_and_back(
    workshop: &mut Workshop,
    client: &DoorbellClient<impl Transport>,
    heard: Notification,
) {
    let first = workshop.badged(heard, 0b01);
    assert_eq!(client.ring(3, first), Ok(()));
    assert_eq!(heard.poll(), 0b01);
    let refused = Err(CallError::Server(DoorbellError::TooOften));
    assert_eq!(client.ring(TIMES_MAX + 1, first), refused);
    assert_eq!(heard.poll(), 0);
    let second = workshop.badged(heard, 0b10);
    assert_eq!(client.keep(second), Ok(()));
    assert_eq!(client.ring_kept(), Ok(()));
    assert_eq!(heard.poll(), 0b10);
    let given = client.give().expect("it keeps one");
    let bell = Notification::from(&given.cap);
    assert_ne!(bell, second);
    bell.signal();
    assert_eq!((given.value, heard.poll()), (1, 0b10));
    let slot = workshop.root.slot(bell.cptr());
    assert_eq!(slot.identify(), Ok(CapType::Notification));
    drop(given);
    assert_eq!(slot.identify(), Ok(CapType::Null));
}

/// Whoever gave a capability can take it back: the server lives on.
fn a_bell_that_is_gone_is_not_rung(
    workshop: &mut Workshop,
    client: &DoorbellClient<impl Transport>,
) {
    let brief: Notification = workshop.make(ObjectType::Notification, 0);
    assert_eq!(client.keep(brief), Ok(()));
    let slot = workshop.root.slot(brief.cptr());
    slot.revoke().expect("the test's own");
    slot.delete().expect("the test's own");
    assert_eq!(client.ring_kept(), Ok(()));
}
