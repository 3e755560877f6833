//! Answers protocol `console` from the switchboard; a request that must wait is a future that does.
//!
//! Owns who waits for what. Separate from [`crate::switchboard`] so that the latter has no notion of
//! requests, and from the program's main so that the host can be its client.

use core::cell::{Cell, RefCell};
use core::future::poll_fn;
use core::task::{Poll, Waker};

use alloc::vec::Vec;

use proto::Caller;
use proto::console::{
    ConsoleError, ConsoleServer, Dimensions, Event, LogPart, VirtualConsole, Wait,
};

use crate::switchboard::{NotFound, Switchboard};

/// The size of a serial terminal: there is no way to ask, and every one has at least this.
pub const LINE_DIMENSIONS: Dimensions = Dimensions {
    columns: 80,
    rows: 24,
};

/// What moves bytes out of the switchboard after something changed in it.
pub trait Pump {
    /// Moves what can be moved now.
    fn pump(&mut self, switchboard: &mut Switchboard, now_us: u64);

    /// When it must be called again at the latest; `None` if nothing is held back.
    fn due_us(&self) -> Option<u64>;
}

/// Nothing is connected; whoever owns the service moves the bytes.
impl Pump for () {
    fn pump(&mut self, _: &mut Switchboard, _: u64) {}

    fn due_us(&self) -> Option<u64> {
        None
    }
}

/// What the clients of the console call. `C` tells the time in microseconds since the machine started.
pub struct Service<C, W = ()> {
    switchboard: RefCell<Switchboard>,
    wiring: RefCell<W>,
    clock: C,
    dimensions: Dimensions,
    /// The number of the latest read; an earlier one that still waits is of a client that died.
    latest_read: Cell<u64>,
    /// When the latest read gives up.
    deadline_us: Cell<Option<u64>>,
    waiting: RefCell<Vec<Waker>>,
    changes: Cell<u64>,
}

impl<C: Fn() -> u64, W: Pump> Service<C, W> {
    /// A service for the clients of `switchboard`, whose smallest terminal has `dimensions`.
    pub fn new(switchboard: Switchboard, wiring: W, dimensions: Dimensions, clock: C) -> Self {
        Self {
            switchboard: RefCell::new(switchboard),
            wiring: RefCell::new(wiring),
            clock,
            dimensions,
            latest_read: Cell::new(0),
            deadline_us: Cell::new(None),
            waiting: RefCell::new(Vec::new()),
            changes: Cell::new(0),
        }
    }

    /// Lets `change` change the switchboard; then bytes are moved and whoever waits looks again.
    pub fn with<R>(&self, change: impl FnOnce(&mut Switchboard) -> R) -> R {
        self.serve(|switchboard, _| change(switchboard))
    }

    /// As [`Service::with`], for what comes from the devices.
    pub fn serve<R>(&self, change: impl FnOnce(&mut Switchboard, &mut W) -> R) -> R {
        let mut switchboard = self.switchboard.borrow_mut();
        let mut wiring = self.wiring.borrow_mut();
        let result = change(&mut switchboard, &mut wiring);
        wiring.pump(&mut switchboard, (self.clock)());
        drop((switchboard, wiring));
        self.changes.set(self.changes.get().wrapping_add(1));
        self.wake();
        result
    }

    /// Waits for the next change: [`Service::tick`] may be due earlier than it said.
    pub async fn changed(&self) {
        let before = self.changes.get();
        self.wait_for(|| (self.changes.get() != before).then_some(()))
            .await;
    }

    /// Does what is due by now. When to call again at the latest, in microseconds since the machine
    /// started; `None` if nothing is waited for.
    pub fn tick(&self) -> Option<u64> {
        let now_us = (self.clock)();
        let due = self.switchboard.borrow().notice_due();
        let notices = match due {
            Some(due) if due <= now_us => self.with(|switchboard| {
                switchboard.overdue_notices(now_us);
                switchboard.notice_due()
            }),
            due => due,
        };
        let read = self.deadline_us.get().filter(|&deadline| {
            let due = deadline <= now_us;
            if due {
                self.wake();
            }
            !due
        });
        let held_back = self.wiring.borrow().due_us();
        [notices, read, held_back].into_iter().flatten().min()
    }

