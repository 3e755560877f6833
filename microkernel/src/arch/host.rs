//! The machine as host tests see it: memory is the process's own, addresses are identical in
//! every space, and what the kernel would tell the hardware is recorded per test thread.

use core::cell::Cell;

use super::{IoApicRoute, IrqMask, PortWidth, SpaceWord};
use crate::boot::Virtualisation;
use crate::config::MAX_NODES;
use crate::kernel::{Kernel, Node};
use crate::object::Tcb;
use crate::store::{Ref, Table};
use crate::vcpu::Vcpu;
use crate::vcpu::vmx::vmcs::Controls;

std::thread_local! {
    /// What the fake machine knows.
    pub static MACHINE: Machine = const { Machine::new() };
}

/// Recorded effects and settable inputs.
pub struct Machine {
    /// Time that `now` returns.
    pub now: Cell<u64>,
    /// Last deadline set.
    pub deadline: Cell<u64>,
    /// CPU that tests act as.
    pub node: Cell<usize>,
    /// Whether `interrupt_pending` says yes.
    pub interrupt: Cell<bool>,
    /// TLB invalidations seen.
    pub invalidations: Cell<u64>,
    /// Bit per CPU that was kicked.
    pub kicked: Cell<u64>,
    /// Last masked or unmasked interrupt: (irq, masked).
    pub irq_mask: Cell<Option<(u8, bool)>>,
    /// Last port written: (port, value).
    pub port: Cell<Option<(u16, u32)>>,
    /// Port capabilities removed, plus one.
    pub removed_ports: Cell<u64>,
    /// What runs guests.
    pub virtualisation: Cell<Virtualisation>,
    /// The VCPU whose VMCS is this CPU's.
    pub vmcs: Cell<Option<Ref<Vcpu>>>,
}

impl Machine {
    const fn new() -> Self {
        Self {
            now: Cell::new(0),
            deadline: Cell::new(u64::MAX),
            node: Cell::new(0),
            interrupt: Cell::new(false),
            invalidations: Cell::new(0),
            kicked: Cell::new(0),
            irq_mask: Cell::new(None),
            port: Cell::new(None),
            removed_ports: Cell::new(1),
            virtualisation: Cell::new(Virtualisation::Svm),
            vmcs: Cell::new(None),
        }
    }
}

fn machine<R>(f: impl FnOnce(&Machine) -> R) -> R {
    MACHINE.with(f)
}

/// Index of the CPU that runs this, below [`crate::config::MAX_NODES`].
#[must_use]
pub fn node_id() -> usize {
    machine(|m| m.node.get())
}

/// The state of the CPU that runs this, which is part of `kernel`.
#[must_use]
pub fn this_node(kernel: &Kernel) -> &Node {
    &kernel.nodes[node_id() % MAX_NODES]
}

/// The time-stamp counter: the unit of all ticks.
#[must_use]
pub fn now() -> u64 {
    machine(|m| m.now.get())
}

/// Asks for a timer interrupt on this CPU at `deadline`, in ticks. A past one fires at once.
pub fn set_deadline(deadline: u64) {
    machine(|m| m.deadline.set(deadline));
}

/// Physical address of a kernel address in the direct map.
#[inline(always)]
#[must_use]
pub fn physical_address(address: usize) -> u64 {
    address as u64
}

/// Kernel address of a physical address; the memory need not be mapped.
#[inline(always)]
#[must_use]
pub fn kernel_address(physical: u64) -> usize {
    physical as usize
}

/// Whether an interrupt waits on this CPU: the question of a preemption point.
#[must_use]
pub fn interrupt_pending() -> bool {
    machine(|m| m.interrupt.get())
}

/// Makes CPU `node` enter the kernel and schedule. Does not wait.
pub fn kick(node: usize) {
    machine(|m| m.kicked.set(m.kicked.get() | 1 << node));
}

/// Makes CPU `node` leave user or guest mode and waits until the registers of its current thread
/// are saved; it then waits for the big lock and schedules when it gets it.
pub fn stall(node: usize) {
    kick(node);
}

/// Fills the kernel's half of a new root table.
pub fn copy_kernel_mappings(_root: Ref<Table>) {}

/// An address space as [`switch_address_space`] takes it.
#[must_use]
pub fn space_word(root: Ref<Table>, asid: u16) -> SpaceWord {
    SpaceWord(root.address() as u64 | u64::from(asid))
}

/// Makes `space` the address space of this CPU; `None` is the kernel's own.
pub fn switch_address_space(_space: Option<SpaceWord>) {}

/// Whether [`hop`] can switch to `to`.
#[must_use]
pub fn can_hop(_to: Ref<Tcb>) -> bool {
    true
}

/// Makes this CPU's registers and address space those of `to`, another thread than the one that
/// they belong to, on the fast path.
pub fn hop(_to: Ref<Tcb>, _space: SpaceWord) {}

