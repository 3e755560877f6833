//! A booted kernel with two CPUs, and what the hardware around it remembers.

use std::cell::Cell;

use microkernel::arch::host::MACHINE;
use microkernel::boot;
use microkernel::cap::{CNodeCap, Cap};
use microkernel::ipc::Patience;
use microkernel::kernel::Kernel;
use microkernel::object::{BufferUse, Slot, Tcb, TcbSlot, ThreadState};
use microkernel::store::Ref;
use microkernel::time::Entry;
use sel4_sys::{InitialSlot, InvocationLabel as Label, MessageInfo, ObjectType, Syscall};

use crate::events::{Call, Event, Role, Step};
use crate::objects::{self, FIRST_SERVER, Group, PRIORITIES};
use crate::support::{Memory, machine_with, root_task};

/// CPUs of the machine.
pub const CPUS: usize = 2;
/// Ticks in a microsecond: the machine's counter runs at 1 GHz.
pub const MICROSECOND: u64 = 1000;
/// Words of the IPC buffer: first capability address, first word of the receive slot.
const CAPS_WORD: usize = 122;
const RECEIVE_WORD: usize = 125;
/// Bytes of the `syscall` instruction.
const SYSCALL_BYTES: u64 = 2;

/// The way that messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The ordinary one only.
    Ordinary,
    /// The fast one where that takes them.
    Fast,
}

/// The machine.
pub struct World {
    path: Path,
    pub kernel: Box<Kernel>,
    /// Its memory, which must outlive it.
    _memory: Memory,
    /// What each CPU's timer was last set to.
    deadlines: [Cell<u64>; CPUS],
    /// Bit for each CPU with an undelivered kick.
    kicks: Cell<u64>,
    /// The CNode that all threads share.
    root: CNodeCap,
    /// How often a thread had to be resumed because all waited.
    rescues: Cell<u64>,
}

impl World {
    /// Boots, makes objects of every kind, and lets the threads run.
    pub fn new(path: Path) -> Self {
        let kernel = Box::new(Kernel::new());
        let memory = Memory::new();
        MACHINE.with(|m| {
            m.node.set(0);
            m.now.set(MICROSECOND);
            m.kicked.set(0);
            m.interrupt.set(false);
        });
        kernel.update_timestamp();
        boot::boot(&kernel, &machine_with(&memory, &root_task(), CPUS)).unwrap();
        kernel.leave();
        let root = root_cnode(kernel.current());
        assert!(root.slots.element(objects::FIRST_SLOT as usize).is_empty());
        let world = Self {
            path,
            kernel,
            _memory: memory,
            deadlines: [const { Cell::new(u64::MAX) }; CPUS],
            kicks: Cell::new(0),
            root,
            rescues: Cell::new(0),
        };
        for cpu in 0..CPUS {
            world.enter_as(cpu, |_| {});
        }
        objects::make_all(&world);
        world
    }

    /// Address of a slot that the tests use.
    pub fn address(&self, offset: u64) -> u64 {
        objects::FIRST_SLOT + offset
    }

    /// All slots with capabilities that a call can name, and the ones behind them.
    pub fn slots(&self) -> impl Iterator<Item = Ref<Slot>> {
        let root = self.root.slots;
        (0..(objects::FIRST_SLOT + objects::SLOTS) as usize).map(move |index| root.element(index))
    }

    /// What CPU `cpu`'s timer is set to.
    pub fn deadline(&self, cpu: usize) -> u64 {
        self.deadlines[cpu].get()
    }

    /// Whether a kick is under way to CPU `cpu`.
    pub fn is_kicked(&self, cpu: usize) -> bool {
        self.kicks.get() & 1 << cpu != 0
    }

