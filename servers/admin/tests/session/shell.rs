//! The shell as its user sees it: lines are typed, and what the terminal shows is compared.

use crate::support::{Step, happen, line_step, pass_ms, run_lines, run_script};
use proptest::prelude::*;

/// Compares with `golden/<name>`; `UPDATE_GOLDEN=1` writes it instead.
fn assert_golden(name: &str, text: &str) {
    let path = format!("{}/tests/golden/{name}", env!("CARGO_MANIFEST_DIR"));
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(golden, text, "{name}");
}

#[test]
fn the_greeting_ends_with_the_prompt() {
    let ran = run_lines(&[]);
    assert!(
        ran.text
            .starts_with("Tessera 0.1.0: `help` lists the commands.\ntessera# ")
    );
}

#[test]
fn help_lists_every_command_and_explains_each() {
    let ran = run_lines(&["help"]);
    assert_golden("help.txt", ran.output("help"));
    for command in admin::commands::COMMANDS {
        let line = format!("help {}", command.name);
        let ran = run_lines(&[&line]);
        assert!(
            ran.output(&line).starts_with("usage: "),
            "{}: {}",
            command.name,
            ran.text
        );
        assert_eq!(ran.shell.status(), 0);
    }
    let ran = run_lines(&["help nothing"]);
    assert_eq!(
        ran.output("help nothing"),
        "help: there is no command nothing\n"
    );
}

#[test]
fn every_command_that_help_lists_exists() {
    for command in admin::commands::COMMANDS {
        let line = format!("{} --nonsense", command.name);
        let ran = run_lines(&[&line]);
        assert!(!ran.text.contains("command not found"), "{}", command.name);
    }
}

#[test]
fn programs_are_listed() {
    let ran = run_lines(&["ps", "ps -p -o pid,program", "ps -H -o program", "ps -o x"]);
    assert_golden("ps.txt", ran.output("ps"));
    assert_eq!(ran.output("ps -p -o pid,program"), "1:console\n2:admin\n");
    assert_eq!(ran.output("ps -H -o program"), "console\nadmin\n");
    assert_eq!(ran.output("ps -o x"), "ps: no such column: x\n");
    assert_eq!(ran.shell.status(), 2);
}

#[test]
fn the_note_says_how_a_program_ended() {
    let ran = run_script(vec![
        happen(|bench| {
            use proto::root::{Death, Ending};
            let death = Death::MemoryFault {
                ip: 0x40_1000,
                address: 0,
            };
            bench.root.end(1, Ending::Died(death));
        }),
        line_step("ps -l -p -o program,state,note"),
    ]);
    assert!(
        ran.text
            .contains("console:died:memory fault at 0x0, ip 0x401000\n")
    );
}

#[test]
fn memory_capabilities_uptime_and_version_are_shown() {
    let ran = run_lines(&["mem", "caps", "caps admin", "uptime", "version"]);
    assert_golden("mem.txt", ran.output("mem"));
    assert_golden("caps.txt", ran.output("caps"));
    assert!(ran.output("caps admin").contains("admin"));
    assert!(!ran.output("caps admin").contains("console "));
    assert_eq!(
        ran.output("uptime"),
        "up 1:02:03, 2 CPUs, 0 of 0 VMs running\n"
    );
    assert_eq!(
        ran.output("version"),
        "Tessera 0.1.0 x86_64, 2 CPUs, AMD SVM with nested paging\n"
    );
}

#[test]
fn boot_files_are_listed_and_shown() {
    let ran = run_lines(&[
        "ls",
        "ls -l",
        "ls /",
        "ls /boot/notes",
        "cat /boot/notes",
        "cat /boot/vmlinuz",
        "cat /nothing",
        "cat boot/vmlinuz | wc -c",
    ]);
    assert_eq!(ran.output("ls"), "debian.json\ninitrd\nnotes\nvmlinuz\n");
    assert!(ran.output("ls -l").contains("        17  notes\n"));
    assert_eq!(ran.output("ls /"), "bin/\nboot/\n");
    assert_eq!(ran.output("ls /boot/notes"), "/boot/notes\n");
    assert_eq!(ran.output("cat /boot/notes"), "first\nsecond\nlast\n");
    assert_eq!(
        ran.output("cat /boot/vmlinuz"),
        "cat: /boot/vmlinuz: not a text file\n"
    );
    assert_eq!(ran.output("cat /nothing"), "cat: /nothing: no such file\n");
    assert_eq!(ran.output("cat boot/vmlinuz | wc -c"), "11\n");
}

