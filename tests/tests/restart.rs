//! Every server dies once while the system works, and it goes on.

use images::lab::{LabError, Machine, Qemu};
use std::time::Duration;
use system_tests::{PROMPT, boot, command, iso};

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

/// Kills a program by name, waits for the prompt, and sees that it was started again.
fn dies_and_comes_back(program: &str) -> Result<(), LabError> {
    let mut machine = boot(&Qemu::cdrom(&iso()))?;
    let before = ps_line(&mut machine, program)?;
    machine.send(&format!("kill {program}\r"))?;
    machine.wait_for(PROMPT, RESTART_LIMIT)?;
    std::thread::sleep(Duration::from_secs(1));
    let after = ps_line(&mut machine, program)?;
    let pid = |line: &str| line.split_whitespace().next().map(str::to_owned);
    assert_ne!(pid(&before), pid(&after), "{before}\n{after}");
    assert!(after.contains("running"), "{after}");
    let log = command(&mut machine, "log")?;
    assert!(
        log.contains(&format!("{program} (pid")) && log.contains("died: killed"),
        "{log}"
    );
    Ok(())
}

#[test]
fn the_console_dies_and_comes_back() {
    dies_and_comes_back("console").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn the_shell_dies_and_comes_back() {
    dies_and_comes_back("admin").unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn a_server_may_die_again_and_again() {
    let deaths = || -> Result<(), LabError> {
        let mut machine = boot(&Qemu::cdrom(&iso()))?;
        for _ in 0..4 {
            machine.send("kill console\r")?;
            machine.wait_for(PROMPT, RESTART_LIMIT)?;
            std::thread::sleep(Duration::from_secs(2));
        }
        let line = ps_line(&mut machine, "console")?;
        assert!(line.trim_end().ends_with('4'), "four restarts: {line}");
        Ok(())
    };
    deaths().unwrap_or_else(|error| panic!("{error}"));
}
