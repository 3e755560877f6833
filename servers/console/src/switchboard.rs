//! Who sees what: virtual consoles, the seats that show them, the log and its notices.
//!
//! The server's whole state but for the devices. Bytes come in from devices and rings, bytes go out
//! to devices and rings, and nothing here waits: [`crate::service`] turns "not yet" into a held reply.
//! A console sees only its own bytes: each has its own scrollback and its own input, and the only code
//! that joins them with a terminal is the front of a [`Seat`].

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use proto::console::{Event, INPUT_BYTES_MAX, LogPart, Severity, VirtualConsole};

use crate::log_buffer::{LogBuffer, format_line};
use crate::log_lines::LineAssembler;
use crate::scancode::Typed;
use crate::scrollback::Scrollback;
use crate::seat::{Beginning, Seat, SeatKind};

/// VMs that can have a console at once: the manifest's instances of the monitor.
pub const MAX_MACHINES: usize = 8;
/// Bytes of history of each console: about 800 full lines.
const SCROLLBACK_BYTES: usize = 64 * 1024;
/// Typed bytes that wait for whoever reads a console: a pasted page. What does not fit is dropped, as
/// on a real serial line.
const MAX_INPUT_BYTES: usize = 4096;
/// Bytes that the line's seat may lag behind before writers wait. Less than the scrollback, so that a
/// writer that waits loses nothing; a sixth of a second at 115200 baud, so that Ctrl-C is felt.
const MAX_BACKLOG_BYTES: u64 = 2048;
/// Notices that wait for the shell to show them.
const MAX_NOTICES: usize = 16;
/// How long a notice waits for a shell that is busy before it is shown anyway.
pub const NOTICE_PATIENCE_US: u64 = 1_000_000;
/// Ctrl-]: back to the shell.
const ESCAPE_KEY: u8 = 0x1d;

const _: () = assert!(MAX_BACKLOG_BYTES < SCROLLBACK_BYTES as u64);

const SHELL: usize = 0;
const LOG: usize = 1;
const FIRST_MACHINE: usize = 2;
const CONSOLES: usize = FIRST_MACHINE + MAX_MACHINES;

/// Which terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Terminal {
    /// The serial line.
    Line,
    /// The screen and its keyboard.
    Screen,
}

/// A virtual console that does not exist.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotFound;

#[derive(Debug)]
struct Console {
    scrollback: Scrollback,
    input: VecDeque<u8>,
    at_line_start: bool,
}

impl Console {
    fn new() -> Self {
        Self {
            scrollback: Scrollback::new(SCROLLBACK_BYTES),
            input: VecDeque::new(),
            at_line_start: true,
        }
    }

    fn write(&mut self, bytes: &[u8]) {
        self.scrollback.write(bytes);
        if let Some(&last) = bytes.last() {
            self.at_line_start = last == b'\n';
        }
    }

    /// A whole line, on a line of its own.
    fn write_line(&mut self, line: &str) {
        if !self.at_line_start {
            self.write(b"\r\n");
        }
        self.write(line.as_bytes());
        self.write(b"\r\n");
    }

    fn type_byte(&mut self, byte: u8) {
        if self.input.len() < MAX_INPUT_BYTES {
            self.input.push_back(byte);
        }
    }
}

/// The consoles, the seats and the log.
#[derive(Debug)]
pub struct Switchboard {
    consoles: Vec<Console>,
    line: Option<Seat>,
    screen: Option<Seat>,
    /// What the shell attached to, until it is left.
    attached: Option<usize>,
    /// The attached console was left with the escape key and the shell was not told yet.
    left: bool,
    log: LogBuffer,
    /// For each log channel the program and its unfinished line.
    writers: Vec<(String, LineAssembler)>,
    notices: VecDeque<(u64, String)>,
}