#[test]
fn exit_codes_are_kept_and_steer_what_follows() {
    let ran = run_lines(&[
        "nothing; echo $?",
        "ps -z; echo $?",
        "cat /x && echo no || echo failed",
        "echo yes && echo more || echo no",
        "echo 'a b' | grep c; echo $?",
        "echo \"a",
        "grep x",
    ]);
    assert_eq!(
        ran.output("nothing; echo $?"),
        "nothing: command not found\n127\n"
    );
    assert!(ran.output("ps -z; echo $?").ends_with("\n2\n"));
    assert!(
        ran.output("cat /x && echo no || echo failed")
            .ends_with("such file\nfailed\n")
    );
    assert_eq!(
        ran.output("echo yes && echo more || echo no"),
        "yes\nmore\n"
    );
    assert_eq!(ran.output("echo 'a b' | grep c; echo $?"), "1\n");
    assert_eq!(ran.output("echo \"a"), "syntax: a quote is not closed\n");
    assert_eq!(
        ran.output("grep x"),
        "grep: it has nothing to read; use it behind a pipe\n"
    );
}

#[test]
fn programs_are_killed_and_restarted_by_name_and_number() {
    let ran = run_lines(&[
        "kill console",
        "restart admin",
        "kill 2",
        "kill nobody",
        "kill",
    ]);
    assert_eq!(ran.asked(), ["kill 1", "restart 2", "kill 2"]);
    assert_eq!(ran.output("kill nobody"), "kill: nobody: no such program\n");
    assert_eq!(ran.output("kill"), "usage: kill PROGRAM|PID...\n");
}

#[test]
fn nothing_is_killed_if_one_name_is_wrong() {
    let ran = run_lines(&["kill console nobody"]);
    assert_eq!(ran.asked(), Vec::<String>::new());
    assert_eq!(ran.shell.status(), 1);
}

#[test]
fn the_machine_is_switched_off_and_a_refusal_is_shown() {
    let ran = run_lines(&["halt", "reboot"]);
    assert_eq!(ran.asked(), ["halt", "reboot"]);
    assert_eq!(
        ran.output("reboot"),
        "Rebooting.\nreboot: this machine cannot do that\n"
    );
}

#[test]
fn the_log_is_shown_filtered_and_followed() {
    let log = |text: &'static [u8]| {
        happen(move |bench| {
            bench.service.with(|switchboard| {
                switchboard.write_log(0, text, 1_000_000);
                switchboard.write_log(1, b"guest is up\n", 2_000_000);
            });
        })
    };
    let ran = run_script(vec![
        log(b"one\nerror: two\n"),
        line_step("log -p root"),
        line_step("log -n 1"),
        line_step("log -l warning"),
        line_step("log -p monitor | wc -l"),
        line_step("log -f -p root"),
        log(b"three\n"),
        pass_ms(500),
        Step::Type(b"\x03".to_vec()),
        line_step("echo $?"),
    ]);
    assert_eq!(
        ran.output("log -p root"),
        "[    1.000000] root: one\n[    1.000000] root: error: two\n"
    );
    assert_eq!(
        ran.output("log -n 1"),
        "[    2.000000] monitor.0: guest is up\n"
    );
    assert_eq!(
        ran.output("log -l warning"),
        "[    1.000000] root: error: two\n"
    );
    assert_eq!(ran.output("log -p monitor | wc -l"), "1\n");
    assert!(
        ran.output("log -f -p root")
            .ends_with("[    1.000000] root: three\n^C\n")
    );
}

#[test]
fn a_warning_appears_above_the_line_being_edited() {
    let ran = run_script(vec![
        Step::Type(b"vmadm li".to_vec()),
        happen(|bench| {
            bench
                .service
                .with(|switchboard| switchboard.write_log(0, b"panic at x\n", 0));
        }),
        Step::Type(b"st -H\r".to_vec()),
    ]);
    assert!(ran.text.contains(
        "tessera# vmadm li\r\u{1b}[K[    0.000000] root: panic at x\ntessera# vmadm list -H\n"
    ));
}

#[test]
fn top_refreshes_until_it_is_quit() {
    let ran = run_script(vec![
        line_step("top"),
        happen(|bench| {
            bench.root.programs.borrow_mut()[1].cpu_us += 1_000_000;
        }),
        pass_ms(2000),
        Step::Type(b"q".to_vec()),
        line_step("echo $?"),
    ]);
    let shown = ran.output("top");
    assert!(shown.contains("2 CPUs, 50.0% busy"), "{shown}");
    let admin = shown.find("admin").unwrap();
    assert!(admin < shown.find("console").unwrap(), "the busiest first");
    assert_eq!(ran.output("echo $?"), "0\n");
}

#[test]
fn ctrl_c_gives_the_line_up() {
    let ran = run_script(vec![Step::Type(b"reboot\x03echo $?\r".to_vec())]);
    assert!(
        ran.text
            .contains("tessera# reboot^C\ntessera# echo $?\n130\n")
    );
    assert_eq!(ran.asked(), Vec::<String>::new());
}

