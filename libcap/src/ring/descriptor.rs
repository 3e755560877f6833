//! A ring of descriptors: two words each, whose meaning is the channel's.

use core::marker::PhantomData;
use core::sync::atomic::{AtomicU64, Ordering};

use super::{Broken, Counter, DATA_WORDS, RingPage, filled};

/// Words of a descriptor.
pub const DESCRIPTOR_WORDS: usize = 2;
/// Descriptors that a ring holds.
pub const CAPACITY: usize = DATA_WORDS / DESCRIPTOR_WORDS;

const _: () = assert!(DATA_WORDS.is_multiple_of(DESCRIPTOR_WORDS));

/// Something that fits a descriptor: an offset into shared frames, a length, an operation.
pub trait Descriptor: Sized {
    /// Its words.
    fn to_words(&self) -> [u64; DESCRIPTOR_WORDS];

    /// The descriptor of these words, `None` if they are none. The words are the peer's: the
    /// implementation checks each field, offsets and lengths included.
    fn from_words(words: [u64; DESCRIPTOR_WORDS]) -> Option<Self>;
}

/// Why nothing was taken from a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeError {
    /// The producer's counter cannot be.
    Broken,
    /// The next words are no descriptor. They were taken out.
    Refused,
}

/// Why nothing was put into a ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutError {
    /// The consumer's counter cannot be.
    Broken,
    /// There is no room.
    Full,
}

/// The writing side.
#[derive(Debug)]
pub struct Producer<'a, D> {
    counter: Counter<'a, { CAPACITY as u64 }>,
    data: &'a [AtomicU64; DATA_WORDS],
    descriptor: PhantomData<fn(D)>,
}

/// The reading side.
#[derive(Debug)]
pub struct Consumer<'a, D> {
    counter: Counter<'a, { CAPACITY as u64 }>,
    data: &'a [AtomicU64; DATA_WORDS],
    descriptor: PhantomData<fn() -> D>,
}

/// First word of descriptor `position`, counted since the beginning.
fn place(position: u64) -> usize {
    (position % CAPACITY as u64) as usize * DESCRIPTOR_WORDS
}

impl<'a, D: Descriptor> Producer<'a, D> {
    /// The writing side of `page`. A producer that starts anew goes on where the last one stopped.
    #[must_use]
    pub fn attach(page: &'a RingPage) -> Self {
        let counter = Counter::attach(&page.produced, &page.consumed);
        Self {
            counter,
            data: &page.data,
            descriptor: PhantomData,
        }
    }

    /// Descriptors that fit now.
    ///
    /// # Errors
    /// The consumer's counter cannot be.
    pub fn room(&self) -> Result<usize, Broken> {
        let filled = filled::<{ CAPACITY as u64 }>(self.counter.own, self.counter.peer())?;
        Ok(CAPACITY - filled as usize)
    }

    /// Puts one descriptor in.
    ///
    /// # Errors
    /// There is no room, or the consumer's counter cannot be.
    pub fn put(&mut self, descriptor: &D) -> Result<(), PutError> {
        if self.room().map_err(|Broken| PutError::Broken)? == 0 {
            return Err(PutError::Full);
        }
        let first = place(self.counter.own);
        for (word, value) in self.data[first..].iter().zip(descriptor.to_words()) {
            word.store(value, Ordering::Relaxed);
        }
        self.counter.advance(1);
        Ok(())
    }

    /// Takes the ring as empty from here on: the way out of a broken one.
    pub fn resynchronise(&mut self) {
        self.counter.resynchronise();
    }
}

impl<'a, D: Descriptor> Consumer<'a, D> {
    /// The reading side of `page`. A consumer that starts anew goes on where the last one stopped.
    #[must_use]
    pub fn attach(page: &'a RingPage) -> Self {
        let counter = Counter::attach(&page.consumed, &page.produced);
        Self {
            counter,
            data: &page.data,
            descriptor: PhantomData,
        }
    }

