//! `log`: the lines that all programs wrote.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::String;

use proto::console::{Event, LogLine, Severity, Wait};

use super::{options, usage};
use crate::failure::Failure;
use crate::filter::Flow;
use crate::machine::Machine;
use crate::stream::Stream;

/// How often `-f` looks for new lines, in milliseconds: often enough to look immediate.
const FOLLOW_MS: u32 = 200;
/// Most lines that `-n` can ask for: they are kept in memory.
const MAX_LAST_LINES: usize = 10_000;

/// Which lines are shown.
struct Wanted {
    program: Option<String>,
    severity: Severity,
}

impl Wanted {
    fn shows(&self, line: &LogLine) -> bool {
        let program = self.program.as_ref().is_none_or(|program| {
            let rest = line.program.strip_prefix(program.as_str());
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        });
        program && line.severity >= self.severity
    }
}

/// `log [-f] [-n LINES] [-p PROGRAM] [-l LEVEL]`.
pub(super) fn log<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = options("log", arguments, "f", "nlp")?;
    if !options.operands().is_empty() {
        return Err(usage("log"));
    }
    let wanted = Wanted {
        program: options.value('p').map(String::from),
        severity: options.value('l').map_or(Ok(Severity::Debug), severity)?,
    };
    let last = match options.value('n') {
        None => usize::MAX,
        Some(text) => text.parse().map_err(|_| usage("log"))?,
    };
    let mut next = show_kept(stream, &wanted, last)?;
    while options.has('f') && !stream.interrupted() {
        match stream.read(Wait::Milliseconds(FOLLOW_MS)) {
            Ok(Some(Event::Input(bytes))) => stream.keep_typed(&bytes),
            Ok(_) => {}
            // Ctrl-C is how following ends, so it is no failure.
            Err(Failure::Interrupted) => break,
            Err(error) => return Err(error),
        }
        let (after, flow) = show_from(stream, &wanted, next)?;
        next = after;
        if flow == Flow::Stop {
            break;
        }
    }
    Ok(())
}

/// Shows the last lines of those that are kept; what to ask for next.
fn show_kept<M: Machine>(
    stream: &mut Stream<M>,
    wanted: &Wanted,
    last: usize,
) -> Result<u64, Failure> {
    if last == usize::MAX {
        return Ok(show_from(stream, wanted, 0)?.0);
    }
    let mut kept = VecDeque::new();
    let mut next = 0;
    loop {
        let part = stream.machine().console().read_log(next)?;
        if part.lines.is_empty() {
            break;
        }
        next = part.next;
        kept.extend(part.lines.into_iter().filter(|line| wanted.shows(line)));
        while kept.len() > last.min(MAX_LAST_LINES) {
            kept.pop_front();
        }
    }
    for line in &kept {
        stream.print(&format_line(line));
    }
    Ok(next)
}

/// Shows all lines from number `from` on; what to ask for next, and whether anybody still reads.
fn show_from<M: Machine>(
    stream: &mut Stream<M>,
    wanted: &Wanted,
    mut from: u64,
) -> Result<(u64, Flow), Failure> {
    loop {
        let part = stream.machine().console().read_log(from)?;
        if part.lines.is_empty() {
            return Ok((from.max(part.next), Flow::Continue));
        }
        from = part.next;
        for line in part.lines.iter().filter(|line| wanted.shows(line)) {
            if stream.print(&format_line(line)) == Flow::Stop {
                return Ok((from, Flow::Stop));
            }
        }
    }
}

fn severity(name: &str) -> Result<Severity, Failure> {
    match name {
        "debug" => Ok(Severity::Debug),
        "info" => Ok(Severity::Info),
        "warn" | "warning" => Ok(Severity::Warning),
        "error" => Ok(Severity::Error),
        _ => Err(usage("log")),
    }
}

/// A line as the console shows it.
fn format_line(line: &LogLine) -> String {
    format!(
        "[{:5}.{:06}] {}: {}\n",
        line.time_us / 1_000_000,
        line.time_us % 1_000_000,
        line.program,
        line.text
    )
}
