//! The image boots to the shell wherever it is put.

use images::lab::{Firmware, Medium, Qemu};
use std::time::Duration;
use system_tests::{PROMPT, boot, command, iso};

/// How long a machine may take to switch itself off or reset.
const END_LIMIT: Duration = Duration::from_secs(60);

/// Boots and asks for something that the whole system takes part in.
fn reaches_the_shell(machine: &Qemu) {
    let mut machine = boot(machine).unwrap_or_else(|error| panic!("{error}"));
    let answer = command(&mut machine, "ps").unwrap_or_else(|error| panic!("{error}"));
    assert!(
        answer.contains("console") && answer.contains("admin"),
        "{answer}"
    );
}

#[test]
fn from_a_cd_by_bios_with_one_cpu() {
    reaches_the_shell(&Qemu::cdrom(&iso()).cpus(1));
}

#[test]
fn from_a_cd_by_bios_with_two_cpus() {
    reaches_the_shell(&Qemu::cdrom(&iso()));
}

#[test]
fn from_a_cd_by_bios_with_four_cpus() {
    reaches_the_shell(&Qemu::cdrom(&iso()).cpus(4));
}

#[test]
fn from_a_cd_by_uefi() {
    reaches_the_shell(&Qemu::cdrom(&iso()).firmware(Firmware::Uefi));
}

#[test]
fn from_a_usb_stick_by_bios() {
    reaches_the_shell(&Qemu::new(Medium::UsbStick(iso())));
}

#[test]
fn from_a_usb_stick_by_uefi() {
    reaches_the_shell(
        &Qemu::new(Medium::UsbStick(iso()))
            .firmware(Firmware::Uefi)
            .cpus(4),
    );
}

#[test]
fn with_the_memory_that_the_manifest_promises() {
    reaches_the_shell(&Qemu::cdrom(&iso()).memory_mib(512));
}

#[test]
fn halt_switches_the_machine_off() {
    let mut machine = boot(&Qemu::cdrom(&iso())).unwrap_or_else(|error| panic!("{error}"));
    machine.send("halt\r").expect("the machine runs");
    let code = machine
        .wait_for_end(END_LIMIT)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(code, Some(0));
}

#[test]
fn reboot_resets_the_machine() {
    // The lab starts QEMU so that a reset ends it.
    let mut machine = boot(&Qemu::cdrom(&iso())).unwrap_or_else(|error| panic!("{error}"));
    machine.send("reboot\r").expect("the machine runs");
    let code = machine
        .wait_for_end(END_LIMIT)
        .unwrap_or_else(|error| panic!("{error}"));
    assert_eq!(code, Some(0));
    let prompts = machine.transcript().matches(PROMPT).count();
    assert!(prompts <= 2, "the shell went on: {}", machine.transcript());
}
