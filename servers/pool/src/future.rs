//! The few future combinators the pool needs, in safe Rust.
//!
//! The executor is the caller's: libcap's event loop on Tessera, [`block_on`] on the host, where
//! devices answer at once.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::{Future, poll_fn};
use core::pin::{Pin, pin};
use core::task::{Context, Poll, Waker};

/// Waits for all futures, which make progress side by side; the answers are in their order.
pub async fn join_all<'a, T>(futures: Vec<Pin<Box<dyn Future<Output = T> + 'a>>>) -> Vec<T> {
    let mut futures: Vec<_> = futures.into_iter().map(Some).collect();
    let mut answers: Vec<Option<T>> = futures.iter().map(|_| None).collect();
    poll_fn(|context| {
        let mut waiting = false;
        for (slot, answer) in futures.iter_mut().zip(answers.iter_mut()) {
            let Some(future) = slot else { continue };
            match future.as_mut().poll(context) {
                Poll::Ready(value) => {
                    *answer = Some(value);
                    *slot = None;
                }
                Poll::Pending => waiting = true,
            }
        }
        if waiting {
            Poll::Pending
        } else {
            Poll::Ready(())
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Runs a future to its end on this thread by polling it; for devices that answer without waiting.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let mut context = Context::from_waker(Waker::noop());
    loop {
        if let Poll::Ready(value) = future.as_mut().poll(&mut context) {
            return value;
        }
        core::hint::spin_loop();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ready after it was polled `0` more times.
    async fn after(mut polls: u32) -> u32 {
        let wanted = polls;
        poll_fn(|_| {
            if polls == 0 {
                return Poll::Ready(());
            }
            polls -= 1;
            Poll::Pending
        })
        .await;
        wanted
    }

    #[test]
    fn answers_keep_the_order_of_the_futures() {
        let futures =
            [3, 0, 2].map(|polls| Box::pin(after(polls)) as Pin<Box<dyn Future<Output = u32>>>);
        assert_eq!(block_on(join_all(Vec::from(futures))), [3, 0, 2]);
    }
}
