//! The shell's commands: which there are, what `help` says of them, and which function runs them.
//!
//! Each group has a module; `vmadm` is large enough to have its own place, [`crate::vmadm`]. A command
//! gets its words and a [`Stream`] and returns an exit code or a [`Failure`].

pub mod files;
mod log;
mod machine;
pub mod programs;
pub mod session;
mod top;

use alloc::string::String;

use crate::editor::history::History;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::options::Options;
use crate::stream::Stream;
use crate::vmadm;

/// One command, as `help` shows it.
#[derive(Clone, Copy, Debug)]
pub struct Command {
    /// Its name.
    pub name: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
    /// What it does, in one line.
    pub summary: &'static str,
    /// What else is worth knowing, in lines; may be empty.
    pub details: &'static str,
}

const fn command(
    name: &'static str,
    arguments: &'static str,
    summary: &'static str,
    details: &'static str,
) -> Command {
    Command {
        name,
        arguments,
        summary,
        details,
    }
}

/// The commands, in alphabetical order.
pub const COMMANDS: &[Command] = &[
    command(
        "caps",
        "[-Hp] [-o COLUMN,..] [PROGRAM]",
        "show who holds which capability",
        "Columns: program, name, kind. What is not listed here a program cannot do.\n",
    ),
    command(
        "cat",
        "FILE...",
        "show boot files",
        "A file that is no text is shown only when it is piped.\n",
    ),
    command("clear", "", "clear the screen", ""),
    command(
        "echo",
        "[WORD...]",
        "show its arguments",
        "$? is the last exit code.\n",
    ),
    command(
        "halt",
        "",
        "switch the machine off",
        "VMs are not asked; stop them first.\n",
    ),
    command("help", "[COMMAND]", "show the commands, or one of them", ""),
    command("history", "", "show the lines entered so far", ""),
    command(
        "kill",
        "PROGRAM|PID...",
        "end a program as a fault would",
        "The manifest says whether it is started again. A monitor takes its VM with it.\n",
    ),
    command(
        "log",
        "[-f] [-n LINES] [-p PROGRAM] [-l LEVEL]",
        "show the system's log",
        "-f  follow: show new lines until Ctrl-C\n\
         -n  only the last LINES lines\n\
         -p  only lines of PROGRAM, or of its instances\n\
         -l  only lines at least this grave: debug, info, warning, error\n",
    ),
    command(
        "ls",
        "[-l] [PATH]",
        "list boot files",
        "PATH is /boot unless given.\n",
    ),
    command("mem", "", "show where the memory is", ""),
    command(
        "ps",
        "[-Hlp] [-o COLUMN,..]",
        "list programs",
        "-l  also how a program ended\n\
         -H  no titles; -p  for scripts, values separated by ':'\n\
         Columns: pid, program, state, pri, thr, memory, cpu, restarts, note.\n",
    ),
    command(
        "reboot",
        "",
        "restart the machine",
        "VMs are not asked; stop them first.\n",
    ),
    command(
        "restart",
        "PROGRAM|PID...",
        "end a program and start it again",
        "",
    ),
    command(
        "sleep",
        "SECONDS",
        "wait so many seconds",
        "Ctrl-C ends it; what is typed meanwhile is the next line.\n",
    ),
    command(
        "top",
        "[-d SECONDS] [-n TIMES]",
        "watch programs; q quits",
        "Programs are ordered by the CPU time that they used since the last look.\n",
    ),
    command("uptime", "", "show how long the system runs", ""),
    command("version", "", "show what runs on what", ""),
    command(
        "vmadm",
        "COMMAND [ARGUMENTS]",
        "manage virtual machines",
        "See `vmadm help`.\n",
    ),
];

/// What a command may know of the session that it runs in.
#[derive(Clone, Copy)]
pub struct Session<'s> {
    /// The lines entered so far.
    pub history: &'s History,
}

/// Runs the command that the first of `words` names; its exit code, or `None` if there is no such command.
///
/// # Errors
/// Everything that a command can fail with; the caller shows it.
pub fn run<M: Machine>(
    stream: &mut Stream<M>,
    session: Session,
    words: &[String],
) -> Option<Result<u8, Failure>> {
    let (name, arguments) = words.split_first()?;
    if let [only] = arguments
        && only == "--help"
        && name != "echo"
        && find(name).is_some()
    {
        let outcome = session::help(stream, core::slice::from_ref(name));
        return Some(outcome.map(|()| crate::failure::SUCCESS));
    }
    let outcome = match name.as_str() {
        "caps" => programs::caps(stream, arguments),
        "cat" => files::cat(stream, arguments),
        "clear" => session::clear(stream, arguments),
        "echo" => session::echo(stream, arguments),
        "halt" => machine::halt(stream, arguments),
        "help" => session::help(stream, arguments),
        "history" => session::history(stream, session.history, arguments),
        "kill" => programs::kill(stream, arguments),
        "log" => log::log(stream, arguments),
        "ls" => files::ls(stream, arguments),
        "mem" => machine::mem(stream, arguments),
        "ps" => programs::ps(stream, arguments),
        "reboot" => machine::reboot(stream, arguments),
        "restart" => programs::restart(stream, arguments),
        "sleep" => session::sleep(stream, arguments),
        "top" => top::top(stream, arguments),
        "uptime" => machine::uptime(stream, arguments),
        "version" => machine::version(stream, arguments),
        "vmadm" => return Some(vmadm::run(stream, arguments)),
        _ => return None,
    };
    Some(outcome.map(|()| crate::failure::SUCCESS))
}

/// The command of that name.
pub fn find(name: &str) -> Option<&'static Command> {
    COMMANDS.iter().find(|command| command.name == name)
}

/// How `name` is used, for a wrong use of it.
fn usage(name: &str) -> Failure {
    let arguments = find(name).map_or("", |command| command.arguments);
    Failure::Usage(
        alloc::format!("usage: {name} {arguments}")
            .trim_end()
            .into(),
    )
}

/// Reads the options of `name`.
fn options(
    name: &str,
    arguments: &[String],
    flags: &str,
    valued: &str,
) -> Result<Options, Failure> {
    Options::parse(arguments, flags, valued).map_err(|error| {
        let usage = usage(name);
        Failure::Usage(alloc::format!("{error}; {usage}"))
    })
}

/// Refuses arguments for a command that takes none.
fn no_arguments(name: &str, arguments: &[String]) -> Result<(), Failure> {
    if arguments.is_empty() {
        Ok(())
    } else {
        Err(usage(name))
    }
}
