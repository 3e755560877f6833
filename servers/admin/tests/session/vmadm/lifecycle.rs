//! Stopping, rebooting and deleting VMs, and what becomes of them.

use super::*;
use crate::support::{Guest, Step, happen, line_step, pass_ms, run_again, run_lines, run_script};
use proto::root::{Death, Ending};

#[test]
fn stop_presses_the_power_button_and_start_starts_again() {
    let ran = with_debian(&[
        "vmadm stop UUID",
        STATE,
        "vmadm stop UUID | wc",
        "vmadm start UUID",
        STATE,
        "vmadm start UUID | wc",
    ]);
    assert_eq!(
        ran.asked(),
        [
            "start monitor.0 256 MiB",
            "signal 3 0b100",
            "start monitor.0 256 MiB"
        ]
    );
    assert_eq!(
        output(&ran, "vmadm stop UUID"),
        format!("Successfully completed stop for VM {FIRST}\n")
    );
    assert_eq!(
        output(&ran, "vmadm start UUID"),
        format!("Successfully started VM {FIRST}\n")
    );
    assert_eq!(states(&ran), ["stopped", "running"]);
    assert!(
        ran.text
            .contains(&format!("Unable to stop VM {FIRST}: it is not running\n"))
    );
    assert!(
        ran.text
            .contains(&format!("Unable to start VM {FIRST}: it is running\n"))
    );
}

#[test]
fn a_guest_that_ignores_the_button_is_stopped_by_force_in_time() {
    let ran = run_script(vec![
        line_step(CREATE),
        happen(|bench| bench.root.guest.set(Guest::Ignores)),
        line_step(&first("vmadm stop UUID -t 5")),
    ]);
    assert_eq!(
        ran.asked(),
        ["start monitor.0 256 MiB", "signal 3 0b100", "stop 3"]
    );
    let waited_us = ran.bench.now_us.get() - 3_723_000_000;
    assert!((5_000_000..7_000_000).contains(&waited_us), "{waited_us}");
}

#[test]
fn an_interrupted_stop_goes_on_in_the_background() {
    let ran = run_script(vec![
        line_step(CREATE),
        happen(|bench| bench.root.guest.set(Guest::Ignores)),
        line_step(&first("vmadm stop UUID -t 60")),
        Step::Type(b"\x03".to_vec()),
        line_step("echo $?"),
        line_step("vmadm list -p -o state,transition_to"),
        pass_ms(61_000),
        line_step(STATE),
    ]);
    assert_eq!(ran.output("echo $?"), "130\n");
    assert_eq!(
        ran.output("vmadm list -p -o state,transition_to"),
        "stopping:stopped\n"
    );
    assert_eq!(states(&ran), ["stopped"]);
}

#[test]
fn force_stops_at_once() {
    let ran = with_debian(&["vmadm stop UUID -F", STATE]);
    assert_eq!(ran.asked(), ["start monitor.0 256 MiB", "stop 3"]);
    assert_eq!(states(&ran), ["stopped"]);
}

#[test]
fn reboot_stops_and_starts() {
    for line in ["vmadm reboot UUID", "vmadm reboot UUID -F"] {
        let ran = with_debian(&[line, STATE]);
        assert_eq!(
            output(&ran, line),
            format!("Successfully completed reboot for VM {FIRST}\n")
        );
        assert_eq!(states(&ran), ["running"]);
        assert_eq!(ran.asked().len(), 3, "{:?}", ran.asked());
    }
}

#[test]
fn the_state_follows_what_becomes_of_the_monitor() {
    let died = Ending::Died(Death::Exception { ip: 0, vector: 6 });
    for (ending, state) in [
        (Ending::Finished, "stopped"),
        (Ending::Stopped, "stopped"),
        (Ending::Died(Death::Killed), "stopped"),
        (died, "failed"),
        (Ending::GaveUp, "failed"),
    ] {
        let ran = run_script(vec![
            line_step(CREATE),
            happen(move |bench| bench.root.end(3, ending)),
            line_step(STATE),
        ]);
        assert_eq!(states(&ran), [state], "{ending:?}");
    }
}

#[test]
fn a_guest_that_resets_its_machine_is_started_again() {
    let ran = run_script(vec![
        line_step(CREATE),
        happen(|bench| bench.root.end(3, Ending::WantsRestart)),
        pass_ms(1000),
        line_step("vmadm list -p -o state,pid"),
    ]);
    assert_eq!(ran.output("vmadm list -p -o state,pid"), "running:4\n");
}

#[test]
fn a_monitor_killed_from_the_shell_takes_only_its_own_vm_down() {
    let ran = run_lines(&[
        CREATE,
        &CREATE.replace("create", "create "),
        "kill monitor.0",
        "vmadm list -H -p -o state,alias -s -uuid",
    ]);
    assert_eq!(
        ran.output("vmadm list -H -p -o state,alias -s -uuid"),
        "running:debian\nstopped:debian\n"
    );
}

#[test]
fn delete_stops_and_forgets() {
    let ran = with_debian(&["vmadm delete UUID", "vmadm list -p", "vmadm get UUID"]);
    assert_eq!(
        output(&ran, "vmadm delete UUID"),
        format!("Successfully deleted VM {FIRST}\n")
    );
    assert_eq!(ran.asked(), ["start monitor.0 256 MiB", "stop 3"]);
    assert_eq!(ran.output("vmadm list -p"), "");
    assert_eq!(
        output(&ran, "vmadm get UUID"),
        format!("VM {FIRST} does not exist\n")
    );
    assert_eq!(ran.shell.status(), 1);
}

#[test]
fn a_restarted_shell_knows_the_vms_that_run() {
    let first_shell = run_lines(&[
        CREATE,
        CREATE,
        "vmadm stop 00000000-0000-4000-8000-000000000002 -F",
    ]);
    let get = first("vmadm get UUID");
    let ran = run_again(
        first_shell,
        vec![
            line_step(&get),
            line_step("vmadm list -p -o uuid"),
            line_step(&first("vmadm stop UUID")),
        ],
    );
    assert_eq!(ran.output(&get), include_str!("../../golden/get.json"));
    assert_eq!(ran.output("vmadm list -p -o uuid"), format!("{FIRST}\n"));
    assert_eq!(ran.asked().last().unwrap(), "signal 3 0b100");
}
