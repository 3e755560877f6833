//! The log of a program: lines of text that go to console.
//!
//! Owns the one place of the process where [`log!`](crate::log!) writes to. In a program that is
//! the byte ring `log` from its start record, in the root task the debug port or a ring that root
//! attaches; on the host it is nowhere. Writing never waits: a line for which the ring has no room is
//! counted and dropped, and the next line says how many are missing.

use core::fmt::{self, Write};

use crate::capability::Notification;
use crate::kernel;
use crate::lock::Mutex;
use crate::ring::byte::Producer;

/// Longest line in bytes with its end; what is longer is cut. A line is formatted on the stack.
pub const LINE_BYTES_MAX: usize = 512;

/// Where lines go.
#[derive(Debug)]
enum Sink {
    Nowhere,
    DebugPort,
    Ring {
        ring: Producer<'static>,
        wake: Notification,
    },
}

#[derive(Debug)]
struct Log {
    sink: Sink,
    dropped: u64,
}

static LOG: Mutex<Log> = Mutex::new(Log {
    sink: Sink::Nowhere,
    dropped: 0,
});

/// Sends lines into `ring` from now on; `wake` tells the reader.
pub fn attach_ring(ring: Producer<'static>, wake: Notification) {
    LOG.lock().sink = Sink::Ring { ring, wake };
}

/// Sends lines to the kernel's debug port from now on. Only a debug kernel has one.
pub fn attach_debug_port() {
    LOG.lock().sink = Sink::DebugPort;
}

/// Text of at most [`LINE_BYTES_MAX`] bytes with the end of the line; what does not fit is cut
/// between two characters.
#[derive(Debug, Default)]
pub(crate) struct Line(heapless::String<{ LINE_BYTES_MAX - 1 }>);

impl Write for Line {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.0.capacity() - self.0.len();
        self.0
            .push_str(&text[..text.floor_char_boundary(room)])
            .map_err(|_| fmt::Error)
    }
}

impl Line {
    /// Formats a line.
    pub(crate) fn new(arguments: fmt::Arguments<'_>) -> Self {
        let mut line = Self::default();
        // Nothing to do about a `Display` that fails: what it wrote before is the line.
        let _ = line.write_fmt(arguments);
        line
    }

    /// The text without the end of the line.
    pub(crate) fn text(&self) -> &str {
        &self.0
    }
}

/// Writes one line. Called by [`log!`](crate::log!).
pub fn write_line(arguments: fmt::Arguments<'_>) {
    let line = Line::new(arguments);
    LOG.lock().write(&line);
}

/// Writes one line from a panic: does nothing if the log is locked, possibly by the very thread
/// that panics.
#[cfg(feature = "runtime")]
pub(crate) fn write_last_line(line: &Line) {
    if let Some(mut log) = LOG.try_lock() {
        log.write(line);
    }
}

impl Log {
    fn write(&mut self, line: &Line) {
        match &mut self.sink {
            Sink::Nowhere => {}
            Sink::DebugPort => {
                line.text()
                    .bytes()
                    .chain([b'\n'])
                    .for_each(kernel::debug_put_char);
            }
            Sink::Ring { ring, wake } => {
                if put(ring, line, self.dropped) {
                    self.dropped = 0;
                } else {
                    self.dropped += 1;
                }
                wake.signal();
            }
        }
    }
}

/// Writes a line as a whole or not at all, after a line about those that were `dropped` before
/// it. A broken ring is a full one: the reader, who broke it, misses the lines.
fn put(ring: &mut Producer<'_>, line: &Line, dropped: u64) -> bool {
    let note = if dropped == 0 {
        Line::default()
    } else {
        Line::new(format_args!("[{dropped} lines dropped]\n"))
    };
    let parts = [note.text().as_bytes(), line.text().as_bytes(), b"\n"];
    let length = parts.iter().map(|part| part.len()).sum();
    ring.room().is_ok_and(|room| room >= length)
        && parts.iter().all(|part| ring.write(part).is_ok())
}

/// Writes one line of the program's log, with the syntax of `format!`.
#[macro_export]
macro_rules! log {
    ($($argument:tt)*) => {
        $crate::log::write_line(::core::format_args!($($argument)*))
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder;
    use crate::ring::RingPage;
    use crate::ring::byte::{CAPACITY, Consumer};
    use sel4_sys::CPtr;

    fn ring_log(page: &'static RingPage) -> Log {
        let wake = Notification::from_cptr(CPtr(8));
        Log {
            sink: Sink::Ring {
                ring: Producer::attach(page),
                wake,
            },
            dropped: 0,
        }
    }

    fn read_all(page: &RingPage) -> String {
        let mut bytes = [0; CAPACITY];
        let count = Consumer::attach(page).read(&mut bytes).unwrap();
        String::from_utf8(bytes[..count].to_vec()).unwrap()
    }

    #[test]
    fn a_line_goes_into_the_ring_and_wakes_the_reader() {
        let page = Box::leak(Box::new(RingPage::new()));
        ring_log(page).write(&Line::new(format_args!("disk {}", 3)));
        assert_eq!(read_all(page), "disk 3\n");
        assert_eq!(recorder::take()[0].request.target, CPtr(8));
    }

    #[test]
    fn lines_without_room_are_counted_and_confessed() {
        let page = Box::leak(Box::new(RingPage::new()));
        let mut log = ring_log(page);
        let long = Line::new(format_args!("{}", "x".repeat(499)));
        for _ in 0..10 {
            log.write(&long);
        }
        assert_eq!(read_all(page).lines().count(), CAPACITY / 500);
        log.write(&Line::new(format_args!("after")));
        assert_eq!(read_all(page), "[3 lines dropped]\nafter\n");
    }

    #[test]
    fn a_line_that_is_too_long_is_cut_between_characters() {
        let line = Line::new(format_args!("a{}", "é".repeat(400)));
        assert_eq!(line.text().chars().count(), 1 + (LINE_BYTES_MAX - 2) / 2);
    }
}
