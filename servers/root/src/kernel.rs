//! What root asks of the kernel, as a trait.
//!
//! Root's logic stands above it and is tested on the host against a kernel that keeps books
//! (module `mock`); on Tessera the one implementation is [`crate::native`], which hands
//! every call to `libcap`. Memory of frames is reached through it too, because root sees a frame
//! only through a window that it maps for a moment.

use libcap::KernelError;
use libcap::capability::{
    CNode, Frame, GuestRoot, IoPort, IrqHandler, Notification, SchedContext, SchedParameters, Slot,
    Tcb, ThreadSpaces, Timer, Untyped, VSpace, Vcpu,
};
use sel4_sys::thread::UserContext;
use sel4_sys::{CPtr, CapRights, ObjectType, VmAttributes};

/// What an invocation gives.
pub type Outcome<T> = Result<T, KernelError>;

/// Priority, budget and fault endpoint of a thread.
#[derive(Debug, Clone, Copy)]
pub struct Scheduling {
    /// Its priority, which is also the most that it may give others.
    pub priority: u8,
    /// Its scheduling context.
    pub context: SchedContext,
    /// Where its faults go.
    pub fault: CPtr,
}

/// A mapping of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// First address.
    pub vaddr: u64,
    /// Read and write rights.
    pub rights: CapRights,
    /// Memory type and execute-never.
    pub attributes: VmAttributes,
}

/// The kernel, as far as root needs it. Every method is one invocation unless it says otherwise,
/// and has that invocation's errors.
pub trait Kernel {
    /// Makes `count` objects in the slots of `node` from `first` on.
    fn retype(
        &mut self,
        untyped: Untyped,
        object: ObjectType,
        size_bits: u32,
        node: CNode,
        first: u64,
        count: u64,
    ) -> Outcome<()>;
    /// Copies a capability.
    fn copy(&mut self, to: Slot, from: Slot, rights: CapRights) -> Outcome<()>;
    /// Copies a capability with a badge.
    fn mint(&mut self, to: Slot, from: Slot, rights: CapRights, badge: u64) -> Outcome<()>;
    /// Deletes a capability.
    fn delete(&mut self, slot: Slot) -> Outcome<()>;
    /// Deletes whatever was derived from a capability.
    fn revoke(&mut self, slot: Slot) -> Outcome<()>;

    /// Gives an address space its identifier, from the initial pool.
    fn assign_asid(&mut self, space: CPtr) -> Outcome<()>;
    /// Puts a paging structure of type `level` into a VSpace or a guest's address space.
    fn map_table(&mut self, level: ObjectType, table: CPtr, space: CPtr, at: u64) -> Outcome<()>;
    /// Maps a frame.
    fn map(&mut self, frame: Frame, space: VSpace, mapping: Mapping) -> Outcome<()>;
    /// Maps a frame into a guest's memory.
    fn map_guest(&mut self, frame: Frame, root: GuestRoot, mapping: Mapping) -> Outcome<()>;
    /// Writes into a frame that is mapped nowhere (several invocations).
    fn write_frame(&mut self, frame: Frame, offset: usize, bytes: &[u8]) -> Outcome<()>;
    /// Reads from a frame, through a copy of its capability in the free slot `spare` (several
    /// invocations).
    fn read_frame(
        &mut self,
        frame: Slot,
        spare: Slot,
        offset: usize,
        bytes: &mut [u8],
    ) -> Outcome<()>;

    /// Sets a thread's spaces and IPC buffer.
    fn configure(
        &mut self,
        thread: Tcb,
        spaces: &ThreadSpaces,
        buffer_vaddr: u64,
        buffer: Frame,
    ) -> Outcome<()>;
    /// Sets a thread's priority, budget and fault endpoint.
    fn schedule(&mut self, thread: Tcb, scheduling: Scheduling) -> Outcome<()>;
    /// Fills a scheduling context on CPU `cpu`.
    fn fill_budget(
        &mut self,
        cpu: u16,
        context: SchedContext,
        parameters: &SchedParameters,
    ) -> Outcome<()>;
    /// Microseconds that a scheduling context used since this was last asked.
    fn consumed_us(&mut self, context: SchedContext) -> Outcome<u64>;
    /// Binds a notification to a thread.
    fn bind(&mut self, thread: Tcb, notification: Notification) -> Outcome<()>;
    /// Sets a thread's registers and lets it run.
    fn start(&mut self, thread: Tcb, context: &UserContext) -> Outcome<()>;
    /// Reads a thread's registers as they are.
    fn registers(&mut self, thread: Tcb) -> Outcome<UserContext>;
    /// Stops a thread.
    fn suspend(&mut self, thread: Tcb) -> Outcome<()>;
    /// Lets a stopped thread go on where it was; a call that was broken off starts again.
    fn resume(&mut self, thread: Tcb) -> Outcome<()>;

    /// Makes the handler of an ISA interrupt.
    fn issue_interrupt(&mut self, pin: u8, to: Slot) -> Outcome<()>;
    /// Chooses what an interrupt signals, and acknowledges one that is open (two invocations).
    fn set_interrupt(&mut self, handler: IrqHandler, notification: Notification) -> Outcome<()>;
    /// Reads a port of the range behind `ports`.
    fn port_in8(&mut self, ports: IoPort, port: u16) -> Outcome<u8>;
    /// Reads a port of the range behind `ports`.
    fn port_in16(&mut self, ports: IoPort, port: u16) -> Outcome<u16>;
    /// Writes to a port of the range behind `ports`.
    fn port_out8(&mut self, ports: IoPort, port: u16, value: u8) -> Outcome<()>;
    /// Writes to a port of the range behind `ports`.
    fn port_out16(&mut self, ports: IoPort, port: u16, value: u16) -> Outcome<()>;
    /// Makes the capability to a range of I/O ports.
    fn issue_ports(&mut self, first: u16, last: u16, to: Slot) -> Outcome<()>;
    /// Chooses what a timer signals.
    fn bind_timer(&mut self, timer: Timer, notification: Notification) -> Outcome<()>;
    /// Binds a virtual CPU to the thread that enters it, and to its guest's memory.
    fn bind_vcpu(&mut self, vcpu: Vcpu, thread: Tcb, root: GuestRoot) -> Outcome<()>;
    /// Signals a notification.
    fn signal(&mut self, notification: Notification);
}
