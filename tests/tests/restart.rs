//! Every server dies while the system works, and it goes on.

use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::guest::{answers, create, enter, leave, wait_for_state};
use system_tests::{PROMPT, boot, command, exit_code, iso};

/// How long a restart may take, the wait of the manifest included.
const RESTART_LIMIT: Duration = Duration::from_secs(60);

/// The line of `ps` for a program.
fn ps_line(machine: &mut Machine, program: &str) -> Result<String, LabError> {
    let listed = command(machine, "ps")?;
    let line = listed
        .lines()
        .find(|line| line.contains(program))
        .map(str::to_owned);
    line.ok_or_else(|| LabError::new(format!("{program} is not in: {listed}")))
}

/// The number in a line of `ps`.
fn pid(line: &str) -> Option<u32> {
    line.split_whitespace().next()?.parse().ok()
}

/// Kills a program by name and waits for the prompt that comes when it, or the shell, is back.
fn kill(machine: &mut Machine, program: &str) -> Result<(), LabError> {
    machine.send(&format!("kill {program}\r"))?;
    machine.wait_for(PROMPT, RESTART_LIMIT)?;
    // A shell that dies prints the prompt of the next one later than the death of another program.
    std::thread::sleep(Duration::from_secs(1));
    Ok(())
}

/// Kills a program and sees that it was started again, and that the log tells of its death.
fn dies_and_comes_back(machine: &mut Machine, program: &str) -> Result<(), LabError> {
    let before = ps_line(machine, program)?;
    kill(machine, program)?;
    let after = ps_line(machine, program)?;
    assert!(pid(&before) < pid(&after), "{before}\n{after}");
    assert!(after.contains("running"), "{after}");
    let log = command(machine, "log")?;
    let death = format!("{program} (pid {}) died: killed", pid(&before).unwrap_or(0));
    assert!(log.contains(&death), "{log}");
    Ok(())
}

fn run(test: impl FnOnce(&mut Machine) -> Result<(), LabError>) {
    let tried = boot(&Qemu::cdrom(&iso())).and_then(|mut machine| test(&mut machine));
    tried.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn each_server_dies_in_turn_while_a_vm_runs_and_the_system_goes_on() {
    run(|machine| {
        let uuid = create(machine)?;
        enter(machine, &uuid)?;
        leave(machine)?;
        for server in ["console", "admin"] {
            dies_and_comes_back(machine, server)?;
            wait_for_state(machine, &uuid, "running")?;
            answers(machine, &uuid)?;
        }
        // A monitor takes its VM with it and nothing else; what it held serves the next one.
        let others = [ps_line(machine, "console")?, ps_line(machine, "admin")?];
        kill(machine, "monitor.0")?;
        wait_for_state(machine, &uuid, "stopped")?;
        for (before, server) in others.iter().zip(["console", "admin"]) {
            assert_eq!(pid(before), pid(&ps_line(machine, server)?), "{server}");
        }
        let (printed, code) = exit_code(machine, &format!("vmadm start {uuid}"))?;
        assert_eq!(code, 0, "{printed}");
        enter(machine, &uuid)?;
        leave(machine)?;
        // Nobody can kill root: everything else is its.
        let (printed, code) = exit_code(machine, "kill root")?;
        assert_eq!(code, 1, "{printed}");
        answers(machine, &uuid)
    });
}

#[test]
fn a_server_may_die_again_and_again() {
    run(|machine| {
        for _ in 0..4 {
            kill(machine, "console")?;
            std::thread::sleep(Duration::from_secs(1));
        }
        let line = ps_line(machine, "console")?;
        assert!(line.trim_end().ends_with('4'), "four restarts: {line}");
        Ok(())
    });
}
