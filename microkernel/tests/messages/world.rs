//! A kernel with a client that runs and a passive server that waits.

use microkernel::cap::{
    Asid, CNodeCap, Cap, EndpointCap, FrameCap, FrameSize, MapSpace, Rights, RootCap,
};
use microkernel::ipc::Patience;
use microkernel::kernel::{Kernel, SchedulerAction};
use microkernel::object::{
    AsidPool, BufferUse, Endpoint, Reply, SchedContext, Slot, Tcb, TcbSlot, ThreadState,
};
use microkernel::store::{IpcBuffer, Object, Ref, Table};
use sel4_sys::{InvocationLabel, MessageInfo, Syscall};

/// Slot of the endpoint, with badge [`BADGE`].
pub const ENDPOINT: u64 = 1;
/// Slot of the reply object.
pub const REPLY: u64 = 2;
/// Slot of the endpoint without rights to be answered.
pub const SEND_ONLY: u64 = 3;
/// Slot of the client's thread.
pub const THREAD: u64 = 4;
/// Slot of the client's scheduling context.
pub const CONTEXT: u64 = 5;
/// Slot of the control of CPU 0's time.
pub const CONTROL: u64 = 6;
/// Badge of the endpoint capability.
pub const BADGE: u64 = 0x77;
/// Word of the IPC buffer with the address of the first extra capability.
const CAPS_WORD: usize = 122;
/// Guard that makes addresses plain slot numbers.
const GUARD_SIZE: u8 = 60;

/// Zeroed memory for one object that lives until the process ends.
pub fn object<T: Object>() -> Ref<T> {
    // A scheduling context is followed by its refills: the next power of two has room for two.
    let size = size_of::<T>().next_power_of_two();
    let memory = vec![0u8; 2 * size].leak();
    Ref::from_address((memory.as_ptr() as usize).next_multiple_of(size))
}

/// The objects of the test.
pub struct World {
    pub kernel: &'static Kernel,
    pub client: Ref<Tcb>,
    pub server: Ref<Tcb>,
    pub idle: Ref<Tcb>,
    pub endpoint: Ref<Endpoint>,
    pub reply: Ref<Reply>,
    pub context: Ref<SchedContext>,
    pub cnode: Ref<Slot>,
}

impl World {
    /// The client runs with time; the server waits on the endpoint without.
    pub fn new() -> Self {
        let kernel: &'static Kernel = Box::leak(Box::new(Kernel::new()));
        kernel.set_clock(1000);
        let slots = vec![0u8; 32 * 17].leak();
        let cnode: Ref<Slot> = Ref::from_address((slots.as_ptr() as usize).next_multiple_of(32));
        let world = Self {
            kernel,
            client: object(),
            server: object(),
            idle: object(),
            endpoint: object(),
            reply: object(),
            context: object(),
            cnode,
        };
        world.fill_slots();
        world.start_threads();
        world
    }

    fn fill_slots(&self) {
        let endpoint = self.endpoint;
        let all = EndpointCap {
            endpoint,
            badge: BADGE,
            rights: Rights::ALL,
        };
        self.cnode
            .element(ENDPOINT as usize)
            .set_cap(Cap::Endpoint(all));
        let send_only = Cap::Endpoint(EndpointCap {
            rights: Rights::WRITE,
            ..all
        });
        self.cnode.element(SEND_ONLY as usize).set_cap(send_only);
        let reply = Cap::Reply {
            reply: self.reply,
            can_grant: true,
        };
        self.cnode.element(REPLY as usize).set_cap(reply);
        let thread = Cap::Thread { tcb: self.client };
        self.cnode.element(THREAD as usize).set_cap(thread);
        let context = Cap::SchedContext {
            context: self.context,
            size_bits: SchedContext::MIN_SIZE_BITS,
        };
        self.cnode.element(CONTEXT as usize).set_cap(context);
        let control = Cap::SchedControl { node: 0 };
        self.cnode.element(CONTROL as usize).set_cap(control);
    }

    /// A round-robin context of a thousand microseconds that nobody runs on.
    pub fn new_context(&self) -> Ref<SchedContext> {
        let context: Ref<SchedContext> = object();
        context.configure_new(2, 1_000_000, 0, &self.kernel.clock());
        context
    }

