//! From the bytes of a program's log ring to lines.
//!
//! What a program logs is untrusted: it may be binary, endless, or contain escape sequences that would
//! take over the operator's terminal. A line that leaves here is printable text of bounded length.

use alloc::string::String;
use core::mem;

use proto::console::LOG_TEXT_BYTES_MAX;

/// Longest line kept, in bytes: one line must fit one message with its header.
pub const MAX_LINE_BYTES: usize = LOG_TEXT_BYTES_MAX;

/// Collects the bytes of one program into lines.
#[derive(Debug, Default)]
pub struct LineAssembler {
    line: String,
    cut: bool,
}

impl LineAssembler {
    /// Takes one byte; returns the line that it ended, if it ended one that is not empty.
    pub fn push(&mut self, byte: u8) -> Option<String> {
        if byte == b'\n' {
            self.cut = false;
            let line = mem::take(&mut self.line);
            return (!line.is_empty()).then_some(line);
        }
        if self.cut || byte == b'\r' {
            return None;
        }
        match byte {
            b' '..=b'~' => self.line.push(char::from(byte)),
            b'\t' => self.line.push(' '),
            _ => self.line.push('\u{fffd}'),
        }
        if self.line.len() + '\u{2026}'.len_utf8() + '\u{fffd}'.len_utf8() > MAX_LINE_BYTES {
            self.line.push('\u{2026}');
            self.cut = true;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(bytes: &[u8]) -> Vec<String> {
        let mut assembler = LineAssembler::default();
        bytes
            .iter()
            .filter_map(|&byte| assembler.push(byte))
            .collect()
    }

    #[test]
    fn lines_end_at_newlines_and_empty_ones_are_dropped() {
        assert_eq!(lines(b"one\r\n\n two\nrest"), ["one", " two"]);
    }

    #[test]
    fn escape_sequences_are_made_harmless() {
        assert_eq!(lines(b"\x1b[2Jx\x07\n"), ["\u{fffd}[2Jx\u{fffd}"]);
    }

    #[test]
    fn an_endless_line_is_cut_and_the_next_one_is_whole() {
        let mut bytes = vec![b'a'; 5000];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = lines(&bytes);
        assert!(lines[0].len() <= MAX_LINE_BYTES && lines[0].ends_with('\u{2026}'));
        assert_eq!(lines[1], "next");
    }

    proptest! {
        #[test]
        fn any_bytes_give_printable_lines_of_bounded_length(
            bytes in proptest::collection::vec(any::<u8>(), 0..3000),
        ) {
            for line in lines(&bytes) {
                prop_assert!(line.len() <= MAX_LINE_BYTES);
                prop_assert!(!line.chars().any(char::is_control));
            }
        }
    }
}
