//! The bench: kernel objects out of untyped memory, and the guests' address space.

use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::{
    AsidPool, CNode, Capability, Frame, GuestPageDirectory, GuestPageTable, GuestPdpt, GuestRoot,
    IoPort, IoPortControl, Refill, SchedContext, SchedControl, SchedParameters, Tcb, ThreadSpaces,
    Timer, Untyped, VSpace,
};
use libcap::runtime::BootEnv;
use libcap::{Notification, kernel, log};
use sel4_sys::boot_info::virtualisation;
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CPtr, CapRights, ExtraRecord, InitialSlot, ObjectType, VmAttributes};

use crate::failure::Outcome;
use crate::memory::{self, PAGE, RAM_PAGES, READ_ONLY, RESET_PAGE};

/// What runs guests here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    None,
    Svm,
    Vmx,
}

/// Where the reset vector's page is.
const RESET_BASE: u64 = 0xffff_f000;
/// Port that ends QEMU.
const EXIT_PORT: u16 = 0xf4;
/// Bytes of a thread's stack.
const STACK_BYTES: usize = 32 << 10;
/// Word of the IPC buffer's page that holds the page's own address, for libcap.
const POINTER_WORD: usize = 128;
/// Threads that the scenarios start.
const THREADS: usize = 4;

/// Pages of the IPC buffers of further threads.
#[repr(C, align(4096))]
struct Buffers([[AtomicU64; 512]; THREADS]);

static BUFFERS: Buffers = Buffers([const { [const { AtomicU64::new(0) }; 512] }; THREADS]);

/// Makes objects, and holds those that all scenarios use.
pub struct Bench {
    env: BootEnv,
    untyped: Untyped,
    root: CNode,
    next: u64,
    threads: usize,
    /// The mapping of each page of the guests' memory from address 0 on.
    pages: Vec<Frame>,
    /// The address space of all guests.
    pub space: GuestRoot,
}

impl Bench {
    pub fn new(env: BootEnv) -> Self {
        let (slot, _) = env
            .boot_info
            .untyped()
            .filter(|(_, untyped)| untyped.is_device == 0)
            .max_by_key(|(_, untyped)| untyped.size_bits)
            .expect("there is memory");
        let mut bench = Self {
            env,
            untyped: Untyped::from_cptr(CPtr(slot)),
            root: CNode::from_cptr(InitialSlot::CNode.cptr()),
            next: env.boot_info.empty.start,
            threads: 0,
            pages: Vec::new(),
            space: GuestRoot::from_cptr(CPtr::NULL),
        };
        bench.space = bench.make_space().expect("an empty space");
        bench
    }

    /// What the kernel says that this machine has.
    pub fn engine(&self) -> Engine {
        let word = self
            .env
            .record(ExtraRecord::Machine)
            .and_then(|record| record.first_chunk::<8>());
        match word.map(|word| u64::from_le_bytes(*word)) {
            Some(virtualisation::SVM) => Engine::Svm,
            Some(virtualisation::VMX) => Engine::Vmx,
            _ => Engine::None,
        }
    }

    /// Number of CPUs.
    pub fn cpus(&self) -> u64 {
        self.env.boot_info.nodes
    }

    /// An empty slot.
    pub fn slot(&mut self) -> CPtr {
        self.next += 1;
        CPtr(self.next - 1)
    }

    /// Makes an object.
    pub fn make<C: Capability>(&mut self, object: ObjectType, size_bits: u32) -> C {
        let slot = self.slot();
        self.untyped
            .retype(object, size_bits, self.root, slot.0, 1)
            .expect("there is room");
        C::from_cptr(slot)
    }

    /// As [`Bench::make`], for paging structures, which have no name in start records.
    fn make_table(&mut self, object: ObjectType) -> CPtr {
        let slot = self.slot();
        self.untyped
            .retype(object, 0, self.root, slot.0, 1)
            .expect("there is room");
        slot
    }

    fn make_space(&mut self) -> Outcome<GuestRoot> {
        let space: GuestRoot = self.make(ObjectType::GuestPml4, 0);
        AsidPool::from_cptr(InitialSlot::AsidPool.cptr()).assign(space.cptr())?;
        GuestPdpt::from_cptr(self.make_table(ObjectType::GuestPdpt)).map(space, 0)?;
        for address in [0, RESET_BASE] {
            let directory = self.make_table(ObjectType::GuestPageDirectory);
            GuestPageDirectory::from_cptr(directory).map(space, address)?;
            let table = self.make_table(ObjectType::GuestPageTable);
            GuestPageTable::from_cptr(table).map(space, address)?;
        }
        self.space = space;
        for index in 0..RAM_PAGES {
            let address = index * PAGE;
            let rights = if address == READ_ONLY {
                CapRights::READ
            } else {
                CapRights::ALL
            };
            let page = self.map(index, address, rights)?;
            self.pages.push(page);
        }
        self.map(RESET_PAGE, RESET_BASE, CapRights::ALL)?;
        Ok(space)
    }

    /// Maps page `index` of the memory at `address` of the guests; the capability that maps it.
    pub fn map(&mut self, index: u64, address: u64, rights: CapRights) -> Outcome<Frame> {
        let copy = self.copy(memory::frame(self.env.boot_info, index))?;
        copy.map_guest(self.space, address, rights, VmAttributes::WRITE_BACK)?;
        Ok(copy)
    }