#[test]
fn what_is_typed_while_a_command_runs_is_the_next_line() {
    let ran = run_script(vec![Step::Type(b"echo one\recho two\r".to_vec())]);
    assert_eq!(ran.output("echo one"), "one\n");
    assert_eq!(ran.output("echo two"), "two\n");
}

#[test]
fn tab_completes_commands_files_and_properties() {
    for (typed, line) in [
        ("upt\t", "uptime"),
        ("vmadm cre\t", "vmadm create"),
        (
            "vmadm create -f /boot/de\t",
            "vmadm create -f /boot/debian.json",
        ),
        ("cat /bo\tno\t", "cat /boot/notes"),
        ("echo a b | wc\t -w", "echo a b | wc  -w"),
        ("vmadm list -o uuid,ali\t", "vmadm list -o uuid,alias"),
        ("kill con\t", "kill console"),
        ("re\tb\t", "reboot"),
    ] {
        let ran = run_script(vec![Step::Type(typed.into())]);
        let last = ran.text.rsplit("tessera# ").nth(1).unwrap();
        assert_eq!(last.trim_end(), line, "{typed:?} in {}", ran.text);
    }
}

#[test]
fn tab_lists_what_is_possible_and_rings_when_nothing_is() {
    let ran = run_script(vec![Step::Type(b"re\t".to_vec())]);
    assert!(
        ran.text
            .contains("tessera# re\nreboot   restart\ntessera# re")
    );
    let ran = run_script(vec![Step::Type(b"zz\t".to_vec())]);
    assert!(ran.text.contains("tessera# zz\u{7}"));
}

#[test]
fn help_is_given_where_it_is_asked_for() {
    let ran = run_lines(&["help ps", "ps --help", "echo --help", "ps --all"]);
    assert_eq!(ran.output("ps --help"), ran.output("help ps"));
    assert_eq!(ran.output("echo --help"), "--help\n");
    assert!(
        ran.output("ps --all")
            .contains("one letter behind one dash")
    );
}

#[test]
fn sleep_waits_and_keeps_what_is_typed() {
    let ran = run_script(vec![Step::Type(b"sleep 3\ruptime\r".to_vec())]);
    assert_eq!(ran.output("sleep 3"), "");
    assert!(ran.output("uptime").contains("up "));
    for wrong in ["sleep", "sleep x", "sleep 1 2", "sleep 4294967295"] {
        let ran = run_lines(&[wrong]);
        assert_eq!(ran.output(wrong), "usage: sleep SECONDS\n");
    }
}

#[test]
fn the_history_is_listed() {
    let ran = run_lines(&["echo one", "history"]);
    assert_eq!(ran.output("history"), "    1  echo one\n    2  history\n");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_at_the_terminal_leave_a_shell_that_works(
        bytes in proptest::collection::vec(
            prop_oneof![
                any::<u8>(),
                proptest::sample::select(&b"\t\r\x03\x12 |;&'\"\\$"[..]),
                0x20u8..0x7f,
            ],
            0..200,
        ),
    ) {
        // Ctrl-C twice: the first may end a sequence. Then a line of its own.
        let ran = run_script(vec![
            Step::Type(bytes),
            Step::Type(b"\x03\x03q\x03".to_vec()),
            line_step("echo still here"),
        ]);
        prop_assert!(ran.text.contains("tessera# echo still here\nstill here\n"), "{}", ran.text);
    }

    #[test]
    fn any_words_are_answered_with_an_exit_code(
        words in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(
                    admin::commands::COMMANDS
                        .iter()
                        .map(|command| command.name.to_owned())
                        .filter(|name| !matches!(name.as_str(), "top" | "log" | "sleep"))
                        .collect::<Vec<_>>()
                ),
                proptest::sample::select(
                    admin::vmadm::SUBCOMMANDS
                        .iter()
                        .map(|command| command.name.to_owned())
                        .collect::<Vec<_>>()
                ),
                "[-a-z0-9=~.,*/]{0,12}",
                Just("|".to_owned()),
                Just("-f".to_owned()),
                Just("/boot/debian.json".to_owned()),
            ],
            1..7,
        ),
    ) {
        let line = words.join(" ");
        let ran = run_script(vec![line_step(&line), Step::Type(b"\x03".to_vec()), line_step("echo done")]);
        prop_assert!(ran.text.contains("tessera# echo done\ndone\n"), "{}", ran.text);
    }

    #[test]
    fn any_log_bytes_are_shown_harmlessly(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let ran = run_script(vec![
            happen(move |bench| {
                bench.service.with(|switchboard| switchboard.write_log(0, &bytes, 0));
            }),
            line_step("log | wc -l"),
        ]);
        let shown = ran.output("log | wc -l").replace(|c: char| !c.is_ascii_digit(), "");
        prop_assert!(!shown.is_empty());
    }
}
