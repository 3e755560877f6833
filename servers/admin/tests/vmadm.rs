//! `vmadm` as its user sees it: messages, exit codes, JSON, and what root is asked.

mod support;

use proptest::prelude::*;
use proto::monitor::VmStatus;
use proto::root::{Death, Ending, ProgramState, RootError};
use support::{Guest, Ran, Step, happen, line_step, pass_ms, run_again, run_lines, run_script};

/// The identifier that the first VM is given.
const FIRST: &str = "00000000-0000-4000-8000-000000000001";
/// The identifier of nobody.
const NOBODY: &str = "11111111-1111-4111-8111-111111111111";
const CREATE: &str = "vmadm create -f /boot/debian.json";

/// The line with `UUID` replaced by the first VM's.
fn first(line: &str) -> String {
    line.replace("UUID", FIRST)
}

/// Creates the Debian VM and then enters lines, with `UUID` for its identifier.
fn with_debian(lines: &[&str]) -> Ran {
    let mut steps = vec![line_step(CREATE)];
    steps.extend(lines.iter().map(|line| line_step(&first(line))));
    run_script(steps)
}

fn output<'r>(ran: &'r Ran, line: &str) -> &'r str {
    ran.output(&first(line))
}

fn states(ran: &Ran) -> Vec<&str> {
    ran.text
        .split("tessera# vmadm list -p -o state\n")
        .skip(1)
        .map(|after| after.lines().next().unwrap())
        .collect()
}

const STATE: &str = "vmadm list -p -o state";

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
fn get_shows_json_in_vmadms_order() {
    let ran = with_debian(&["vmadm get UUID"]);
    let golden = include_str!("golden/get.json");
    assert_eq!(output(&ran, "vmadm get UUID"), golden);
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
fn aliases_of_commands_work() {
    let ran = with_debian(&[
        "vmadm json UUID | head -1",
        "vmadm halt UUID",
        "vmadm boot UUID",
        "vmadm destroy UUID",
    ]);
    assert_eq!(ran.output(&first("vmadm json UUID | head -1")), "{\n");
    assert_eq!(ran.asked().len(), 4);
    assert_eq!(ran.shell.status(), 0);
}

#[test]
fn a_vm_is_named_by_its_uuid_and_an_alias_is_explained() {
    let ran = with_debian(&[
        "vmadm start",
        "vmadm start debian",
        "vmadm get nonsense",
        "echo $?",
        "vmadm frobnicate | head",
        "vmadm start UUID extra",
    ]);
    assert_eq!(
        ran.output("vmadm start"),
        "Invalid or missing UUID for start\n"
    );
    assert_eq!(
        ran.output("vmadm start debian"),
        format!("Invalid or missing UUID for start; 'debian' is the alias of {FIRST}\n")
    );
    assert_eq!(ran.output("echo $?"), "2\n");
    assert!(
        ran.text
            .contains("Invalid command: 'frobnicate'.\nusage: vmadm")
    );
    assert_eq!(ran.shell.status(), 2);
}

#[test]
fn vms_are_filtered_sorted_and_looked_up() {
    let create = |alias: &str, ram: u32| {
        line_step(&format!(
            r#"echo '{{"brand":"bhyve","kernel":"/boot/vmlinuz","autoboot":false,"ram":{ram},"alias":"{alias}","tags":{{"role":"{alias}s"}}}}' | vmadm create"#
        ))
    };
    let lines = [
        "vmadm list -p -o alias",
        "vmadm list -p -o alias -s -ram",
        "vmadm list -p -o alias,tags.role ram=512",
        "vmadm list -p -o alias alias=~^d",
        "vmadm list -p -o alias tags.*=webs",
        "vmadm lookup alias=db",
        "vmadm lookup -1 alias=db",
        "vmadm lookup -1 state=stopped",
        "vmadm lookup -j -o alias,ram alias=web",
        "vmadm list -o nothing",
        "vmadm list -p | grep -c stopped",
    ];
    let mut steps = vec![create("web", 1024), create("db", 512)];
    steps.extend(lines.iter().map(|line| line_step(line)));
    let ran = run_script(steps);
    let second = "00000000-0000-4000-8000-000000000002\n";
    for (line, shown) in lines.iter().zip([
        "db\nweb\n",
        "web\ndb\n",
        "db:dbs\n",
        "db\n",
        "web\n",
        second,
        second,
        "Requested unique lookup but found 2 results.\n",
        "[\n  {\n    \"alias\": \"web\",\n    \"ram\": 1024\n  }\n]\n",
        "Invalid property: nothing\n",
        "2\n",
    ]) {
        assert_eq!(ran.output(line), shown, "{line}");
    }
}

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
    assert_eq!(ran.output(&get), include_str!("golden/get.json"));
    assert_eq!(ran.output("vmadm list -p -o uuid"), format!("{FIRST}\n"));
    assert_eq!(ran.asked().last().unwrap(), "signal 3 0b100");
}

