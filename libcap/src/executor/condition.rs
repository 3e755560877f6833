//! Waiting for something inside a server.

use core::cell::Cell;

use super::waiters::Waiters;

/// Something that tasks wait for and another task makes true: a queue with work, a buffer with
/// room. The state itself is the server's; this only wakes those who look at it.
#[derive(Debug, Default)]
pub struct Condition {
    /// How often it was notified: a waiter is done when the count moved.
    count: Cell<u64>,
    waiters: Waiters<()>,
}

impl Condition {
    /// A condition nobody waits for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Wakes everybody who waits now.
    pub fn notify_all(&self) {
        self.count.set(self.count.get() + 1);
        self.waiters.wake_where(|()| true);
    }

    /// Waits for a [`Condition::notify_all`] that comes after this call.
    pub fn wait(&self) -> impl Future<Output = ()> + '_ {
        let count = self.count.get();
        self.waiters
            .wait((), move || (self.count.get() != count).then_some(()))
    }

    /// Waits until `state` gives something; it looks now and after each notification.
    pub fn wait_for<'c, T>(
        &'c self,
        state: impl FnMut() -> Option<T> + 'c,
    ) -> impl Future<Output = T> + 'c {
        self.waiters.wait((), state)
    }
}
