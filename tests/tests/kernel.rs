//! Root tasks that try the kernel by itself: small guests on both kinds of virtualisation, what
//! programs stand on, and threads that do their worst.

use images::lab::{Bochs, LabError, Machine, Medium, Qemu};
use std::time::Duration;
use system_tests::built;

/// How long the small guests may take: 3 s in QEMU, 20 s in Bochs, on an idle machine.
const PROBE_LIMIT: Duration = Duration::from_secs(300);

/// A machine that QEMU starts without firmware, on the debug kernel, with this root task.
fn with_root_task(name: &str) -> Qemu {
    let module = Some(built("bin").join(name));
    Qemu::new(Medium::Kernel {
        kernel: built("kernel-debug.elf"),
        module,
    })
    .memory_mib(512)
}

/// Waits for the verdict on the small guests.
fn all_guests_pass(machine: Result<Machine, LabError>, engine: &str) {
    let verdict = machine.and_then(|mut machine| {
        machine.wait_for(&format!("PROBE begins on {engine}"), PROBE_LIMIT)?;
        machine.wait_for(" failed", PROBE_LIMIT)
    });
    let verdict = verdict.unwrap_or_else(|error| panic!("{error}"));
    assert!(verdict.contains("PROBE done, 0 of"), "{verdict}");
}

#[test]
fn small_guests_pass_on_svm_with_one_cpu() {
    all_guests_pass(with_root_task("guest-probe").cpus(1).start(), "Svm");
}

#[test]
fn small_guests_pass_on_svm_with_four_cpus() {
    all_guests_pass(with_root_task("guest-probe").cpus(4).start(), "Svm");
}

/// Bochs emulates VMX, and boots from the image that has the probe in root's place.
#[test]
fn small_guests_pass_on_vmx() {
    let machine = Bochs::new(&built("guest-probe.iso"), &built("lab"));
    all_guests_pass(machine.start(), "Vmx");
}

#[test]
fn what_programs_stand_on_works_on_the_kernel() {
    let passed = with_root_task("self_test")
        .start()
        .and_then(|mut machine| machine.wait_for("SELF TEST PASSED", PROBE_LIMIT));
    passed.unwrap_or_else(|error| panic!("{error}"));
}

/// The number that stands behind `before` in a line: hexadecimal, with or without `0x`.
fn hexadecimal_after(line: &str, before: &str) -> u64 {
    let (_, behind) = line.rsplit_once(before).unwrap_or_default();
    let digits = behind.trim_start_matches("0x");
    let end = digits.find(|c: char| !c.is_ascii_hexdigit());
    u64::from_str_radix(&digits[..end.unwrap_or(digits.len())], 16)
        .unwrap_or_else(|_| panic!("no number behind {before:?}: {line}"))
}

#[test]
fn a_root_task_whose_stack_runs_over_faults_on_the_page_below_it() {
    const PAGE: u64 = 4096;
    let (begins, faults) = with_root_task("deep_stack")
        .start()
        .and_then(|mut machine| {
            let begins = machine.wait_for(" bytes", PROBE_LIMIT)?;
            Ok((begins, machine.wait_for(", stack ", PROBE_LIMIT)?))
        })
        .unwrap_or_else(|error| panic!("{error}"));
    // The address is one of the stack's last page.
    let top = hexadecimal_after(&begins, "DEEP stack at ").next_multiple_of(PAGE);
    let guard = top - hexadecimal_after(&begins, " of ");
    let touched = hexadecimal_after(&faults, "VirtualMemory { address: ");
    assert!((guard..guard + PAGE).contains(&touched), "{begins}{faults}");
}

/// Seeds of the short test: a quarter of a minute on an idle machine.
const SOME_SEEDS: u64 = 3;
/// All that the program has.
const ALL_SEEDS: u64 = 40;
/// How long one seed may take: 4 s on an idle machine.
const SEED_LIMIT: Duration = Duration::from_secs(120);
/// The least that a seed must have done, in the order of the line that tells: system calls, Calls
/// that were answered without an error, threads disturbed while they ran, looks at a mapped page.
/// A busy machine did ten times as much and more.
const LEAST_OF_A_SEED: [u64; 4] = [1000, 20, 500, 10];

/// What the line of a seed counts.
fn counts_of_seed(line: &str) -> Vec<u64> {
    let (_, counts) = line.rsplit_once("HOSTILE seed").unwrap_or_default();
    let words = counts.split([' ', ':', ',']);
    words.filter_map(|word| word.parse().ok()).collect()
}

/// Waits until the hostile threads have had these seeds, and checks that each did something.
fn survives_seeds(machine: &mut Machine, seeds: u64) -> Result<(), LabError> {
    for seed in 1..=seeds {
        let line = machine.wait_for(": survived", SEED_LIMIT)?;
        let counts = counts_of_seed(&line);
        let is_enough = counts.len() == 1 + LEAST_OF_A_SEED.len()
            && counts[0] == seed
            && counts[1..]
                .iter()
                .zip(LEAST_OF_A_SEED)
                .all(|(count, least)| *count >= least);
        assert!(is_enough, "{line}");
    }
    Ok(())
}

/// Waits until the machine of hostile threads has had some seeds.
fn survives_some_seeds(machine: &Qemu) {
    let survived = machine
        .start()
        .and_then(|mut machine| survives_seeds(&mut machine, SOME_SEEDS));
    survived.unwrap_or_else(|error| panic!("{error}"));
}

#[test]
fn hostile_threads_do_not_stop_the_kernel_on_one_cpu() {
    survives_some_seeds(&with_root_task("hostile").cpus(1));
}

#[test]
fn hostile_threads_do_not_stop_the_kernel_on_four_cpus() {
    survives_some_seeds(&with_root_task("hostile").cpus(4));
}

#[test]
fn hostile_threads_do_not_stop_the_kernel_on_cpus_that_run_at_the_same_time() {
    survives_some_seeds(&with_root_task("hostile").cpus(2).in_parallel());
}

#[test]
#[ignore = "minutes"]
fn hostile_threads_do_not_stop_the_kernel_with_many_seeds() {
    let machine = with_root_task("hostile").cpus(4).start();
    let survived = machine.and_then(|mut machine| {
        survives_seeds(&mut machine, ALL_SEEDS)?;
        machine.wait_for("HOSTILE survived", SEED_LIMIT)
    });
    survived.unwrap_or_else(|error| panic!("{error}"));
}
