//! `check`: everything that a virtual machine of ours has, one line for each.

mod devices;
mod exceptions;
mod processor;
mod time;

use crate::serial::say;

/// What is wrong, in words.
type Verdict = Result<(), &'static str>;

/// What finds out.
type Check = fn() -> Verdict;

/// The checks, in the order in which they run; the last one changes the local APIC for good.
const CHECKS: [(&str, Check); 19] = [
    ("real mode to long mode", processor::modes),
    ("CPUID", processor::identification),
    ("MSRs", processor::registers),
    ("hypercall", processor::hypercall),
    ("port I/O", devices::ports),
    ("string output", devices::string_output),
    ("string input", devices::string_input),
    ("memory-mapped I/O", devices::memory),
    ("nothing beyond its memory", devices::beyond_memory),
    ("page faults of its own", exceptions::page_faults),
    ("exceptions", exceptions::others),
    ("single step", exceptions::single_step),
    ("breakpoint register", exceptions::breakpoint),
    ("timer of the local APIC", time::local_timer),
    ("timer interrupts in a loop", time::periodic_timer),
    ("PIT through the I/O APIC", time::interval_timer),
    ("PM timer and TSC", time::clocks),
    ("interrupt to the second VCPU", processor::second_cpu),
    ("x2APIC", processor::x2apic),
];

/// Runs all of them.
pub fn run() {
    say!("GUEST checks its machine");
    let mut failed = 0;
    for (name, check) in CHECKS {
        match check() {
            Ok(()) => say!("GUEST ok: {name}"),
            Err(what) => {
                failed += 1;
                say!("GUEST FAILED: {name}: {what}");
            }
        }
    }
    say!("GUEST done, {failed} of {} failed", CHECKS.len());
}

/// `what` is wrong unless this `holds`.
fn ensure(holds: bool, what: &'static str) -> Verdict {
    if holds { Ok(()) } else { Err(what) }
}
