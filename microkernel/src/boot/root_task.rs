//! Building the root task: its capability space, address space, thread, and what it is told.
//!
//! Layout as seL4's (facts of the ABI in docs/abi.md): the image, then a page with the IPC
//! buffer, then BootInfo, then the extra records. A page of the image gets the rights of its
//! segments; its capability has them all, so that the root task can map it otherwise.

use sel4_sys::{InitialSlot, SlotRegion};

use super::boot_info::{self, Contents, PageWriter};
use super::image::{Image, PAGE_BYTES, PageUse};
use super::memory::{FreeMemory, UntypedRegion};
use super::{BootError, Machine};
use crate::arch;
use crate::cap::{
    Asid, CNodeCap, Cap, FrameCap, FrameSize, MapSpace, Mapping, Rights, RootCap, TableCap,
    TableLevel, UntypedCap,
};
use crate::config::{BOOT_THREAD_TIME_SLICE_US, MIN_REFILLS, ROOT_CNODE_SIZE_BITS};
use crate::derivation;
use crate::kernel::Kernel;
use crate::object::{SchedContext, Slot, Tcb, TcbSlot, ThreadState};
use crate::retype;
use crate::store::{self, Ref, Table};
use crate::vspace::{self, entry};

/// Size of a page or table.
const PAGE_BITS: u8 = 12;
/// Guard of the root CNode: all address bits that are not its radix.
const GUARD_SIZE: u8 = 64 - ROOT_CNODE_SIZE_BITS;
/// First slot that is not one of seL4's fixed ones.
const FIRST_FREE_SLOT: u64 = 16;
/// The root task's address space.
const ROOT_ASID: u16 = 1;

/// The root task under construction.
struct Builder<'a> {
    kernel: &'a Kernel,
    machine: &'a Machine,
    memory: FreeMemory,
    cnode: Ref<Slot>,
    next_slot: u64,
    root: RootCap,
}

/// Builds the root task from boot module 0 and makes it runnable on this node.
///
/// # Errors
/// What is wrong with the module, or which resource did not suffice.
pub fn build(kernel: &Kernel, machine: &Machine, memory: FreeMemory) -> Result<(), BootError> {
    let module = *machine.modules.first().ok_or(BootError::NoRootTask)?;
    let address = arch::kernel_address(module.start);
    let image = Image::parse(store::boot_bytes(address, module.length() as usize))?;
    let mut builder = Builder::new(kernel, machine, memory)?;

    let sched_control = builder.make_sched_controls()?;
    let (ipc_buffer, info) = (image.end, image.end + PAGE_BYTES);
    let extra = info + PAGE_BYTES;
    let user_image_paging = builder.make_paging(image.start, extra + PAGE_BYTES)?;
    let extra_start = builder.next_slot;
    let mut records = PageWriter::new(builder.make_page(None, extra)?);
    records.records(machine);
    let extra_pages = builder.region_from(extra_start);
    let user_image_frames = builder.load_image(&image)?;
    builder.make_page(Some(InitialSlot::IpcBufferFrame), ipc_buffer)?;
    let info_page = builder.make_page(Some(InitialSlot::BootInfoFrame), info)?;
    builder.make_thread(image.entry(), info, ipc_buffer)?;
    builder.memory.reclaim(module)?;
    let untyped_start = builder.next_slot;
    let untypeds = builder.memory.untypeds(machine)?;
    builder.make_untypeds(&untypeds)?;
    let untyped = builder.region_from(untyped_start);
    let contents = Contents {
        extra_length: records.written() as u64,
        nodes: machine.nodes as u64,
        ipc_buffer,
        empty: SlotRegion {
            start: builder.next_slot,
            end: 1 << ROOT_CNODE_SIZE_BITS,
        },
        user_image_frames,
        user_image_paging,
        extra_pages,
        sched_control,
        untyped,
        untypeds: &untypeds,
    };
    boot_info::write(info_page, &contents);
    Ok(())
}

