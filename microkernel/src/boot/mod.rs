//! Boot: from what the boot loader left in memory to a machine with a root task.
//!
//! [`Machine`] is the hand-over between the two halves: `arch` fills it from the boot loader's and
//! the firmware's tables (parsed by [`crate::firmware`]), and everything here turns it into
//! objects without asking the hardware again.

mod boot_info;
mod image;
mod machine;
mod memory;
mod root_task;

pub use machine::{
    Framebuffer, MAX_MEMORY_ENTRIES, MAX_MODULES, MAX_RAM_RANGES, MAX_WITHHELD, Machine,
    MemoryEntry, PhysicalRange, RSDP_BYTES, Virtualisation,
};
pub use memory::page_aligned as page_aligned_module;

use crate::config::MIN_REFILLS;
use crate::kernel::{Kernel, Node, SchedulerAction};
use crate::object::{SchedContext, Tcb, TcbFlags, ThreadState};
use crate::retype;
use crate::store::Ref;
use crate::time::ENDLESS_TURN;

/// Why the machine did not boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// The boot loader gave no module.
    NoRootTask,
    /// Module 0 is no root task.
    BadImage(&'static str),
    /// The machine has too little free memory.
    NotEnoughMemory,
    /// The image has more pages than the root CNode has slots.
    NotEnoughSlots,
    /// Free memory is cut into more pieces than boot can list.
    TooManyRanges,
}

/// Builds the idle threads of all nodes and the root task, which runs on this node first.
///
/// Afterwards [`Kernel::leave`] on this node chooses the root task, and on every other node its
/// idle thread.
///
/// # Errors
/// Why there is no root task.
pub fn boot(kernel: &Kernel, machine: &Machine) -> Result<(), BootError> {
    kernel.set_clock(machine.tsc_khz / 1000);
    kernel.node_count.set(machine.nodes);
    let mut memory = memory::FreeMemory::new(machine)?;
    for (number, node) in kernel.nodes.iter().enumerate().take(machine.nodes) {
        let tcb = retype::new_thread(kernel, memory.allocate(Tcb::SIZE_BITS)?);
        let context = root_task::new_context(&mut memory)?;
        make_idle(kernel, node, number as u8, tcb, context);
    }
    root_task::build(kernel, machine, memory)
}

fn make_idle(kernel: &Kernel, node: &Node, number: u8, tcb: Ref<Tcb>, context: Ref<SchedContext>) {
    context.configure_new(MIN_REFILLS as u32, kernel.min_budget(), 0, &kernel.clock());
    context.node.set(number);
    context.tcb.set(Some(tcb));
    tcb.sched_context.set(Some(context));
    tcb.node.set(number);
    tcb.flags.set(TcbFlags(TcbFlags::FPU_DISABLED));
    tcb.state.set(ThreadState::Idle);
    node.idle.set(Some(tcb));
    node.idle_context.set(Some(context));
    node.current.set(Some(tcb));
    node.current_context.set(Some(context));
    node.domain_time.set(ENDLESS_TURN);
    node.action.set(SchedulerAction::ChooseNew);
    node.reprogram.set(true);
}
