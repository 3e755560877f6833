//! Handles to kernel objects, and the one place where a handle becomes a reference.
//!
//! An object lives in untyped memory at its own address for as long as a capability to it (or
//! the boot code) keeps it there. [`Ref`] is that address with a type. Objects are made of
//! `Cell`s, so a shared reference is all that logic ever needs; the big lock makes the cells
//! single-threaded. `Ref::from_address` is called only where a capability is unpacked, where
//! Retype has just built the object, and at boot: those places know that the object is there.
#![expect(unsafe_code, reason = "the store turns handles into references")]

use core::cell::Cell;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroUsize;
use core::ops::{Deref, Range};

use crate::object::{Endpoint, Notification, Refill, Reply, SchedContext, Slot, Tcb, Timer};

/// Something that lives in untyped memory and may be named by a [`Ref`].
///
/// # Safety
/// All-zero bytes must be a valid value, and every field that changes after creation must be a
/// `Cell` (or be reached only by `arch`).
pub unsafe trait Object {}

macro_rules! objects {
    ($($object:ty),+ $(,)?) => { $(
        // SAFETY: all of its fields are cells, and zero is a valid value of each: None, 0, false,
        // or the first variant of an enum whose first variant is 0.
        unsafe impl Object for $object {}
    )+ };
}

objects!(
    Endpoint,
    Notification,
    Refill,
    Reply,
    SchedContext,
    Slot,
    Tcb,
    Timer,
);

/// The address of a live kernel object of type `T`.
pub struct Ref<T>(NonZeroUsize, PhantomData<*const T>);

impl<T> Clone for Ref<T> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Ref<T> {}
impl<T> PartialEq for Ref<T> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}
impl<T> Eq for Ref<T> {}
impl<T> fmt::Debug for Ref<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl<T> Ref<T> {
    /// The object at `address`; the caller knows that it is live (see the module's text).
    ///
    /// # Panics
    /// If `address` is zero, which no object's is.
    #[inline(always)]
    #[must_use]
    pub fn from_address(address: usize) -> Self {
        match NonZeroUsize::new(address) {
            Some(a) => Self(a, PhantomData),
            None => null_object(),
        }
    }

    /// Where the object is, in kernel addresses.
    #[inline(always)]
    #[must_use]
    pub fn address(self) -> usize {
        self.0.get()
    }
}

#[cold]
fn null_object() -> ! {
    panic!("a capability names no object")
}

impl<T: Object> Deref for Ref<T> {
    type Target = T;
    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: a Ref exists only for a live, aligned, initialised object (module text); T is
        // all cells, so shared references may overlap.
        unsafe { &*(self.0.get() as *const T) }
    }
}

impl<T: Object> Ref<T> {
    /// The `index`-th object of an array that begins here. The caller has bounded `index`.
    #[inline(always)]
    #[must_use]
    pub fn element(self, index: usize) -> Self {
        let address = self.address().wrapping_add(index * size_of::<T>());
        // SAFETY: the element is an object of the same array, and address 0 is no object's.
        Self(unsafe { NonZeroUsize::new_unchecked(address) }, PhantomData)
    }
}

/// A naturally aligned word that user code may change at any time.
#[repr(transparent)]
pub struct UserWord(Cell<u64>);

impl UserWord {
    /// Reads the word once.
    #[inline(always)]
    #[must_use]
    pub fn get(&self) -> u64 {
        // SAFETY: the cell is a valid, aligned u64; volatile because user code races with us.
        unsafe { self.0.as_ptr().read_volatile() }
    }

    /// Writes the word once.
    #[inline(always)]
    pub fn set(&self, value: u64) {
        // SAFETY: as in `get`.
        unsafe { self.0.as_ptr().write_volatile(value) }
    }
}

/// One 4 KiB table of 512 words: a paging structure of the CPU, or an ASID pool.
#[repr(C, align(4096))]
pub struct Table([UserWord; 512]);

// SAFETY: zero is a valid table; the words are cells. The CPU reads and writes them too (accessed
// and dirty bits), which is why they are volatile.
unsafe impl Object for Table {}

impl Table {
    /// The entry at `index`, taken modulo 512.
    #[inline(always)]
    #[must_use]
    pub fn entry(&self, index: usize) -> &UserWord {
        &self.0[index & 511]
    }
}

/// A thread's IPC buffer: 128 words in a user frame.
#[repr(C, align(1024))]
pub struct IpcBuffer([UserWord; 128]);

// SAFETY: zero is valid and the words are volatile cells.
unsafe impl Object for IpcBuffer {}

impl IpcBuffer {
    /// Word `index` of the buffer (0 is the tag), taken modulo 128.
    #[inline(always)]
    #[must_use]
    pub fn word(&self, index: usize) -> &UserWord {
        &self.0[index & 127]
    }

    /// Message words `range`, none if they are not all in the buffer.
    #[inline(always)]
    #[must_use]
    pub fn message(&self, range: Range<usize>) -> &[UserWord] {
        self.0[1..].get(range).unwrap_or_default()
    }
}

/// Clears `length` bytes at the kernel address `address`.
///
/// The caller owns the memory: it is untyped and no object lives in it.
pub fn clear(address: usize, length: usize) {
    // SAFETY: by the caller's ownership nothing else refers to these bytes, and kernel addresses
    // of untyped RAM are mapped and writable.
    unsafe { core::ptr::write_bytes(address as *mut u8, 0, length) }
}

/// Builds `value` in place at a kernel address whose memory the caller owns.
pub fn place<T: Object>(address: usize, value: T) -> Ref<T> {
    debug_assert!(address.is_multiple_of(align_of::<T>()));
    // SAFETY: the memory is owned by the caller, large enough (Retype checked) and aligned.
    unsafe { core::ptr::write(address as *mut T, value) };
    Ref::from_address(address)
}

/// The `length` bytes at a kernel address that boot code reads: a module, which nobody changes
/// before the root task runs.
#[must_use]
pub fn boot_bytes(address: usize, length: usize) -> &'static [u8] {
    // SAFETY: the caller took the range from the boot loader's list of modules; it is mapped RAM
    // that is in no free list yet.
    unsafe { core::slice::from_raw_parts(address as *const u8, length) }
}

/// Copies `bytes` to a kernel address whose memory the caller owns.
pub fn copy_to(address: usize, bytes: &[u8]) {
    // SAFETY: owned by the caller and large enough; a module is never in memory that is handed out.
    unsafe { core::ptr::copy_nonoverlapping(bytes.as_ptr(), address as *mut u8, bytes.len()) }
}
