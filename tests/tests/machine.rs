//! The main job: an operating system that nobody here wrote runs in a VM.

use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::guest::{
    GUEST_COMMAND_LIMIT, GUEST_PROMPT, answers, create, enter, enter_within, guest_command, leave,
    wait_for_state,
};
use system_tests::{boot, boot_on_vmx, command, iso};

/// How long Debian's kernel may take to its shell in Bochs: two minutes on an idle machine.
const BOCHS_LIMIT: Duration = Duration::from_secs(1800);

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
        answers(machine, &uuid)?;
        machine.send(&format!("vmadm console {uuid}\r"))?;
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
        answers(machine, &second)?;
        wait_for_state(machine, &first, "failed")
            .or_else(|_| wait_for_state(machine, &first, "stopped"))
    });
}

/// Intel's VMX, in Bochs.
#[test]
#[ignore = "takes minutes: Bochs emulates some million instructions in a second"]
fn debians_kernel_boots_to_its_shell_on_vmx() {
    let tried = boot_on_vmx().and_then(|mut machine| {
        let uuid = create(&mut machine)?;
        enter_within(&mut machine, &uuid, BOCHS_LIMIT)?;
        let answer = guest_command(&mut machine, "grep -c GenuineIntel /proc/cpuinfo")?;
        assert!(answer.contains("\n2\r"), "{answer}");
        leave(&mut machine)?;
        command(&mut machine, &format!("vmadm stop {uuid} -F"))?;
        wait_for_state(&mut machine, &uuid, "stopped")
    });
    tried.unwrap_or_else(|error| panic!("{error}"));
}
