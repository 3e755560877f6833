//! `vmadm` as its user sees it: messages, exit codes, JSON, and what root is asked.

mod console;
mod create;
mod lifecycle;
mod show;

use crate::support::{Ran, line_step, run_script};

/// The identifier that the first VM is given.
pub const FIRST: &str = "00000000-0000-4000-8000-000000000001";
/// The identifier of nobody.
pub const NOBODY: &str = "11111111-1111-4111-8111-111111111111";
/// Creates the Debian VM.
pub const CREATE: &str = "vmadm create -f /boot/debian.json";

/// The line with `UUID` replaced by the first VM's.
pub fn first(line: &str) -> String {
    line.replace("UUID", FIRST)
}

/// Creates the Debian VM and then enters lines, with `UUID` for its identifier.
pub fn with_debian(lines: &[&str]) -> Ran {
    let mut steps = vec![line_step(CREATE)];
    steps.extend(lines.iter().map(|line| line_step(&first(line))));
    run_script(steps)
}

pub fn output<'r>(ran: &'r Ran, line: &str) -> &'r str {
    ran.output(&first(line))
}

pub fn states(ran: &Ran) -> Vec<&str> {
    ran.text
        .split("tessera# vmadm list -p -o state\n")
        .skip(1)
        .map(|after| after.lines().next().unwrap())
        .collect()
}

/// Shows the states alone.
pub const STATE: &str = "vmadm list -p -o state";
