//! The heap.

use talc::TalcLock;
use talc::source::Manual;

use crate::lock::YieldLock;

#[global_allocator]
static HEAP: TalcLock<YieldLock, Manual> = TalcLock::new(Manual);

/// Gives the heap memory. A range that is too small to be useful is ignored: the first
/// allocation will say so.
///
/// # Safety
/// The range is mapped, writable, and nobody else's, for good.
pub(super) unsafe fn add(vaddr: u64, length: u64) {
    let length = usize::try_from(length).expect("usize has 64 bits");
    // SAFETY: the caller's contract.
    let _ = unsafe { HEAP.lock().claim(vaddr as *mut u8, length) };
}
