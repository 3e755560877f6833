//! Rings in shared memory: one producer, one consumer, one page.
//!
//! Owns the layout of the page and the discipline of its two counters. [`byte`] carries bytes
//! (consoles, logs), [`descriptor`] carries fixed-size descriptors (blocks, frames). Waking the
//! other side is a notification and not the ring's business.
//!
//! Nothing in a ring is trusted. Each side keeps its own counter privately and only publishes it;
//! the peer's counter is checked at every use, and one that cannot be is [`Broken`], an error that
//! stays until the owner of the channel decides to [resynchronise](byte::Consumer::resynchronise).
//!
//! Layout of the page: the producer's counter at byte 0, the consumer's at byte 128 (a u64 each,
//! apart so that the two sides do not fight over a cache line), data from byte 256. Counters count
//! bytes or descriptors since the beginning and never wrap: at 10^10 a second a u64 lasts 58 years.

use core::sync::atomic::{AtomicU64, Ordering};

use crossbeam_utils::CachePadded;

pub mod byte;
pub mod descriptor;

/// Bytes of the page of a ring.
pub const PAGE_BYTES: usize = 4096;
/// Bytes before the data.
const HEADER_BYTES: usize = 2 * size_of::<CachePadded<AtomicU64>>();
/// Words of data.
const DATA_WORDS: usize = (PAGE_BYTES - HEADER_BYTES) / size_of::<AtomicU64>();

/// A ring's page as it lies in memory. Every bit pattern is one.
#[derive(Debug)]
#[repr(C)]
pub struct RingPage {
    produced: CachePadded<AtomicU64>,
    consumed: CachePadded<AtomicU64>,
    data: [AtomicU64; DATA_WORDS],
}

const _: () = assert!(size_of::<RingPage>() == PAGE_BYTES && HEADER_BYTES == 256);

impl RingPage {
    /// An empty ring.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            produced: CachePadded::new(AtomicU64::new(0)),
            consumed: CachePadded::new(AtomicU64::new(0)),
            data: [const { AtomicU64::new(0) }; DATA_WORDS],
        }
    }
}

impl Default for RingPage {
    fn default() -> Self {
        Self::new()
    }
}

/// The peer's counter cannot be: it damaged the ring, or is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Broken;

/// One side's view of the two counters of a ring of `CAPACITY` items.
#[derive(Debug)]
struct Counter<'a, const CAPACITY: u64> {
    /// This side's counter. The copy in the page is only for the peer.
    own: u64,
    own_published: &'a AtomicU64,
    peer: &'a AtomicU64,
}

impl<'a, const CAPACITY: u64> Counter<'a, CAPACITY> {
    /// Takes up where the page says that this side stopped, for a side that starts anew.
    fn attach(own_published: &'a AtomicU64, peer: &'a AtomicU64) -> Self {
        Self {
            own: own_published.load(Ordering::Relaxed),
            own_published,
            peer,
        }
    }

    /// What the peer published, and everything that it wrote before.
    fn peer(&self) -> u64 {
        self.peer.load(Ordering::Acquire)
    }

    /// Makes `count` more items the peer's.
    fn advance(&mut self, count: u64) {
        // Only an attached counter that was damaged can wrap; it is broken before and after.
        self.own = self.own.wrapping_add(count);
        self.own_published.store(self.own, Ordering::Release);
    }

    /// Sets this side's counter to the peer's: the ring is empty for this side.
    fn resynchronise(&mut self) {
        self.own = self.peer();
        self.own_published.store(self.own, Ordering::Release);
    }
}

/// Items in a ring with these counters.
fn filled<const CAPACITY: u64>(produced: u64, consumed: u64) -> Result<u64, Broken> {
    match produced.checked_sub(consumed) {
        Some(filled) if filled <= CAPACITY => Ok(filled),
        _ => Err(Broken),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_cannot_be_are_broken() {
        assert_eq!(filled::<8>(5, 5), Ok(0));
        assert_eq!(filled::<8>(13, 5), Ok(8));
        assert_eq!(filled::<8>(14, 5), Err(Broken));
        assert_eq!(filled::<8>(4, 5), Err(Broken));
        assert_eq!(filled::<8>(0, u64::MAX), Err(Broken));
    }
}