impl<'a> Builder<'a> {
    fn new(
        kernel: &'a Kernel,
        machine: &'a Machine,
        mut memory: FreeMemory,
    ) -> Result<Self, BootError> {
        let cnode_address = memory.allocate(ROOT_CNODE_SIZE_BITS + Slot::SIZE_BITS)?;
        let pool = Ref::from_address(memory.allocate(PAGE_BITS)?);
        let table: Ref<Table> = Ref::from_address(memory.allocate(PAGE_BITS)?);
        arch::copy_kernel_mappings(table);
        let root = RootCap {
            table,
            space: MapSpace::Virtual,
            asid: Asid::new(ROOT_ASID),
        };
        kernel.asid_pools[0].set(Some(pool));
        if let Some(asid) = root.asid {
            kernel.assign_asid(pool, asid, &root);
        }
        let cnode = Ref::from_address(cnode_address);
        let builder = Self {
            kernel,
            machine,
            memory,
            cnode,
            next_slot: FIRST_FREE_SLOT,
            root,
        };
        builder.put(InitialSlot::CNode, builder.cnode_cap());
        builder.put(InitialSlot::VSpace, Cap::Root(root));
        builder.put(InitialSlot::AsidPool, Cap::AsidPool { pool, base: 0 });
        builder.put(InitialSlot::IrqControl, Cap::IrqControl);
        builder.put(InitialSlot::AsidControl, Cap::AsidControl);
        builder.put(InitialSlot::IoPortControl, Cap::IoPortControl);
        builder.put(InitialSlot::Domain, Cap::Domain);
        Ok(builder)
    }

    fn cnode_cap(&self) -> Cap {
        Cap::CNode(CNodeCap {
            slots: self.cnode,
            radix: ROOT_CNODE_SIZE_BITS,
            guard_size: GUARD_SIZE,
            guard: 0,
        })
    }

    fn put(&self, slot: InitialSlot, cap: Cap) {
        derivation::insert_root(cap, self.cnode.element(slot.number() as usize));
    }

    fn put_next(&mut self, cap: Cap) -> Result<(), BootError> {
        if self.next_slot >= 1 << ROOT_CNODE_SIZE_BITS {
            return Err(BootError::NotEnoughSlots);
        }
        derivation::insert_root(cap, self.cnode.element(self.next_slot as usize));
        self.next_slot += 1;
        Ok(())
    }

    fn region_from(&self, start: u64) -> SlotRegion {
        SlotRegion {
            start,
            end: self.next_slot,
        }
    }

    fn make_sched_controls(&mut self) -> Result<SlotRegion, BootError> {
        let start = self.next_slot;
        for node in 0..self.machine.nodes {
            self.put_next(Cap::SchedControl { node: node as u8 })?;
        }
        Ok(self.region_from(start))
    }

    /// Makes every paging structure between two addresses.
    fn make_paging(&mut self, start: u64, end: u64) -> Result<SlotRegion, BootError> {
        let first = self.next_slot;
        let levels = [
            TableLevel::Pdpt,
            TableLevel::PageDirectory,
            TableLevel::PageTable,
        ];
        for level in levels {
            let span = 1u64 << level.span_bits();
            let mut address = start & !(span - 1);
            while address < end {
                self.make_table(level, address)?;
                address += span;
            }
        }
        Ok(self.region_from(first))
    }

    fn make_table(&mut self, level: TableLevel, address: u64) -> Result<(), BootError> {
        let table: Ref<Table> = Ref::from_address(self.memory.allocate(PAGE_BITS)?);
        let at = vspace::find(self.root.table, address, level.span_bits())
            .map_err(|_| BootError::BadImage("paging structures are missing"))?;
        let physical = arch::physical_address(table.address());
        at.entry()
            .set(physical | entry::PRESENT | entry::WRITE | entry::USER);
        let mapping = self.mapping(address);
        self.put_next(Cap::Table(TableCap {
            table,
            level,
            space: MapSpace::Virtual,
            mapping,
        }))
    }

    fn mapping(&self, address: u64) -> Option<Mapping> {
        self.root.asid.map(|asid| Mapping { asid, address })
    }

