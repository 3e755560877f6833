//! `vmadm` as an operator and their scripts use it: its output, messages and exit codes, with a guest that
//! nobody here wrote. One VM serves for all of it, because a guest takes long to boot.

use images::initramfs;
use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::guest::{create, enter, leave, wait_for_state};
use system_tests::{PROMPT, boot, exit_code, iso};

/// How long a guest may take to switch itself off, or to come up again.
const GUEST_LIMIT: Duration = Duration::from_secs(300);
/// A UUID that no VM has.
const NOBODY: &str = "00000000-0000-4000-8000-000000000000";

/// Types a command that must end with `code` and print every one of `texts`.
fn expect(machine: &mut Machine, line: &str, code: u8, texts: &[&str]) -> Result<(), LabError> {
    let (printed, actual) = exit_code(machine, line)?;
    assert_eq!(actual, code, "{line}: {printed}");
    for text in texts {
        assert!(printed.contains(text), "{line}: no {text:?} in: {printed}");
    }
    Ok(())
}

/// Types a command that waits for the guest, and must end well and print `text`.
fn expect_slowly(machine: &mut Machine, line: &str, text: &str) -> Result<(), LabError> {
    machine.ask(line, line, GUEST_LIMIT)?;
    machine.wait_for(text, GUEST_LIMIT)?;
    machine.wait_for(PROMPT, GUEST_LIMIT)?;
    expect(machine, "echo ended with $?", 0, &["ended with 0"])
}

fn run(test: impl FnOnce(&mut Machine) -> Result<(), LabError>) {
    let tried = boot(&Qemu::cdrom(&iso())).and_then(|mut machine| test(&mut machine));
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn wrong_uses_are_told_with_vmadms_codes() {
    run(|machine| {
        expect(machine, "vmadm", 2, &["usage: vmadm"])?;
        expect(machine, "vmadm fly", 2, &["Invalid command: 'fly'"])?;
        expect(
            machine,
            "vmadm get",
            2,
            &["Invalid or missing UUID for get"],
        )?;
        expect(
            machine,
            "vmadm stop debian",
            2,
            &["Invalid or missing UUID for stop"],
        )?;
        expect(machine, "vmadm list -x", 2, &["unknown option -x"])?;
        expect(machine, "vmadm create -f /boot/no", 1, &["/boot/no"])?;
        expect(
            machine,
            "vmadm validate create -f /boot/debian.json",
            0,
            &["VALID create payload"],
        )?;
        let unknown = format!("VM {NOBODY} does not exist");
        for command in ["get", "start", "stop", "reboot", "console", "delete"] {
            expect(
                machine,
                &format!("vmadm {command} {NOBODY}"),
                1,
                &[&unknown],
            )?;
        }
        expect(machine, "vmadm list -H", 0, &[])
    });
}

#[test]
fn a_vm_is_created_shown_rebooted_stopped_started_and_deleted() {
    run(|machine| {
        let uuid = create(machine)?;
        enter(machine, &uuid)?;
        leave(machine)?;
        shown(machine, &uuid)?;
        expect(
            machine,
            &format!("vmadm start {uuid}"),
            1,
            &["Unable to start VM", "it is running"],
        )?;
        // The guest hears its power button, ends by itself, and comes up again.
        let rebooted = format!("Successfully completed reboot for VM {uuid}");
        expect_slowly(machine, &format!("vmadm reboot {uuid}"), &rebooted)?;
        enter(machine, &uuid)?;
        leave(machine)?;
        let stopped = format!("Successfully completed stop for VM {uuid}");
        expect_slowly(machine, &format!("vmadm stop {uuid}"), &stopped)?;
        let log = "log -p monitor";
        expect(machine, log, 0, &["the guest switched itself off"])?;
        wait_for_state(machine, &uuid, "stopped")?;
        for command in ["stop", "reboot", "console"] {
            expect(
                machine,
                &format!("vmadm {command} {uuid}"),
                1,
                &["it is not running"],
            )?;
        }
        let started = format!("Successfully started VM {uuid}");
        expect_slowly(machine, &format!("vmadm start {uuid}"), &started)?;
        expect_slowly(machine, &format!("vmadm stop -F {uuid}"), &stopped)?;
        let deleted = format!("Successfully deleted VM {uuid}");
        expect_slowly(machine, &format!("vmadm delete {uuid}"), &deleted)?;
        expect(
            machine,
            &format!("vmadm get {uuid}"),
            1,
            &["does not exist"],
        )?;
        expect(machine, "vmadm lookup -1 alias=debian", 1, &[])
    });
}

/// What `list`, `lookup`, `get` and `info` say of the running VM.
fn shown(machine: &mut Machine, uuid: &str) -> Result<(), LabError> {
    let titles = ["UUID", "TYPE", "RAM", "STATE", "ALIAS"];
    expect(machine, "vmadm list", 0, &titles)?;
    let line = format!("{uuid}:BHYV:256:running:debian");
    expect(machine, "vmadm list -p", 0, &[&line])?;
    expect(
        machine,
        "vmadm list -p -o alias,vcpus state=running",
        0,
        &["debian:2"],
    )?;
    expect(machine, "vmadm lookup alias=~^deb", 0, &[uuid])?;
    let quoted = format!("\"uuid\": \"{uuid}\"");
    let fields = [
        quoted.as_str(),
        "\"brand\": \"bhyve\"",
        "\"ram\": 256",
        "\"vcpus\": 2",
    ];
    expect(machine, &format!("vmadm get {uuid}"), 0, &fields)?;
    expect(
        machine,
        &format!("vmadm info {uuid}"),
        0,
        &["\"status\": \"running\""],
    )
}

#[test]
fn a_guest_that_resets_its_machine_starts_again() {
    run(|machine| {
        let uuid = create(machine)?;
        enter(machine, &uuid)?;
        machine.send("reboot -f\r")?;
        machine.wait_for(initramfs::MARK, GUEST_LIMIT)?;
        leave(machine)?;
        wait_for_state(machine, &uuid, "running")
    });
}
