//! A machine with one thread, one root CNode and some untyped memory, for tests.

use std::cell::Cell;

use microkernel::cap::{CNodeCap, Cap, Rights, UntypedCap};
use microkernel::derivation;
use microkernel::fault::SyscallError;
use microkernel::invocation::{self, Answer, Arguments, Outcome, Refusal};
use microkernel::kernel::Kernel;
use microkernel::object::{Slot, Tcb};
use microkernel::store::{IpcBuffer, Ref};
use sel4_sys::{InvocationLabel, ObjectType};

/// Base-2 logarithm of the bytes of untyped memory.
pub const ARENA_BITS: u8 = 18;
/// The root CNode has 64 slots and no guard: an address of depth 6 names one of them.
pub const ROOT_RADIX: u8 = 6;

/// Root slots that are full at the start.
pub const UNTYPED: usize = 1;
/// Control of interrupts.
pub const IRQ_CONTROL: usize = 2;
/// Control of I/O ports.
pub const IO_PORT_CONTROL: usize = 3;
/// The root CNode itself.
pub const ROOT_CNODE: usize = 4;
/// Untyped device memory; nobody reads or writes it.
pub const DEVICE: usize = 5;
/// First root slot that is empty.
pub const FREE: usize = 8;

/// Where the device memory would be.
pub const DEVICE_BASE: usize = 0x10_0000_0000;

const WORD_BYTES: usize = size_of::<u64>();
const ARENA_WORDS: usize = (1 << ARENA_BITS) / WORD_BYTES;
const ROOT_WORDS: usize = (1 << (ROOT_RADIX + Slot::SIZE_BITS)) / WORD_BYTES;
const TCB_WORDS: usize = (1 << Tcb::SIZE_BITS) / WORD_BYTES;
const BUFFER_WORDS: usize = size_of::<IpcBuffer>() / WORD_BYTES;

/// The machine.
pub struct World {
    /// Its kernel.
    pub kernel: Box<Kernel>,
    memory: Vec<Cell<u64>>,
    /// Address of the untyped memory.
    pub arena: usize,
    tcb: Ref<Tcb>,
    buffer: Ref<IpcBuffer>,
}

/// All that a refused call may not change.
#[derive(PartialEq, Eq)]
pub struct Snapshot {
    words: Vec<u64>,
    kernel: Vec<u64>,
}

impl World {
    /// A machine after boot.
    pub fn new() -> Self {
        let words = 2 * ARENA_WORDS + ROOT_WORDS + TCB_WORDS + BUFFER_WORDS;
        let memory = vec![Cell::new(0); words];
        let arena = (memory.as_ptr() as usize).next_multiple_of(1 << ARENA_BITS);
        let root = arena + ARENA_WORDS * WORD_BYTES;
        let tcb = Ref::<Tcb>::from_address(root + ROOT_WORDS * WORD_BYTES);
        let buffer = Ref::from_address(tcb.address() + TCB_WORDS * WORD_BYTES);
        let world = Self {
            kernel: Box::new(Kernel::new()),
            memory,
            arena,
            tcb,
            buffer,
        };
        world.kernel.node().current.set(Some(tcb));
        let untyped = |base, size_bits, device| {
            Cap::Untyped(UntypedCap {
                base,
                size_bits,
                device,
                watermark: 0,
            })
        };
        let root = CNodeCap {
            slots: world.root(0),
            radix: ROOT_RADIX,
            guard_size: 0,
            guard: 0,
        };
        for (index, cap) in [
            (UNTYPED, untyped(arena, ARENA_BITS, false)),
            (IRQ_CONTROL, Cap::IrqControl),
            (IO_PORT_CONTROL, Cap::IoPortControl),
            (ROOT_CNODE, Cap::CNode(root)),
            (DEVICE, untyped(DEVICE_BASE, 16, true)),
        ] {
            derivation::insert_root(cap, world.root(index));
        }
        world
    }

    /// A slot of the root CNode.
    pub fn root(&self, index: usize) -> Ref<Slot> {
        assert!(index < 1 << ROOT_RADIX);
        Ref::<Slot>::from_address(self.arena + ARENA_WORDS * WORD_BYTES).element(index)
    }

    /// The capability in a slot of the root CNode.
    pub fn cap(&self, index: usize) -> Cap {
        self.root(index).cap()
    }