    fn map_page(&self, page: usize, address: u64, usage: PageUse) -> Result<Cap, BootError> {
        let at = vspace::find(self.root.table, address, PAGE_BITS)
            .map_err(|_| BootError::BadImage("paging structures are missing"))?;
        let write = if usage.write { entry::WRITE } else { 0 };
        let execute_never = if usage.execute {
            0
        } else {
            entry::EXECUTE_NEVER
        };
        at.entry().set(
            arch::physical_address(page) | entry::PRESENT | entry::USER | write | execute_never,
        );
        Ok(Cap::Frame(FrameCap {
            base: page,
            size: FrameSize::Small,
            device: false,
            rights: Rights::READ.union(Rights::WRITE),
            space: MapSpace::Virtual,
            mapping: self.mapping(address),
        }))
    }

    /// A writable page for the root task, in a fixed slot or the next one.
    fn make_page(
        &mut self,
        slot: Option<InitialSlot>,
        address: u64,
    ) -> Result<Ref<Table>, BootError> {
        let page = self.memory.allocate(PAGE_BITS)?;
        let cap = self.map_page(
            page,
            address,
            PageUse {
                execute: false,
                write: true,
            },
        )?;
        match slot {
            Some(slot) => self.put(slot, cap),
            None => self.put_next(cap)?,
        }
        Ok(Ref::from_address(page))
    }

    fn load_image(&mut self, image: &Image<'_>) -> Result<SlotRegion, BootError> {
        let start = self.next_slot;
        let mut address = image.start;
        while address < image.end {
            let page = self.memory.allocate(PAGE_BITS)?;
            let usage = image.load_page(address, page);
            let cap = self.map_page(page, address, usage)?;
            self.put_next(cap)?;
            address += PAGE_BYTES;
        }
        Ok(self.region_from(start))
    }

    fn make_thread(&mut self, entry: u64, info: u64, buffer: u64) -> Result<(), BootError> {
        let tcb = retype::new_thread(self.kernel, self.memory.allocate(Tcb::SIZE_BITS)?);
        let context = new_context(&mut self.memory)?;
        self.put(InitialSlot::Tcb, Cap::Thread { tcb });
        let size_bits = SchedContext::MIN_SIZE_BITS;
        self.put(
            InitialSlot::SchedContext,
            Cap::SchedContext { context, size_bits },
        );

        let slice = self.kernel.us_to_ticks(BOOT_THREAD_TIME_SLICE_US);
        context.configure_new(MIN_REFILLS as u32, slice, 0, &self.kernel.clock());
        context.tcb.set(Some(tcb));
        tcb.sched_context.set(Some(context));
        tcb.priority.set(u8::MAX);
        tcb.max_controlled_priority.set(u8::MAX);
        tcb.registers.rdi.set(info);
        tcb.registers.rip.set(entry);
        tcb.restart_ip.set(entry);
        tcb.ipc_buffer_address.set(buffer);
        let copies = [
            (InitialSlot::CNode, TcbSlot::CSpace),
            (InitialSlot::VSpace, TcbSlot::VSpace),
            (InitialSlot::IpcBufferFrame, TcbSlot::IpcBuffer),
        ];
        for (source, target) in copies {
            let source = self.cnode.element(source.number() as usize);
            crate::derivation::insert(source.cap(), source, tcb.slot(target));
        }
        tcb.state.set(ThreadState::Running);
        self.kernel.ready_enqueue(tcb);
        self.kernel.reschedule_required();
        Ok(())
    }

    fn make_untypeds(&mut self, untypeds: &[UntypedRegion]) -> Result<(), BootError> {
        for untyped in untypeds {
            self.put_next(Cap::Untyped(UntypedCap {
                base: arch::kernel_address(untyped.paddr),
                size_bits: untyped.size_bits,
                device: untyped.is_device,
                // Nobody knows what the memory holds: as if it had all been handed out, so that
                // the first Retype clears it.
                watermark: if untyped.is_device {
                    0
                } else {
                    1 << untyped.size_bits
                },
            }))?;
        }
        Ok(())
    }
}

/// A scheduling context of the smallest size.
pub fn new_context(memory: &mut FreeMemory) -> Result<Ref<SchedContext>, BootError> {
    Ok(Ref::from_address(
        memory.allocate(SchedContext::MIN_SIZE_BITS)?,
    ))
}
