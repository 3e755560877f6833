//! Kernel objects out of untyped memory: threads, a second address space, ports.

use alloc::vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::{
    AsidPool, CNode, Capability, Frame, IoPort, IoPortControl, PageDirectory, PageTable, Pdpt,
    Refill, SchedContext, SchedControl, SchedParameters, Tcb, ThreadSpaces, Untyped, VSpace,
};
use libcap::runtime::BootEnv;
use libcap::{Endpoint, Notification};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CPtr, CapRights, InitialSlot, ObjectType, TcbFlags, VmAttributes};

/// First address of a program's image.
const IMAGE_BASE: u64 = 0x40_0000;
/// Bytes of a page, and of what one page table maps.
const PAGE: u64 = 4096;
const PAGE_TABLE_SPAN: u64 = 2 << 20;
/// Bytes of a thread's stack: the bodies keep almost nothing on it.
const STACK_BYTES: usize = 8 << 10;
/// Word of the IPC buffer's page that holds the page's own address, for libcap.
const POINTER_WORD: usize = 128;
/// Threads that there can be: three for each measurement.
const THREADS: usize = 40;
/// log2 of the bytes of a scheduling context.
const CONTEXT_BITS: u32 = 8;
/// Length of a time slice: far longer than a measurement.
const SLICE_US: u64 = 100_000;

/// Priority of the main thread: below every other, so that it goes on when all of them wait.
const MAIN_PRIORITY: u8 = 10;
/// Highest priority, which the main thread may give.
const PRIORITY_MAX: u8 = 255;

/// Pages of the IPC buffers.
#[repr(C, align(4096))]
struct Buffers([[AtomicU64; 512]; THREADS]);

static BUFFERS: Buffers = Buffers([const { [const { AtomicU64::new(0) }; 512] }; THREADS]);

/// What a thread does. The words come from [`Plan::arguments`].
pub type Body = extern "C" fn(u64, u64, u64, u64) -> !;

/// Whether a thread has floating-point registers, which the kernel then switches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatingPoint {
    /// It has none.
    None,
    /// It has them.
    Switched,
}

/// How a thread is to be.
pub struct Plan {
    /// What it runs.
    pub body: Body,
    /// The body's arguments.
    pub arguments: [u64; 4],
    /// Where it runs.
    pub space: VSpace,
    /// Its priority, above the main thread's.
    pub priority: u8,
    /// Where its faults go.
    pub fault: Option<Endpoint>,
    /// Its floating-point registers.
    pub floating_point: FloatingPoint,
}

/// A thread and the time that it began with.
#[derive(Clone, Copy)]
pub struct Worker {
    /// The thread.
    pub thread: Tcb,
    context: SchedContext,
}

impl Worker {
    /// Takes its time away: from now on it runs on that of its callers.
    pub fn make_passive(self) {
        self.context.unbind().expect("it has a thread");
    }

    /// Ends it.
    pub fn stop(self) {
        self.thread.suspend().expect("a thread");
    }
}

/// Makes objects.
pub struct Workshop {
    env: BootEnv,
    untyped: Untyped,
    root: CNode,
    next: u64,
    threads: usize,
    /// This program's address space.
    pub own_space: VSpace,
    /// Another one with the same memory at the same addresses.
    pub other_space: VSpace,
}

impl Workshop {
    /// Begins with the largest untyped memory; the main thread gets out of the way of all others.
    pub fn new(env: BootEnv) -> Self {
        let (slot, _) = env
            .boot_info
            .untyped()
            .filter(|(_, untyped)| untyped.is_device == 0)
            .max_by_key(|(_, untyped)| untyped.size_bits)
            .expect("there is memory");
        let own_space = VSpace::from_cptr(InitialSlot::VSpace.cptr());
        let mut workshop = Self {
            env,
            untyped: Untyped::from_cptr(CPtr(slot)),
            root: CNode::from_cptr(InitialSlot::CNode.cptr()),
            next: env.boot_info.empty.start,
            threads: 0,
            own_space,
            other_space: own_space,
        };
        workshop.other_space = workshop.twin_space();
        let main = workshop.main_thread();
        main.set_priority(main, MAIN_PRIORITY).expect("root may");
        workshop
    }

    /// The thread that calls all this.
    pub fn main_thread(&self) -> Tcb {
        Tcb::from_cptr(InitialSlot::Tcb.cptr())
    }

    fn slot(&mut self) -> CPtr {
        self.next += 1;
        CPtr(self.next - 1)
    }

    /// Makes an object of `2^size_bits` bytes, or of its fixed size, for kinds without a name.
    pub fn make_slot(&mut self, object: ObjectType, size_bits: u32) -> CPtr {
        let slot = self.slot();
        self.untyped
            .retype(object, size_bits, self.root, slot.0, 1)
            .expect("there is room");
        slot
    }

    /// Makes an object.
    pub fn make<C: Capability>(&mut self, object: ObjectType) -> C {
        C::from_cptr(self.make_slot(object, 0))
    }

