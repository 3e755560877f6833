//! Each file of `refuse/` breaks one rule, and its first line is the exact message.

use images::manifest;
use proto::boot::{Callee, ChannelKind};
use std::path::{Path, PathBuf};

fn crate_path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

#[test]
fn every_wrong_manifest_is_refused_with_its_message() {
    let mut wrong = Vec::new();
    let files = std::fs::read_dir(crate_path("tests/refuse")).expect("fixtures");
    for file in files.map(|file| file.expect("fixture").path()) {
        let text = std::fs::read_to_string(&file).expect("fixture");
        let first = text.lines().next().unwrap_or_default();
        let expected = first
            .strip_prefix("# refused: ")
            .expect("a fixture's first line");
        let got = manifest::parse(&text)
            .map_or_else(|refusal| refusal.to_string(), |_| "accepted".into());
        if got != expected {
            wrong.push(format!(
                "{}\n  expected: {expected}\n  got:      {got}",
                file.display()
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_system_manifest_resolves() {
    let manifest = manifest::read(&crate_path("system.toml")).expect("images/system.toml");
    let admin = manifest.find("admin").expect("the shell");
    let console = manifest.find("console").expect("the console");
    let callees = &manifest.programs[usize::from(admin)].calls;
    assert_eq!(callees, &[Callee::Root, Callee::Program(console)]);
    let logs = manifest
        .channels
        .iter()
        .filter(|channel| channel.kind == ChannelKind::Log);
    assert_eq!(logs.count(), 3, "root, admin and monitor log to console");
    let monitor = &manifest.channels.last().expect("the monitor's log");
    assert_eq!(monitor.to_name(7), "log.monitor.7");
}

#[test]
fn an_error_in_the_file_names_the_file() {
    let path = crate_path("tests/refuse/call-cycle.toml");
    let message = manifest::read(&path).expect_err("a cycle");
    assert_eq!(
        message,
        format!("{}: calls form a cycle: a -> b -> c -> a", path.display())
    );
}
