//! Commands about the session itself: `clear`, `echo`, `help`, `history`, `sleep`.

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

/// Longest time that `sleep` waits, in seconds: a day.
const SLEEP_SECONDS_MAX: u32 = 24 * 3600;
/// Longest time between two looks at the clock, in milliseconds.
const NAP_MS: u32 = 1000;

/// `sleep SECONDS`. What is typed ends a wait early, so it looks at the clock.
pub(super) fn sleep<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let [seconds] = arguments else {
        return Err(usage("sleep"));
    };
    let seconds: u32 = seconds.parse().map_err(|_| usage("sleep"))?;
    if seconds > SLEEP_SECONDS_MAX {
        return Err(usage("sleep"));
    }
    let now_us = stream.machine().root().machine()?.uptime_us;
    let end_us = now_us + u64::from(seconds) * 1_000_000;
    loop {
        let now_us = stream.machine().root().machine()?.uptime_us;
        let left_ms = end_us.saturating_sub(now_us).div_ceil(1000);
        if left_ms == 0 {
            return Ok(());
        }
        let nap_ms = u32::try_from(left_ms).unwrap_or(NAP_MS).min(NAP_MS);
        stream.pause(nap_ms)?;
    }
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
