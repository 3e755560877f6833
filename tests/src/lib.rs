//! System tests: they boot the image that `make iso` built, and type at its shell.
//!
//! This library has what the tests have in common; each file in `tests/` is one subject.

pub mod guest;
pub mod picture;
pub mod small_guest;

use images::lab::{Bochs, LabError, Machine, Qemu};
use std::path::PathBuf;
use std::time::Duration;

/// The shell's prompt.
pub const PROMPT: &str = "tessera# ";
/// How long a boot to the prompt may take. Alone on a machine BIOS takes seconds and UEFI twenty;
/// the rest is for a machine that does other things as well.
pub const BOOT_LIMIT: Duration = Duration::from_secs(240);
/// How long a command of the shell may take.
pub const COMMAND_LIMIT: Duration = Duration::from_secs(60);

/// A file that the build left in `out/`.
#[must_use]
pub fn built(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../out")).join(name)
}

/// The image.
///
/// # Panics
/// If it is not there: `make test` builds it.
#[must_use]
pub fn iso() -> PathBuf {
    let iso = built("tessera.iso");
    assert!(
        iso.exists(),
        "{} is not there: use `make test`",
        iso.display()
    );
    iso
}

/// Starts `machine` and waits for the shell's prompt.
///
/// # Errors
/// When the prompt does not come.
pub fn boot(machine: &Qemu) -> Result<Machine, LabError> {
    let mut machine = machine.start()?;
    machine.wait_for(PROMPT, BOOT_LIMIT)?;
    Ok(machine)
}

/// Starts the machine with VMX and waits for the shell's prompt.
///
/// # Errors
/// When the prompt does not come.
pub fn boot_on_vmx() -> Result<Machine, LabError> {
    let mut machine = Bochs::new(&iso(), &built("lab")).start()?;
    machine.wait_for(PROMPT, BOOT_LIMIT)?;
    Ok(machine)
}

/// Types a command at the prompt and waits for the next one. Returns what was printed between.
/// A line of the log that is shown meanwhile brings a prompt of its own, so the command's echo is
/// waited for first.
///
/// # Errors
/// When the next prompt does not come.
pub fn command(machine: &mut Machine, line: &str) -> Result<String, LabError> {
    machine.ask(line, line, COMMAND_LIMIT)?;
    machine.wait_for(PROMPT, COMMAND_LIMIT)
}

/// Types a command at the prompt and returns what it printed and its exit code.
///
/// # Errors
/// When the prompt or the code does not come.
pub fn exit_code(machine: &mut Machine, line: &str) -> Result<(String, u8), LabError> {
    let printed = command(machine, line)?;
    let answer = command(machine, "echo code $?")?;
    let code = answer.lines().find_map(|line| line.strip_prefix("code "));
    match code.and_then(|code| code.trim().parse().ok()) {
        Some(code) => Ok((printed, code)),
        None => Err(LabError::new(format!("no exit code in: {answer}"))),
    }
}