    fn copy<C: Capability>(&mut self, original: C) -> Outcome<C> {
        let slot = self.slot();
        let source = self.root.slot(original.cptr());
        self.root.slot(slot).copy_from(source, CapRights::ALL)?;
        Ok(C::from_cptr(slot))
    }

    /// A capability to `original` with `badge`.
    pub fn badged(&mut self, original: Notification, badge: u64) -> Outcome<Notification> {
        let slot = self.slot();
        let source = self.root.slot(original.cptr());
        self.root
            .slot(slot)
            .mint_from(source, CapRights::ALL, badge)?;
        Ok(Notification::from_cptr(slot))
    }

    /// What maps the page at `address` of the guests' memory.
    pub fn mapping(&self, address: u64) -> Frame {
        self.pages[(address / PAGE) as usize]
    }

    /// Maps the page at `address` again after it was unmapped.
    pub fn restore(&self, address: u64) -> Outcome {
        let page = self.mapping(address);
        Ok(page.map_guest(
            self.space,
            address,
            CapRights::ALL,
            VmAttributes::WRITE_BACK,
        )?)
    }

    /// Deletes every capability that was made from this one.
    pub fn revoke<C: Capability>(&self, capability: C) -> Outcome {
        Ok(self.root.slot(capability.cptr()).revoke()?)
    }

    /// Deletes a capability.
    pub fn delete<C: Capability>(&self, capability: C) -> Outcome {
        Ok(self.root.slot(capability.cptr()).delete()?)
    }

    /// A capability to I/O ports.
    pub fn ports(&mut self, first: u16, last: u16) -> Outcome<IoPort> {
        let slot = self.slot();
        let control = IoPortControl::from_cptr(InitialSlot::IoPortControl.cptr());
        control.issue(first, last, self.root.slot(slot))?;
        Ok(IoPort::from_cptr(slot))
    }

    /// The thread that runs the scenarios.
    pub fn own_thread(&self) -> Tcb {
        Tcb::from_cptr(InitialSlot::Tcb.cptr())
    }

    /// A notification that is bound to the own thread, with a timer that signals it.
    pub fn bell(&mut self, badge: u64) -> Outcome<(Notification, Timer)> {
        let notification: Notification = self.make(ObjectType::Notification, 0);
        self.own_thread().bind_notification(notification)?;
        let timer: Timer = self.make(ObjectType::Timer, 0);
        let badged = self.badged(notification, badge)?;
        timer.bind(badged)?;
        Ok((notification, timer))
    }

    /// A thread in this program on CPU `cpu` that will run `body` when it is resumed. It has the
    /// priority of the own thread and a round-robin budget.
    pub fn thread(&mut self, cpu: u64, body: extern "C" fn() -> !) -> Outcome<Tcb> {
        let thread: Tcb = self.make(ObjectType::Tcb, 0);
        let context: SchedContext = self.make(ObjectType::SchedContext, 8);
        self.budget(cpu, context)?;
        let buffer = BUFFERS.0[self.threads].as_ptr().addr() as u64;
        BUFFERS.0[self.threads][POINTER_WORD].store(buffer, Ordering::Release);
        self.threads += 1;
        let info = self.env.boot_info;
        let radix = u32::try_from(info.cnode_size_bits).expect("a radix");
        let spaces = ThreadSpaces {
            cspace: self.root,
            cspace_data: CNodeData::new(0, 64 - radix),
            vspace: VSpace::from_cptr(InitialSlot::VSpace.cptr()),
        };
        thread.configure(&spaces, buffer, memory::frame_of(info, buffer))?;
        thread.set_sched_params(self.own_thread(), 255, 255, Some(context), None)?;
        let stack = vec![0_u8; STACK_BYTES].leak();
        let top = (stack.as_ptr_range().end.addr() as u64) & !15;
        thread.write_registers(&UserContext {
            rip: body as *const () as u64,
            // A function expects what a call leaves: 8 bytes on an aligned stack.
            rsp: top - 8,
            fs_base: buffer,
            ..UserContext::default()
        })?;
        Ok(thread)
    }

    fn budget(&self, cpu: u64, context: SchedContext) -> Outcome {
        let control = SchedControl::from_cptr(CPtr(self.env.boot_info.sched_control.start + cpu));
        let parameters = SchedParameters {
            budget_us: 2_000,
            period_us: 2_000,
            extra_refills: 0,
            badge: 0,
            refill: Refill::Full,
        };
        Ok(control.configure(context, &parameters)?)
    }

    /// Ends QEMU with an exit code that says whether something failed; without the port it stops.
    pub fn end_emulator(&mut self, failed: u32) -> ! {
        match self.ports(EXIT_PORT, EXIT_PORT + 3) {
            Ok(port) => {
                // Nothing is there on other machines.
                let _ = port.write_u32(EXIT_PORT, u32::from(failed != 0));
            }
            Err(failure) => log!("PROBE cannot end the emulator: {failure}"),
        }
        loop {
            kernel::yield_now();
        }
    }
}
