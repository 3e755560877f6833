//! What virtual machines cost in the real system: the shell starts them, the monitor runs them.
//!
//! The guest that measures exits prints its figures itself. How long a Linux guest takes is put
//! together from two: the time from the shell's log line to the monitor's, which are stamped by the
//! console server, and the guest's own time-stamp counter when its first process runs.

use super::guest_kernel;
use crate::initramfs;
use crate::lab::{LabError, Machine, Qemu};
use std::path::Path;
use std::time::Duration;

/// The shell's prompt.
const PROMPT: &str = "tessera# ";
/// How long the boot and each step may take: a minute when the host is idle.
const LIMIT: Duration = Duration::from_secs(1200);
/// What the guests print when they wait for a key, and at the end.
const READY: &str = "guest: press a key";
const DONE: &str = "guest: done";
/// Ctrl-], which leaves a console.
const LEAVE: &str = "\x1d";
/// The log's lines between which a VM is built.
const ASKED: &str = " asked for";
const STARTED: &str = "the guest starts";
/// What the guest calls its own part.
const GUEST_PART: &str = "bench: Linux in a VM = ";

/// The files that the image needs beside the system's own, made of the program `guest-bench`.
///
/// # Errors
/// A sentence, if it is not such a program.
pub fn guest_files(program: &[u8]) -> Result<Vec<(String, Vec<u8>)>, String> {
    Ok(vec![
        (
            "/boot/bench-exits".to_owned(),
            guest_kernel::build(program)?,
        ),
        (
            "/boot/bench-initrd".to_owned(),
            initramfs::with_init(program),
        ),
    ])
}

/// Boots the image and measures; the lines with figures.
pub fn measure(system: &Path) -> Result<String, LabError> {
    let machine = Qemu::cdrom(system).cpus(1).counting_instructions();
    let mut machine = machine.start()?;
    machine.wait_for(PROMPT, LIMIT)?;
    println!("images: the system is up");
    let exits = measure_exits(&mut machine)?;
    println!("images: exits are measured");
    let start = measure_start(&mut machine)?;
    Ok(format!("{exits}\n{start}"))
}

fn measure_exits(machine: &mut Machine) -> Result<String, LabError> {
    enter(machine, "exits")?;
    machine.wait_for(READY, LIMIT)?;
    machine.send(" ")?;
    let figures = machine.wait_for(DONE, LIMIT)?;
    machine.send(LEAVE)?;
    machine.wait_for(PROMPT, LIMIT)?;
    Ok(figures)
}

fn measure_start(machine: &mut Machine) -> Result<String, LabError> {
    enter(machine, "start")?;
    let printed = machine.wait_for(DONE, LIMIT)?;
    machine.send(LEAVE)?;
    machine.wait_for(PROMPT, LIMIT)?;
    machine.ask("log", "log", LIMIT)?;
    let log = machine.wait_for(PROMPT, LIMIT)?;
    let ticks = start_ticks(&printed, &log)
        .ok_or_else(|| LabError::new(format!("no times in: {printed}\n{log}")))?;
    Ok(format!("bench: VM start to the guest's /init = {ticks}\n"))
}

/// Creates the VM of `/boot/bench-NAME.json` and goes to its console.
fn enter(machine: &mut Machine, name: &str) -> Result<(), LabError> {
    const CREATED: &str = "Successfully created VM ";
    let line = format!("vmadm create -f /boot/bench-{name}.json");
    machine.ask(&line, CREATED, LIMIT)?;
    let rest = machine.wait_for(PROMPT, LIMIT)?;
    let uuid = rest.split_whitespace().next().unwrap_or_default();
    machine.send(&format!("vmadm console {uuid}\r"))
}

/// Ticks from the shell's command to the guest's first process: what the log shows up to the
/// guest's start, in microseconds of a thousand ticks, and the guest's own part.
fn start_ticks(printed: &str, log: &str) -> Option<u64> {
    let guest = printed.split(GUEST_PART).nth(1)?;
    let guest: u64 = guest.split_whitespace().next()?.parse().ok()?;
    let last = |end: &str| {
        let mut lines = log.lines().rev();
        lines.find_map(|line| {
            let line = line.trim_end();
            line.ends_with(end).then(|| microseconds(line)).flatten()
        })
    };
    let built = last(STARTED)?.checked_sub(last(ASKED)?)?;
    Some(built * 1000 + guest)
}

/// The time of a line of the log, `[SECONDS.MICROSECONDS] ...`.
fn microseconds(line: &str) -> Option<u64> {
    let (time, _) = line.strip_prefix('[')?.split_once(']')?;
    let (seconds, fraction) = time.trim_start().split_once('.')?;
    let seconds: u64 = seconds.parse().ok()?;
    Some(seconds * 1_000_000 + fraction.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "[    1.000000] admin: the shell starts, run 0\r\n\
        [    3.000100] admin: VM 12 asked for\r\n[    3.250000] monitor.0: the guest starts\r\n";

    #[test]
    fn the_start_is_what_the_log_shows_and_what_the_guest_counts() {
        let printed = "[Connected]\r\nbench: Linux in a VM = 2000000000\r\nguest: done";
        assert_eq!(start_ticks(printed, LOG), Some(2_249_900_000));
        assert_eq!(start_ticks("", LOG), None);
        assert_eq!(start_ticks(printed, ""), None);
    }

    #[test]
    fn an_image_without_the_program_is_refused() {
        assert!(guest_files(b"#!/bin/sh").is_err());
    }
}
