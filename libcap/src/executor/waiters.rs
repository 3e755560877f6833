//! Futures that wait in a list until somebody wakes them.
//!
//! The one place where wakers are kept: [`super::Reactor`] has a list for signals and one for
//! time, [`super::Condition`] has one each. A future that is dropped takes itself out, so a list
//! holds only futures that are alive.

use core::cell::{Cell, RefCell};
use core::pin::Pin;
use core::task::{Context, Poll, Waker};

use super::TASKS_MAX;

/// Room of a list. A task waits in more than one place of a list only when it joins futures; a
/// future that finds no room is polled each turn instead, so the limit costs time, never a wake-up.
const WAITERS_MAX: usize = 2 * TASKS_MAX;

/// A future that waits; `key` says for what.
#[derive(Debug)]
struct Waiter<K> {
    id: u64,
    key: K,
    waker: Waker,
}

/// A list of waiting futures.
#[derive(Debug)]
pub(super) struct Waiters<K> {
    next_id: Cell<u64>,
    list: RefCell<heapless::Vec<Waiter<K>, WAITERS_MAX>>,
}

impl<K> Default for Waiters<K> {
    fn default() -> Self {
        Self {
            next_id: Cell::new(0),
            list: RefCell::default(),
        }
    }
}

impl<K: Copy> Waiters<K> {
    /// A future that is ready as soon as `condition` gives a value. It looks when it is polled
    /// first and each time it is woken.
    pub(super) fn wait<T, F: FnMut() -> Option<T>>(&self, key: K, condition: F) -> Wait<'_, K, F> {
        let id = self.next_id.get();
        self.next_id.set(id + 1);
        Wait {
            waiters: self,
            id,
            key,
            condition,
        }
    }

    /// Wakes every future whose key `is_due`, and takes it out.
    pub(super) fn wake_where(&self, mut is_due: impl FnMut(K) -> bool) {
        self.list.borrow_mut().retain(|waiter| {
            let due = is_due(waiter.key);
            if due {
                waiter.waker.wake_by_ref();
            }
            !due
        });
    }

    /// The smallest key.
    pub(super) fn first(&self) -> Option<K>
    where
        K: Ord,
    {
        self.list.borrow().iter().map(|waiter| waiter.key).min()
    }

    fn enter(&self, id: u64, key: K, waker: &Waker) {
        let mut list = self.list.borrow_mut();
        match list.iter_mut().find(|waiter| waiter.id == id) {
            Some(waiter) => waiter.waker.clone_from(waker),
            None => {
                if let Err(waiter) = list.push(Waiter {
                    id,
                    key,
                    waker: waker.clone(),
                }) {
                    waiter.waker.wake();
                }
            }
        }
    }
}

/// See [`Waiters::wait`].
pub(super) struct Wait<'w, K, F> {
    waiters: &'w Waiters<K>,
    id: u64,
    key: K,
    condition: F,
}

// Nothing in it points into itself.
impl<K, F> Unpin for Wait<'_, K, F> {}

impl<K: Copy, T, F: FnMut() -> Option<T>> Future for Wait<'_, K, F> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        if let Some(value) = (self.condition)() {
            return Poll::Ready(value);
        }
        self.waiters.enter(self.id, self.key, context.waker());
        Poll::Pending
    }
}

impl<K, F> Drop for Wait<'_, K, F> {
    fn drop(&mut self) {
        self.waiters
            .list
            .borrow_mut()
            .retain(|waiter| waiter.id != self.id);
    }
}
