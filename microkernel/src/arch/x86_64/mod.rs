//! The PC: everything that touches hardware. `arch::host` is the contract of what it offers.
//!
//! - way up: `start` (from boot.s), `features`, `descriptors`, `multiprocessor`, `global`
//! - entries and exits: `trap` (with entry.s), `cpu`, `lock`, `thread_state`, `panic`
//! - memory: `paging`, `tlb`
//! - interrupts and time: `apic`, `io_apic`, `clock`, `remote`
//! - guests: `guest`, `svm`, `vmx`
//! - the rest: `console`, `ports`
//!
//! Unsafe code is allowed in here and in `store`, nowhere else.
#![expect(
    unsafe_code,
    reason = "hardware is reached by instructions that Rust does not know"
)]

mod apic;
mod clock;
mod console;
mod cpu;
mod descriptors;
mod features;
mod global;
mod guest;
mod io_apic;
mod lock;
mod multiprocessor;
mod paging;
mod panic;
mod ports;
mod remote;
mod start;
mod svm;
mod thread_state;
mod tlb;
mod trap;
mod vmx;

pub use apic::interrupt_pending;
pub use clock::{now, set_deadline};
pub use console::debug_put_char;
pub use cpu::{node_id, this_node};
pub use features::thread_xcr0;
pub use guest::{can_run_guests, forget_vcpu, note_removed_port, removed_ports, virtualisation};
pub use io_apic::{ioapic_pins, release_irq, route_ioapic, set_irq_mask};
pub use paging::{
    copy_kernel_mappings, kernel_address, physical_address, space_word, switch_address_space,
};
pub use panic::{debug_halt, panic};
pub use ports::{port_in, port_out};
pub use remote::{kick, stall};
pub use svm::svm_entry_address;
pub use thread_state::{can_hop, flush_thread_state, hop, initialise_thread_state, load_fs_base};
pub use tlb::{invalidate_address_space, invalidate_guest_space, invalidate_page};
pub use vmx::{claim_vmcs, guest_controls, prepare_vmcs, vmcs_read, vmcs_write};
