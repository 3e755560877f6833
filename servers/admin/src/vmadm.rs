//! `vmadm`: creating and managing VMs, with SmartOS's commands, JSON, messages and exit codes.
//!
//! Owns the records of VMs ([`store`]), what may be in them ([`properties`], [`settings`]), how they
//! are chosen and shown ([`selection`], [`listing`], [`object`]) and what is done to them
//! ([`lifecycle`]). What runs a VM is its monitor, which root starts and [`launch`] configures.
//!
//! Exit codes are vmadm's: 0, 1 for an error, 2 for a wrong use. Messages of success go to where errors
//! go, as there, because scripts read them there.

pub mod launch;
pub mod lifecycle;
pub mod listing;
pub mod object;
pub mod properties;
pub mod selection;
pub mod settings;
pub mod store;
pub mod uuid;

mod actions;
mod console;

use alloc::format;
use alloc::string::String;

use crate::failure::{Failure, SUCCESS};
use crate::machine::Machine;
use crate::stream::Stream;

/// One command of vmadm.
#[derive(Clone, Copy, Debug)]
pub struct Subcommand {
    /// Its name.
    pub name: &'static str,
    /// Another name for it, or nothing.
    pub alias: &'static str,
    /// Its arguments.
    pub arguments: &'static str,
    /// What it does.
    pub summary: &'static str,
}

const fn subcommand(
    name: &'static str,
    alias: &'static str,
    arguments: &'static str,
    summary: &'static str,
) -> Subcommand {
    Subcommand {
        name,
        alias,
        arguments,
        summary,
    }
}

/// The commands, in the order of the usage text.
pub const SUBCOMMANDS: &[Subcommand] = &[
    subcommand("create", "", "[-f FILE]", "create a VM from JSON"),
    subcommand(
        "console",
        "",
        "UUID",
        "use a VM's console; Ctrl-] leaves it",
    ),
    subcommand("delete", "destroy", "UUID", "stop a VM and forget it"),
    subcommand("get", "json", "UUID", "show a VM as JSON"),
    subcommand("info", "", "UUID [TYPE,...]", "show what a running VM does"),
    subcommand(
        "list",
        "",
        "[-p] [-H] [-o F,..] [-s F,..] [K=V ...]",
        "list VMs",
    ),
    subcommand("lookup", "", "[-j|-1] [-o F,..] [K=V ...]", "find VMs"),
    subcommand(
        "reboot",
        "",
        "UUID [-F] [-t SECONDS]",
        "stop a VM and start it again",
    ),
    subcommand("start", "boot", "UUID", "start a VM"),
    subcommand(
        "stop",
        "halt",
        "UUID [-F] [-t SECONDS]",
        "stop a VM; -F: at once",
    ),
    subcommand("validate", "", "create [-f FILE]", "check JSON for create"),
    subcommand("help", "", "", "show this text"),
];

/// The usage text.
pub fn usage() -> String {
    let mut text = String::from("usage: vmadm COMMAND [ARGUMENTS]\n\n");
    for command in SUBCOMMANDS {
        let form = format!("{} {}", command.name, command.arguments);
        text.push_str(&format!("  {form:<48} {}\n", command.summary));
    }
    text.push_str("\nA VM is named by its UUID; the tab key completes UUIDs and aliases.\n");
    text
}

/// Runs `vmadm` with `arguments`; the exit code.
///
/// # Errors
/// Everything that a command can fail with; the caller shows it.
pub fn run<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<u8, Failure> {
    let Some((name, rest)) = arguments.split_first() else {
        return Err(Failure::Usage(usage().trim_end().into()));
    };
    let Some(command) = find(name) else {
        let text = format!("Invalid command: '{name}'.\n{}", usage().trim_end());
        return Err(Failure::Usage(text));
    };
    match command.name {
        "create" => actions::create(stream, rest)?,
        "console" => console::console(stream, rest)?,
        "delete" => actions::delete(stream, rest)?,
        "get" => actions::get(stream, rest)?,
        "info" => actions::info(stream, rest)?,
        "list" => listing::list(stream, rest)?,
        "lookup" => listing::lookup(stream, rest)?,
        "reboot" => actions::reboot(stream, rest)?,
        "start" => actions::start(stream, rest)?,
        "stop" => actions::stop(stream, rest)?,
        "validate" => return actions::validate(stream, rest),
        _ => {
            stream.print(&usage());
        }
    }
    Ok(SUCCESS)
}

/// The command of that name or alias.
pub fn find(name: &str) -> Option<&'static Subcommand> {
    SUBCOMMANDS
        .iter()
        .find(|command| command.name == name || !command.alias.is_empty() && command.alias == name)
}