    fn start_threads(&self) {
        let pool: Ref<AsidPool> = object();
        self.kernel.asid_pools[0].set(Some(pool));
        for (number, tcb) in [self.client, self.server].into_iter().enumerate() {
            let asid = Asid::new(1 + number as u16);
            let root = RootCap {
                table: object::<Table>(),
                space: MapSpace::Virtual,
                asid,
            };
            self.kernel.assign_asid(pool, asid.unwrap(), &root);
            tcb.slot(TcbSlot::VSpace).set_cap(Cap::Root(root));
            tcb.slot(TcbSlot::CSpace).set_cap(Cap::CNode(CNodeCap {
                slots: self.cnode,
                radix: 4,
                guard_size: GUARD_SIZE,
                guard: 0,
            }));
            tcb.priority.set(100);
            tcb.state.set(ThreadState::Running);
            // Both have run before.
            assert!(self.kernel.space_of(tcb).is_some());
        }
        self.context
            .configure_new(2, 1_000_000, 0, &self.kernel.clock());
        self.context.tcb.set(Some(self.client));
        self.client.sched_context.set(Some(self.context));
        self.idle.state.set(ThreadState::Idle);
        let node = self.kernel.node();
        node.idle.set(Some(self.idle));
        node.domain_time.set(u64::MAX);
        node.current.set(Some(self.client));
        node.current_context.set(Some(self.context));
        self.kernel.receive_ipc(
            self.server,
            self.endpoint,
            Patience::Blocking,
            Some(self.reply),
        );
        node.action.set(SchedulerAction::ResumeCurrent);
    }

    /// Puts a system call's registers into the current thread.
    pub fn load(&self, cap: u64, reply: u64, label: u64, words: &[u64]) -> u64 {
        let registers = &self.kernel.current().registers;
        for (register, word) in registers.message().into_iter().zip(words) {
            register.set(*word);
        }
        registers.rdi.set(cap);
        registers.r12.set(reply);
        let info = MessageInfo::new(label, words.len(), 0).word();
        registers.rsi.set(info);
        info
    }

    /// The current thread invokes a capability with words and extra capabilities that registers
    /// do not hold; it gets an IPC buffer for them. Returns the label of the answer.
    pub fn invoke(&self, cap: u64, label: InvocationLabel, words: &[u64], caps: &[u64]) -> u64 {
        let tcb = self.kernel.current();
        let buffer = self.give_buffer(tcb);
        self.load(cap, 0, label.number(), words);
        for (index, word) in words.iter().enumerate().skip(4) {
            buffer.word(1 + index).set(*word);
        }
        for (index, cap) in caps.iter().enumerate() {
            buffer.word(CAPS_WORD + index).set(*cap);
        }
        let info = MessageInfo::new(label.number(), words.len(), caps.len());
        tcb.registers.rsi.set(info.word());
        self.syscall(Syscall::Call);
        MessageInfo::from_word(tcb.registers.rsi.get()).label()
    }

    /// A new IPC buffer for a thread.
    pub fn give_buffer(&self, tcb: Ref<Tcb>) -> Ref<IpcBuffer> {
        let frame = Cap::Frame(FrameCap {
            base: object::<Table>().address(),
            size: FrameSize::Small,
            device: false,
            rights: Rights::ALL,
            space: MapSpace::Virtual,
            mapping: None,
        });
        tcb.slot(TcbSlot::IpcBuffer).set_cap(frame);
        tcb.ipc_buffer(BufferUse::Receive).unwrap()
    }

    /// The current thread makes a system call, the ordinary way.
    pub fn syscall(&self, syscall: Syscall) {
        self.kernel.enter();
        self.kernel.handle_syscall(syscall.number());
        self.kernel.leave();
    }

    fn name(&self, tcb: Option<Ref<Tcb>>) -> &'static str {
        match tcb {
            Some(t) if t == self.client => "client",
            Some(t) if t == self.server => "server",
            Some(t) if t == self.idle => "idle",
            Some(_) => "?",
            None => "-",
        }
    }

    /// Everything that a message can change, in words.
    pub fn snapshot(&self) -> String {
        let thread = |tcb: Ref<Tcb>| {
            let registers = tcb.registers.all().map(core::cell::Cell::get);
            format!(
                "{:?} {:x?} reply {} time {}",
                tcb.state.get(),
                registers,
                tcb.reply.get() == Some(self.reply),
                tcb.sched_context.get() == Some(self.context),
            )
        };
        format!(
            "runs {}\nclient {}\nserver {}\nreply of {} top {}\ntime of {} stack {}\nqueue {:?}",
            self.name(self.kernel.node().current.get()),
            thread(self.client),
            thread(self.server),
            self.name(self.reply.tcb.get()),
            self.reply.sched_context.get() == Some(self.context),
            self.name(self.context.tcb.get()),
            self.context.reply.get() == Some(self.reply),
            self.endpoint
                .queue
                .iter()
                .map(|t| self.name(Some(t)))
                .collect::<Vec<_>>(),
        )
    }
}
