//! The shell: reads lines, runs what they say, and keeps an eye on the VMs meanwhile.
//!
//! Owns the session: editor, exit code, typed bytes that nobody read yet. Everything else is reached
//! through its [`Machine`].

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proto::CallError;
use proto::console::{Event, Wait};

use crate::commands::session::CLEAR_SCREEN;
use crate::commands::{self, Session};
use crate::completion::{candidates, common_prefix, in_columns, is_open};
use crate::editor::{Editor, Outcome};
use crate::failure::{FAILURE, Failure, INTERRUPTED, NOT_FOUND, SUCCESS, USAGE};
use crate::filter::Filter;
use crate::machine::Machine;
use crate::stream::{Stream, Typeahead, send};
use crate::vmadm::lifecycle::{recover, refresh};
use crate::vmadm::store::VmStore;
use crate::words::{self, Condition, Statement};

/// What the shell shows when it waits for a line.
pub const PROMPT: &str = "tessera# ";
/// Columns of a terminal that does not say.
const DEFAULT_COLUMNS: u16 = 80;
/// How often the shell looks after running VMs while nobody types, in milliseconds.
const CARE_MS: u32 = 1000;
/// Candidates that the tab key lists; more would scroll what matters away.
const MAX_LISTED: usize = 100;
/// Characters in a line when the console does not say how many there are.
const LEAST_COLUMNS: usize = 80;

/// One session.
#[derive(Debug)]
pub struct Shell<M: Machine> {
    machine: M,
    editor: Editor,
    typeahead: Typeahead,
    status: u8,
}

impl<M: Machine> Shell<M> {
    /// A session on a machine's console.
    pub fn new(machine: M) -> Self {
        let size = machine.console().size();
        let columns = size.map_or(DEFAULT_COLUMNS, |size| size.columns);
        Self {
            machine,
            editor: Editor::new(PROMPT, usize::from(columns)),
            typeahead: Typeahead::default(),
            status: SUCCESS,
        }
    }

    /// Learns what runs, and shows the greeting and the first prompt.
    pub fn start(&mut self) {
        // A shell that died may have left its terminal with a VM.
        let _ = self.machine.console().detach();
        let recovered = recover(&mut self.machine);
        let system = &self.machine.archive().manifest().system;
        let text = format!(
            "{system} {}: `help` lists the commands.\r\n",
            env!("CARGO_PKG_VERSION")
        );
        send(&self.machine, text.as_bytes());
        if let Err(error) = recovered {
            let text = format!("VMs that run may be missing: {error}\r\n");
            send(&self.machine, text.as_bytes());
        }
        self.show();
    }