    /// One kernel entry of CPU `cpu`.
    fn enter_as(&self, cpu: usize, handle: impl FnOnce(Entry)) {
        MACHINE.with(|m| {
            m.node.set(cpu);
            m.kicked.set(0);
            m.deadline.set(self.deadlines[cpu].get());
        });
        let entry = self.kernel.enter();
        handle(entry);
        self.kernel.leave();
        MACHINE.with(|m| {
            self.kicks.set(self.kicks.get() | m.kicked.get());
            self.deadlines[cpu].set(m.deadline.get());
        });
    }

    /// Lets time pass and something happen on one CPU.
    pub fn perform(&self, step: &Step) {
        MACHINE.with(|m| {
            m.now.set(m.now.get() + step.passes);
            m.interrupt.set(step.interrupted);
        });
        let cpu = step.cpu;
        if MACHINE.with(|m| m.now.get()) >= self.deadlines[cpu].get() {
            // The timer is one-shot; what must come later is set again.
            self.deadlines[cpu].set(u64::MAX);
            self.enter_as(cpu, |_| self.kernel.handle_timer_interrupt());
        }
        match &step.event {
            Event::Exchange(call, role) => {
                let answer = self.answer(cpu, call).filter(|_| *role == Role::Server);
                let event = Event::Call(answer.unwrap_or_else(|| call.clone()));
                self.perform(&Step {
                    event,
                    ..step.clone()
                });
            }
            Event::Call(call) if self.hops(cpu, call) => {}
            Event::Call(call) => self.user_entry(cpu, |tcb| {
                self.load(tcb, call);
                self.kernel.handle_syscall(call.number);
            }),
            Event::PageFault(address) => {
                self.user_entry(cpu, |_| self.kernel.handle_page_fault(*address, 4, 0));
            }
            Event::Exception(number) => {
                self.user_entry(cpu, |_| self.kernel.handle_exception(*number, 0));
            }
            Event::Interrupt(irq) => self.enter_as(cpu, |_| self.kernel.handle_interrupt(*irq)),
            Event::Timer => self.enter_as(cpu, |_| self.kernel.handle_timer_interrupt()),
            Event::Kick => {
                self.kicks.set(self.kicks.get() & !(1 << cpu));
                self.enter_as(cpu, |_| self.kernel.handle_kick());
            }
            Event::Resume(number) => self.resume(cpu, *number),
        }
    }

    /// Lets a kick come before the CPU's next instruction.
    pub fn take_kick(&self, cpu: usize) {
        if self.is_kicked(cpu) {
            self.perform(&Step {
                cpu,
                passes: 0,
                interrupted: false,
                event: Event::Kick,
            });
        }
    }

    /// Lets a thread without time wait for calls, as if it had run as far as that. Whether it was
    /// such a server, and everything that it needs is still there and unused.
    fn serve(&self, number: u64, tcb: Ref<Tcb>) -> bool {
        let cap = |group: Group| {
            let address = self.address(group.offset() + number % 2);
            self.root.slots.element(address as usize).cap()
        };
        let is_server = number >= FIRST_SERVER
            && tcb.state.get() == ThreadState::Inactive
            && tcb.sched_context.get().is_none()
            && tcb.bound_notification.get().is_none();
        let (Cap::Endpoint(e), Cap::Reply { reply, .. }) =
            (cap(Group::Endpoints), cap(Group::Replies))
        else {
            return false;
        };
        if !is_server || e.endpoint.sender().is_some() || reply.tcb.get().is_some() {
            return false;
        }
        // As resuming does: it forgets a fault that nobody could answer.
        self.kernel.cancel_ipc(tcb);
        self.kernel
            .receive_ipc(tcb, e.endpoint, Patience::Blocking, Some(reply));
        true
    }

