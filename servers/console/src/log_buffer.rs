//! The system's log: the last lines of every program, numbered and time-stamped.
//!
//! Owns the lines and their form on a terminal. Bytes become lines in [`crate::log_lines`]; who is
//! shown what is decided in [`crate::switchboard`].

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proto::console::{LOG_PROGRAM_BYTES_MAX, LogLine, LogPart, Severity};
use proto::message::BODY_BYTES_MAX;

/// Bytes of text and names kept: some thousand lines, small beside the server's heap.
const LOG_BYTES: usize = 512 * 1024;
/// What a line costs beyond its text, so that many short lines are bounded too.
const LINE_OVERHEAD_BYTES: usize = size_of::<LogLine>();
/// Bytes of a message for a line's numbers and lengths and its share of the part's own.
const LINE_HEADER_BYTES: usize = 90;

/// A bounded log.
#[derive(Debug, Default)]
pub struct LogBuffer {
    lines: VecDeque<LogLine>,
    bytes: usize,
    next: u64,
}

impl LogBuffer {
    /// Appends a line, forgetting the oldest ones where there is no room.
    pub fn push(&mut self, time_us: u64, program: &str, text: String) -> &LogLine {
        let line = LogLine {
            number: self.next,
            time_us,
            program: shorten(program),
            severity: severity(&text),
            text,
        };
        self.next += 1;
        self.bytes += cost(&line);
        while self.bytes > LOG_BYTES {
            let Some(oldest) = self.lines.pop_front() else {
                break;
            };
            self.bytes -= cost(&oldest);
        }
        self.lines.push_back(line);
        &self.lines[self.lines.len() - 1]
    }

    /// As many lines as fit in one message, from number `from` on or from the oldest one kept.
    pub fn read(&self, from: u64) -> LogPart {
        let oldest = self.next - self.lines.len() as u64;
        let skip = usize::try_from(from.saturating_sub(oldest)).unwrap_or(usize::MAX);
        let mut room = BODY_BYTES_MAX;
        let mut lines = Vec::new();
        for line in self.lines.iter().skip(skip) {
            let bytes = LINE_HEADER_BYTES + line.program.len() + line.text.len();
            if bytes > room {
                break;
            }
            room -= bytes;
            lines.push(line.clone());
        }
        let next = lines
            .last()
            .map_or(from.clamp(oldest, self.next), |line| line.number + 1);
        LogPart { lines, next }
    }
}

fn cost(line: &LogLine) -> usize {
    LINE_OVERHEAD_BYTES + line.program.len() + line.text.len()
}

fn shorten(program: &str) -> String {
    let mut end = program.len().min(LOG_PROGRAM_BYTES_MAX);
    while !program.is_char_boundary(end) {
        end -= 1;
    }
    String::from(&program[..end])
}

/// A program marks what is out of the ordinary with the first word of the line.
fn severity(text: &str) -> Severity {
    let word = text.split([' ', ':', '[']).next().unwrap_or_default();
    match word {
        "ERROR" | "error" | "PANIC" | "panic" | "panicked" | "FAULT" | "fault" => Severity::Error,
        "WARN" | "warn" | "WARNING" | "warning" => Severity::Warning,
        "DEBUG" | "debug" | "TRACE" | "trace" => Severity::Debug,
        _ => Severity::Info,
    }
}

/// A line as it is shown, without an end of line: `[   12.345678] program: text`.
pub fn format_line(line: &LogLine) -> String {
    format!(
        "[{:5}.{:06}] {}: {}",
        line.time_us / 1_000_000,
        line.time_us % 1_000_000,
        line.program,
        line.text
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_lines::MAX_LINE_BYTES;
    use proptest::prelude::*;
    use proto::message::Message;

    fn texts(part: &LogPart) -> Vec<&str> {
        part.lines.iter().map(|line| line.text.as_str()).collect()
    }

    #[test]
    fn lines_are_read_in_order_from_any_number() {
        let mut log = LogBuffer::default();
        for text in ["one", "two", "three"] {
            log.push(5, "root", text.into());
        }
        let part = log.read(0);
        assert_eq!(texts(&part), ["one", "two", "three"]);
        assert_eq!(part.next, 3);
        assert_eq!(texts(&log.read(2)), ["three"]);
        assert_eq!(
            log.read(3),
            LogPart {
                lines: vec![],
                next: 3
            }
        );
        assert_eq!(log.read(u64::MAX).next, 3);
    }

    #[test]
    fn the_oldest_lines_are_forgotten_and_numbers_go_on() {
        let mut log = LogBuffer::default();
        for number in 0..2000 {
            log.push(0, "root", format!("{number:0700}"));
        }
        let part = log.read(0);
        assert!(part.lines[0].number > 0);
        assert_eq!(part.lines[0].text, format!("{:0700}", part.lines[0].number));
        assert!(log.bytes <= LOG_BYTES + MAX_LINE_BYTES + LINE_OVERHEAD_BYTES);
    }

    #[test]
    fn the_first_word_tells_how_grave_a_line_is() {
        let mut log = LogBuffer::default();
        let mut severity = |text: &str| log.push(0, "x", text.into()).severity;
        assert_eq!(severity("panicked at src/main.rs:3:4"), Severity::Error);
        assert_eq!(severity("WARN: short of memory"), Severity::Warning);
        assert_eq!(severity("debug[3] x"), Severity::Debug);
        assert_eq!(severity("no error at all"), Severity::Info);
    }

    #[test]
    fn a_line_shows_its_time_and_its_program() {
        let mut log = LogBuffer::default();
        let line = log.push(12_345_678, "monitor.0", "started".into());
        assert_eq!(format_line(line), "[   12.345678] monitor.0: started");
    }

    proptest! {
        #[test]
        fn every_part_fits_one_message_and_none_is_skipped(
            lengths in proptest::collection::vec(0..=MAX_LINE_BYTES, 1..60),
            program in "[a-z.0-9é]{0,60}",
            time_us in any::<u64>(),
        ) {
            let mut log = LogBuffer::default();
            for &length in &lengths {
                log.push(time_us, &program, "x".repeat(length));
            }
            let mut from = 0;
            loop {
                let part = log.read(from);
                prop_assert!(Message::encode(0, &part).is_ok());
                if part.lines.is_empty() {
                    break;
                }
                prop_assert_eq!(part.lines[0].number, from);
                from = part.next;
            }
            prop_assert_eq!(from, lengths.len() as u64);
        }
    }
}
