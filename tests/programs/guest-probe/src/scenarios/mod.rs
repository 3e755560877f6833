//! What is tried, in order: each file is one subject.

mod fields;
mod interrupts;
mod long_mode;
mod memory_faults;
mod ports;
mod privileged;
mod processors;
mod real_mode;
mod time;

use crate::bench::Bench;
use crate::failure::Outcome;

/// A scenario and its name.
pub type Scenario = (&'static str, fn(&mut Bench) -> Outcome);

/// All scenarios.
pub const ALL: [Scenario; 32] = [
    ("reset state", real_mode::reset),
    ("port I/O", real_mode::port_io),
    ("CPUID, MSRs and HLT", real_mode::cpuid_and_msrs),
    ("memory faults", memory_faults::real_mode),
    ("unmapped memory faults at once", memory_faults::unmapping),
    (
        "a fault in the delivery of a fault",
        memory_faults::broken_delivery,
    ),
    (
        "interrupt window and injection",
        interrupts::window_and_injection,
    ),
    (
        "an interrupt with a window comes once",
        interrupts::once_with_window,
    ),
    ("interrupt shadow", interrupts::shadow),
    (
        "events that cannot be delivered",
        interrupts::refused_events,
    ),
    ("from real to long mode", long_mode::from_reset),
    ("32-bit paging with PAE", long_mode::pae_paging),
    ("PAE paging from fields", long_mode::pae_from_fields),
    ("page fault of the guest's own", long_mode::page_fault),
    ("exception intercepts", long_mode::exception_intercepts),
    ("interrupt in long mode", long_mode::interrupt),
    ("vector registers and XCR0", long_mode::vector_registers),
    ("MSRs of the guest's own", privileged::own_msrs),
    ("privileged instructions", privileged::instructions),
    ("hypercall", privileged::hypercall),
    ("fields and refusals", fields::refusals),
    ("state that the CPU refuses", fields::invalid_state),
    ("ports without exits", ports::pass_through),
    ("a timer ends VMEnter", time::timer),
    (
        "a guest that only exits uses up its budget",
        time::budget_of_exits,
    ),
    (
        "VMEnter by a thread whose calls are faults",
        processors::foreign_thread,
    ),
    ("CR0 that no CPU takes", time::odd_cr0),
    ("two VCPUs on one CPU", processors::two_spaces),
    (
        "registers that are not saved",
        processors::unsaved_registers,
    ),
    ("VCPUs on several CPUs", processors::several),
    ("cost of an exit", time::cost),
    // Last, because it ends Bochs when that emulates SVM.
    ("triple fault", long_mode::triple_fault),
];
