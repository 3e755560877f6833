//! The last bytes of one console, addressed by position: how many bytes were written before them.
//!
//! Positions make readers independent: a seat keeps the position up to which it has shown a
//! console, the writer never waits for it, and a reader that fell behind finds out by comparing. Separate
//! from [`crate::switchboard`], which owns one for each console, because the arithmetic deserves its own tests.

use alloc::collections::VecDeque;

/// A bounded history of bytes.
#[derive(Debug)]
pub struct Scrollback {
    bytes: VecDeque<u8>,
    capacity: usize,
    start: u64,
    /// Whether `start` is inside a line whose beginning was forgotten.
    torn: bool,
}

impl Scrollback {
    /// An empty history that keeps the last `capacity` bytes.
    pub fn new(capacity: usize) -> Self {
        Self {
            bytes: VecDeque::new(),
            capacity,
            start: 0,
            torn: false,
        }
    }

    /// Position of the oldest byte kept.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// Position after the newest byte.
    pub fn end(&self) -> u64 {
        self.start + self.bytes.len() as u64
    }

    /// Appends `bytes`, forgetting the oldest ones where there is no room.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.bytes.push_back(byte);
            if self.bytes.len() > self.capacity {
                self.torn = self.bytes.pop_front() != Some(b'\n');
                self.start += 1;
            }
        }
    }

    /// Forgets everything; positions go on counting.
    pub fn clear(&mut self) {
        self.start = self.end();
        self.bytes.clear();
        self.torn = false;
    }

    /// The byte at `position`, if it is kept.
    pub fn byte(&self, position: u64) -> Option<u8> {
        let offset = position.checked_sub(self.start)?;
        self.bytes.get(usize::try_from(offset).ok()?).copied()
    }

    /// Where a replay begins: at the oldest whole line kept, so that it does not begin inside an
    /// escape sequence or a character.
    pub fn first_line(&self) -> u64 {
        if !self.torn {
            return self.start;
        }
        let newline = self.bytes.iter().position(|&byte| byte == b'\n');
        newline.map_or(self.end(), |offset| self.start + offset as u64 + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn content(scrollback: &Scrollback, from: u64) -> Vec<u8> {
        (from..scrollback.end())
            .filter_map(|position| scrollback.byte(position))
            .collect()
    }

    #[test]
    fn a_replay_starts_at_a_whole_line_once_bytes_were_forgotten() {
        let mut scrollback = Scrollback::new(12);
        scrollback.write(b"one\ntwo\n");
        assert_eq!(content(&scrollback, scrollback.first_line()), b"one\ntwo\n");
        scrollback.write(b"three\n");
        assert_eq!(
            content(&scrollback, scrollback.first_line()),
            b"two\nthree\n"
        );
    }

    #[test]
    fn a_replay_of_one_endless_line_is_empty() {
        let mut scrollback = Scrollback::new(4);
        scrollback.write(b"0123456789");
        assert_eq!(scrollback.first_line(), scrollback.end());
    }

    #[test]
    fn clearing_forgets_the_bytes_and_keeps_the_positions() {
        let mut scrollback = Scrollback::new(4);
        scrollback.write(b"abcdef");
        scrollback.clear();
        assert_eq!((scrollback.start(), scrollback.end()), (6, 6));
        scrollback.write(b"g");
        assert_eq!(scrollback.byte(6), Some(b'g'));
        assert_eq!(scrollback.first_line(), 6);
    }

    proptest! {
        #[test]
        fn what_is_kept_is_the_tail_of_what_was_written(
            writes in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..20),
            capacity in 1usize..50,
        ) {
            let mut scrollback = Scrollback::new(capacity);
            let all: Vec<u8> = writes.concat();
            for write in &writes {
                scrollback.write(write);
            }
            prop_assert_eq!(scrollback.end(), all.len() as u64);
            let kept = all.len().min(capacity);
            prop_assert_eq!(content(&scrollback, scrollback.start()), &all[all.len() - kept..]);
            let first = scrollback.first_line() as usize;
            prop_assert!(first == 0 || first == all.len() || all[first - 1] == b'\n');
        }
    }
}
