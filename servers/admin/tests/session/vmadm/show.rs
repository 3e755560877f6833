//! Naming, finding and showing VMs.

use super::*;
use crate::support::{Step, line_step, run_lines, run_script};
use proptest::prelude::*;

#[test]
fn get_shows_json_in_vmadms_order() {
    let ran = with_debian(&["vmadm get UUID"]);
    let golden = include_str!("../../golden/get.json");
    assert_eq!(output(&ran, "vmadm get UUID"), golden);
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
    let golden = include_str!("../../golden/vmadm-help.txt");
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
