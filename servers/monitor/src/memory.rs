//! Guest memory: addresses that can do nothing until they were checked, and the RAM behind them.
//!
//! RAM lies from 0 up to 3 GiB and, what is left of it, from 4 GiB up; in the monitor it is one
//! contiguous mapping. Guest CPUs change it while it is read, so it is a slice of atomic words:
//! every access here is a relaxed atomic one, and no reference into guest memory ever exists.

use core::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::exit::AccessSize;

/// A guest-physical address. A claim: only [`GuestMemory`] can tell whether RAM is there.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct GuestAddress(pub u64);

impl GuestAddress {
    /// `self + offset`, wrapping as the address lines would.
    #[must_use]
    pub fn offset(self, offset: u64) -> GuestAddress {
        GuestAddress(self.0.wrapping_add(offset))
    }

    /// Start of the 4 KiB page.
    #[must_use]
    pub fn page(self) -> GuestAddress {
        GuestAddress(self.0 & !0xfff)
    }
}

/// RAM below this address; the rest is at 4 GiB. The gap holds the LAPIC, the IOAPIC and PCI.
pub const LOW_MEMORY_LIMIT: u64 = 3 << 30;
/// Where RAM goes on.
pub const HIGH_MEMORY_START: u64 = 4 << 30;
/// Least RAM of a VM: the boot structures and a kernel need some.
pub const MINIMUM_RAM: u64 = 16 << 20;

/// No RAM at (all of) this range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NoRam {
    /// First address of the refused range.
    pub address: GuestAddress,
}

/// A range of RAM in guest-physical space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RamRegion {
    /// First address.
    pub start: GuestAddress,
    /// Length in bytes.
    pub length: u64,
}

/// The VM's RAM.
#[derive(Clone, Copy)]
pub struct GuestMemory<'m> {
    words: &'m [AtomicU64],
    /// Bytes below the gap.
    low: u64,
}

impl core::fmt::Debug for GuestMemory<'_> {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("GuestMemory")
            .field("length", &self.length())
            .finish()
    }
}

impl<'m> GuestMemory<'m> {
    /// RAM over `words`. What does not fill a whole page is left out.
    #[must_use]
    pub fn new(words: &'m [AtomicU64]) -> Self {
        Self::with_low_limit(words, LOW_MEMORY_LIMIT)
    }

    fn with_low_limit(words: &'m [AtomicU64], limit: u64) -> Self {
        let words = &words[..words.len() & !511];
        Self {
            words,
            low: limit.min(words.len() as u64 * 8),
        }
    }

