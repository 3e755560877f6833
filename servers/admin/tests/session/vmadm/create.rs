//! Creating and starting VMs, and why that can fail.

use super::*;
use crate::support::{happen, line_step, pass_ms, run_lines, run_script};
use proto::monitor::VmStatus;
use proto::root::{Ending, ProgramState, RootError};

#[test]
fn a_vm_is_created_started_and_listed() {
    let ran = with_debian(&["vmadm list", "echo $?"]);
    assert_eq!(
        ran.output(CREATE),
        format!("Successfully created VM {FIRST}\n")
    );
    assert_eq!(ran.asked(), ["start monitor.0 256 MiB"]);
    assert_eq!(
        ran.output("vmadm list"),
        "UUID                                  TYPE  RAM      STATE             ALIAS\n\
         00000000-0000-4000-8000-000000000001  BHYV  256      running           debian\n"
    );
}

#[test]
fn a_vm_can_come_from_a_pipe_and_need_not_start() {
    let json = r#"{"brand":"bhyve","kernel":"/boot/vmlinuz","autoboot":false,"uuid":"UUID"}"#;
    let line = format!("echo '{json}' | vmadm create").replace("UUID", NOBODY);
    let ran = run_lines(&[&line, "vmadm list -H"]);
    assert_eq!(
        ran.output(&line),
        format!("Successfully created VM {NOBODY}\n")
    );
    assert_eq!(ran.asked(), Vec::<String>::new());
    assert_eq!(
        ran.output("vmadm list -H"),
        format!("{NOBODY}  BHYV  256      stopped           -\n")
    );
}

#[test]
fn wrong_payloads_create_nothing() {
    let missing = "vmadm create -f /boot/none.json";
    let notes = "vmadm create -f /boot/notes";
    let disks = r#"echo '{"brand":"bhyve","disks":[],"ram":1}' | vmadm create"#;
    let ran = run_lines(&[
        "vmadm create",
        missing,
        notes,
        disks,
        "echo $?",
        "vmadm list -p",
    ]);
    assert_eq!(
        ran.output("vmadm create"),
        "Will not read JSON for create from the terminal; use -f FILE or a pipe\n"
    );
    assert_eq!(ran.output(missing), "/boot/none.json: no such file\n");
    assert_eq!(
        ran.output(notes),
        "Failed to create VM: Invalid JSON at line 1, column 2\n"
    );
    assert_eq!(
        ran.output(disks),
        "Failed to create VM: Invalid property: disks; Invalid value for: ram; Missing: kernel\n"
    );
    assert_eq!(ran.output("echo $?"), "1\n");
    assert_eq!(ran.output("vmadm list -p"), "");
}

#[test]
fn an_identifier_is_used_once() {
    let json = format!(
        r#"echo '{{"brand":"bhyve","kernel":"/boot/vmlinuz","uuid":"{FIRST}"}}' | vmadm create"#
    );
    let ran = run_lines(&[&json, &format!("{json} | wc -l")]);
    assert!(
        ran.text
            .contains(&format!("Failed to create VM: {FIRST} exists already\n"))
    );
    assert_eq!(ran.asked().len(), 1);
}

#[test]
fn a_vm_that_cannot_start_is_not_created() {
    let ran = run_script(vec![
        happen(|bench| bench.root.refuse_start.set(Some(RootError::OutOfMemory))),
        line_step(CREATE),
        line_step("vmadm list -p"),
    ]);
    assert_eq!(
        ran.output(CREATE),
        "Failed to create VM: not enough memory\n"
    );
    assert_eq!(ran.output("vmadm list -p"), "");
}

#[test]
fn a_vm_whose_kernel_cannot_be_booted_is_not_created() {
    let bad = (
        Some(VmStatus::BadKernel),
        ProgramState::Ended(Ending::GaveUp),
    );
    let ran = run_script(vec![
        happen(move |bench| bench.root.monitor.set(bad)),
        line_step(CREATE),
        line_step("vmadm list -p"),
    ]);
    assert_eq!(
        ran.output(CREATE),
        "Failed to create VM: the kernel cannot be booted, or not in so little memory\n"
    );
    assert_eq!(ran.output("vmadm list -p"), "");
}

#[test]
fn start_waits_for_the_monitor_and_says_why_it_failed() {
    let start = first("vmadm start UUID");
    let loading = (Some(VmStatus::Loading), ProgramState::Running);
    let ran = run_script(vec![
        line_step(CREATE),
        line_step(&first("vmadm stop UUID -F")),
        happen(move |bench| bench.root.monitor.set(loading)),
        line_step(&start),
        pass_ms(100),
        happen(|bench| {
            let mut programs = bench.root.programs.borrow_mut();
            let monitor = programs.last_mut().unwrap();
            monitor.status = VmStatus::NoInitrd.number();
            monitor.state = ProgramState::Ended(Ending::GaveUp);
        }),
        pass_ms(1000),
        line_step(STATE),
    ]);
    assert_eq!(
        ran.output(&start),
        format!("Unable to start VM {FIRST}: there is no such initrd\n")
    );
    assert_eq!(states(&ran), ["failed"]);
}

#[test]
fn a_monitor_that_says_nothing_is_not_waited_for_without_end() {
    let silent = (None, ProgramState::Running);
    let ran = run_script(vec![
        happen(move |bench| bench.root.monitor.set(silent)),
        line_step(CREATE),
        line_step(STATE),
    ]);
    assert_eq!(
        ran.output(CREATE),
        format!("Successfully created VM {FIRST}\n")
    );
    assert_eq!(states(&ran), ["running"]);
}

#[test]
fn there_are_as_many_vms_as_monitors() {
    let ran = run_lines(&[CREATE, CREATE, &format!("{CREATE} | wc")]);
    assert_eq!(
        ran.asked(),
        ["start monitor.0 256 MiB", "start monitor.1 256 MiB"]
    );
    assert!(
        ran.text
            .contains("Failed to create VM: 2 VMs are running; there can be no more\n")
    );
}

#[test]
fn validate_says_what_is_wrong_as_json() {
    let good = "vmadm validate create -f /boot/debian.json";
    let bad = r#"echo '{"brand":"kvm","x":1}' | vmadm validate create"#;
    let ran = run_lines(&[
        good,
        bad,
        "echo $?",
        "vmadm validate update",
        "vmadm validate",
    ]);
    assert_eq!(
        ran.output(good),
        "VALID create payload for bhyve brand VMs.\n"
    );
    assert_eq!(
        ran.output(bad),
        "{\n  \"bad_brand\": \"kvm\",\n  \"bad_properties\": [\n    \"x\"\n  ],\n  \
         \"missing_properties\": [\n    \"kernel\"\n  ]\n}\n"
    );
    assert_eq!(ran.output("echo $?"), "1\n");
    assert_eq!(ran.shell.status(), 2);
}