    fn wake(&self) {
        for waker in self.waiting.take() {
            waker.wake();
        }
    }

    /// Waits until `ready` gives something.
    async fn wait_for<R>(&self, mut ready: impl FnMut() -> Option<R>) -> R {
        poll_fn(|context| match ready() {
            Some(result) => Poll::Ready(result),
            None => {
                self.waiting.borrow_mut().push(context.waker().clone());
                Poll::Pending
            }
        })
        .await
    }
}

impl From<NotFound> for ConsoleError {
    fn from(NotFound: NotFound) -> Self {
        Self::NotFound
    }
}

impl<C: Fn() -> u64, W: Pump> ConsoleServer for Service<C, W> {
    async fn write(&self, _: Caller, bytes: Vec<u8>) -> Result<(), ConsoleError> {
        self.with(|switchboard| switchboard.write_shell(&bytes));
        self.wait_for(|| self.switchboard.borrow().shell_has_room().then_some(()))
            .await;
        Ok(())
    }

    async fn read(&self, _: Caller, wait: Wait) -> Result<Event, ConsoleError> {
        let number = self.latest_read.get() + 1;
        self.latest_read.set(number);
        self.deadline_us.set(match wait {
            Wait::Forever => None,
            Wait::Milliseconds(wait) => Some((self.clock)().saturating_add(u64::from(wait) * 1000)),
        });
        self.with(|_| ());
        let event = self
            .wait_for(|| {
                if self.latest_read.get() != number {
                    return Some(Event::TimedOut);
                }
                let event = self.switchboard.borrow_mut().next_event();
                let deadline = self.deadline_us.get();
                event.or_else(|| {
                    let late = deadline.is_some_and(|deadline| deadline <= (self.clock)());
                    late.then_some(Event::TimedOut)
                })
            })
            .await;
        if self.latest_read.get() == number {
            self.deadline_us.set(None);
        }
        Ok(event)
    }

    async fn attach(&self, _: Caller, console: VirtualConsole) -> Result<(), ConsoleError> {
        Ok(self.with(|switchboard| switchboard.attach(console))?)
    }

    async fn detach(&self, _: Caller) -> Result<(), ConsoleError> {
        self.with(Switchboard::detach);
        Ok(())
    }

    async fn read_log(&self, _: Caller, from: u64) -> Result<LogPart, ConsoleError> {
        Ok(self.switchboard.borrow().read_log(from))
    }

    async fn clear(&self, _: Caller, console: VirtualConsole) -> Result<(), ConsoleError> {
        Ok(self.with(|switchboard| switchboard.clear(console))?)
    }

    async fn size(&self, _: Caller) -> Result<Dimensions, ConsoleError> {
        Ok(self.dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scancode::Typed;
    use crate::switchboard::{MAX_MACHINES, NOTICE_PATIENCE_US, Terminal};
    use proto::CallError;
    use proto::console::{Console, ConsoleClient};
    use proto::host::{HostChannel, Idle};

    fn service<'c>(now_us: &'c Cell<u64>) -> Service<impl Fn() -> u64 + 'c> {
        let switchboard = Switchboard::new(&[Terminal::Line], ["root".into()]);
        Service::new(switchboard, (), LINE_DIMENSIONS, || now_us.get())
    }

