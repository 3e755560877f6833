//! The guest of the tests, Debian's kernel in a VM: created at Tessera's shell, used on its console.

use crate::{PROMPT, command};
use images::initramfs;
use images::lab::{LabError, Machine};
use std::time::Duration;

/// The guest's prompt.
pub const GUEST_PROMPT: &str = "guest# ";
/// How long the guest may take from its first instruction to its shell: 25 s on an idle machine.
const GUEST_LIMIT: Duration = Duration::from_secs(300);
/// How long a command in the guest may take.
pub const GUEST_COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// What a terminal is sent when another console comes to the front: from then on the guest gets what is
/// typed.
const ATTACHED: &str = "\x1b[0m\x1b[?25h\x1b[r";
/// Ctrl-], which leaves a console.
const LEAVE: &str = "\x1d";

/// Creates a VM from the file on the image and returns its UUID.
///
/// # Errors
/// When the shell does not print one.
pub fn create(machine: &mut Machine) -> Result<String, LabError> {
    created(&command(machine, "vmadm create -f /boot/debian.json")?)
}

/// The UUID in what `vmadm create` printed.
pub(crate) fn created(answer: &str) -> Result<String, LabError> {
    let uuid = answer
        .split("Successfully created VM ")
        .nth(1)
        .and_then(|rest| rest.get(..36));
    uuid.map(str::to_owned)
        .ok_or_else(|| LabError::new(format!("no UUID in: {answer}")))
}

/// Goes to the VM's console and waits for the guest's prompt.
///
/// # Errors
/// When it does not come.
pub fn enter(machine: &mut Machine, uuid: &str) -> Result<(), LabError> {
    enter_within(machine, uuid, GUEST_LIMIT)
}

/// As [`enter`], for a guest that may take `limit` to its shell.
///
/// # Errors
/// As [`enter`].
pub fn enter_within(machine: &mut Machine, uuid: &str, limit: Duration) -> Result<(), LabError> {
    machine.send(&format!("vmadm console {uuid}\r"))?;
    machine.wait_for(initramfs::MARK, limit)?;
    machine
        .wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)
        .map(|_| ())
}

/// Goes to the VM's console, whose guest is at its prompt, and lets the guest compute something:
/// whether it still works.
///
/// # Errors
/// When the answer does not come.
pub fn answers(machine: &mut Machine, uuid: &str) -> Result<(), LabError> {
    machine.send(&format!("vmadm console {uuid}\r"))?;
    machine.wait_for(ATTACHED, GUEST_COMMAND_LIMIT)?;
    // A console that died forgot the prompt, so a new one is asked for.
    machine.ask("", GUEST_PROMPT, GUEST_COMMAND_LIMIT)?;
    // The sum is not in the echo of what is typed.
    machine.ask("echo sum $((20 + 22))", "sum 42", GUEST_COMMAND_LIMIT)?;
    machine.wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)?;
    leave(machine)
}

/// Types a command in the guest and returns what it printed.
///
/// # Errors
/// When the guest's prompt does not come back.
pub fn guest_command(machine: &mut Machine, line: &str) -> Result<String, LabError> {
    machine.ask(line, line, GUEST_COMMAND_LIMIT)?;
    machine.wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)
}

/// Goes back to Tessera's shell.
///
/// # Errors
/// When its prompt does not come.
pub fn leave(machine: &mut Machine) -> Result<(), LabError> {
    machine.send(LEAVE)?;
    machine.wait_for(PROMPT, GUEST_COMMAND_LIMIT).map(|_| ())
}

/// Waits until `vmadm list` shows the VM in `state`.
///
/// # Errors
/// When that takes longer than a minute.
pub fn wait_for_state(machine: &mut Machine, uuid: &str, state: &str) -> Result<(), LabError> {
    let mut listed = String::new();
    for _ in 0..60 {
        listed = command(machine, "vmadm list")?;
        if listed
            .lines()
            .any(|line| line.starts_with(uuid) && line.contains(state))
        {
            return Ok(());
        }
        std::thread::sleep(Duration::from_secs(1));
    }
    Err(LabError::new(format!(
        "{uuid} did not become {state}: {listed}"
    )))
}