    /// An endpoint.
    pub fn endpoint(&mut self) -> Endpoint {
        self.make(ObjectType::Endpoint)
    }

    /// A notification.
    pub fn notification(&mut self) -> Notification {
        self.make(ObjectType::Notification)
    }

    /// A capability to I/O ports.
    pub fn ports(&mut self, first: u16, last: u16) -> IoPort {
        let slot = self.slot();
        IoPortControl::from_cptr(InitialSlot::IoPortControl.cptr())
            .issue(first, last, self.root.slot(slot))
            .expect("nobody has them");
        IoPort::from_cptr(slot)
    }

    /// The capability to the page of this program's image at `address`.
    pub fn image_frame(&self, address: u64) -> Frame {
        let frames = self.env.boot_info.user_image_frames;
        Frame::from_cptr(CPtr(frames.start + (address - IMAGE_BASE) / PAGE))
    }

    /// Another capability to the same object.
    pub fn copy<C: Capability>(&mut self, original: C) -> C {
        let slot = self.slot();
        self.root
            .slot(slot)
            .copy_from(self.root.slot(original.cptr()), CapRights::ALL)
            .expect("an empty slot");
        C::from_cptr(slot)
    }

    fn twin_space(&mut self) -> VSpace {
        let space: VSpace = self.make(ObjectType::Pml4);
        AsidPool::from_cptr(InitialSlot::AsidPool.cptr())
            .assign(space.cptr())
            .expect("the pool has room");
        let attributes = VmAttributes::WRITE_BACK;
        Pdpt::from_cptr(self.make_slot(ObjectType::Pdpt, 0))
            .map(space, IMAGE_BASE, attributes)
            .expect("an empty space");
        PageDirectory::from_cptr(self.make_slot(ObjectType::PageDirectory, 0))
            .map(space, IMAGE_BASE, attributes)
            .expect("an empty space");
        let end = IMAGE_BASE + self.env.boot_info.user_image_frames.length() * PAGE;
        for address in (IMAGE_BASE..end).step_by(PAGE_TABLE_SPAN as usize) {
            PageTable::from_cptr(self.make_slot(ObjectType::PageTable, 0))
                .map(space, address, attributes)
                .expect("an empty space");
        }
        for address in (IMAGE_BASE..end).step_by(PAGE as usize) {
            self.copy(self.image_frame(address))
                .map(space, address, CapRights::ALL, attributes)
                .expect("the tables are there");
        }
        space
    }

    /// Starts a thread. It runs at once, until it waits for something.
    pub fn start(&mut self, plan: &Plan) -> Worker {
        let thread: Tcb = self.make(ObjectType::Tcb);
        let context =
            SchedContext::from_cptr(self.make_slot(ObjectType::SchedContext, CONTEXT_BITS));
        let parameters = SchedParameters {
            budget_us: SLICE_US,
            period_us: SLICE_US,
            extra_refills: 0,
            badge: 0,
            refill: Refill::Full,
        };
        SchedControl::from_cptr(CPtr(self.env.boot_info.sched_control.start))
            .configure(context, &parameters)
            .expect("a budget that can be");
        let page = &BUFFERS.0[self.threads];
        let buffer = page.as_ptr().addr() as u64;
        page[POINTER_WORD].store(buffer, Ordering::Relaxed);
        self.threads += 1;
        let radix = u32::try_from(self.env.boot_info.cnode_size_bits).expect("a radix");
        let spaces = ThreadSpaces {
            cspace: self.root,
            cspace_data: CNodeData::new(0, 64 - radix),
            vspace: plan.space,
        };
        thread
            .configure(&spaces, buffer, self.image_frame(buffer))
            .expect("the root's own");
        thread
            .set_sched_params(
                self.main_thread(),
                PRIORITY_MAX,
                plan.priority,
                Some(context),
                plan.fault,
            )
            .expect("root may");
        let flags = match plan.floating_point {
            FloatingPoint::None => TcbFlags::FPU_DISABLED,
            FloatingPoint::Switched => TcbFlags::default(),
        };
        thread.set_flags(TcbFlags::ALL, flags).expect("a thread");
        thread
            .write_registers_and_resume(&first_registers(plan, buffer))
            .expect("a thread");
        Worker { thread, context }
    }
}

/// What a thread begins with: a stack, its arguments, and an FS base as every real thread has.
fn first_registers(plan: &Plan, buffer: u64) -> UserContext {
    let stack = vec![0_u8; STACK_BYTES].leak();
    let top = (stack.as_ptr_range().end.addr() as u64) & !15;
    let [rdi, rsi, rdx, rcx] = plan.arguments;
    UserContext {
        rip: plan.body as *const () as u64,
        // A function expects what a call leaves: 8 bytes on an aligned stack.
        rsp: top - 8,
        fs_base: buffer,
        rdi,
        rsi,
        rdx,
        rcx,
        ..UserContext::default()
    }
}
