//! What the tasks of a server wait for: signals and the passing of time.
//!
//! The executor tells it what arrived; tasks ask it. It is apart from the executor so that a
//! server can hold a reference to it while the executor runs the server.

use core::cell::Cell;
use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use super::waiters::Waiters;

/// Signals and time of one event loop.
#[derive(Debug, Default)]
pub struct Reactor {
    now: Cell<u64>,
    /// Signals that nobody has taken yet.
    pending: Cell<u64>,
    /// Who waits for signals, by the bits.
    listeners: Waiters<u64>,
    /// Who waits for a time, by the time.
    sleepers: Waiters<u64>,
}

impl Reactor {
    /// A reactor at time 0, without signals.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The time-stamp counter as it was when this turn of the event loop began.
    #[must_use]
    pub fn now(&self) -> u64 {
        self.now.get()
    }

    /// Waits until one of the signals in `mask` comes, and takes those of them that came.
    ///
    /// A signal that came while nobody waited is kept. One task should wait for each bit: of
    /// several only one gets it.
    pub fn signals(&self, mask: u64) -> impl Future<Output = u64> + '_ {
        self.listeners.wait(mask, move || {
            let taken = self.pending.get() & mask;
            self.pending.set(self.pending.get() & !taken);
            (taken != 0).then_some(taken)
        })
    }

    /// Waits until `state` gives something. It looks now and each time one of the signals in `mask` comes,
    /// which it does not take: several tasks can wait so.
    pub(super) fn after_signals<'f, T>(
        &'f self,
        mask: u64,
        state: impl FnMut() -> Option<T> + 'f,
    ) -> impl Future<Output = T> + 'f {
        self.listeners.wait(mask, state)
    }

    /// Wakes who waits for one of these signals, without one.
    pub(super) fn look_again(&self, mask: u64) {
        self.listeners.wake_where(|listens| listens & mask != 0);
    }

    /// Waits until the time-stamp counter reaches `deadline`.
    pub fn sleep_until(&self, deadline: u64) -> impl Future<Output = ()> + '_ {
        self.sleepers
            .wait(deadline, move || (self.now.get() >= deadline).then_some(()))
    }

    /// Waits for `future`, but no longer than until `deadline`: then it is dropped.
    pub async fn until<T>(&self, deadline: u64, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        let mut sleep = pin!(self.sleep_until(deadline));
        poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Some(value));
            }
            sleep.as_mut().poll(context).map(|()| None)
        })
        .await
    }

    /// Bits of the bound notification arrived: wakes who waits for one of them.
    pub(super) fn signal(&self, bits: u64) {
        self.pending.set(self.pending.get() | bits);
        self.look_again(bits);
    }

    /// Time went on: wakes who slept until now.
    pub(super) fn set_now(&self, now: u64) {
        self.now.set(now);
        self.sleepers.wake_where(|deadline| deadline <= now);
    }

    /// The deadline of the next sleeper.
    pub(super) fn next_deadline(&self) -> Option<u64> {
        self.sleepers.first()
    }
}
