//! The threads of a program beside the main one.
//!
//! Root starts all of a program's threads at once. Those with a number above 0 wait here until
//! the main thread, which has the environment, says what they are for.

use alloc::boxed::Box;
use core::convert::Infallible;
use core::ptr;
use core::sync::atomic::{AtomicPtr, Ordering};

use crate::kernel;

/// What a thread does, given its number (1 and up).
type Body = Box<dyn Fn(u64) -> Infallible + Send + Sync>;

/// The body of all threads, null until there is one. Never freed.
static BODY: AtomicPtr<Body> = AtomicPtr::new(ptr::null_mut());

/// Lets the other threads run `body`, each with its number. It never returns.
///
/// # Panics
/// If they run already.
pub fn run_others(body: impl Fn(u64) -> Infallible + Send + Sync + 'static) {
    let body: *mut Body = Box::into_raw(Box::new(Box::new(body)));
    let before = BODY.swap(body, Ordering::AcqRel);
    assert!(before.is_null(), "the other threads run already");
}

/// Where a thread above 0 begins.
pub(super) fn run(thread: u64) -> ! {
    loop {
        let body = BODY.load(Ordering::Acquire);
        // SAFETY: null or a body that is never freed; `Sync` lets all threads call it.
        match unsafe { body.as_ref() } {
            Some(body) => match body(thread) {},
            // The main thread is about to be done with its start; waiting for it costs no more
            // than this thread's first budget.
            None => kernel::yield_now(),
        }
    }
}
