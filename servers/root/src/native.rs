//! The kernel itself behind [`Kernel`], and root's first steps on it.

use crate::cspace::{CSpace, RADIX};
use crate::kernel::{Kernel, Mapping, Outcome, Scheduling};
use crate::serial;
use crate::untyped::{Block, UntypedPool};
use alloc::vec::Vec;
use libcap::KernelError;
use libcap::capability::{
    AsidPool, CNode, Endpoint, Frame, GuestPageDirectory, GuestPageTable, GuestPdpt, GuestRoot,
    IoApicPin, IoPort, IoPortControl, IrqControl, IrqHandler, Notification, PageDirectory,
    PageTable, Pdpt, Polarity, SchedContext, SchedControl, SchedParameters, Slot, Tcb,
    ThreadSpaces, Timer, Trigger, Untyped, VSpace, Vcpu,
};
use libcap::region::SharedMemory;
use sel4_sys::object::SLOT_BITS;
use sel4_sys::thread::UserContext;
use sel4_sys::{
    BootInfo, CNodeData, CPtr, CapRights, InitialSlot, ObjectType, UntypedDescriptor, VmAttributes,
};

/// Slot 0 of the large CNode: the initial CNode keeps the pointers below.
const BASE: u64 = 1 << RADIX;
/// log2 of the bytes of the large CNode.
const NODE_BITS: u8 = RADIX + SLOT_BITS as u8;

/// The kernel.
#[derive(Debug)]
pub struct Native {
    sched_control: u64,
    first_free: u64,
    window: Option<(SharedMemory, u64)>,
}

/// What root makes of the capabilities that it is started with.
#[derive(Debug)]
pub struct Start {
    /// Its slots.
    pub cspace: CSpace,
    /// Ordinary memory.
    pub memory: UntypedPool,
    /// Device memory.
    pub devices: UntypedPool,
}

/// The capability in one of the slots that the kernel fills.
const fn initial(slot: InitialSlot) -> CPtr {
    CPtr(slot.number())
}

/// Root's own address space.
#[must_use]
pub const fn own_vspace() -> VSpace {
    VSpace::from_cptr(initial(InitialSlot::VSpace))
}

/// Root's own thread.
#[must_use]
pub const fn own_thread() -> Tcb {
    Tcb::from_cptr(initial(InitialSlot::Tcb))
}

/// Root's own scheduling context.
#[must_use]
pub const fn own_context() -> SchedContext {
    SchedContext::from_cptr(initial(InitialSlot::SchedContext))
}

/// A slot of the initial CNode.
#[must_use]
pub const fn initial_slot(index: u64) -> Slot {
    CNode::from_cptr(initial(InitialSlot::CNode)).slot(CPtr(index))
}

/// Makes the large CNode and moves every untyped capability into it.
///
/// Root's capability space becomes a table of two: the initial CNode, whose pointers stay what
/// they are, and the large one above it.
///
/// # Errors
/// The kernel's refusal; root cannot go on then.
pub fn take_over(info: &BootInfo) -> Outcome<Start> {
    let own = CNode::from_cptr(initial(InitialSlot::CNode));
    let mut untyped: Vec<(u64, UntypedDescriptor)> = info
        .untyped()
        .map(|(slot, descriptor)| (slot, *descriptor))
        .collect();
    // The first free slot has the serial port.
    let mut free = info.empty.start + 1;
    let block = room_for_node(own, &mut untyped, &mut free)?;
    let (node, table) = (free, free + 1);
    let untyped_cap = Untyped::from_cptr(CPtr(block));
    untyped_cap.retype(ObjectType::CapTable, u32::from(RADIX), own, node, 1)?;
    untyped_cap.retype(ObjectType::CapTable, 1, own, table, 1)?;
    let table_cap = CNode::from_cptr(CPtr(table));
    let from = own.slot(initial(InitialSlot::CNode));
    let guard = u32::from(RADIX) - info.cnode_size_bits as u32;
    table_cap
        .slot_at_depth(0, 1)
        .mint_cnode_from(from, CNodeData::new(0, guard))?;
    table_cap
        .slot_at_depth(1, 1)
        .copy_from(own.slot(CPtr(node)), CapRights::ALL)?;
    let spaces = ThreadSpaces {
        cspace: table_cap,
        cspace_data: CNodeData::new(0, 63 - u32::from(RADIX)),
        vspace: own_vspace(),
    };
    own_thread().set_space(None, &spaces)?;
    let mut start = Start {
        cspace: CSpace::new(CNode::from_cptr(CPtr(node)), BASE),
        memory: UntypedPool::default(),
        devices: UntypedPool::default(),
    };
    for (slot, descriptor) in untyped {
        // There are 65,536 free slots and at most 230 capabilities.
        let index = start.cspace.take(1).map_err(|_| KernelError::DeleteFirst)?;
        start.cspace.slot(index).move_from(own.slot(CPtr(slot)))?;
        let block = Block {
            paddr: descriptor.paddr,
            bits: descriptor.size_bits,
            slot: index,
        };
        let pool = if descriptor.is_device == 0 {
            &mut start.memory
        } else {
            &mut start.devices
        };
        pool.add(block);
    }
    Ok(start)
}

