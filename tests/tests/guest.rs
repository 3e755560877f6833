//! The guest of our own that is on the image finds everything right in its VM.

use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::guest::wait_for_state;
use system_tests::small_guest::{create, watch};
use system_tests::{PROMPT, boot, boot_on_vmx, iso};

/// How long the checks may take: seconds on an idle machine.
const GUEST_LIMIT: Duration = Duration::from_secs(120);
/// Every line that the guest prints in its checks, but for the number of them.
fn all_checks_pass(machine: Result<Machine, LabError>) {
    let checked = machine.and_then(|mut machine| {
        let uuid = create(&mut machine, "/boot/small.json")?;
        let printed = watch(
            &mut machine,
            &uuid,
            "GUEST switches itself off",
            GUEST_LIMIT,
        )?;
        machine.send("\r")?;
        machine.wait_for(PROMPT, GUEST_LIMIT)?;
        wait_for_state(&mut machine, &uuid, "stopped")?;
        Ok(printed)
    });
    let printed = checked.unwrap_or_else(|error| panic!("{error}"));
    // The first line comes from real mode, once for each VCPU; the second from a string instruction.
    assert_eq!(
        printed.matches("GUEST in real mode").count(),
        2,
        "{printed}"
    );
    assert!(printed.contains("GUEST string"), "{printed}");
    assert!(printed.contains("GUEST done, 0 of 19 failed"), "{printed}");
}

#[test]
fn everything_that_a_vm_has_works_on_svm() {
    all_checks_pass(boot(&Qemu::cdrom(&iso())));
}

#[test]
fn everything_that_a_vm_has_works_on_vmx() {
    all_checks_pass(boot_on_vmx());
}