impl Switchboard {
    /// A switchboard with the terminals that there are and a log channel for each name in `writers`.
    pub fn new(terminals: &[Terminal], writers: impl IntoIterator<Item = String>) -> Self {
        let seat = |terminal, kind| {
            terminals
                .contains(&terminal)
                .then(|| Seat::new(kind, CONSOLES))
        };
        Self {
            consoles: (0..CONSOLES).map(|_| Console::new()).collect(),
            line: seat(Terminal::Line, SeatKind::Line),
            screen: seat(Terminal::Screen, SeatKind::Screen),
            attached: None,
            left: false,
            log: LogBuffer::default(),
            writers: writers
                .into_iter()
                .map(|program| (program, LineAssembler::default()))
                .collect(),
            notices: VecDeque::new(),
        }
    }

    /// Shows bytes on the shell's console.
    pub fn write_shell(&mut self, bytes: &[u8]) {
        self.consoles[SHELL].write(bytes);
    }

    /// Whether the shell may write more: the line has shown most of what it wrote.
    pub fn shell_has_room(&self) -> bool {
        self.room(SHELL) > 0
    }

    /// How many bytes a VM may write now. As long as nobody watches, any number.
    pub fn machine_room(&self, machine: usize) -> u64 {
        self.room(FIRST_MACHINE + machine)
    }

    fn room(&self, console: usize) -> u64 {
        let backlog = match (&self.line, self.consoles.get(console)) {
            (Some(seat), Some(state)) => seat.backlog(console, &state.scrollback),
            _ => 0,
        };
        MAX_BACKLOG_BYTES.saturating_sub(backlog)
    }

    /// Shows bytes that a VM wrote. A machine that does not exist has no console.
    pub fn write_machine(&mut self, machine: usize, bytes: &[u8]) {
        if let Some(console) = self.consoles.get_mut(FIRST_MACHINE + machine) {
            console.write(bytes);
        }
    }

    /// Takes one byte that was typed for a VM.
    pub fn take_machine_input(&mut self, machine: usize) -> Option<u8> {
        let console = self.consoles.get_mut(FIRST_MACHINE + machine)?;
        console.input.pop_front()
    }

    /// Takes bytes that log channel `writer` carried.
    pub fn write_log(&mut self, writer: usize, bytes: &[u8], now_us: u64) {
        let Some((program, assembler)) = self.writers.get_mut(writer) else {
            return;
        };
        for &byte in bytes {
            let Some(text) = assembler.push(byte) else {
                continue;
            };
            let line = self.log.push(now_us, program, text);
            let shown = format_line(line);
            self.consoles[LOG].write_line(&shown);
            if line.severity >= Severity::Warning {
                if self.notices.len() == MAX_NOTICES {
                    // The log keeps it; the screen shows the newest.
                    self.notices.pop_front();
                }
                self.notices.push_back((now_us, shown));
            }
        }
    }

    /// Lines of the log.
    pub fn read_log(&self, from: u64) -> LogPart {
        self.log.read(from)
    }

    /// Takes a byte that was typed at a terminal.
    pub fn typed(&mut self, terminal: Terminal, typed: Typed) {
        let Some(front) = self.seat(terminal).as_ref().map(Seat::front) else {
            return;
        };
        match typed {
            Typed::Byte(ESCAPE_KEY) if front != SHELL => {
                if self.attached == Some(front) {
                    self.attached = None;
                    self.left = true;
                    self.show(Terminal::Line, front, SHELL);
                    self.show(Terminal::Screen, front, SHELL);
                } else {
                    self.show(terminal, front, SHELL);
                }
            }
            Typed::Byte(byte) if front != LOG => self.consoles[front].type_byte(byte),
            Typed::Byte(_) => {}
            Typed::Console(number) => {
                let console = usize::from(number).saturating_sub(1);
                if console < CONSOLES {
                    self.show(terminal, front, console);
                }
            }
        }
    }

    /// Whether there is a byte for a terminal.
    pub fn has_output(&self, terminal: Terminal) -> bool {
        let seat = self.seat(terminal).as_ref();
        seat.is_some_and(|seat| seat.has_next(&self.consoles[seat.front()].scrollback))
    }