/// Takes memory for the CNodes out of the list: a block of twice the size of the large one, split
/// off the smallest that is large enough. Returns the slot of its capability.
fn room_for_node(
    own: CNode,
    untyped: &mut Vec<(u64, UntypedDescriptor)>,
    free: &mut u64,
) -> Outcome<u64> {
    let bits = NODE_BITS + 1;
    let usable = |d: &UntypedDescriptor| d.is_device == 0 && d.size_bits >= bits;
    let candidates = untyped.iter().enumerate().filter(|(_, (_, d))| usable(d));
    let smallest = candidates
        .min_by_key(|(_, (_, d))| d.size_bits)
        .map(|(index, _)| index);
    let index = smallest.ok_or(KernelError::NotEnoughMemory { bytes_left: 0 })?;
    let (mut slot, mut descriptor) = untyped.swap_remove(index);
    while descriptor.size_bits > bits {
        let half = descriptor.size_bits - 1;
        let untyped_cap = Untyped::from_cptr(CPtr(slot));
        untyped_cap.retype(ObjectType::Untyped, u32::from(half), own, *free, 2)?;
        let upper = UntypedDescriptor {
            paddr: descriptor.paddr + (1 << half),
            size_bits: half,
            ..descriptor
        };
        untyped.push((*free + 1, upper));
        (slot, descriptor.size_bits) = (*free, half);
        *free += 2;
    }
    Ok(slot)
}

impl Native {
    /// The kernel that gave `info`.
    #[must_use]
    pub const fn new(info: &BootInfo) -> Self {
        let (sched_control, first_free) = (info.sched_control.start, info.empty.start);
        Self {
            sched_control,
            first_free,
            window: None,
        }
    }

    /// From now on frames are reached through the page `window` at `vaddr`.
    pub fn set_window(&mut self, window: SharedMemory, vaddr: u64) {
        self.window = Some((window, vaddr));
    }

    /// Maps a frame in the window for as long as `access` takes.
    fn through_window(
        &mut self,
        frame: Frame,
        rights: CapRights,
        access: impl FnOnce(&SharedMemory) -> bool,
    ) -> Outcome<()> {
        let (window, vaddr) = self.window.as_ref().ok_or(KernelError::IllegalOperation)?;
        frame.map(own_vspace(), *vaddr, rights, VmAttributes::EXECUTE_NEVER)?;
        let inside = access(window);
        frame.unmap()?;
        if inside {
            Ok(())
        } else {
            Err(KernelError::Alignment)
        }
    }
}

impl Kernel for Native {
    fn retype(
        &mut self,
        untyped: Untyped,
        object: ObjectType,
        size_bits: u32,
        node: CNode,
        first: u64,
        count: u64,
    ) -> Outcome<()> {
        untyped.retype(object, size_bits, node, first, count)
    }

    fn copy(&mut self, to: Slot, from: Slot, rights: CapRights) -> Outcome<()> {
        to.copy_from(from, rights)
    }

    fn mint(&mut self, to: Slot, from: Slot, rights: CapRights, badge: u64) -> Outcome<()> {
        to.mint_from(from, rights, badge)
    }

    fn delete(&mut self, slot: Slot) -> Outcome<()> {
        slot.delete()
    }

    fn revoke(&mut self, slot: Slot) -> Outcome<()> {
        slot.revoke()
    }

    fn assign_asid(&mut self, space: CPtr) -> Outcome<()> {
        AsidPool::from_cptr(initial(InitialSlot::AsidPool)).assign(space)
    }

    fn map_table(&mut self, level: ObjectType, table: CPtr, space: CPtr, at: u64) -> Outcome<()> {
        let (vspace, guest) = (VSpace::from_cptr(space), GuestRoot::from_cptr(space));
        let attributes = VmAttributes::WRITE_BACK;
        match level {
            ObjectType::Pdpt => Pdpt::from_cptr(table).map(vspace, at, attributes),
            ObjectType::PageDirectory => {
                PageDirectory::from_cptr(table).map(vspace, at, attributes)
            }
            ObjectType::PageTable => PageTable::from_cptr(table).map(vspace, at, attributes),
            ObjectType::GuestPdpt => GuestPdpt::from_cptr(table).map(guest, at),
            ObjectType::GuestPageDirectory => GuestPageDirectory::from_cptr(table).map(guest, at),
            ObjectType::GuestPageTable => GuestPageTable::from_cptr(table).map(guest, at),
            _ => Err(KernelError::InvalidCapability { capability: 0 }),
        }
    }