    /// Descriptors that wait.
    ///
    /// # Errors
    /// The producer's counter cannot be.
    pub fn available(&self) -> Result<usize, Broken> {
        filled::<{ CAPACITY as u64 }>(self.counter.peer(), self.counter.own)
            .map(|filled| filled as usize)
    }

    /// Takes one descriptor out, `None` if none waits.
    ///
    /// # Errors
    /// What waits is no descriptor, or the producer's counter cannot be.
    pub fn take(&mut self) -> Result<Option<D>, TakeError> {
        if self.available().map_err(|Broken| TakeError::Broken)? == 0 {
            return Ok(None);
        }
        let first = place(self.counter.own);
        let words = core::array::from_fn(|index| self.data[first + index].load(Ordering::Relaxed));
        self.counter.advance(1);
        D::from_words(words).map(Some).ok_or(TakeError::Refused)
    }

    /// Drops whatever waits: the way out of a broken ring.
    pub fn resynchronise(&mut self) {
        self.counter.resynchronise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A piece of a shared buffer of 64 KiB.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Piece {
        offset: u64,
        length: u64,
    }

    impl Descriptor for Piece {
        fn to_words(&self) -> [u64; 2] {
            [self.offset, self.length]
        }

        fn from_words([offset, length]: [u64; 2]) -> Option<Self> {
            let end = offset.checked_add(length)?;
            (end <= 1 << 16).then_some(Self { offset, length })
        }
    }

    fn piece(index: u64) -> Piece {
        Piece {
            offset: index % 60_000,
            length: index % 5000,
        }
    }

    #[test]
    fn a_full_ring_takes_no_more() {
        let page = RingPage::new();
        let mut producer = Producer::attach(&page);
        for index in 0..CAPACITY as u64 {
            producer.put(&piece(index)).unwrap();
        }
        assert_eq!(producer.put(&piece(0)), Err(PutError::Full));
        assert_eq!(Consumer::attach(&page).take(), Ok(Some(piece(0))));
        assert_eq!(producer.put(&piece(0)), Ok(()));
    }

    #[test]
    fn a_descriptor_that_is_none_is_refused_and_passed_over() {
        let page = RingPage::new();
        let mut producer = Producer::attach(&page);
        producer
            .put(&Piece {
                offset: u64::MAX,
                length: 2,
            })
            .unwrap();
        producer.put(&piece(7)).unwrap();
        let mut consumer = Consumer::<Piece>::attach(&page);
        assert_eq!(consumer.take(), Err(TakeError::Refused));
        assert_eq!(consumer.take(), Ok(Some(piece(7))));
        assert_eq!(consumer.take(), Ok(None));
    }

    #[test]
    fn two_threads_pass_descriptors_in_order() {
        const COUNT: u64 = 100_000;
        let page = RingPage::new();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = Producer::attach(&page);
                for index in 0..COUNT {
                    while producer.put(&piece(index)) == Err(PutError::Full) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut consumer = Consumer::<Piece>::attach(&page);
            let mut index = 0;
            while index < COUNT {
                match consumer.take().unwrap() {
                    Some(taken) => {
                        assert_eq!(taken, piece(index));
                        index += 1;
                    }
                    None => std::thread::yield_now(),
                }
            }
        });
    }

    proptest! {
        #[test]
        fn a_page_of_anything_is_read_or_refused(
            words in prop::collection::vec(any::<u64>(), DATA_WORDS),
            produced in prop_oneof![0_u64..300, any::<u64>()],
        ) {
            let page = RingPage::new();
            for (word, value) in page.data.iter().zip(words) {
                word.store(value, Ordering::Relaxed);
            }
            page.produced.store(produced, Ordering::Relaxed);
            let mut consumer = Consumer::<Piece>::attach(&page);
            let mut taken = 0;
            loop {
                match consumer.take() {
                    Ok(None) => break,
                    Err(TakeError::Broken) => { prop_assert!(produced > CAPACITY as u64); break }
                    Ok(Some(_)) | Err(TakeError::Refused) => taken += 1,
                }
            }
            prop_assert!(taken == produced || taken == 0);
        }
    }
}
