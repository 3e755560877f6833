//! Memory that root mapped into a program, as types that are safe to use.
//!
//! Owns the step from an address in the start record to memory: read-only bytes, memory shared
//! with somebody who may change it at any time, device registers, rings. A [`Region`] can be
//! turned into one of them once; what each type allows is sound whatever the other side does.
//! That an address is mapped as the record says is root's word, on which every program depends
//! anyway.

use core::mem::{align_of, size_of};
use core::ptr::{self, NonNull};
use core::slice;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64};

use alloc::boxed::Box;
use alloc::vec;
use proto::start::NamedRegion;

use crate::memory;
use crate::ring::RingPage;

/// A mapped range that was not yet given a meaning.
#[derive(Debug)]
pub struct Region {
    base: NonNull<u8>,
    length: usize,
    physical_address: Option<u64>,
    writable: bool,
}

// SAFETY: the region is mapped in every thread's address space, and there is one value for it.
unsafe impl Send for Region {}

/// An offset and length that do not lie in the memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OutOfRange;

impl Region {
    /// The region that a start record names.
    ///
    /// # Safety
    /// Root mapped it as the record says and no other value was made from the entry.
    pub(crate) unsafe fn from_record(record: &NamedRegion) -> Option<Self> {
        let base = NonNull::new(record.vaddr as *mut u8)?;
        let length = usize::try_from(record.length).ok()?;
        let physical_address = record.paddr;
        Some(Self {
            base,
            length,
            physical_address,
            writable: record.writable,
        })
    }

    /// A region of fresh zeroed memory, aligned to a page, that is never freed: for host tests.
    #[must_use]
    pub fn allocate(length: usize) -> Self {
        const PAGE: usize = 4096;
        #[derive(Clone)]
        #[repr(C, align(4096))]
        struct Page([u8; PAGE]);
        let pages: &'static mut [Page] =
            Box::leak(vec![Page([0; PAGE]); length.div_ceil(PAGE)].into());
        let base = NonNull::from(pages).cast();
        Self {
            base,
            length,
            physical_address: None,
            writable: true,
        }
    }

    /// Bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    /// Address in this program.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.base.addr().get() as u64
    }

    /// Physical address, of device memory and of memory that a device reaches.
    #[must_use]
    pub const fn physical_address(&self) -> Option<u64> {
        self.physical_address
    }

    /// Read-only memory that nobody changes, like the boot archive. `None` if this program could
    /// write to it: then somebody is meant to.
    #[must_use]
    pub fn into_read_only(self) -> Option<&'static [u8]> {
        if self.writable {
            return None;
        }
        // SAFETY: mapped for as long as the program lives; root maps read-only, without a
        // `.rx` or `.tx` name, only what does not change.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr(), self.length) })
    }

    /// Memory that others may read and write at any time.
    #[must_use]
    pub fn into_shared(self) -> SharedMemory {
        SharedMemory {
            base: self.base,
            length: self.length,
        }
    }

    /// Memory that others may change at any time, as aligned words. `None` if it is not aligned
    /// or not writable. What does not fill a word at the end is left out.
    #[must_use]
    pub fn into_words(self) -> Option<&'static [AtomicU64]> {
        if !self.writable || !self.base.cast::<AtomicU64>().is_aligned() {
            return None;
        }
        let words = self.length / size_of::<AtomicU64>();
        // SAFETY: aligned, in the region, writable, mapped for good; atomics may be shared with
        // anybody.
        Some(unsafe { slice::from_raw_parts(self.base.as_ptr().cast(), words) })
    }

    /// Registers of a device.
    #[must_use]
    pub fn into_device(self) -> DeviceMemory {
        DeviceMemory {
            base: self.base,
            length: self.length,
        }
    }

    /// The page of a ring. `None` if it is too small, not aligned or not writable.
    #[must_use]
    pub fn into_ring_page(self) -> Option<&'static RingPage> {
        let fits = self.length >= size_of::<RingPage>();
        if !fits || !self.writable || !self.base.cast::<RingPage>().is_aligned() {
            return None;
        }
        // SAFETY: big enough, aligned, writable, mapped for good; the type is nothing but
        // atomics, for which every bit pattern and every change by others is fine.
        Some(unsafe { self.base.cast::<RingPage>().as_ref() })
    }
}

