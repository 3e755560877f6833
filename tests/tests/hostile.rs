//! A VM in which a guest does its worst harms nobody else.

use images::lab::{LabError, Machine, Qemu};
use std::ops::Range;
use std::time::Duration;
use system_tests::guest::leave;
use system_tests::small_guest::{create, create_with, watch, watch_for_any};
use system_tests::{boot, command, iso};

/// How long the storms of a crew may take: seconds on an idle machine.
const STORM_LIMIT: Duration = Duration::from_secs(300);
/// How long some beats may take while others attack: two seconds on an idle machine.
const BEAT_LIMIT: Duration = Duration::from_secs(300);
/// Hostile VMs at once: one of the eight monitors is for the VM that must not notice.
const CREW: u64 = 6;
/// Beats that show that the witness goes on: a second.
const BEATS: u64 = 4;
/// What a hostile guest prints when its storms are over and it waits for Enter.
const STORMS_OVER: &str = "GUEST storms are over; at Enter: ";
/// What the shell says when a VM's monitor has ended.
const NO_MONITOR: &str = "it is not running";

/// What `ps` tells of those that must not notice: identifier, state and restarts.
fn bystanders(machine: &mut Machine) -> Result<Vec<String>, LabError> {
    let listed = command(machine, "ps")?;
    let mut lines = Vec::new();
    for name in ["root", "console", "admin", "monitor.0"] {
        let words = listed
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .find(|words| words.get(1) == Some(&name));
        let Some([process, _, state, .., restarts]) = words.as_deref() else {
            return Err(LabError::new(format!("no {name} in: {listed}")));
        };
        lines.push(format!("{name} {process} {state} {restarts}"));
    }
    Ok(lines)
}

/// The number of the witness's last beat.
fn last_beat(machine: &mut Machine, witness: &str) -> Result<u64, LabError> {
    watch(machine, witness, "GUEST beat ", BEAT_LIMIT)?;
    // Its console shows all that it kept before it takes what is typed.
    leave(machine)?;
    let transcript = machine.transcript();
    let number = transcript
        .rsplit("GUEST beat ")
        .find_map(|rest| rest.split_once('\r')?.0.parse().ok());
    number.ok_or_else(|| LabError::new(format!("no number in: {transcript}")))
}

/// Waits until the witness is some beats further than it was.
fn beats_on(machine: &mut Machine, witness: &str) -> Result<(), LabError> {
    let next = last_beat(machine, witness)? + BEATS;
    let line = format!("GUEST beat {next}\r");
    watch(machine, witness, &line, BEAT_LIMIT)?;
    leave(machine)
}

/// Waits for the end of an attacker's storms and lets it do what its seed does last.
fn let_loose(machine: &mut Machine, attacker: &str) -> Result<(), LabError> {
    let (which, printed) =
        watch_for_any(machine, attacker, &[STORMS_OVER, NO_MONITOR], STORM_LIMIT)?;
    if which == 1 {
        let log = command(machine, "log")?;
        return Err(LabError::new(format!(
            "no storm may end a VM: {printed}\n{log}"
        )));
    }
    machine.send("\r")?;
    leave(machine)
}

/// Has `seeds` attack at once, and looks at everything else meanwhile and afterwards.
fn survives(machine: &mut Machine, seeds: Range<u64>, witness: &str) -> Result<(), LabError> {
    let before = bystanders(machine)?;
    let mut attackers = Vec::new();
    for seed in seeds {
        attackers.push(create_with(machine, &format!("hostile {seed}"), 2)?);
    }
    for uuid in &attackers {
        let_loose(machine, uuid)?;
    }
    beats_on(machine, witness)?;
    for uuid in &attackers {
        let answer = command(machine, &format!("vmadm delete {uuid}"))?;
        assert!(answer.contains("Successfully deleted VM"), "{answer}");
    }
    assert_eq!(before, bystanders(machine)?);
    Ok(())
}

fn seeds_survive(seeds: Range<u64>) {
    let tried = boot(&Qemu::cdrom(&iso())).and_then(|mut machine| {
        let witness = create(&mut machine, "/boot/beat.json")?;
        let mut first = seeds.start;
        while first < seeds.end {
            let next = (first + CREW).min(seeds.end);
            survives(&mut machine, first..next, &witness)?;
            first = next;
        }
        Ok(())
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn hostile_guests_harm_nobody_else() {
    seeds_survive(0..16);
}

#[test]
#[ignore = "takes minutes"]
fn many_hostile_guests_harm_nobody_else() {
    seeds_survive(16..96);
}
