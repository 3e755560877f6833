//! Protocol `Console`: a terminal for the operator's shell, and the system's log.
//!
//! The client is the shell. What VMs and logging programs say reaches the console through byte
//! rings, not through this protocol. One operation waits, `Read`, and it gives everything that a shell
//! can wait for, so that a client needs one call in flight only.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::protocol::protocol;

/// Most bytes of one [`Write`]: its length stands in front of them in the message.
pub const WRITE_BYTES_MAX: usize = crate::message::BODY_BYTES_MAX - 2;
/// Most bytes that one [`Event::Input`] carries: more than anybody types between two reads.
pub const INPUT_BYTES_MAX: usize = 256;
/// Most bytes of a log line's text; with the rest of a [`LogPart`] it fits one message.
pub const LOG_TEXT_BYTES_MAX: usize = 800;
/// Most bytes of the name of the program that logged a line.
pub const LOG_PROGRAM_BYTES_MAX: usize = 32;

const _: () = assert!(INPUT_BYTES_MAX <= WRITE_BYTES_MAX);
const _: () = assert!(
    // Three lengths and numbers of the line, two of the part, at most 10 bytes each.
    LOG_TEXT_BYTES_MAX + LOG_PROGRAM_BYTES_MAX + 9 * 10 <= crate::message::BODY_BYTES_MAX
);

/// One of the console server's virtual consoles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum VirtualConsole {
    /// The operator's shell.
    Shell,
    /// The log of all programs.
    Log,
    /// The VM of the monitor with this instance number.
    Machine(u16),
}

/// How long a [`Read`] may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wait {
    /// Until something happens.
    Forever,
    /// At most so long; 0 asks for what is there.
    Milliseconds(u32),
}

/// What a [`Read`] waited for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// Bytes that were typed, at least one and at most [`INPUT_BYTES_MAX`].
    Input(Vec<u8>),
    /// A line that the operator should see now, without an end of line. The client shows it where it
    /// does not destroy what is being edited.
    Notice(String),
    /// The operator left the attached console with Ctrl-]; the shell's is in front again.
    Detached,
    /// The time is over.
    TimedOut,
}

/// How grave a log line is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Severity {
    /// For whoever looks for a fault.
    Debug,
    /// The course of things.
    Info,
    /// Something that the operator should know.
    Warning,
    /// Something failed: an error, a panic, a fault.
    Error,
}

/// One line of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Its number; lines are numbered from 0 without gaps.
    pub number: u64,
    /// When the console received it, in microseconds since the machine started.
    pub time_us: u64,
    /// Who wrote it: a program's name, with `.<instance>` where there can be several.
    pub program: String,
    /// How grave it is.
    pub severity: Severity,
    /// The text: printable, at most [`LOG_TEXT_BYTES_MAX`] bytes.
    pub text: String,
}

/// Some lines of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogPart {
    /// As many lines as fit, in order; none if there are no more.
    pub lines: Vec<LogLine>,
    /// What to ask for next.
    pub next: u64,
}

/// The size of the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Dimensions {
    /// Characters in a line.
    pub columns: u16,
    /// Lines.
    pub rows: u16,
}

protocol! {
    /// A terminal for the operator's shell, and the system's log.
    protocol Console { client ConsoleClient, server ConsoleServer, request ConsoleRequest }

    /// Why the console refuses.
    error ConsoleError {
        /// There is no such virtual console.
        NotFound,
    }

    /// Shows bytes on the shell's console; replies once there is room for more.
    1 Write = fn write(bytes: Vec<u8>) -> ();

    /// Waits for what happens next. A read that still waits, of a shell that died, times out at once.
    2 Read = fn read(wait: Wait) -> Event;

    /// Brings a virtual console to the front on every terminal that shows the shell, beginning with
    /// what it showed last. What is typed goes there, until Ctrl-] or `Detach`.
    3 Attach = fn attach(console: VirtualConsole) -> ();

    /// Brings the shell's console back to the front; nothing happens if it is there.
    4 Detach = fn detach() -> ();

    /// Lines of the log from number `from` on, or from the oldest one kept.
    5 ReadLog = fn read_log(from: u64) -> LogPart;

    /// Forgets what a virtual console showed and what was typed there.
    6 Clear = fn clear(console: VirtualConsole) -> ();

    /// The size of the terminal that the shell is shown on.
    7 Size = fn size() -> Dimensions;
}