#[test]
fn a_shell_that_died_at_a_vms_console_leaves_the_terminal_to_the_next() {
    let console = first("vmadm console UUID");
    let first_shell = run_script(vec![line_step(CREATE), line_step(&console)]);
    let ran = run_again(first_shell, vec![line_step("echo here")]);
    assert_eq!(ran.output("echo here"), "here\n");
}

#[test]
fn info_shows_the_monitor() {
    let ran = with_debian(&[
        "vmadm info UUID",
        "vmadm info UUID vnc",
        "vmadm info UUID all | wc -l",
    ]);
    assert_eq!(
        output(&ran, "vmadm info UUID"),
        "{\n  \"monitor\": {\n    \"cpu_us\": 0,\n    \"instance\": 0,\n    \"memory_bytes\": \
         268435456,\n    \"pid\": 3,\n    \"restarts\": 0,\n    \"status\": \"running\",\n    \"threads\": 1\n  }\n}\n"
    );
    assert_eq!(
        output(&ran, "vmadm info UUID vnc"),
        "Unknown info type: vnc\n"
    );
}

#[test]
fn help_shows_every_command() {
    let ran = run_lines(&["vmadm help", "vmadm"]);
    let golden = include_str!("golden/vmadm-help.txt");
    assert_eq!(ran.output("vmadm help"), golden);
    assert_eq!(ran.output("vmadm"), golden);
    assert_eq!(ran.shell.status(), 2);
}

#[test]
fn tab_completes_commands_identifiers_and_aliases() {
    for (typed, line) in [
        ("vmadm con\t", "vmadm console"),
        ("vmadm get 0\t", "vmadm get UUID"),
        ("vmadm console deb\t", "vmadm console UUID"),
        ("vmadm stop deb\t-F\t", "vmadm stop UUID -F"),
    ] {
        let ran = run_script(vec![line_step(CREATE), Step::Type(typed.into())]);
        let last = ran.text.rsplit("tessera# ").nth(1).unwrap();
        let mut shown = String::new();
        for character in last.chars() {
            match character {
                '\u{8}' => drop(shown.pop()),
                _ => shown.push(character),
            }
        }
        assert_eq!(shown.trim_end(), first(line), "{typed:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever JSON a payload has, either a VM is there or nothing changed.
    #[test]
    fn any_payload_creates_a_vm_or_nothing(payload in "[{}\\[\\]\",:a-z0-9 ]{0,60}") {
        let line = format!("echo '{payload}' | vmadm create");
        let ran = run_lines(&[&line, "vmadm list -p"]);
        prop_assert_eq!(ran.output("vmadm list -p"), "");
        prop_assert!(ran.output(&line).starts_with("Failed to create VM: "), "{}", ran.text);
    }

    #[test]
    fn any_arguments_are_answered(
        words in proptest::collection::vec(
            prop_oneof![
                proptest::sample::select(
                    admin::vmadm::SUBCOMMANDS
                        .iter()
                        .map(|command| command.name.to_owned())
                        .collect::<Vec<_>>()
                ),
                Just(FIRST.to_owned()),
                Just("debian".to_owned()),
                Just("-F".to_owned()),
                Just("-o".to_owned()),
                "[-a-z0-9=~.,*]{0,10}",
            ],
            0..5,
        ),
    ) {
        let line = format!("vmadm {}", words.join(" "));
        let ran = run_script(vec![
            line_step(CREATE),
            line_step(&line),
            Step::Type(b"\x1d\x03".to_vec()),
            line_step("echo done"),
        ]);
        prop_assert!(ran.text.contains("echo done\ndone\n"), "{}", ran.text);
    }
}