/// Makes `tcb`, which this CPU runs, have its FS base at once.
pub fn load_fs_base(_tcb: Ref<Tcb>) {}

/// Brings the memory image of `tcb`'s extended state up to date, wherever it runs.
pub fn flush_thread_state(_tcb: Ref<Tcb>) {}

/// Sets `tcb`'s extended state to that of a fresh thread.
pub fn initialise_thread_state(_tcb: Ref<Tcb>) {}

/// Forgets the translation of one page of an address space, on every CPU.
pub fn invalidate_page(_root: Ref<Table>, _asid: u16, _address: u64) {
    machine(|m| m.invalidations.set(m.invalidations.get() + 1));
}

/// Forgets all translations of an address space, on every CPU.
pub fn invalidate_address_space(_root: Ref<Table>, _asid: u16) {
    machine(|m| m.invalidations.set(m.invalidations.get() + 1));
}

/// Forgets all translations of a guest-physical address space, on every CPU.
pub fn invalidate_guest_space(_root: Ref<Table>, _asid: u16) {
    machine(|m| m.invalidations.set(m.invalidations.get() + 1));
}

/// Masks or unmasks an interrupt at its controller.
pub fn set_irq_mask(irq: u8, masked: IrqMask) {
    machine(|m| m.irq_mask.set(Some((irq, masked == IrqMask::Masked))));
}

/// Masks an interrupt that is nobody's any more, and forgets where it came from.
pub fn release_irq(irq: u8) {
    set_irq_mask(irq, IrqMask::Masked);
}

/// How many IOAPICs the machine has, and how many pins IOAPIC `index` has.
#[must_use]
pub fn ioapic_pins(index: u64) -> Option<u64> {
    (index == 0).then_some(24)
}

/// Programs a pin, masked. The arguments were checked.
pub fn route_ioapic(_route: IoApicRoute) {}

/// Reads an I/O port.
#[must_use]
pub fn port_in(_port: u16, _width: PortWidth) -> u32 {
    u32::MAX
}

/// Writes an I/O port.
pub fn port_out(port: u16, _width: PortWidth, value: u32) {
    machine(|m| m.port.set(Some((port, value))));
}

/// Prints a byte on the debug console.
pub fn debug_put_char(_byte: u8) {}

/// Stops the machine (DebugHalt).
pub fn debug_halt() {}

/// Port capabilities that were removed since boot, plus one.
#[must_use]
pub fn removed_ports() -> u64 {
    machine(|m| m.removed_ports.get())
}

/// A port capability was removed: guests that may have used it are stopped and find out.
pub fn note_removed_port() {
    machine(|m| m.removed_ports.set(m.removed_ports.get() + 1));
}

/// Whether guests can run here.
#[must_use]
pub fn can_run_guests() -> bool {
    virtualisation() != Virtualisation::None
}

/// What runs guests here.
#[must_use]
pub fn virtualisation() -> Virtualisation {
    machine(|m| m.virtualisation.get())
}

/// Where the kernel enters guests under SVM.
#[must_use]
pub fn svm_entry_address() -> u64 {
    0xffff_ffff_8010_0000
}

/// Extended state components that threads and guests can have.
#[must_use]
pub fn thread_xcr0() -> u64 {
    7
}

/// A VCPU goes: no CPU may hold anything of it.
pub fn forget_vcpu(vcpu: Ref<Vcpu>) {
    machine(|m| m.vmcs.set(m.vmcs.get().filter(|held| *held != vcpu)));
}

/// Makes the memory of a new VCPU's control block a VMCS that no CPU holds.
pub fn prepare_vmcs(_vcpu: Ref<Vcpu>) {}

/// Makes the VMCS of `vcpu`, which does not run, this CPU's current one.
pub fn claim_vmcs(vcpu: Ref<Vcpu>) {
    machine(|m| m.vmcs.set(Some(vcpu)));
}

/// Offset in the fake VMCS: width, type and index of the field's number.
fn vmcs_offset(field: u32) -> usize {
    let (width, kind, index) = (field >> 13 & 3, field >> 10 & 3, field >> 1 & 0x1f);
    ((width << 2 | kind) << 5 | index) as usize * size_of::<u64>()
}

/// A field of the current VMCS.
#[must_use]
pub fn vmcs_read(field: u32) -> u64 {
    let vcpu = machine(|m| m.vmcs.get());
    vcpu.map_or(0, |vcpu| vcpu.control.word(vmcs_offset(field)))
}

/// Writes a field of the current VMCS.
pub fn vmcs_write(field: u32, value: u64) {
    if let Some(vcpu) = machine(|m| m.vmcs.get()) {
        vcpu.control.set_word(vmcs_offset(field), value);
    }
}

/// The execution controls that VMCSs begin with.
#[must_use]
pub fn guest_controls() -> Controls {
    Controls::default()
}
