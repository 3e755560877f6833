//! Commands about the session itself: `clear`, `echo`, `help`, `history`.

use alloc::format;
use alloc::string::String;

use super::{COMMANDS, find, no_arguments, usage};
use crate::editor::history::History;
use crate::failure::Failure;
use crate::filter::FILTERS;
use crate::machine::Machine;
use crate::stream::Stream;
use crate::vmadm;

/// What clears a terminal: the cursor goes home, then everything is erased.
pub const CLEAR_SCREEN: &[u8] = b"\x1b[H\x1b[2J";

/// `clear`.
pub(super) fn clear<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("clear", arguments)?;
    stream.raw(CLEAR_SCREEN);
    Ok(())
}

/// `echo [WORD...]`.
pub(super) fn echo<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    stream.print(&format!("{}\n", arguments.join(" ")));
    Ok(())
}

/// `history`.
pub(super) fn history<M: Machine>(
    stream: &mut Stream<M>,
    history: &History,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("history", arguments)?;
    for (number, line) in history.iter().enumerate() {
        stream.print(&format!("{:5}  {line}\n", number + 1));
    }
    Ok(())
}

/// `help [COMMAND]`.
pub(super) fn help<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let text = match arguments {
        [] => overview(),
        [name] if name == "vmadm" => vmadm::usage(),
        [name] => match find(name) {
            Some(command) => {
                let form = format!("{name} {}", command.arguments);
                let summary = command.summary;
                format!(
                    "usage: {}\n\n{summary}\n{}",
                    form.trim_end(),
                    command.details
                )
            }
            None => return Err(Failure::Failed(format!("there is no command {name}"))),
        },
        _ => return Err(usage("help")),
    };
    stream.print(&text);
    Ok(())
}

fn overview() -> String {
    let mut text = String::from("Commands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<9} {}\n", command.name, command.summary));
    }
    text.push_str(&format!(
        "\nPipes into {}; ';', '&&', '||', quotes and $? work as usual.\n\
         Keys: Tab completes, Ctrl-R searches the history, Ctrl-C interrupts,\n\
         Ctrl-] leaves a VM's console, Alt-F1.. switch consoles on the screen.\n\
         `help COMMAND` says more.\n",
        FILTERS.join(", ")
    ));
    text
}
