//! The exceptions to the house rules, each with its reason. An entry that nothing needs is a
//! finding itself.

use super::Finding;
use super::rules::is_long;
use std::path::Path;

/// Files and directories that may be unsafe, and why.
const UNSAFE: [(&str, &str); 13] = [
    (
        "microkernel/src/arch",
        "the hardware: registers, page tables, entry points",
    ),
    (
        "microkernel/src/store.rs",
        "the one place that turns a handle into a reference",
    ),
    ("microkernel/src/main.rs", "the kernel's entry"),
    (
        "microkernel/src/vcpu",
        "the marker that a VCPU and its control block may lie in untyped memory",
    ),
    (
        "libcap/src",
        "system calls, the entry, the heap, shared memory",
    ),
    (
        "servers/root/src/main.rs",
        "the boot archive and the scratch window as slices",
    ),
    (
        "servers/pool/simd/src",
        "calls of functions that are compiled for CPUs with wider registers",
    ),
    (
        "tests/programs/bench/src/timing.rs",
        "the counter, read right at a system call",
    ),
    (
        "tests/programs/guest-probe/src/code.rs",
        "the guests' code, which the assembler made",
    ),
    (
        "tests/programs/hostile/src/code.rs",
        "the hostile threads' code, which the assembler made",
    ),
    (
        "tests/programs/small-guest/src/cpu.rs",
        "a guest's instructions that Rust has no words for",
    ),
    (
        "tests/programs/small-guest/src/trap.rs",
        "the assembler's part of a guest's exceptions",
    ),
    (
        "tests/programs/small-guest/src/hostile/blow.rs",
        "instructions by which a guest breaks itself",
    ),
];

/// Files that may be longer than the limit, and why.
const LONG: [(&str, &str); 3] = [
    (
        "microkernel/src/cap.rs",
        "every capability as a value and as bits: the two belong side by side",
    ),
    (
        "servers/root/src/mock.rs",
        "a kernel that keeps books, for tests only",
    ),
    (
        "servers/root/src/supervisor/tests.rs",
        "one test for each way to die",
    ),
];

/// Files that may name directories of a machine, and why.
const PATHS: [(&str, &str); 2] = [
    ("Cargo.lock", "written by cargo"),
    ("tests/golden", "what the tools that made the pools printed"),
];

/// Whether the file at `path` may contain unsafe code.
pub fn may_be_unsafe(path: &Path) -> bool {
    listed(&UNSAFE, path)
}

/// Whether the file at `path` may be long.
pub fn may_be_long(path: &Path) -> bool {
    listed(&LONG, path)
}

/// Whether the file at `path` may name directories of a machine.
pub fn may_name_paths(path: &Path) -> bool {
    listed(&PATHS, path)
}

fn listed(list: &[(&str, &str)], path: &Path) -> bool {
    list.iter().any(|(entry, _)| path.starts_with(entry))
}

/// Entries whose file is gone, or is not long any more.
pub fn unused(top: &Path) -> Vec<Finding> {
    let all = UNSAFE.iter().chain(&LONG).chain(&PATHS);
    let gone = all
        .filter(|(entry, _)| !top.join(entry).exists())
        .map(|(entry, _)| (entry, "does not exist"));
    let is_short = |entry: &str| {
        let text = std::fs::read_to_string(top.join(entry));
        text.is_ok_and(|text| !is_long(&text))
    };
    let short = LONG
        .iter()
        .filter(|(entry, _)| is_short(entry))
        .map(|(entry, _)| (entry, "is not long"));
    let finding = |(entry, why): (&&str, &str)| Finding {
        file: "images/src/tidy/exceptions.rs".into(),
        line: 0,
        what: format!("excepts `{entry}`, which {why}: remove the entry"),
    };
    gone.chain(short).map(finding).collect()
}
