//! The guest of our own that is on the image: created at Tessera's shell, watched on its console.

use crate::guest::created;
use crate::{COMMAND_LIMIT, PROMPT, command};
use images::lab::{LabError, Machine};
use std::time::Duration;

/// Creates a VM from a file on the image and returns its UUID.
///
/// # Errors
/// When there is none.
pub fn create(machine: &mut Machine, file: &str) -> Result<String, LabError> {
    created(&command(machine, &format!("vmadm create -f {file}"))?)
}

/// Creates a VM whose guest does what `command_line` says, and returns its UUID.
///
/// # Errors
/// When there is none.
pub fn create_with(
    machine: &mut Machine,
    command_line: &str,
    vcpus: u32,
) -> Result<String, LabError> {
    let payload = format!(
        r#"{{"brand":"bhyve","ram":16,"vcpus":{vcpus},"kernel":"/boot/small-guest","cmdline":"{command_line}"}}"#
    );
    // The line is longer than the terminal, so its echo is not one piece.
    machine.send(&format!("echo '{payload}' | vmadm create\r"))?;
    let answer = machine.wait_for("VM ", COMMAND_LIMIT)?;
    let rest = machine.wait_for(PROMPT, COMMAND_LIMIT)?;
    created(&(answer + &rest))
}

/// Goes to the VM's console and waits for `text` there.
///
/// # Errors
/// When it does not come.
pub fn watch(
    machine: &mut Machine,
    uuid: &str,
    text: &str,
    limit: Duration,
) -> Result<String, LabError> {
    watch_for_any(machine, uuid, &[text], limit).map(|(_, printed)| printed)
}

/// Goes to the VM's console and waits for whichever of `texts` comes first. Returns its index and
/// what was printed.
///
/// # Errors
/// When none comes.
pub fn watch_for_any(
    machine: &mut Machine,
    uuid: &str,
    texts: &[&str],
    limit: Duration,
) -> Result<(usize, String), LabError> {
    machine.send(&format!("vmadm console {uuid}\r"))?;
    machine.wait_for_any(texts, limit)
}
