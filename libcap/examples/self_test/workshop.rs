//! Makes objects and threads out of untyped memory.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::Notification;
use libcap::capability::{
    CNode, Capability, Frame, Refill, SchedContext, SchedControl, SchedParameters, Tcb,
    ThreadSpaces, Timer, Untyped, VSpace,
};
use libcap::inbox::Inbox;
use libcap::runtime::BootEnv;
use proto::start::{IMAGE_FIRST, IPC_BUFFER_POINTER_OFFSET};
use sel4_sys::thread::UserContext;
use sel4_sys::{BootInfo, CNodeData, CPtr, CapRights, InitialSlot, ObjectType};

/// Bytes of a thread's stack: an event loop and a message on its way take a few KiB.
const STACK_BYTES: usize = 64 << 10;
/// Word of the IPC buffer's page that holds the page's own address.
const POINTER_WORD: usize = IPC_BUFFER_POINTER_OFFSET as usize / 8;

/// The page of a thread's IPC buffer, part of the image.
#[repr(C, align(4096))]
pub struct BufferPage([AtomicU64; 512]);

impl BufferPage {
    /// A page of zeros.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }
}

/// Makes objects out of the largest untyped memory.
pub struct Workshop {
    pub untyped: Untyped,
    pub root: CNode,
    boot_info: &'static BootInfo,
    next: u64,
}

impl Workshop {
    pub fn new(env: &BootEnv) -> Self {
        let (slot, _) = env
            .boot_info
            .untyped()
            .filter(|(_, untyped)| untyped.is_device == 0)
            .max_by_key(|(_, untyped)| untyped.size_bits)
            .expect("there is memory");
        Self {
            untyped: Untyped::from_cptr(CPtr(slot)),
            root: CNode::from_cptr(InitialSlot::CNode.cptr()),
            boot_info: env.boot_info,
            next: env.boot_info.empty.start,
        }
    }

    fn slots(&mut self, count: u64) -> CPtr {
        self.next += count;
        CPtr(self.next - count)
    }

    pub fn make<C: Capability>(&mut self, object: ObjectType, size_bits: u32) -> C {
        let slot = self.slots(1);
        self.untyped
            .retype(object, size_bits, self.root, slot.0, 1)
            .expect("there is room");
        C::from_cptr(slot)
    }

    pub fn badged<C: Capability>(&mut self, original: C, badge: u64) -> C {
        self.minted(original, CapRights::ALL, badge)
    }

    pub fn minted<C: Capability>(&mut self, original: C, rights: CapRights, badge: u64) -> C {
        let slot = self.slots(1);
        let source = self.root.slot(original.cptr());
        self.root
            .slot(slot)
            .mint_from(source, rights, badge)
            .expect("it has no badge yet");
        C::from_cptr(slot)
    }

    /// An inbox of so many slots.
    pub fn inbox(&mut self, slots: u32) -> Arc<Inbox> {
        let first = NonZeroU64::new(self.slots(u64::from(slots)).0);
        Inbox::new(self.root, first.expect("slot 0 is the kernel's"), slots)
    }

    /// A timer that sets `badge` in `wake`.
    pub fn timer(&mut self, wake: Notification, badge: u64) -> Timer {
        let timer: Timer = self.make(ObjectType::Timer, 0);
        let bell = self.badged(wake, badge);
        timer.bind(bell).expect("a notification");
        timer
    }

    /// Lets a thread run `entry`, with `wake` bound to it.
    pub fn start(
        &mut self,
        entry: extern "C" fn() -> !,
        page: &'static BufferPage,
        wake: Notification,
    ) {
        let thread: Tcb = self.make(ObjectType::Tcb, 0);
        let context = self.budget();
        let own = Tcb::from_cptr(InitialSlot::Tcb.cptr());
        let buffer = page.0.as_ptr().addr() as u64;
        page.0[POINTER_WORD].store(buffer, Ordering::Release);
        let frame = self.boot_info.user_image_frames.start + (buffer - IMAGE_FIRST) / 4096;
        let radix = u32::try_from(self.boot_info.cnode_size_bits).expect("a radix");
        let spaces = ThreadSpaces {
            cspace: self.root,
            cspace_data: CNodeData::new(0, 64 - radix),
            vspace: VSpace::from_cptr(InitialSlot::VSpace.cptr()),
        };
        thread
            .configure(&spaces, buffer, Frame::from_cptr(CPtr(frame)))
            .expect("the root's own");
        thread
            .set_sched_params(own, 254, 254, Some(context), None)
            .expect("root may");
        thread.bind_notification(wake).expect("neither is bound");
        let stack = Box::leak(vec![0_u8; STACK_BYTES].into_boxed_slice());
        let top = (stack.as_ptr_range().end.addr() as u64) & !15;
        let registers = UserContext {
            rip: entry as *const () as u64,
            // A function expects what a call leaves: 8 bytes on an aligned stack.
            rsp: top - 8,
            fs_base: buffer,
            ..UserContext::default()
        };
        thread
            .write_registers_and_resume(&registers)
            .expect("a thread");
        let read = thread.read_registers().expect("a thread");
        assert_eq!(read.fs_base, buffer);
    }

    /// All of the first CPU's time.
    fn budget(&mut self) -> SchedContext {
        let context: SchedContext = self.make(ObjectType::SchedContext, 8);
        let control = SchedControl::from_cptr(CPtr(self.boot_info.sched_control.start));
        let parameters = SchedParameters {
            budget_us: 10_000,
            period_us: 10_000,
            extra_refills: 0,
            badge: 0,
            refill: Refill::Full,
        };
        control
            .configure(context, &parameters)
            .expect("a budget that can be");
        context
    }
}
