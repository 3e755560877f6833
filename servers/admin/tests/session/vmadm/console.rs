//! A VM's console.

use super::*;
use crate::support::{Step, happen, line_step, pass_ms, run_again, run_script};
use proto::root::Ending;

#[test]
fn the_console_shows_the_vm_until_it_is_left() {
    let console = first("vmadm console UUID");
    let ran = run_script(vec![
        line_step(CREATE),
        happen(|bench| {
            bench
                .service
                .with(|switchboard| switchboard.write_machine(0, b"login: "));
        }),
        line_step(&console),
        Step::Type(b"root\r".to_vec()),
        happen(|bench| {
            bench.service.with(|switchboard| {
                let typed: Vec<u8> =
                    std::iter::from_fn(|| switchboard.take_machine_input(0)).collect();
                assert_eq!(typed, b"root\r");
                switchboard.write_machine(0, b"welcome\r\n");
            });
        }),
        Step::Type(b"\x1d".to_vec()),
        line_step("echo back"),
    ]);
    let shown = ran.output(&console);
    let plain = shown.replace("\u{1b}[0m\u{1b}[?25h\u{1b}[r", "");
    assert_eq!(
        plain,
        format!(
            "[Connected to the console of VM {FIRST}; Ctrl-] leaves it]\n\nlogin: welcome\n\n\
             [Left the console of VM {FIRST}]\n"
        )
    );
    assert_eq!(ran.output("echo back"), "back\n");
}

#[test]
fn the_console_ends_with_the_vm() {
    let console = first("vmadm console UUID");
    let ran = run_script(vec![
        line_step(CREATE),
        line_step(&console),
        happen(|bench| {
            bench
                .service
                .with(|switchboard| switchboard.write_machine(0, b"reboot: Power down\r\n"));
            bench.root.end(3, Ending::Finished);
        }),
        pass_ms(2000),
        pass_ms(2000),
        line_step("echo back"),
    ]);
    let shown = ran.output(&console);
    assert!(shown.contains("reboot: Power down\n"), "{shown}");
    assert!(
        shown.ends_with(&format!("[VM {FIRST} is stopped]\n")),
        "{shown}"
    );
    assert_eq!(ran.output("echo back"), "back\n");
}

#[test]
fn a_console_stays_through_a_reset_of_the_guest() {
    let console = first("vmadm console UUID");
    let ran = run_script(vec![
        line_step(CREATE),
        line_step(&console),
        happen(|bench| bench.root.end(3, Ending::WantsRestart)),
        pass_ms(2000),
        happen(|bench| {
            bench
                .service
                .with(|switchboard| switchboard.write_machine(0, b"second boot\r\n"));
        }),
        pass_ms(2000),
        Step::Type(b"\x1d".to_vec()),
    ]);
    assert!(ran.output(&console).contains("second boot\n"));
    assert_eq!(ran.asked().len(), 2);
}

#[test]
fn a_stopped_vm_has_no_console() {
    let ran = with_debian(&["vmadm stop UUID -F", "vmadm console UUID"]);
    assert_eq!(
        output(&ran, "vmadm console UUID"),
        format!("Unable to connect to the console of VM {FIRST}: it is not running\n")
    );
}

#[test]
fn a_new_vm_does_not_show_what_an_earlier_one_wrote() {
    let ran = run_script(vec![
        line_step(CREATE),
        happen(|bench| {
            bench
                .service
                .with(|switchboard| switchboard.write_machine(0, b"secret\r\n"));
        }),
        line_step(&first("vmadm delete UUID")),
        line_step(&CREATE.replace("create", "create ")),
        line_step("vmadm console 00000000-0000-4000-8000-000000000002"),
        Step::Type(b"\x1d".to_vec()),
    ]);
    assert!(ran.text.contains("Left the console"));
    assert!(!ran.text.contains("secret"));
}

#[test]
fn a_shell_that_died_at_a_vms_console_leaves_the_terminal_to_the_next() {
    let console = first("vmadm console UUID");
    let first_shell = run_script(vec![line_step(CREATE), line_step(&console)]);
    let ran = run_again(first_shell, vec![line_step("echo here")]);
    assert_eq!(ran.output("echo here"), "here\n");
}
