//! What a running command reads and writes: the terminal, or a pipe.
//!
//! Owns the way of a command's output through filters to the terminal, typed bytes that are not for the
//! command, and interruption. Separate from [`crate::shell`], which decides what runs.

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;

use proto::CallError;
use proto::console::{Event, WRITE_BYTES_MAX, Wait};

use crate::failure::Failure;
use crate::filter::{self, Filter, Flow};
use crate::machine::Machine;

/// Bytes that a command can hand to the next one as a whole: the longest file worth piping.
const MAX_CAPTURE_BYTES: usize = 1024 * 1024;
/// Typed bytes kept for the next prompt while a command runs.
const MAX_TYPEAHEAD_BYTES: usize = 4096;
/// Lines written between two looks for Ctrl-C: a screenful.
const LINES_PER_POLL: usize = 24;
/// Ctrl-C.
const INTERRUPT: u8 = 0x03;

/// Bytes that were typed and not read yet.
#[derive(Debug, Default)]
pub struct Typeahead {
    bytes: VecDeque<u8>,
}

impl Typeahead {
    /// Keeps bytes; what does not fit is dropped, as on a real line.
    pub fn push(&mut self, bytes: &[u8]) {
        let room = MAX_TYPEAHEAD_BYTES.saturating_sub(self.bytes.len());
        self.bytes.extend(bytes.iter().take(room));
    }

    /// Takes the oldest byte.
    pub fn pop(&mut self) -> Option<u8> {
        self.bytes.pop_front()
    }

    /// Takes all of them.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }
}

/// Where a command's output ends up.
#[derive(Debug)]
enum Target {
    Terminal,
    /// Kept for the next command.
    Capture(Vec<u8>),
}

/// A running command's streams.
pub struct Stream<'m, M: Machine> {
    machine: &'m mut M,
    typeahead: &'m mut Typeahead,
    input: Option<Vec<u8>>,
    filters: Vec<Filter>,
    target: Target,
    /// An unfinished line on its way into the filters.
    line: String,
    /// Bytes on their way to the terminal.
    pending: Vec<u8>,
    at_line_start: bool,
    lines_since_poll: usize,
    flow: Flow,
    interrupted: bool,
}

impl<'m, M: Machine> Stream<'m, M> {
    /// Streams of a command that reads `input` and writes through `filters` to the terminal.
    pub fn new(
        machine: &'m mut M,
        typeahead: &'m mut Typeahead,
        input: Option<Vec<u8>>,
        filters: Vec<Filter>,
    ) -> Self {
        Self {
            machine,
            typeahead,
            input,
            filters,
            target: Target::Terminal,
            line: String::new(),
            pending: Vec::new(),
            at_line_start: true,
            lines_since_poll: 0,
            flow: Flow::Continue,
            interrupted: false,
        }
    }

    /// Keeps the output for the next command instead.
    pub fn capture(mut self) -> Self {
        self.target = Target::Capture(Vec::new());
        self
    }

    /// Everything else outside of the shell.
    pub fn machine(&mut self) -> &mut M {
        self.machine
    }

    /// What the command before wrote; `None` if this one's input is the terminal.
    pub fn take_input(&mut self) -> Option<Vec<u8>> {
        self.input.take()
    }

    /// Whether what is written is seen by a person.
    pub fn is_terminal(&self) -> bool {
        self.filters.is_empty() && matches!(self.target, Target::Terminal)
    }

    /// Writes text. `Stop` means that nobody reads any more or that the operator interrupted.
    pub fn print(&mut self, text: &str) -> Flow {
        if self.flow == Flow::Stop {
            return Flow::Stop;
        }
        if self.filters.is_empty() {
            self.emit(text);
        } else {
            let mut rest = text;
            while let Some((end, after)) = rest.split_once('\n') {
                self.line.push_str(end);
                let line = core::mem::take(&mut self.line);
                self.flow =
                    self.through_filters(|filters, sink| filter::push(filters, &line, sink));
                rest = after;
                if self.flow == Flow::Stop {
                    return Flow::Stop;
                }
            }
            self.line.push_str(rest);
        }
        self.lines_since_poll += text.matches('\n').count();
        if self.lines_since_poll >= LINES_PER_POLL {
            self.lines_since_poll = 0;
            self.poll();
        }
        self.flow
    }

    /// Writes a message for people, whatever the output is piped to.
    pub fn error(&mut self, text: &str) {
        let target = core::mem::replace(&mut self.target, Target::Terminal);
        self.emit(text);
        self.emit("\n");
        self.target = target;
    }

