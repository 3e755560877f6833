//! A VM in which a guest does its worst harms nobody else.

use images::lab::{LabError, Machine, Qemu};
use std::ops::Range;
use std::time::Duration;
use system_tests::guest::leave;
use system_tests::small_guest::{create, create_with, watch, watch_for_any};
use system_tests::{boot, command, iso};

/// How long the storms of a crew may take: seconds on an idle machine.
const STORM_LIMIT: Duration = Duration::from_secs(120);
/// How long a beat may be late while others attack.
const BEAT_LIMIT: Duration = Duration::from_secs(60);
/// Hostile VMs at once: one of the eight monitors is for the VM that must not notice.
const CREW: u64 = 6;

/// The lines of `ps` for what is not a VM: nothing of it may change.
fn bystanders(machine: &mut Machine) -> Result<Vec<String>, LabError> {
    let listed = command(machine, "ps")?;
    let mut lines = Vec::new();
    for name in ["root", "console", "admin"] {
        let line = listed
            .lines()
            .find(|line| line.contains(name) && !line.contains("monitor"));
        let line = line.ok_or_else(|| LabError::new(format!("no {name} in: {listed}")))?;
        // Identifier and restarts: the columns that say whether it died.
        let words: Vec<&str> = line.split_whitespace().collect();
        let [first, .., last] = words[..] else {
            return Err(LabError::new(format!("a short line: {line}")));
        };
        lines.push(format!("{name} {first} {last}"));
    }
    Ok(lines)
}

/// The number of the last beat that the witness has shown.
fn last_beat(machine: &mut Machine, witness: &str) -> Result<u64, LabError> {
    watch(machine, witness, "GUEST beat ", BEAT_LIMIT)?;
    // Its console shows at once what it kept.
    std::thread::sleep(Duration::from_millis(500));
    leave(machine)?;
    let transcript = machine.transcript();
    let number = transcript
        .rsplit("GUEST beat ")
        .filter_map(|rest| rest.split_once('\r')?.0.parse().ok())
        .next();
    number.ok_or_else(|| LabError::new(format!("no number in: {transcript}")))
}

/// Waits until the witness is some beats further than it was.
fn beats_on(machine: &mut Machine, witness: &str) -> Result<(), LabError> {
    let next = last_beat(machine, witness)? + 2;
    watch(
        machine,
        witness,
        &format!("GUEST beat {next}\r"),
        BEAT_LIMIT,
    )?;
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
        watch(
            machine,
            uuid,
            "GUEST storms are over; at Enter: ",
            STORM_LIMIT,
        )?;
        machine.send("\r")?;
        leave(machine)?;
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