/// Memory that others may read and write at any time: guest memory, buffers.
///
/// Every access is checked against the length. A copy of more than eight bytes can be torn by
/// somebody who writes meanwhile; aligned words through [`SharedMemory::atomic_u64`] and its
/// like cannot.
#[derive(Debug)]
pub struct SharedMemory {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is mapped in every thread's address space; see `Sync`.
unsafe impl Send for SharedMemory {}
// SAFETY: every access is an atomic or a copy in assembly, which threads may do at the same time.
unsafe impl Sync for SharedMemory {}

/// Access to one aligned word.
macro_rules! atomic_access {
    ($( $name:ident: $atomic:ty; )+) => {
        $(
            /// The aligned word at `offset`.
            ///
            /// # Errors
            /// It is not aligned or not in the memory.
            pub fn $name(&self, offset: u64) -> Result<&$atomic, OutOfRange> {
                let address = self.range(offset, size_of::<$atomic>())?.cast::<$atomic>();
                if address.addr().get() % align_of::<$atomic>() != 0 {
                    return Err(OutOfRange);
                }
                // SAFETY: in range and aligned; atomics may be shared with anybody.
                Ok(unsafe { address.as_ref() })
            }
        )+
    };
}

impl SharedMemory {
    /// Fresh zeroed memory that is never freed: for host tests.
    #[must_use]
    pub fn allocate(length: usize) -> Self {
        Region::allocate(length).into_shared()
    }

    /// Bytes.
    #[must_use]
    pub const fn length(&self) -> u64 {
        self.length as u64
    }

    fn range(&self, offset: u64, length: usize) -> Result<NonNull<u8>, OutOfRange> {
        let offset = usize::try_from(offset).map_err(|_| OutOfRange)?;
        let end = offset.checked_add(length).ok_or(OutOfRange)?;
        if end > self.length {
            return Err(OutOfRange);
        }
        // SAFETY: at most one past the end of the mapped range.
        Ok(unsafe { self.base.add(offset) })
    }

