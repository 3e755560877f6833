//! The main job: an operating system that nobody here wrote runs in a VM.

use images::initramfs;
use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::{PROMPT, boot, command, iso};

/// The guest's prompt.
const GUEST_PROMPT: &str = "guest# ";
/// How long the guest may take from its first instruction to its shell: 25 s on an idle machine.
const GUEST_LIMIT: Duration = Duration::from_secs(300);
/// How long a command in the guest may take.
const GUEST_COMMAND_LIMIT: Duration = Duration::from_secs(60);
/// Ctrl-], which leaves a console.
const LEAVE: &str = "\x1d";

/// Creates a VM from the file on the image and returns its UUID.
fn create(machine: &mut Machine) -> Result<String, LabError> {
    let answer = command(machine, "vmadm create -f /boot/debian.json")?;
    let uuid = answer
        .split("Successfully created VM ")
        .nth(1)
        .and_then(|rest| rest.get(..36));
    uuid.map(str::to_owned)
        .ok_or_else(|| LabError::new(format!("no UUID in: {answer}")))
}

/// Goes to the VM's console and waits for the guest's prompt.
fn enter(machine: &mut Machine, uuid: &str) -> Result<(), LabError> {
    machine.send(&format!("vmadm console {uuid}\r"))?;
    machine.wait_for(initramfs::MARK, GUEST_LIMIT)?;
    machine
        .wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)
        .map(|_| ())
}

/// Types a command in the guest and returns what it printed.
fn guest_command(machine: &mut Machine, line: &str) -> Result<String, LabError> {
    machine.ask(line, line, GUEST_COMMAND_LIMIT)?;
    machine.wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)
}

/// Goes back to Tessera's shell.
fn leave(machine: &mut Machine) -> Result<(), LabError> {
    machine.send(LEAVE)?;
    machine.wait_for(PROMPT, GUEST_COMMAND_LIMIT).map(|_| ())
}

/// Waits until `vmadm list` shows the VM in `state`.
fn wait_for_state(machine: &mut Machine, uuid: &str, state: &str) -> Result<(), LabError> {
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

fn run(test: impl FnOnce(&mut Machine) -> Result<(), LabError>) {
    let tried = boot(&Qemu::cdrom(&iso())).and_then(|mut machine| test(&mut machine));
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn debians_kernel_boots_to_its_shell_with_two_cpus_and_switches_off() {
    run(|machine| {
        let uuid = create(machine)?;
        enter(machine, &uuid)?;
        let cpus = guest_command(machine, "grep -c ^processor /proc/cpuinfo")?;
        assert!(cpus.contains("\n2\r"), "{cpus}");
        let interrupts = guest_command(machine, "cat /proc/interrupts")?;
        for line in ["ttyS0", "LOC:", "RES:"] {
            assert!(interrupts.contains(line), "{line}: {interrupts}");
        }
        leave(machine)?;
        let listed = command(machine, "vmadm list")?;
        assert!(listed.contains("running"), "{listed}");
        machine.send(&format!("vmadm console {uuid}\r"))?;
        machine.send("\r")?;
        machine.wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)?;
        machine.send("poweroff -f\r")?;
        machine.wait_for("Power down", GUEST_COMMAND_LIMIT)?;
        leave(machine)?;
        wait_for_state(machine, &uuid, "stopped")
    });
}

#[test]
fn a_killed_monitor_takes_down_only_its_own_of_two_vms() {
    run(|machine| {
        let first = create(machine)?;
        let second = create(machine)?;
        enter(machine, &first)?;
        leave(machine)?;
        enter(machine, &second)?;
        leave(machine)?;
        command(machine, "kill monitor.0")?;
        let listed = command(machine, "ps")?;
        assert!(listed.contains("monitor.1"), "{listed}");
        machine.send(&format!("vmadm console {second}\r"))?;
        machine.send("\r")?;
        machine.wait_for(GUEST_PROMPT, GUEST_COMMAND_LIMIT)?;
        let answer = guest_command(machine, "echo still $((20 + 22))")?;
        assert!(answer.contains("still 42"), "{answer}");
        leave(machine)?;
        wait_for_state(machine, &first, "failed")
            .or_else(|_| wait_for_state(machine, &first, "stopped"))
    });
}
