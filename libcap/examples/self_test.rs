//! A root task that tries libcap on the kernel: system calls, invocations, the event loop.
//!
//! It makes a server thread out of untyped memory, runs the echo protocol against it and counts
//! what a call costs. It says what it finds on the debug port and ends with `SELF TEST PASSED`; whatever
//! goes wrong is a panic instead. Boot it in place of root: `make iso ROOT=...`.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::{
    CNode, Capability, Frame, Refill, SchedContext, SchedControl, SchedParameters, Tcb,
    ThreadSpaces, Timer, Untyped, VSpace,
};
use libcap::executor::{Executor, KernelEvents, Reactor};
use libcap::lock::Mutex;
use libcap::runtime::BootEnv;
use libcap::{Endpoint, KernelError, Notification, Reply, kernel, log};
use proto::echo::{Echo, EchoClient, EchoError, EchoServer};
use proto::protocol::{CallError, Caller};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CPtr, CapRights, InitialSlot, ObjectType};

/// Bytes of the server thread's stack: an event loop and a message on its way take a few KiB.
const STACK_BYTES: usize = 64 << 10;
/// Calls of one measurement.
const CALLS: u64 = 10_000;
/// First address of a program's image.
const IMAGE_BASE: u64 = 0x40_0000;
/// Word of the IPC buffer's page that holds the page's own address.
const POINTER_WORD: usize = proto::start::IPC_BUFFER_POINTER_OFFSET as usize / 8;

/// The page of the server thread's IPC buffer, part of the image.
#[repr(C, align(4096))]
struct BufferPage([AtomicU64; 512]);

static BUFFER: BufferPage = BufferPage([const { AtomicU64::new(0) }; 512]);

/// What the server thread starts with.
static EVENTS: Mutex<Option<KernelEvents>> = Mutex::new(None);

libcap::root_task!(main, heap_bytes = 256 << 10);

fn main(env: BootEnv) -> ! {
    log!(
        "self test: {} untyped capabilities",
        env.boot_info.untyped.length()
    );
    let mut maker = Maker::new(&env);
    refusals_are_told(&maker);
    let (endpoint, bell) = start_server(&mut maker, &env);
    conversation(&EchoClient::new(endpoint));
    log!(
        "a signal costs {} ticks",
        ticks_each(CALLS, || bell.signal())
    );
    let client = EchoClient::new(endpoint);
    log!(
        "a call with its reply costs {} ticks",
        ticks_each(CALLS, || assert_eq!(client.add(1, 2), Ok(3)))
    );
    log!("SELF TEST PASSED");
    loop {
        kernel::yield_now();
    }
}

/// Makes objects out of the largest untyped memory.
struct Maker {
    untyped: Untyped,
    root: CNode,
    next: u64,
}

impl Maker {
    fn new(env: &BootEnv) -> Self {
        let (slot, _) = env
            .boot_info
            .untyped()
            .filter(|(_, untyped)| untyped.is_device == 0)
            .max_by_key(|(_, untyped)| untyped.size_bits)
            .expect("there is memory");
        Self {
            untyped: Untyped::from_cptr(CPtr(slot)),
            root: CNode::from_cptr(InitialSlot::CNode.cptr()),
            next: env.boot_info.empty.start,
        }
    }

    fn slot(&mut self) -> CPtr {
        self.next += 1;
        CPtr(self.next - 1)
    }

    fn make<C: Capability>(&mut self, object: ObjectType, size_bits: u32) -> C {
        let slot = self.slot();
        self.untyped
            .retype(object, size_bits, self.root, slot.0, 1)
            .expect("there is room");
        C::from_cptr(slot)
    }

    fn badged<C: Capability>(&mut self, original: C, badge: u64) -> C {
        let slot = self.slot();
        let source = self.root.slot(original.cptr());
        self.root
            .slot(slot)
            .mint_from(source, CapRights::ALL, badge)
            .expect("it has no badge yet");
        C::from_cptr(slot)
    }
}

