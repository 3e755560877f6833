//! A ring of bytes.

use core::sync::atomic::{AtomicU64, Ordering};

use super::{Broken, Counter, DATA_WORDS, RingPage, filled};

/// Bytes that a ring holds.
pub const CAPACITY: usize = DATA_WORDS * WORD_BYTES;
const WORD_BYTES: usize = size_of::<u64>();

/// The writing side.
#[derive(Debug)]
pub struct Producer<'a> {
    counter: Counter<'a, { CAPACITY as u64 }>,
    data: &'a [AtomicU64; DATA_WORDS],
}

/// The reading side.
#[derive(Debug)]
pub struct Consumer<'a> {
    counter: Counter<'a, { CAPACITY as u64 }>,
    data: &'a [AtomicU64; DATA_WORDS],
}

/// The word that holds byte `position` (counted since the beginning), and the shift of it.
fn place(position: u64) -> (usize, u32) {
    let index = (position % CAPACITY as u64) as usize;
    (index / WORD_BYTES, (index % WORD_BYTES * 8) as u32)
}

impl<'a> Producer<'a> {
    /// The writing side of `page`. A producer that starts anew goes on where the last one stopped.
    #[must_use]
    pub fn attach(page: &'a RingPage) -> Self {
        Self {
            counter: Counter::attach(&page.produced, &page.consumed),
            data: &page.data,
        }
    }

    /// Bytes that fit now.
    ///
    /// # Errors
    /// The consumer's counter cannot be.
    pub fn room(&self) -> Result<usize, Broken> {
        let filled = filled::<{ CAPACITY as u64 }>(self.counter.own, self.counter.peer())?;
        Ok(CAPACITY - filled as usize)
    }

    /// Writes as much of `bytes` as fits, and returns how much that is.
    ///
    /// # Errors
    /// The consumer's counter cannot be; nothing was written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<usize, Broken> {
        let count = bytes.len().min(self.room()?);
        self.place(&bytes[..count]);
        self.counter.advance(count as u64);
        Ok(count)
    }

    /// Stores bytes behind the published ones. They are not the consumer's yet.
    fn place(&self, bytes: &[u8]) {
        for (offset, &byte) in bytes.iter().enumerate() {
            let (word, shift) = place(self.counter.own.wrapping_add(offset as u64));
            // A word can hold published bytes beside: only this side writes, so read and write
            // back changes nothing of them.
            let other = self.data[word].load(Ordering::Relaxed) & !(0xff << shift);
            self.data[word].store(other | u64::from(byte) << shift, Ordering::Relaxed);
        }
    }

    /// Takes the ring as empty from here on: the way out of [`Broken`].
    pub fn resynchronise(&mut self) {
        self.counter.resynchronise();
    }
}

impl<'a> Consumer<'a> {
    /// The reading side of `page`. A consumer that starts anew goes on where the last one stopped.
    #[must_use]
    pub fn attach(page: &'a RingPage) -> Self {
        Self {
            counter: Counter::attach(&page.consumed, &page.produced),
            data: &page.data,
        }
    }

    /// Bytes that wait.
    ///
    /// # Errors
    /// The producer's counter cannot be.
    pub fn available(&self) -> Result<usize, Broken> {
        filled::<{ CAPACITY as u64 }>(self.counter.peer(), self.counter.own)
            .map(|filled| filled as usize)
    }

    /// Reads as many bytes as wait and as `bytes` holds, and returns how many that is.
    ///
    /// # Errors
    /// The producer's counter cannot be; nothing was read.
    pub fn read(&mut self, bytes: &mut [u8]) -> Result<usize, Broken> {
        let count = bytes.len().min(self.available()?);
        self.fetch(&mut bytes[..count]);
        self.counter.advance(count as u64);
        Ok(count)
    }

    /// Loads bytes that wait. Their room is not the producer's yet.
    fn fetch(&self, bytes: &mut [u8]) {
        for (offset, byte) in bytes.iter_mut().enumerate() {
            let (word, shift) = place(self.counter.own.wrapping_add(offset as u64));
            *byte = (self.data[word].load(Ordering::Relaxed) >> shift) as u8;
        }
    }