    /// Sends bytes to the terminal as they are, at once.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.flush();
        send(self.machine, bytes);
    }

    /// Waits for what is typed, at most `wait`; `None` when the time is over. An interruption is an error.
    ///
    /// # Errors
    /// [`Failure::Interrupted`], or the console is gone.
    pub fn read(&mut self, wait: Wait) -> Result<Option<Event>, Failure> {
        self.flush();
        if self.interrupted {
            return Err(Failure::Interrupted);
        }
        match self.machine.console().read(wait) {
            Ok(Event::Input(bytes)) if bytes.contains(&INTERRUPT) => {
                self.interrupt();
                Err(Failure::Interrupted)
            }
            Ok(Event::Notice(notice)) => {
                self.error(&notice);
                self.flush();
                Ok(None)
            }
            Ok(Event::TimedOut) | Err(CallError::PeerDied) => Ok(None),
            Ok(event) => Ok(Some(event)),
            Err(error) => Err(error.into()),
        }
    }

    /// Waits `milliseconds` unless the operator interrupts; what is typed meanwhile is kept.
    ///
    /// # Errors
    /// [`Failure::Interrupted`], or the console is gone.
    pub fn pause(&mut self, milliseconds: u32) -> Result<(), Failure> {
        if let Some(Event::Input(bytes)) = self.read(Wait::Milliseconds(milliseconds))? {
            self.keep_typed(&bytes);
        }
        Ok(())
    }

    /// Keeps typed bytes for the next prompt.
    pub fn keep_typed(&mut self, bytes: &[u8]) {
        self.typeahead.push(bytes);
    }

    /// Whether the operator interrupted.
    pub fn interrupted(&self) -> bool {
        self.interrupted
    }

    fn poll(&mut self) {
        if let Ok(Some(Event::Input(bytes))) = self.read(Wait::Milliseconds(0)) {
            self.keep_typed(&bytes);
        }
    }

    fn interrupt(&mut self) {
        self.interrupted = true;
        self.flow = Flow::Stop;
        self.typeahead.clear();
        self.error("^C");
    }

    /// Ends the output: filters say what they have left, and everything is sent. The exit code of the last
    /// filter, and what was captured.
    pub fn finish(mut self) -> (Option<u8>, Vec<u8>) {
        if !self.line.is_empty() {
            let line = core::mem::take(&mut self.line);
            self.through_filters(|filters, sink| filter::push(filters, &line, sink));
        }
        let mut status = None;
        self.through_filters(|filters, sink| {
            status = filter::finish(filters, sink);
            Flow::Continue
        });
        if !self.at_line_start {
            // The prompt begins its own line.
            self.emit("\n");
        }
        self.flush();
        match self.target {
            Target::Terminal => (status, Vec::new()),
            Target::Capture(bytes) => (status, bytes),
        }
    }

    fn through_filters(
        &mut self,
        run: impl FnOnce(&mut [Filter], &mut dyn FnMut(&str) -> Flow) -> Flow,
    ) -> Flow {
        let mut filters = core::mem::take(&mut self.filters);
        let flow = run(&mut filters, &mut |line| {
            self.emit(line);
            self.emit("\n");
            Flow::Continue
        });
        self.filters = filters;
        flow
    }

    /// Text behind the filters.
    fn emit(&mut self, text: &str) {
        match &mut self.target {
            Target::Capture(bytes) => {
                let room = MAX_CAPTURE_BYTES.saturating_sub(bytes.len());
                bytes.extend(text.bytes().take(room));
            }
            Target::Terminal => {
                for byte in text.bytes() {
                    if byte == b'\n' {
                        self.pending.push(b'\r');
                    }
                    self.pending.push(byte);
                    self.at_line_start = byte == b'\n';
                }
                if self.pending.len() >= WRITE_BYTES_MAX {
                    self.flush();
                }
            }
        }
    }

    /// Sends what is on its way to the terminal.
    pub fn flush(&mut self) {
        if !self.pending.is_empty() {
            send(self.machine, &core::mem::take(&mut self.pending));
        }
    }
}

/// Sends bytes to the terminal. A console that died shows them when it is back.
pub fn send<M: Machine>(machine: &M, bytes: &[u8]) {
    for part in bytes.chunks(WRITE_BYTES_MAX) {
        if machine.console().write(part.to_vec()) == Err(CallError::PeerDied) {
            // It may or may not have been shown; twice is better than never.
            let _ = machine.console().write(part.to_vec());
        }
    }
}