    /// Copies memory from `offset` into `bytes`.
    ///
    /// # Errors
    /// It does not lie in the memory; nothing was copied.
    pub fn read(&self, offset: u64, bytes: &mut [u8]) -> Result<(), OutOfRange> {
        let from = self.range(offset, bytes.len())?;
        // SAFETY: in range. Where `memory::copy` is not assembly it moves at most 2 × 16 bytes.
        unsafe { memory::copy(bytes.as_mut_ptr(), from.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Copies `bytes` into memory at `offset`.
    ///
    /// # Errors
    /// It does not lie in the memory; nothing was copied.
    pub fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), OutOfRange> {
        let to = self.range(offset, bytes.len())?;
        // SAFETY: as in `read`.
        unsafe { memory::copy(to.as_ptr(), bytes.as_ptr(), bytes.len()) };
        Ok(())
    }

    /// Sets `length` bytes from `offset` to `byte`.
    ///
    /// # Errors
    /// It does not lie in the memory; nothing was written.
    pub fn fill(&self, offset: u64, byte: u8, length: usize) -> Result<(), OutOfRange> {
        let to = self.range(offset, length)?;
        // SAFETY: in range.
        unsafe { memory::fill(to.as_ptr(), byte, length) };
        Ok(())
    }

    /// `N` bytes at `offset`.
    ///
    /// # Errors
    /// They do not lie in the memory.
    pub fn read_array<const N: usize>(&self, offset: u64) -> Result<[u8; N], OutOfRange> {
        let mut bytes = [0; N];
        self.read(offset, &mut bytes)?;
        Ok(bytes)
    }

    atomic_access! {
        atomic_u8: AtomicU8;
        atomic_u16: AtomicU16;
        atomic_u32: AtomicU32;
        atomic_u64: AtomicU64;
    }
}

/// Registers of a device: every access happens once, as wide as it says, in order.
///
/// Offsets are constants of the driver; one outside of the region is a mistake in the driver and
/// a panic.
#[derive(Debug)]
pub struct DeviceMemory {
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the registers are mapped in every thread's address space.
unsafe impl Send for DeviceMemory {}

/// Accesses of one width.
macro_rules! device_access {
    ($( $read:ident, $write:ident: $width:ty; )+) => {
        $(
            /// Reads the register at `offset`.
            ///
            /// # Panics
            /// If it is not aligned or outside of the device.
            #[must_use]
            pub fn $read(&self, offset: usize) -> $width {
                let register = self.register::<$width>(offset);
                // SAFETY: in range and aligned.
                unsafe { ptr::read_volatile(register) }
            }

            /// Writes the register at `offset`.
            ///
            /// # Panics
            /// If it is not aligned or outside of the device.
            pub fn $write(&self, offset: usize, value: $width) {
                let register = self.register::<$width>(offset);
                // SAFETY: in range and aligned.
                unsafe { ptr::write_volatile(register, value) }
            }
        )+
    };
}

impl DeviceMemory {
    /// Bytes.
    #[must_use]
    pub const fn length(&self) -> usize {
        self.length
    }

    fn register<T>(&self, offset: usize) -> *mut T {
        let end = offset.checked_add(size_of::<T>());
        assert!(
            end.is_some_and(|end| end <= self.length),
            "no register at {offset:#x}"
        );
        // SAFETY: in range.
        let register = unsafe { self.base.add(offset) }.cast::<T>();
        assert!(register.is_aligned(), "no register at {offset:#x}");
        register.as_ptr()
    }

    device_access! {
        read_u8, write_u8: u8;
        read_u16, write_u16: u16;
        read_u32, write_u32: u32;
        read_u64, write_u64: u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::sync::atomic::Ordering;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn accesses_outside_are_refused_and_inside_are_kept(
            offset in prop_oneof![0_u64..200, any::<u64>()],
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            let shared = SharedMemory::allocate(128);
            let fits = offset.checked_add(bytes.len() as u64).is_some_and(|end| end <= 128);
            prop_assert_eq!(shared.write(offset, &bytes).is_ok(), fits);
            let mut back = vec![0; bytes.len()];
            prop_assert_eq!(shared.read(offset, &mut back).is_ok(), fits);
            if fits { prop_assert_eq!(back, bytes); }
        }
    }

    #[test]
    fn words_are_shared_with_copies() {
        let shared = SharedMemory::allocate(16);
        shared
            .atomic_u32(4)
            .unwrap()
            .store(0x0403_0201, Ordering::Relaxed);
        assert_eq!(shared.read_array(4), Ok([1, 2, 3, 4]));
        assert_eq!(shared.atomic_u32(2).err(), Some(OutOfRange));
        assert_eq!(shared.atomic_u64(16).err(), Some(OutOfRange));
    }

    #[test]
    fn memory_is_given_as_whole_words_to_those_who_may_write() {
        let words = Region::allocate(4096).into_words().expect("writable");
        assert_eq!(words.len(), 512);
        words[511].store(7, Ordering::Relaxed);
        assert_eq!(words[511].load(Ordering::Relaxed), 7);
        let read_only = Region {
            writable: false,
            ..Region::allocate(4096)
        };
        assert!(read_only.into_words().is_none());
    }

    #[test]
    fn memory_that_others_may_write_is_never_plain_bytes() {
        assert!(Region::allocate(4096).into_read_only().is_none());
        let region = Region {
            writable: false,
            ..Region::allocate(4096)
        };
        assert!(region.into_ring_page().is_none());
    }

    #[test]
    #[should_panic(expected = "no register at 0x1000")]
    fn a_register_outside_of_the_device_is_the_drivers_mistake() {
        let _ = Region::allocate(4096).into_device().read_u8(4096);
    }
}