    /// Drops whatever waits: the way out of [`Broken`].
    pub fn resynchronise(&mut self) {
        self.counter.resynchronise();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    proptest! {
        #[test]
        fn bytes_come_out_as_a_queue_would_give_them(
            steps in prop::collection::vec((any::<bool>(), 0_usize..2000), 0..60)
        ) {
            let page = RingPage::new();
            let (mut producer, mut consumer) = (Producer::attach(&page), Consumer::attach(&page));
            let (mut queue, mut next) = (VecDeque::<u8>::new(), 0_u8);
            for (write, count) in steps {
                if write {
                    let bytes: Vec<u8> = (0..count).map(|index| next.wrapping_add(index as u8)).collect();
                    let written = producer.write(&bytes).unwrap();
                    prop_assert_eq!(written, count.min(CAPACITY - queue.len()));
                    queue.extend(&bytes[..written]);
                    next = next.wrapping_add(written as u8);
                } else {
                    let mut bytes = vec![0; count];
                    let read = consumer.read(&mut bytes).unwrap();
                    prop_assert_eq!(read, count.min(queue.len()));
                    prop_assert!(queue.drain(..read).eq(bytes[..read].iter().copied()));
                }
                prop_assert_eq!(producer.room(), Ok(CAPACITY - queue.len()));
            }
        }

        #[test]
        fn a_peer_that_writes_anything_anywhere_does_no_harm(
            words in prop::collection::vec((0_usize..512, any::<u64>()), 0..40),
            produced in prop_oneof![0_u64..5000, any::<u64>()],
            consumed in prop_oneof![0_u64..5000, any::<u64>()],
        ) {
            let page = RingPage::new();
            let (mut producer, mut consumer) = (Producer::attach(&page), Consumer::attach(&page));
            producer.write(b"before").unwrap();
            for (index, word) in words {
                page.data[index % DATA_WORDS].store(word, Ordering::Relaxed);
            }
            page.produced.store(produced, Ordering::Relaxed);
            page.consumed.store(consumed, Ordering::Relaxed);
            let (readable, writable) = (produced <= CAPACITY as u64, consumed <= 6);
            prop_assert_eq!(consumer.available().is_ok(), readable);
            prop_assert_eq!(producer.room().is_ok(), writable);
            let mut bytes = [0; 5000];
            prop_assert!(consumer.read(&mut bytes).is_ok() == readable);
            let _ = producer.write(&bytes);
        }
    }

    #[test]
    fn a_side_that_starts_anew_goes_on_where_the_last_one_stopped() {
        let page = RingPage::new();
        let mut bytes = [0; 3];
        Producer::attach(&page).write(b"abcdef").unwrap();
        Consumer::attach(&page).read(&mut bytes).unwrap();
        Producer::attach(&page).write(b"g").unwrap();
        let mut rest = [0; 8];
        assert_eq!(Consumer::attach(&page).read(&mut rest), Ok(4));
        assert_eq!(&rest[..4], b"defg");
    }

    #[test]
    fn a_broken_ring_works_again_after_resynchronising() {
        let page = RingPage::new();
        let (mut producer, mut consumer) = (Producer::attach(&page), Consumer::attach(&page));
        page.produced.store(1 << 40, Ordering::Relaxed);
        assert_eq!(consumer.available(), Err(Broken));
        consumer.resynchronise();
        assert_eq!(consumer.available(), Ok(0));
        assert_eq!(producer.room(), Err(Broken));
        producer.resynchronise();
        assert_eq!(producer.write(b"x"), Ok(1));
        assert_eq!(consumer.available(), Ok(1));
    }

    #[test]
    fn two_threads_pass_a_stream_unchanged() {
        const LENGTH: usize = 1 << 20;
        let page = RingPage::new();
        let byte = |index: usize| ((index * 31) >> 3) as u8;
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut producer = Producer::attach(&page);
                let stream: Vec<u8> = (0..LENGTH).map(byte).collect();
                let mut sent = 0;
                while sent < LENGTH {
                    let end = (sent + 1 + sent % 977).min(LENGTH);
                    sent += producer.write(&stream[sent..end]).unwrap();
                    if producer.room() == Ok(0) {
                        std::thread::yield_now();
                    }
                }
            });
            let mut consumer = Consumer::attach(&page);
            let (mut received, mut bytes) = (0, [0; 1500]);
            while received < LENGTH {
                let count = consumer.read(&mut bytes[..1 + received % 1499]).unwrap();
                for &value in &bytes[..count] {
                    assert_eq!(value, byte(received), "byte {received}");
                    received += 1;
                }
                if count == 0 {
                    std::thread::yield_now();
                }
            }
        });
    }

    /// What one side has done of its operation; the other side can act between any two.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
    enum Step {
        Idle,
        Counted(usize),
        Moved(usize),
    }

    /// State of both sides, private counters included.
    #[derive(Debug, Clone, PartialEq, Eq, Hash)]
    struct World {
        produced: u64,
        consumed: u64,
        data: Vec<u64>,
        producer: Step,
        consumer: Step,
        received: usize,
    }

    /// Takes every interleaving of the steps look, move, publish of both sides over a stream that
    /// is longer than the ring, and checks what arrives.
    #[test]
    fn no_interleaving_of_the_steps_loses_or_changes_a_byte() {
        // The ring starts almost full and close to its end, so that few bytes go around it.
        const START: u64 = CAPACITY as u64 - 3;
        const STREAM: u64 = CAPACITY as u64 + 8;
        let value = |position: u64| (position % 251) as u8;
        let page = RingPage::new();
        let mut producer = Producer::attach(&page);
        let filler: Vec<u8> = (0..CAPACITY as u64 - 1).map(value).collect();
        producer.write(&filler).unwrap();
        let mut consumer = Consumer::attach(&page);
        consumer.read(&mut vec![0; START as usize]).unwrap();

        let read_data = || {
            page.data
                .iter()
                .map(|word| word.load(Ordering::Relaxed))
                .collect()
        };
        let first = World {
            produced: CAPACITY as u64 - 1,
            consumed: START,
            data: read_data(),
            producer: Step::Idle,
            consumer: Step::Idle,
            received: START as usize,
        };
        let mut seen = std::collections::HashSet::from([first.clone()]);
        let mut open = vec![first];
        let mut ends = 0;
        while let Some(world) = open.pop() {
            let mut moved = false;
            for side in 0..2 {
                page.produced.store(world.produced, Ordering::Relaxed);
                page.consumed.store(world.consumed, Ordering::Relaxed);
                for (word, value) in page.data.iter().zip(&world.data) {
                    word.store(*value, Ordering::Relaxed);
                }
                producer.counter.own = world.produced;
                consumer.counter.own = world.consumed;
                let mut next = world.clone();
                if side == 0 {
                    next.producer = match world.producer {
                        Step::Idle => {
                            let left = (STREAM - world.produced) as usize;
                            Step::Counted(producer.room().unwrap().min(2).min(left))
                        }
                        Step::Counted(count) => {
                            let bytes: Vec<u8> = (0..count as u64)
                                .map(|index| value(world.produced + index))
                                .collect();
                            producer.place(&bytes);
                            Step::Moved(count)
                        }
                        Step::Moved(count) => {
                            producer.counter.advance(count as u64);
                            Step::Idle
                        }
                    };
                } else {
                    next.consumer = match world.consumer {
                        Step::Idle => Step::Counted(consumer.available().unwrap().min(3)),
                        Step::Counted(count) => {
                            let mut bytes = vec![0; count];
                            consumer.fetch(&mut bytes);
                            for byte in bytes {
                                assert_eq!(byte, value(next.received as u64));
                                next.received += 1;
                            }
                            Step::Moved(count)
                        }
                        Step::Moved(count) => {
                            consumer.counter.advance(count as u64);
                            Step::Idle
                        }
                    };
                }
                next.produced = page.produced.load(Ordering::Relaxed);
                next.consumed = page.consumed.load(Ordering::Relaxed);
                next.data = read_data();
                if next != world && seen.insert(next.clone()) {
                    open.push(next);
                    moved = true;
                }
            }
            ends += usize::from(!moved && world.received as u64 == STREAM);
        }
        assert!(ends > 0, "some interleaving delivers the whole stream");
        assert!(seen.len() > 100, "{} states", seen.len());
    }
}