    /// Someone whom the tests do not see resumes a thread, and lends it time if it has none.
    fn resume(&self, cpu: usize, number: u64) {
        let address = self.address(Group::Threads.offset() + number);
        let Cap::Thread { tcb } = self.root.slots.element(address as usize).cap() else {
            return;
        };
        let first = self.address(Group::Contexts.offset());
        let contexts = first..first + Group::Contexts.count();
        let free =
            contexts.filter_map(
                |address| match self.root.slots.element(address as usize).cap() {
                    Cap::SchedContext { context, .. } => Some(context),
                    _ => None,
                },
            );
        let free = free
            .into_iter()
            .find(|c| c.is_active() && c.tcb.get().is_none());
        self.enter_as(cpu, |_| {
            self.kernel.stall(tcb);
            if self.serve(number, tcb) {
                return;
            }
            self.kernel.restart(tcb);
            if let Some(context) = free
                && tcb.sched_context.get().is_none()
            {
                self.kernel.bind_tcb(context, tcb);
            }
        });
    }

    /// All threads wait: resumes one in turn, those first that nobody else will.
    fn rescue(&self, cpu: usize) {
        self.rescues.set(self.rescues.get() + 1);
        let count = Group::Threads.count();
        let stopped = |number: u64| {
            let address = self.address(Group::Threads.offset() + number);
            let cap = self.root.slots.element(address as usize).cap();
            matches!(cap, Cap::Thread { tcb } if tcb.state.get() == ThreadState::Inactive)
        };
        let in_turn = (0..count).map(|n| (n + self.rescues.get()) % count);
        let number = in_turn
            .clone()
            .find(|n| stopped(*n))
            .or(in_turn.clone().next());
        if let Some(number) = number {
            self.resume(cpu, number);
        }
    }

    /// The ReplyRecv of a server that waits again for what it waited for, if the current thread has a
    /// caller. Servers use the reply object that goes with their endpoint.
    fn answer(&self, cpu: usize, call: &Call) -> Option<Call> {
        let context = self.kernel.nodes[cpu].current().sched_context.get()?;
        let top = context.reply.get()?;
        let index = (0..Group::Replies.count()).find(|index| {
            let address = self.address(Group::Replies.offset() + index);
            let slot = self.root.slots.element(address as usize);
            matches!(slot.cap(), Cap::Reply { reply, .. } if reply == top)
        })?;
        Some(Call {
            number: Syscall::ReplyRecv.number(),
            cap: Group::Endpoints.word(index),
            reply: Group::Replies.word(index),
            ..call.clone()
        })
    }

    /// Makes a call by the fast path, if this world has one and the path takes it.
    fn hops(&self, cpu: usize, call: &Call) -> bool {
        let node = &self.kernel.nodes[cpu];
        let tcb = node.current();
        let Ok(syscall) = Syscall::try_from(call.number) else {
            return false;
        };
        if self.path == Path::Ordinary || node.idle.get() == Some(tcb) || node.stalled.get() {
            return false;
        }
        MACHINE.with(|m| m.node.set(cpu));
        let (rip, restart_ip) = (tcb.registers.rip.get(), tcb.restart_ip.get());
        self.load(tcb, call);
        let (address, info) = (tcb.registers.rdi.get(), tcb.registers.rsi.get());
        let next = self.kernel.fast_syscall(tcb, syscall, address, info);
        if next.is_none() {
            tcb.registers.rip.set(rip);
            tcb.restart_ip.set(restart_ip);
        }
        next.is_some()
    }

    /// An entry that the current thread causes, void if the thread was taken away. While the CPU
    /// idles, someone resumes a thread instead.
    fn user_entry(&self, cpu: usize, handle: impl FnOnce(Ref<Tcb>)) {
        let node = &self.kernel.nodes[cpu];
        let idles = node.idle.get() == node.current.get();
        if idles && !node.stalled.get() {
            return self.rescue(cpu);
        }
        self.enter_as(cpu, |entry| {
            if entry == Entry::Proceed && !idles {
                handle(node.current());
            }
        });
    }