    fn client<'s, S: ConsoleServer>(
        service: &'s S,
        idle: impl FnMut() -> Idle + 's,
    ) -> ConsoleClient<HostChannel<'s, Console, S, impl FnMut() -> Idle + 's>> {
        ConsoleClient::new(HostChannel::with_idle(service, Caller(1), idle))
    }

    fn line_output<C: Fn() -> u64>(service: &Service<C>) -> Vec<u8> {
        service.with(|switchboard| {
            core::iter::from_fn(|| switchboard.next_output(Terminal::Line)).collect()
        })
    }

    #[test]
    fn a_read_waits_until_something_is_typed() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        let shell = client(&service, || {
            service.with(|switchboard| switchboard.typed(Terminal::Line, Typed::Byte(b'x')));
            Idle::Progress
        });
        assert_eq!(shell.read(Wait::Forever), Ok(Event::Input(b"x".to_vec())));
    }

    #[test]
    fn a_read_gives_up_at_its_deadline() {
        let now_us = Cell::new(500);
        let service = service(&now_us);
        let shell = client(&service, || {
            let deadline = service.tick().expect("a read waits");
            now_us.set(deadline);
            assert_eq!(service.tick(), None);
            Idle::Progress
        });
        assert_eq!(shell.read(Wait::Milliseconds(250)), Ok(Event::TimedOut));
        assert_eq!(now_us.get(), 250_500);
        assert_eq!(shell.read(Wait::Milliseconds(0)), Ok(Event::TimedOut));
        assert_eq!(service.tick(), None, "nothing waits any more");
    }

    #[test]
    fn a_new_read_ends_the_one_of_a_client_that_died() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        let second = client(&service, || Idle::Died);
        let first = client(&service, || {
            service.with(|switchboard| switchboard.typed(Terminal::Line, Typed::Byte(b'x')));
            assert_eq!(second.read(Wait::Forever), Ok(Event::Input(b"x".to_vec())));
            Idle::Progress
        });
        assert_eq!(first.read(Wait::Forever), Ok(Event::TimedOut));
    }

    #[test]
    fn a_write_waits_until_the_line_has_caught_up() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        let waited = Cell::new(0);
        let shell = client(&service, || {
            waited.set(waited.get() + 1);
            service.with(|switchboard| switchboard.next_output(Terminal::Line));
            Idle::Progress
        });
        for _ in 0..5 {
            shell.write(vec![b'x'; 500]).unwrap();
        }
        assert!(waited.get() > 0);
        assert!(!line_output(&service).is_empty());
    }

    #[test]
    fn a_notice_is_shown_after_a_while_if_nobody_reads() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        service.with(|switchboard| switchboard.write_log(0, b"WARN hot\n", 0));
        assert_eq!(service.tick(), Some(NOTICE_PATIENCE_US));
        now_us.set(NOTICE_PATIENCE_US);
        assert_eq!(service.tick(), None);
        assert_eq!(line_output(&service), b"[    0.000000] root: WARN hot\r\n");
    }

    #[test]
    fn consoles_are_attached_cleared_and_left() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        let shell = client(&service, || {
            service.with(|switchboard| switchboard.typed(Terminal::Line, Typed::Byte(0x1d)));
            Idle::Progress
        });
        let machine = VirtualConsole::Machine(3);
        assert_eq!(shell.attach(machine), Ok(()));
        assert_eq!(shell.read(Wait::Forever), Ok(Event::Detached));
        assert_eq!(shell.detach(), Ok(()));
        assert_eq!(shell.clear(machine), Ok(()));
        let missing = VirtualConsole::Machine(MAX_MACHINES as u16);
        assert_eq!(
            shell.attach(missing),
            Err(CallError::Server(ConsoleError::NotFound))
        );
        assert_eq!(
            shell.clear(missing),
            Err(CallError::Server(ConsoleError::NotFound))
        );
        assert_eq!(shell.size(), Ok(LINE_DIMENSIONS));
    }

    #[test]
    fn the_log_is_read_line_by_line() {
        let now_us = Cell::new(0);
        let service = service(&now_us);
        let shell = client(&service, || Idle::Died);
        service.with(|switchboard| switchboard.write_log(0, b"one\ntwo\n", 7));
        let part = shell.read_log(1).unwrap();
        assert_eq!((part.lines.len(), part.next), (1, 2));
        assert_eq!(
            (part.lines[0].text.as_str(), part.lines[0].time_us),
            ("two", 7)
        );
    }
}