    /// Bytes of RAM.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.words.len() as u64 * 8
    }

    /// Bytes of RAM below the gap.
    #[must_use]
    pub fn low_length(&self) -> u64 {
        self.low
    }

    /// Bytes of RAM from 4 GiB up.
    #[must_use]
    pub fn high_length(&self) -> u64 {
        self.length() - self.low_length()
    }

    /// Index of the word that holds `address`, and how many bytes of RAM follow from `address` on.
    fn locate(&self, address: GuestAddress) -> Option<(usize, u64)> {
        let low = self.low;
        let (linear, end) = if address.0 < low {
            (address.0, low)
        } else {
            let above = address.0.checked_sub(HIGH_MEMORY_START)?;
            if above >= self.high_length() {
                return None;
            }
            (low + above, self.length())
        };
        Some(((linear >> 3) as usize, end - linear))
    }

    /// Whether `length` bytes of RAM start at `address`.
    #[must_use]
    pub fn contains(&self, address: GuestAddress, length: u64) -> bool {
        self.locate(address).is_some_and(|(_, room)| length <= room)
    }

    fn check(&self, address: GuestAddress, length: u64) -> Result<usize, NoRam> {
        match self.locate(address) {
            Some((index, room)) if length <= room => Ok(index),
            _ => Err(NoRam { address }),
        }
    }

    /// Reads an aligned 64-bit word; the low three address bits are ignored.
    ///
    /// # Errors
    /// [`NoRam`].
    #[inline]
    pub fn read_word(&self, address: GuestAddress) -> Result<u64, NoRam> {
        let (index, _) = self.locate(address).ok_or(NoRam { address })?;
        Ok(self.words[index].load(Ordering::Relaxed))
    }

    /// Sets `bits` in the aligned word at `address`, if it still is `expected`.
    ///
    /// # Errors
    /// [`NoRam`].
    pub fn set_word_bits(
        &self,
        address: GuestAddress,
        expected: u64,
        bits: u64,
    ) -> Result<(), NoRam> {
        let (index, _) = self.locate(address).ok_or(NoRam { address })?;
        // A lost race means that another CPU changed the entry: it will be walked again then.
        let _ = self.words[index].compare_exchange(
            expected,
            expected | bits,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        Ok(())
    }

    /// Reads a little-endian value of `size` at any alignment.
    ///
    /// # Errors
    /// [`NoRam`] unless all of it is RAM.
    pub fn read_value(&self, address: GuestAddress, size: AccessSize) -> Result<u64, NoRam> {
        let index = self.check(address, size.bytes() as u64)?;
        let shift = (address.0 & 7) as u32 * 8;
        let mut value = self.words[index].load(Ordering::Relaxed) >> shift;
        if shift + size.bits() > 64 {
            value |= self.words[index + 1].load(Ordering::Relaxed) << (64 - shift);
        }
        Ok(value & size.mask())
    }

    /// Writes a little-endian value of `size` at any alignment. Within an aligned word the write
    /// is one atomic step, as on a CPU.
    ///
    /// # Errors
    /// [`NoRam`] unless all of it is RAM; nothing is written then.
    pub fn write_value(
        &self,
        address: GuestAddress,
        size: AccessSize,
        value: u64,
    ) -> Result<(), NoRam> {
        let index = self.check(address, size.bytes() as u64)?;
        let shift = (address.0 & 7) as u32 * 8;
        let value = value & size.mask();
        self.merge(index, size.mask() << shift, value << shift);
        if shift + size.bits() > 64 {
            let taken = 64 - shift;
            self.merge(index + 1, size.mask() >> taken, value >> taken);
        }
        Ok(())
    }

    /// Replaces the bits of `mask` in one word without disturbing a neighbour's concurrent write.
    fn merge(&self, index: usize, mask: u64, bits: u64) {
        let word = &self.words[index];
        if mask == u64::MAX {
            word.store(bits, Ordering::Relaxed);
        } else {
            word.update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                old & !mask | bits
            });
        }
    }

    /// Copies guest memory into `bytes`.
    ///
    /// # Errors
    /// [`NoRam`] unless all of the range is RAM.
    pub fn read(&self, address: GuestAddress, bytes: &mut [u8]) -> Result<(), NoRam> {
        self.check(address, bytes.len() as u64)?;
        let mut position = address;
        let mut rest = bytes;
        while !rest.is_empty() {
            let start = (position.0 & 7) as usize;
            let count = rest.len().min(8 - start);
            let word = self.read_word(position)?.to_le_bytes();
            let (head, tail) = rest.split_at_mut(count);
            head.copy_from_slice(&word[start..start + count]);
            position = position.offset(count as u64);
            rest = tail;
        }
        Ok(())
    }

    /// Copies `bytes` into guest memory.
    ///
    /// # Errors
    /// [`NoRam`] unless all of the range is RAM; nothing is written then.
    pub fn write(&self, address: GuestAddress, bytes: &[u8]) -> Result<(), NoRam> {
        let index = self.check(address, bytes.len() as u64)?;
        let head = bytes.len().min((address.0.wrapping_neg() & 7) as usize);
        let (first, rest) = bytes.split_at(head);
        self.write_partial(address, first)?;
        let words = &self.words[index + usize::from(head != 0)..];
        let mut chunks = rest.chunks_exact(8);
        for (word, chunk) in words.iter().zip(&mut chunks) {
            let mut raw = [0; 8];
            raw.copy_from_slice(chunk);
            word.store(u64::from_le_bytes(raw), Ordering::Relaxed);
        }
        let tail = chunks.remainder();
        let tail_start = address.offset((bytes.len() - tail.len()) as u64);
        self.write_partial(tail_start, tail)
    }

    fn write_partial(&self, address: GuestAddress, bytes: &[u8]) -> Result<(), NoRam> {
        for (offset, byte) in bytes.iter().enumerate() {
            let position = address.offset(offset as u64);
            self.write_value(position, AccessSize::Byte, u64::from(*byte))?;
        }
        Ok(())
    }

    /// Clears `length` bytes.
    ///
    /// # Errors
    /// [`NoRam`] unless all of the range is RAM; nothing is written then.
    pub fn clear(&self, address: GuestAddress, length: u64) -> Result<(), NoRam> {
        self.check(address, length)?;
        let mut position = address;
        let end = address.offset(length);
        while position < end {
            let left = end.0 - position.0;
            if position.0 & 7 == 0 && left >= 8 {
                self.write_value(position, AccessSize::Qword, 0)?;
                position = position.offset(8);
            } else {
                self.write_value(position, AccessSize::Byte, 0)?;
                position = position.offset(1);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;
    extern crate std;
    use std::vec::Vec;

    /// RAM for tests.
    pub(crate) fn ram(bytes: usize) -> Vec<AtomicU64> {
        (0..bytes / 8).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn what_is_written_is_read_back_at_every_alignment() {
        let words = ram(8192);
        let memory = GuestMemory::new(&words);
        for offset in 0..16 {
            for length in 0..40 {
                let bytes: Vec<u8> = (0..length).map(|i| i as u8 + 1).collect();
                let address = GuestAddress(100 + offset);
                memory.write(address, &bytes).unwrap();
                let mut back = std::vec![0; length];
                memory.read(address, &mut back).unwrap();
                assert_eq!(back, bytes);
            }
        }
    }

    #[test]
    fn a_value_across_a_word_keeps_its_neighbours() {
        let words = ram(4096);
        let memory = GuestMemory::new(&words);
        memory.write(GuestAddress(0), &[0xff; 16]).unwrap();
        memory
            .write_value(GuestAddress(6), AccessSize::Dword, 0x4433_2211)
            .unwrap();
        let mut bytes = [0; 16];
        memory.read(GuestAddress(0), &mut bytes).unwrap();
        assert_eq!(
            bytes[4..12],
            [0xff, 0xff, 0x11, 0x22, 0x33, 0x44, 0xff, 0xff]
        );
        assert_eq!(
            memory.read_value(GuestAddress(6), AccessSize::Dword),
            Ok(0x4433_2211)
        );
    }

    #[test]
    fn a_range_that_leaves_ram_is_refused_and_changes_nothing() {
        let words = ram(4096);
        let memory = GuestMemory::new(&words);
        assert!(memory.write(GuestAddress(4090), &[1; 8]).is_err());
        assert_eq!(
            memory.read_value(GuestAddress(4090), AccessSize::Word),
            Ok(0)
        );
        assert!(memory.read_word(GuestAddress(u64::MAX)).is_err());
        assert!(
            memory
                .read_value(GuestAddress(4095), AccessSize::Word)
                .is_err()
        );
        assert!(memory.clear(GuestAddress(4000), 97).is_err());
    }

    #[test]
    fn ram_above_the_gap_continues_at_four_gib() {
        let words = ram(3 * 4096);
        let memory = GuestMemory::with_low_limit(&words, 4096);
        assert_eq!((memory.low_length(), memory.high_length()), (4096, 8192));
        let high = GuestAddress(HIGH_MEMORY_START);
        memory.write_value(high, AccessSize::Qword, 7).unwrap();
        assert_eq!(memory.read_word(high), Ok(7));
        assert_eq!(memory.read_word(GuestAddress(0)), Ok(0));
        assert!(memory.contains(high, 8192));
        assert!(!memory.contains(high, 8193));
        assert!(
            !memory.contains(GuestAddress(4000), 200),
            "no access spans the gap"
        );
        assert!(!memory.contains(GuestAddress(4096), 1));
    }

    proptest! {
        #[test]
        fn no_address_panics(address: u64, near in 0u64..5000, length in 0usize..64, value: u64) {
            let words = ram(4096);
            let memory = GuestMemory::new(&words);
            for address in [GuestAddress(address), GuestAddress(near)] {
                let mut bytes = std::vec![0; length];
                let _ = memory.read(address, &mut bytes);
                let _ = memory.write(address, &bytes);
                let _ = memory.clear(address, length as u64);
                for size in [AccessSize::Byte, AccessSize::Word, AccessSize::Dword, AccessSize::Qword] {
                    if memory.write_value(address, size, value).is_ok() {
                        prop_assert_eq!(memory.read_value(address, size), Ok(value & size.mask()));
                    }
                }
            }
        }
    }
}