fn refusals_are_told(maker: &Maker) {
    let taken = InitialSlot::Tcb.number();
    let refused = maker
        .untyped
        .retype(ObjectType::Endpoint, 0, maker.root, taken, 1);
    assert_eq!(refused, Err(KernelError::DeleteFirst));
    let thread = Tcb::from_cptr(InitialSlot::Tcb.cptr());
    let refused = thread.set_priority(Tcb::from_cptr(InitialSlot::CNode.cptr()), 1);
    assert!(
        matches!(refused, Err(KernelError::InvalidCapability { .. })),
        "{refused:?}"
    );
}

/// Builds a server thread and returns the way to it and to its bound notification.
fn start_server(maker: &mut Maker, env: &BootEnv) -> (Endpoint, Notification) {
    let endpoint: Endpoint = maker.make(ObjectType::Endpoint, 0);
    let wake: Notification = maker.make(ObjectType::Notification, 0);
    let timer: Timer = maker.make(ObjectType::Timer, 0);
    let timer_bell = maker.badged(wake, 0b01);
    timer.bind(timer_bell).expect("a notification");
    let replies = (0..4)
        .map(|_| maker.make::<Reply>(ObjectType::Reply, 0))
        .collect();
    *EVENTS.lock() = Some(KernelEvents::new(
        Some(endpoint),
        wake,
        replies,
        Some(timer),
    ));

    let thread: Tcb = maker.make(ObjectType::Tcb, 0);
    let context: SchedContext = maker.make(ObjectType::SchedContext, 8);
    let control = SchedControl::from_cptr(CPtr(env.boot_info.sched_control.start));
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
    let own = Tcb::from_cptr(InitialSlot::Tcb.cptr());
    let buffer = BUFFER.0.as_ptr().addr() as u64;
    BUFFER.0[POINTER_WORD].store(buffer, Ordering::Release);
    let frame = env.boot_info.user_image_frames.start + (buffer - IMAGE_BASE) / 4096;
    let radix = u32::try_from(env.boot_info.cnode_size_bits).expect("a radix");
    let spaces = ThreadSpaces {
        cspace: maker.root,
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
        rip: serve as *const () as u64,
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
    (
        maker.badged(endpoint, Caller(7).badge()),
        maker.badged(wake, 0b10),
    )
}

struct Server<'r> {
    reactor: &'r Reactor,
}

impl EchoServer for Server<'_> {
    async fn repeat(&self, _: Caller, bytes: Vec<u8>) -> Result<Vec<u8>, EchoError> {
        Ok(bytes)
    }

    async fn add(&self, _: Caller, left: u64, right: u64) -> Result<u64, EchoError> {
        left.checked_add(right).ok_or(EchoError::Overflow)
    }

    async fn wait(&self, _: Caller, delay: u64) -> Result<(), EchoError> {
        self.reactor.sleep_until(kernel::time_stamp() + delay).await;
        Ok(())
    }

    async fn who_am_i(&self, caller: Caller) -> Result<u64, EchoError> {
        Ok(caller.0)
    }
}

extern "C" fn serve() -> ! {
    let events = EVENTS.lock().take().expect("main put it there");
    let reactor = Reactor::new();
    let server = Server { reactor: &reactor };
    Executor::new(&reactor, events).serve::<Echo, _>(&server)
}

fn conversation(client: &EchoClient<Endpoint>) {
    const DELAY: u64 = 10_000_000;
    assert_eq!(client.add(40, 2), Ok(42));
    assert_eq!(
        client.add(u64::MAX, 1),
        Err(CallError::Server(EchoError::Overflow))
    );
    assert_eq!(client.who_am_i(), Ok(7));
    for length in [0, 1, 29, 30, 31, 500, 950] {
        let bytes: Vec<u8> = (0..length).map(|index| (index * 31) as u8).collect();
        assert_eq!(client.repeat(bytes.clone()), Ok(bytes));
    }
    let before = kernel::time_stamp();
    assert_eq!(client.wait(DELAY), Ok(()));
    assert!(kernel::time_stamp() - before >= DELAY);
    log!("the server speaks the protocol and sleeps");
}

/// Ticks of the time-stamp counter that `action` takes on average.
fn ticks_each(times: u64, mut action: impl FnMut()) -> u64 {
    let before = kernel::time_stamp();
    for _ in 0..times {
        action();
    }
    (kernel::time_stamp() - before) / times
}
