//! Values that boot sets once, and the one kernel.

use core::cell::UnsafeCell;

use crate::kernel::Kernel;

/// A value that the first CPU sets during boot and everybody reads afterwards.
pub struct SetAtBoot<T>(UnsafeCell<T>);

// SAFETY: `set` is called only while one CPU runs and no reference is held; later only reads.
unsafe impl<T> Sync for SetAtBoot<T> {}

impl<T> SetAtBoot<T> {
    /// With a value that holds until `set`.
    pub const fn new(value: T) -> Self {
        Self(UnsafeCell::new(value))
    }

    /// The value.
    #[inline(always)]
    pub fn get(&self) -> &T {
        // SAFETY: nobody writes when others may read (type's text).
        unsafe { &*self.0.get() }
    }

    /// Sets the value.
    ///
    /// # Safety
    /// Only one CPU runs, and nothing borrowed from `get` is in use.
    pub unsafe fn set(&self, value: T) {
        // SAFETY: the caller's promise.
        unsafe { *self.0.get() = value }
    }
}

/// The kernel's state; its cells are for the holder of the big lock.
struct Global(Kernel);

// SAFETY: `kernel` is for holders of the big lock, and for boot while one CPU runs.
unsafe impl Sync for Global {}

static KERNEL: Global = Global(Kernel::new());

/// The kernel, for the holder of the big lock.
#[inline(always)]
pub fn kernel() -> &'static Kernel {
    &KERNEL.0
}