    /// Waits for one thing to happen and deals with it.
    ///
    /// # Errors
    /// The console answers what it should not; there is no going on.
    pub fn step(&mut self) -> Result<(), Failure> {
        let wait = if self.machine.vms().all().iter().any(|vm| vm.run.is_some()) {
            Wait::Milliseconds(CARE_MS)
        } else {
            Wait::Forever
        };
        match self.machine.console().read(wait) {
            Ok(Event::Input(bytes)) => {
                self.typeahead.push(&bytes);
                while let Some(byte) = self.typeahead.pop() {
                    self.typed(byte);
                }
                self.show();
            }
            Ok(Event::Notice(notice)) => self.notice(&notice),
            Ok(Event::TimedOut) => {
                // Root being away is root's business; the next command will say so.
                let _ = refresh(&mut self.machine);
            }
            Ok(Event::Detached) => {}
            Err(CallError::PeerDied) => {
                self.editor.forget_display();
                send(&self.machine, b"\r\n");
                self.show();
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// The exit code of the last command.
    pub fn status(&self) -> u8 {
        self.status
    }

    /// The machine that it runs on.
    pub fn machine(&mut self) -> &mut M {
        &mut self.machine
    }

    fn show(&mut self) {
        let mut out = Vec::new();
        self.editor.show(&mut out);
        send(&self.machine, &out);
    }

    fn leave_line(&mut self) {
        let mut out = Vec::new();
        self.editor.leave(&mut out);
        send(&self.machine, &out);
    }

    fn notice(&mut self, notice: &str) {
        let mut out = Vec::new();
        self.editor.hide(&mut out);
        out.extend_from_slice(notice.as_bytes());
        out.extend_from_slice(b"\r\n");
        self.editor.show(&mut out);
        send(&self.machine, &out);
    }

    fn typed(&mut self, byte: u8) {
        if byte.is_ascii_control() {
            // The key may end the line, so what was typed before it must be on the screen.
            self.show();
        }
        match self.editor.push(byte) {
            Outcome::Editing => {}
            Outcome::Entered(line) => {
                self.leave_line();
                self.run(&line);
            }
            Outcome::Interrupted => {
                send(&self.machine, b"^C");
                self.leave_line();
                self.status = INTERRUPTED;
            }
            Outcome::EndOfInput => {
                self.leave_line();
                send(
                    &self.machine,
                    b"There is nothing to log out of; see halt and reboot.\r\n",
                );
            }
            Outcome::Complete => self.complete(),
            Outcome::Clear => {
                send(&self.machine, CLEAR_SCREEN);
                self.editor.forget_display();
            }
        }
    }

    fn complete(&mut self) {
        let partial = words::partial(&self.editor.before_cursor());
        let found = candidates(&mut self.machine, &partial);
        let completed = match found.as_slice() {
            [] => None,
            [only] if is_open(&only.text) => Some(words::quote(&only.text)),
            [only] => Some(format!("{} ", words::quote(&only.text))),
            several => Some(common_prefix(several))
                .filter(|prefix| prefix.len() > partial.word.len())
                .filter(|prefix| prefix.starts_with(&partial.word))
                .map(words::quote),
        };
        match completed {
            Some(text) => self.editor.replace_before(partial.start, &text),
            None if found.is_empty() => send(&self.machine, b"\x07"),
            None => {
                self.leave_line();
                let size = self.machine.console().size();
                let columns = size.map_or(LEAST_COLUMNS, |size| usize::from(size.columns));
                let labels: Vec<&str> = found
                    .iter()
                    .take(MAX_LISTED)
                    .map(|candidate| candidate.label.as_str())
                    .collect();
                let mut list = in_columns(&labels, columns);
                if found.len() > MAX_LISTED {
                    list.push_str(&format!("and {} more\r\n", found.len() - MAX_LISTED));
                }
                send(&self.machine, list.as_bytes());
            }
        }
    }

    /// Runs one line.
    pub fn run(&mut self, line: &str) {
        let count = match words::parse(line, self.status) {
            Ok(statements) => statements.len(),
            Err(error) => {
                send(&self.machine, format!("syntax: {error}\r\n").as_bytes());
                self.status = USAGE;
                return;
            }
        };
        for index in 0..count {
            // Read again for each statement, because `$?` is the exit code of the one before.
            let statements = words::parse(line, self.status).unwrap_or_default();
            let Some(statement) = statements.get(index) else {
                return;
            };
            let wanted = match statement.condition {
                Condition::Always => true,
                Condition::Success => self.status == SUCCESS,
                Condition::Failure => self.status != SUCCESS,
            };
            if wanted {
                self.status = self.statement(statement);
            }
            if self.status == INTERRUPTED {
                // The operator means the whole line.
                return;
            }
        }
    }

    /// Runs commands joined by pipes; the exit code of the last.
    fn statement(&mut self, statement: &Statement) -> u8 {
        let mut commands = statement.commands.as_slice();
        let mut input = None;
        let mut status = SUCCESS;
        while let Some((words, rest)) = commands.split_first() {
            let mut filters = Vec::new();
            commands = rest;
            while let Some((words, rest)) = commands.split_first() {
                match Filter::new(words) {
                    None => break,
                    Some(Ok(filter)) => filters.push(filter),
                    Some(Err(error)) => return self.refuse(&words[0], &error),
                }
                commands = rest;
            }
            let last = commands.is_empty();
            let mut stream = Stream::new(&mut self.machine, &mut self.typeahead, input, filters);
            if !last {
                stream = stream.capture();
            }
            let session = Session {
                history: self.editor.history(),
            };
            status = command(&mut stream, session, words);
            let interrupted = stream.interrupted();
            let (filtered, output) = stream.finish();
            if interrupted {
                return INTERRUPTED;
            }
            status = filtered.unwrap_or(status);
            input = Some(output);
        }
        status
    }

    fn refuse(&mut self, name: &str, error: &Failure) -> u8 {
        send(&self.machine, format!("{name}: {error}\r\n").as_bytes());
        error.status()
    }
}

/// Runs one command and shows why it failed; its exit code.
fn command<M: Machine>(stream: &mut Stream<M>, session: Session, words: &[String]) -> u8 {
    let name = words.first().map_or("", String::as_str);
    let error = match commands::run(stream, session, words) {
        Some(Ok(status)) => return status,
        Some(Err(error)) => error,
        None if Filter::new(words).is_some() => {
            stream.error(&format!(
                "{name}: it has nothing to read; use it behind a pipe"
            ));
            return FAILURE;
        }
        None => {
            stream.error(&format!("{name}: command not found"));
            return NOT_FOUND;
        }
    };
    match &error {
        // The operator saw that already.
        Failure::Interrupted => {}
        // vmadm's messages are read by scripts, and usage texts name the command themselves.
        _ if name == "vmadm" => stream.error(&format!("{error}")),
        Failure::Usage(text) if text.starts_with("usage: ") => stream.error(text),
        _ => stream.error(&format!("{name}: {error}")),
    }
    error.status()
}