    /// Invokes the capability in `slot`.
    pub fn invoke(
        &self,
        slot: Ref<Slot>,
        label: InvocationLabel,
        words: &[u64],
        caps: &[Ref<Slot>],
    ) -> Outcome {
        for (index, word) in words.iter().enumerate() {
            match self.tcb.registers.message().get(index) {
                Some(register) => register.set(*word),
                None => self.buffer.word(1 + index).set(*word),
            }
        }
        let mut extra = [None; 3];
        for (place, cap) in extra.iter_mut().zip(caps) {
            *place = Some(*cap);
        }
        let arguments = Arguments {
            label: label.number(),
            length: words.len() as u64,
            slot,
            extra,
            tcb: self.tcb,
            buffer: Some(self.buffer),
        };
        invocation::perform(&self.kernel, slot.cap(), &arguments)
    }

    /// Invokes the capability in a root slot; what is preempted is started again.
    pub fn call(
        &self,
        index: usize,
        label: InvocationLabel,
        words: &[u64],
        caps: &[usize],
    ) -> Result<Vec<u64>, SyscallError> {
        let caps: Vec<_> = caps.iter().map(|&cap| self.root(cap)).collect();
        loop {
            match self.invoke(self.root(index), label, words, &caps) {
                Ok(Answer::Words(words)) => return Ok(words.to_vec()),
                Ok(Answer::Deferred) => return Ok(Vec::new()),
                Err(Refusal::Error(error)) => return Err(error),
                Err(Refusal::Preempted) => {}
            }
        }
    }

    /// Retypes `count` objects of the untyped in root slot `untyped` into root slots from `slot`.
    pub fn retype(
        &self,
        untyped: usize,
        object: ObjectType,
        size_bits: u64,
        slot: usize,
        count: u64,
    ) -> Result<(), SyscallError> {
        let words = [object.number(), size_bits, 0, 0, slot as u64, count];
        self.call(
            untyped,
            InvocationLabel::UntypedRetype,
            &words,
            &[ROOT_CNODE],
        )
        .map(drop)
    }

    /// A CNode invocation on the root CNode with its words at depth 6: the slot, then `rest`.
    pub fn cnode(
        &self,
        label: InvocationLabel,
        slot: usize,
        rest: &[u64],
    ) -> Result<(), SyscallError> {
        let mut words = vec![slot as u64, u64::from(ROOT_RADIX)];
        words.extend(rest);
        self.call(ROOT_CNODE, label, &words, &[ROOT_CNODE, ROOT_CNODE])
            .map(drop)
    }

    /// Copies a capability between root slots with all rights.
    pub fn copy(&self, source: usize, destination: usize) -> Result<(), SyscallError> {
        let words = [source as u64, u64::from(ROOT_RADIX), Rights::ALL.bits()];
        self.cnode(InvocationLabel::CNodeCopy, destination, &words)
    }

    /// Mints a capability between root slots with all rights.
    pub fn mint(&self, source: usize, destination: usize, data: u64) -> Result<(), SyscallError> {
        let words = [
            source as u64,
            u64::from(ROOT_RADIX),
            Rights::ALL.bits(),
            data,
        ];
        self.cnode(InvocationLabel::CNodeMint, destination, &words)
    }

    /// Deletes the capability in a root slot.
    pub fn delete(&self, slot: usize) {
        assert_eq!(self.cnode(InvocationLabel::CNodeDelete, slot, &[]), Ok(()));
    }

    /// Deletes what was derived from the capability in a root slot.
    pub fn revoke(&self, slot: usize) {
        assert_eq!(self.cnode(InvocationLabel::CNodeRevoke, slot, &[]), Ok(()));
    }

    /// The words of the untyped memory at byte offsets `range`.
    pub fn arena_words(&self, range: std::ops::Range<usize>) -> &[Cell<u64>] {
        let first = (self.arena - self.memory.as_ptr() as usize) / WORD_BYTES;
        &self.memory[first + range.start / WORD_BYTES..first + range.end / WORD_BYTES]
    }

    /// The state of all memory and slots.
    pub fn snapshot(&self) -> Snapshot {
        let first = (self.arena - self.memory.as_ptr() as usize) / WORD_BYTES;
        let words = &self.memory[first..first + ARENA_WORDS + ROOT_WORDS];
        let kernel = &self.kernel;
        let raw = |slot: &Slot| slot.raw().0;
        Snapshot {
            words: words.iter().map(Cell::get).collect(),
            kernel: kernel
                .irq_slots
                .iter()
                .flat_map(raw)
                .chain(kernel.irq_states.iter().map(|state| state.get() as u64))
                .chain(kernel.io_ports.iter().map(Cell::get))
                .collect(),
        }
    }
}