    /// Puts a call into the registers and the IPC buffer of a thread.
    fn load(&self, tcb: Ref<Tcb>, call: &Call) {
        let r = &tcb.registers;
        r.rip.set(r.rip.get() + SYSCALL_BYTES);
        tcb.restart_ip.set(r.rip.get() - SYSCALL_BYTES);
        let info = MessageInfo::new(call.label, call.words.len(), call.caps.len());
        r.rdi.set(self.resolve(call.cap));
        r.rsi.set(info.word());
        r.rdx.set(call.number);
        r.r12.set(self.resolve(call.reply));
        r.r13.set(self.resolve(call.second));
        for (register, word) in r.message().iter().zip(&call.words) {
            register.set(self.resolve(*word));
        }
        let Some(buffer) = tcb.ipc_buffer(BufferUse::Send) else {
            return;
        };
        for (index, word) in call.words.iter().enumerate().skip(4) {
            buffer.word(1 + index).set(self.resolve(*word));
        }
        for (index, cap) in call.caps.iter().enumerate() {
            buffer.word(CAPS_WORD + index).set(self.resolve(*cap));
        }
        let receive = [InitialSlot::CNode.number(), self.resolve(call.receive), 64];
        for (index, word) in receive.into_iter().enumerate() {
            buffer.word(RECEIVE_WORD + index).set(word);
        }
    }

    /// Words that mean a slot of the tests become its address.
    fn resolve(&self, word: u64) -> u64 {
        match word.checked_sub(objects::SLOT_WORDS) {
            Some(offset) if offset < objects::SLOTS => self.address(offset),
            _ => word,
        }
    }

    /// A call of the root task that must succeed.
    pub fn call(&self, cap: u64, label: Label, words: &[u64], caps: &[u64]) {
        let call = Call {
            number: Syscall::Call.number(),
            cap,
            label: label.number(),
            words: words.to_vec(),
            caps: caps.to_vec(),
            ..Call::default()
        };
        let root = self.kernel.nodes[0].current();
        self.user_entry(0, |tcb| {
            self.load(tcb, &call);
            self.kernel.handle_syscall(call.number);
        });
        let info = MessageInfo::from_word(root.registers.rsi.get());
        assert_eq!(info.label(), 0, "{label:?} {words:x?} {caps:x?}");
    }

    /// Retypes the largest untyped that boot listed.
    pub fn retype(&self, object: ObjectType, size_bits: u64, offset: u64, count: u64) {
        let words = [
            object.number(),
            size_bits,
            0,
            0,
            self.address(offset),
            count,
        ];
        let untyped = objects::largest_untyped(self.root, objects::FIRST_SLOT);
        self.call(
            untyped,
            Label::UntypedRetype,
            &words,
            &[InitialSlot::CNode.number()],
        );
    }

    /// Makes thread `thread` a passive server of endpoint `endpoint` on CPU 0 that waits.
    pub fn let_serve(&self, thread: u64, endpoint: u64, reply: u64) {
        let cap = |group: Group, index| {
            let address = self.address(group.offset() + index);
            self.root.slots.element(address as usize).cap()
        };
        let caps = (
            cap(Group::Threads, thread),
            cap(Group::Endpoints, endpoint),
            cap(Group::Replies, reply),
        );
        let (Cap::Thread { tcb }, Cap::Endpoint(e), Cap::Reply { reply, .. }) = caps else {
            panic!("{caps:?} are no thread, endpoint and reply");
        };
        self.enter_as(0, |_| {
            if let Some(context) = tcb.sched_context.get() {
                self.kernel.unbind_tcb(context);
            }
            tcb.node.set(0);
            let patience = Patience::Blocking;
            self.kernel
                .receive_ipc(tcb, e.endpoint, patience, Some(reply));
            assert!(self.kernel.space_of(tcb).is_some());
        });
    }

    /// Ends the setup: the root task becomes one of the threads.
    pub fn join_the_others(&self) {
        let own = InitialSlot::Tcb.number();
        self.call(own, Label::TcbSetPriority, &[PRIORITIES[0]], &[own]);
    }
}

fn root_cnode(tcb: Ref<Tcb>) -> CNodeCap {
    match tcb.slot(TcbSlot::CSpace).cap() {
        Cap::CNode(node) => node,
        other => panic!("the root task has {other:?} as its capability space"),
    }
}
