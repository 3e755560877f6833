//! A call as a future: the event loop goes on while another thread of the program waits in the call.

use core::cell::Cell;

use libcap::capability::Tcb;
use libcap::executor::{CallLine, Executor, KernelEvents, Line, Reactor};
use libcap::lock::Mutex;
use libcap::{Endpoint, Notification, log};
use proto::echo::{EchoClient, EchoError};
use proto::protocol::{Awaited, CallError};
use sel4_sys::{InitialSlot, ObjectType};

use crate::workshop::{BufferPage, Workshop};

/// Ticks that the call takes, and the loop's beats in it.
const DELAY: u64 = 500_000_000;
const BEAT: u64 = DELAY / 10;
/// Signals of the main thread.
const TIMER: u64 = 0b01;
const CALLED: u64 = 0b10;

static BUFFER: BufferPage = BufferPage::new();
static LINE: CallLine<Endpoint> = CallLine::new();
/// The calling thread's two bells.
static BELLS: Mutex<Option<(Notification, Notification)>> = Mutex::new(None);

extern "C" fn call() -> ! {
    let (bell, done) = BELLS.lock().take().expect("main put them there");
    LINE.work(bell, done)
}

/// Calls the echo server, which sleeps, and counts meanwhile. The self test ends here.
pub fn call_and_count(workshop: &mut Workshop, echo: Endpoint) -> ! {
    let wake: Notification = workshop.make(ObjectType::Notification, 0);
    let own = Tcb::from_cptr(InitialSlot::Tcb.cptr());
    own.bind_notification(wake).expect("neither is bound");
    let timer = workshop.timer(wake, TIMER);
    let bell: Notification = workshop.make(ObjectType::Notification, 0);
    *BELLS.lock() = Some((bell, workshop.badged(wake, CALLED)));
    let ring = workshop.badged(bell, 1);
    workshop.start(call, &BUFFER, bell);

    let reactor = Reactor::new();
    let line = Line::new(&LINE, &reactor, ring, CALLED);
    let client = EchoClient::new(Awaited(line.to(echo)));
    let beats = Cell::new(0);
    let events = KernelEvents::new(None, wake, heapless::Vec::new(), Some(timer));
    let mut executor = Executor::new(&reactor, events);
    let beat = async {
        loop {
            reactor.sleep_until(reactor.now() + BEAT).await;
            beats.set(beats.get() + 1);
        }
    };
    let calls = async {
        assert_eq!(client.wait(DELAY).await, Ok(()));
        assert!(beats.get() > 0, "the loop stood still in a call");
        assert_eq!(client.add(40, 2).await, Ok(42));
        let refused = client.add(u64::MAX, 1).await;
        assert_eq!(refused, Err(CallError::Server(EchoError::Overflow)));
        log!(
            "a call that is a future let the loop go on for {} beats",
            beats.get()
        );
        log!("SELF TEST PASSED");
    };
    executor.spawn(beat).expect("there is room");
    executor.spawn(calls).expect("there is room");
    executor.run()
}