    fn map(&mut self, frame: Frame, space: VSpace, mapping: Mapping) -> Outcome<()> {
        frame.map(space, mapping.vaddr, mapping.rights, mapping.attributes)
    }

    fn map_guest(&mut self, frame: Frame, root: GuestRoot, mapping: Mapping) -> Outcome<()> {
        frame.map_guest(root, mapping.vaddr, mapping.rights, mapping.attributes)
    }

    fn write_frame(&mut self, frame: Frame, offset: usize, bytes: &[u8]) -> Outcome<()> {
        let write = |window: &SharedMemory| window.write(offset as u64, bytes).is_ok();
        self.through_window(frame, CapRights::READ_WRITE, write)
    }

    fn read_frame(
        &mut self,
        frame: Slot,
        spare: Slot,
        offset: usize,
        bytes: &mut [u8],
    ) -> Outcome<()> {
        spare.copy_from(frame, CapRights::READ)?;
        let copy = Frame::from_cptr(CPtr(BASE + spare.index));
        let read = |window: &SharedMemory| window.read(offset as u64, bytes).is_ok();
        let done = self.through_window(copy, CapRights::READ, read);
        spare.delete()?;
        done
    }

    fn configure(
        &mut self,
        thread: Tcb,
        spaces: &ThreadSpaces,
        buffer_vaddr: u64,
        buffer: Frame,
    ) -> Outcome<()> {
        thread.configure(spaces, buffer_vaddr, buffer)
    }

    fn schedule(&mut self, thread: Tcb, scheduling: Scheduling) -> Outcome<()> {
        let Scheduling {
            priority,
            context,
            fault,
        } = scheduling;
        let fault = Some(Endpoint::from_cptr(fault));
        thread.set_sched_params(own_thread(), priority, priority, Some(context), fault)
    }

    fn fill_budget(
        &mut self,
        cpu: u16,
        context: SchedContext,
        parameters: &SchedParameters,
    ) -> Outcome<()> {
        let control = SchedControl::from_cptr(CPtr(self.sched_control + u64::from(cpu)));
        control.configure(context, parameters)
    }

    fn consumed_us(&mut self, context: SchedContext) -> Outcome<u64> {
        context.consumed_us()
    }

    fn bind(&mut self, thread: Tcb, notification: Notification) -> Outcome<()> {
        thread.bind_notification(notification)
    }

    fn start(&mut self, thread: Tcb, context: &UserContext) -> Outcome<()> {
        thread.write_registers_and_resume(context)
    }

    fn registers(&mut self, thread: Tcb) -> Outcome<UserContext> {
        thread.read_registers()
    }

    fn suspend(&mut self, thread: Tcb) -> Outcome<()> {
        thread.suspend()
    }

    fn resume(&mut self, thread: Tcb) -> Outcome<()> {
        thread.resume()
    }

    fn issue_interrupt(&mut self, pin: u8, to: Slot) -> Outcome<()> {
        let control = IrqControl::from_cptr(initial(InitialSlot::IrqControl));
        let line = IoApicPin {
            io_apic: 0,
            pin: u64::from(pin),
            trigger: Trigger::Edge,
            polarity: Polarity::High,
        };
        // One vector for each ISA line, so the line's number will do.
        control.io_apic(&line, u64::from(pin), to)
    }

    fn set_interrupt(&mut self, handler: IrqHandler, notification: Notification) -> Outcome<()> {
        handler.set_notification(notification)?;
        handler.acknowledge()
    }

    fn port_in8(&mut self, ports: IoPort, port: u16) -> Outcome<u8> {
        ports.read_u8(port)
    }

    fn port_in16(&mut self, ports: IoPort, port: u16) -> Outcome<u16> {
        ports.read_u16(port)
    }

    fn port_out8(&mut self, ports: IoPort, port: u16, value: u8) -> Outcome<()> {
        ports.write_u8(port, value)
    }

    fn port_out16(&mut self, ports: IoPort, port: u16, value: u16) -> Outcome<()> {
        ports.write_u16(port, value)
    }

    fn issue_ports(&mut self, first: u16, last: u16, to: Slot) -> Outcome<()> {
        let control = IoPortControl::from_cptr(initial(InitialSlot::IoPortControl));
        match control.issue(first, last, to) {
            // Root issued it to itself for its first words.
            Err(KernelError::RevokeFirst) if (first, last) == serial::PORTS => {
                to.copy_from(initial_slot(self.first_free), CapRights::ALL)
            }
            issued => issued,
        }
    }

    fn bind_timer(&mut self, timer: Timer, notification: Notification) -> Outcome<()> {
        timer.bind(notification)
    }

    fn bind_vcpu(&mut self, vcpu: Vcpu, thread: Tcb, root: GuestRoot) -> Outcome<()> {
        vcpu.set_tcb(thread)?;
        vcpu.set_guest_root(root)
    }

    fn signal(&mut self, notification: Notification) {
        notification.signal();
    }
}