    /// The next byte for a terminal, if there is one and it has a seat.
    pub fn next_output(&mut self, terminal: Terminal) -> Option<u8> {
        let (seat, consoles) = match terminal {
            Terminal::Line => (&mut self.line, &self.consoles),
            Terminal::Screen => (&mut self.screen, &self.consoles),
        };
        let seat = seat.as_mut()?;
        let front = seat.front();
        seat.next(&consoles[front].scrollback)
    }

    /// Brings a console to the front of every seat that shows the shell.
    ///
    /// # Errors
    /// [`NotFound`]; nothing changed then.
    pub fn attach(&mut self, console: VirtualConsole) -> Result<(), NotFound> {
        let console = index(console)?;
        self.detach();
        self.left = false;
        if console != SHELL {
            self.attached = Some(console);
            self.show(Terminal::Line, SHELL, console);
            self.show(Terminal::Screen, SHELL, console);
        }
        Ok(())
    }

    /// Brings the shell back to the front of the seats that `attach` took it from.
    pub fn detach(&mut self) {
        if let Some(console) = self.attached.take() {
            self.show(Terminal::Line, console, SHELL);
            self.show(Terminal::Screen, console, SHELL);
        }
    }

    /// Forgets what a console showed and what was typed there.
    ///
    /// # Errors
    /// [`NotFound`]; nothing changed then.
    pub fn clear(&mut self, console: VirtualConsole) -> Result<(), NotFound> {
        let console = &mut self.consoles[index(console)?];
        console.scrollback.clear();
        console.input.clear();
        console.at_line_start = true;
        Ok(())
    }

    /// What the shell can be told now, most urgent first.
    pub fn next_event(&mut self) -> Option<Event> {
        if core::mem::take(&mut self.left) {
            return Some(Event::Detached);
        }
        if let Some((_, notice)) = self.notices.pop_front() {
            return Some(Event::Notice(notice));
        }
        let input = &mut self.consoles[SHELL].input;
        let count = input.len().min(INPUT_BYTES_MAX);
        (count > 0).then(|| Event::Input(input.drain(..count).collect()))
    }

    /// When the oldest notice has waited too long for the shell to take it.
    pub fn notice_due(&self) -> Option<u64> {
        let (since, _) = self.notices.front()?;
        Some(since.saturating_add(NOTICE_PATIENCE_US))
    }

    /// Shows notices that have waited too long.
    pub fn overdue_notices(&mut self, now_us: u64) {
        while self.notice_due().is_some_and(|due| due <= now_us) {
            if let Some((_, notice)) = self.notices.pop_front() {
                self.consoles[SHELL].write_line(&notice);
            }
        }
    }

    /// Brings `console` to the front of a seat if `expected` is there now.
    fn show(&mut self, terminal: Terminal, expected: usize, console: usize) {
        let beginning = if console == SHELL {
            Beginning::Resume
        } else {
            Beginning::Replay
        };
        let seat = match terminal {
            Terminal::Line => &mut self.line,
            Terminal::Screen => &mut self.screen,
        };
        if let Some(seat) = seat.as_mut().filter(|seat| seat.front() == expected) {
            let current = &self.consoles[expected].scrollback;
            seat.show(
                console,
                current,
                &self.consoles[console].scrollback,
                beginning,
            );
        }
    }

    fn seat(&self, terminal: Terminal) -> &Option<Seat> {
        match terminal {
            Terminal::Line => &self.line,
            Terminal::Screen => &self.screen,
        }
    }
}

fn index(console: VirtualConsole) -> Result<usize, NotFound> {
    match console {
        VirtualConsole::Shell => Ok(SHELL),
        VirtualConsole::Log => Ok(LOG),
        VirtualConsole::Machine(number) if usize::from(number) < MAX_MACHINES => {
            Ok(FIRST_MACHINE + usize::from(number))
        }
        VirtualConsole::Machine(_) => Err(NotFound),
    }
}

#[cfg(test)]
mod tests;
