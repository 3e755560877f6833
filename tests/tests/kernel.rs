//! Root tasks that try the kernel by itself: small guests on both kinds of virtualisation, and
//! what programs stand on.

use images::lab::{Bochs, LabError, Machine, Medium, Qemu};
use std::time::Duration;
use system_tests::built;

/// How long the small guests may take: 3 s in QEMU, 20 s in Bochs, on an idle machine.
const PROBE_LIMIT: Duration = Duration::from_secs(300);

/// A machine that QEMU starts without firmware, on the debug kernel, with this root task.
fn with_root_task(name: &str) -> Qemu {
    let module = Some(built("bin").join(name));
    Qemu::new(Medium::Kernel {
        kernel: built("kernel-debug.elf"),
        module,
    })
    .memory_mib(512)
}

/// Waits for the verdict on the small guests.
fn all_guests_pass(machine: Result<Machine, LabError>, engine: &str) {
    let verdict = machine.and_then(|mut machine| {
        machine.wait_for(&format!("PROBE begins on {engine}"), PROBE_LIMIT)?;
        machine.wait_for(" failed", PROBE_LIMIT)
    });
    let verdict = verdict.unwrap_or_else(|error| panic!("{error}"));
    assert!(verdict.contains("PROBE done, 0 of"), "{verdict}");
}

#[test]
fn small_guests_pass_on_svm_with_one_cpu() {
    all_guests_pass(with_root_task("guest-probe").cpus(1).start(), "Svm");
}

#[test]
fn small_guests_pass_on_svm_with_four_cpus() {
    all_guests_pass(with_root_task("guest-probe").cpus(4).start(), "Svm");
}

/// Bochs emulates VMX, and boots from the image that has the probe in root's place.
#[test]
fn small_guests_pass_on_vmx() {
    let machine = Bochs::new(&built("guest-probe.iso"), &built("lab"));
    all_guests_pass(machine.start(), "Vmx");
}

#[test]
fn what_programs_stand_on_works_on_the_kernel() {
    let passed = with_root_task("self_test")
        .start()
        .and_then(|mut machine| machine.wait_for("SELF TEST PASSED", PROBE_LIMIT));
    passed.unwrap_or_else(|error| panic!("{error}"));
}
