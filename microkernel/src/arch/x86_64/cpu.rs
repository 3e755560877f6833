//! One CPU's own area, which the entry code and Rust find through the GS base.
//!
//! The areas are static, one for each possible CPU. Only its own CPU touches an area, except for
//! `pending` (another CPU asks something) and where the big lock says that nobody else does
//! (`remote`, `thread_state`).

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};
use core::sync::atomic::{AtomicBool, AtomicU32};

use crate::config::MAX_NODES;
use crate::kernel::{Kernel, Node};
use crate::store::Ref;
use crate::vcpu::Vcpu;

use super::descriptors::{Gdt, TaskState};
use super::guest::Tags;
use super::thread_state::{Bases, FpuUse};

/// Bytes of a kernel stack. Entries do not nest and nothing recurses: a few KiB are used.
const STACK_BYTES: usize = 16 << 10;
/// Bytes of the stack of boot, which has the machine's description and lists of memory on it.
const BOOT_STACK_BYTES: usize = 64 << 10;
/// Bytes of the stack for double faults and machine checks: enough to print a panic.
const FATAL_STACK_BYTES: usize = 8 << 10;
/// Bytes of the stack for non-maskable interrupts, which return at once.
const NMI_STACK_BYTES: usize = 512;

/// A page that `paging` leaves out, so that an overflow faults.
#[repr(C, align(4096))]
pub struct Guard([u8; 4096]);

/// The stacks of one CPU.
#[repr(C, align(4096))]
pub struct Stacks {
    bytes: UnsafeCell<[u8; STACK_BYTES]>,
    /// Below the fatal stack; the guard below `bytes` is the last field of what lies before.
    guard: Guard,
    fatal: UnsafeCell<[u8; FATAL_STACK_BYTES - NMI_STACK_BYTES]>,
    nmi: UnsafeCell<[u8; NMI_STACK_BYTES]>,
    next_guard: Guard,
}

/// All stacks.
#[repr(C, align(4096))]
pub struct AllStacks {
    boot_guard: Guard,
    boot: UnsafeCell<[u8; BOOT_STACK_BYTES]>,
    first_guard: Guard,
    each: [Stacks; MAX_NODES],
}

// SAFETY: each CPU uses its own stacks only, and the first one that of boot.
unsafe impl Sync for AllStacks {}

/// Where stacks are. The entry of the first CPU names it in assembly (boot.s).
pub static STACKS: AllStacks = AllStacks {
    boot_guard: Guard([0; 4096]),
    boot: UnsafeCell::new([0; BOOT_STACK_BYTES]),
    first_guard: Guard([0; 4096]),
    each: [const {
        Stacks {
            bytes: UnsafeCell::new([0; STACK_BYTES]),
            guard: Guard([0; 4096]),
            fatal: UnsafeCell::new([0; FATAL_STACK_BYTES - NMI_STACK_BYTES]),
            nmi: UnsafeCell::new([0; NMI_STACK_BYTES]),
            next_guard: Guard([0; 4096]),
        }
    }; MAX_NODES],
};

/// Offset of the top of boot's stack in [`STACKS`].
pub const BOOT_STACK_TOP: usize = size_of::<Guard>() + BOOT_STACK_BYTES;

/// Tops of a CPU's stacks.
#[derive(Clone, Copy)]
pub struct StackTops {
    /// Of the kernel stack.
    pub kernel: usize,
    /// Of the stack for errors that the kernel does not survive.
    pub fatal: usize,
    /// Of the stack for non-maskable interrupts.
    pub nmi: usize,
}

impl AllStacks {
    /// Tops of the stacks of CPU `index`.
    pub fn tops(&self, index: usize) -> StackTops {
        let stacks = &self.each[index];
        let end = |start: usize, bytes: usize| start + bytes;
        StackTops {
            kernel: end(stacks.bytes.get() as usize, STACK_BYTES),
            fatal: end(
                stacks.fatal.get() as usize,
                FATAL_STACK_BYTES - NMI_STACK_BYTES,
            ),
            nmi: end(stacks.nmi.get() as usize, NMI_STACK_BYTES),
        }
    }

    /// Whether `page` is a guard.
    pub fn is_guard(&self, page: usize) -> bool {
        let is = |guard: &Guard| core::ptr::from_ref(guard) as usize == page;
        is(&self.boot_guard)
            || is(&self.first_guard)
            || self.each.iter().any(|s| is(&s.guard) || is(&s.next_guard))
    }
}

/// The area of one CPU. The first four fields are named by offset in entry.s.
#[repr(C, align(64))]
pub struct Cpu {
    /// Scratch word of the system-call entry.
    pub user_rsp: Cell<u64>,
    /// Address of the TCB that user mode runs, or ran until this kernel entry.
    pub current: Cell<usize>,
    /// Where an entry's handler begins on the kernel stack: below a return address, as it were.
    pub handler_stack: Cell<usize>,
    /// This area's own address.
    pub this: Cell<*const Cpu>,
    /// Number of the CPU.
    pub index: Cell<usize>,
    /// Its part of the kernel's state.
    node: Cell<*const Node>,
    /// Its local APIC's identifier.
    pub apic_id: Cell<u32>,
    /// It runs and answers others.
    pub online: AtomicBool,
    /// What another CPU waits for: bits of `remote`.
    pub pending: AtomicU32,
    /// The time that the timer was asked for.
    pub deadline: Cell<u64>,
    /// What CR3 holds.
    pub cr3: Cell<u64>,
    /// The address space was taken away by another CPU: find the current thread's again.
    pub lost_space: Cell<bool>,
    /// Whose extended state the registers hold.
    pub fpu: FpuUse,
    /// The segment bases that were last loaded.
    pub bases: Bases,
    /// Guests can run on it.
    pub runs_guests: Cell<bool>,
    /// Tags of its guests' cached translations.
    pub tags: Tags,
    /// The VCPU whose VMCS is current, on VMX.
    pub vmcs: Cell<Option<Ref<Vcpu>>>,
    /// Its segment descriptors.
    pub gdt: Gdt,
    /// Its task state.
    pub task_state: TaskState,
}

// SAFETY: cells are touched by their own CPU only, or under the big lock while that CPU waits for
// an answer (module text); the rest is atomic.
unsafe impl Sync for Cpu {}

/// All areas.
pub static CPUS: [Cpu; MAX_NODES] = [const { Cpu::new() }; MAX_NODES];

impl Cpu {
    const fn new() -> Self {
        Self {
            user_rsp: Cell::new(0),
            current: Cell::new(0),
            handler_stack: Cell::new(0),
            this: Cell::new(core::ptr::null()),
            index: Cell::new(0),
            node: Cell::new(core::ptr::null()),
            apic_id: Cell::new(0),
            online: AtomicBool::new(false),
            pending: AtomicU32::new(0),
            deadline: Cell::new(u64::MAX),
            cr3: Cell::new(0),
            lost_space: Cell::new(false),
            fpu: FpuUse::new(),
            bases: Bases::new(),
            runs_guests: Cell::new(false),
            tags: Tags::new(),
            vmcs: Cell::new(None),
            gdt: Gdt::new(),
            task_state: TaskState::new(),
        }
    }
    /// Makes this the area of CPU `index`, which runs this and whose entries begin at `stack_top`.
    pub fn claim(&self, index: usize, stack_top: usize) {
        self.this.set(self);
        self.index.set(index);
        self.node.set(&super::global::kernel().nodes[index]);
        self.handler_stack.set(stack_top - size_of::<usize>());
    }
}

/// The area of the CPU that runs this.
#[inline(always)]
pub fn this_cpu() -> &'static Cpu {
    let this: *const Cpu;
    // SAFETY: the GS base is this CPU's area from before the first call on; `this` never changes.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) this, offset = const core::mem::offset_of!(Cpu, this),
            options(pure, nomem, nostack, preserves_flags));
        &*this
    }
}

/// Index of the CPU that runs this, below [`MAX_NODES`].
#[inline(always)]
#[must_use]
pub fn node_id() -> usize {
    let index: usize;
    // SAFETY: as above; the index never changes.
    unsafe {
        asm!("mov {}, gs:[{offset}]", out(reg) index, offset = const core::mem::offset_of!(Cpu, index),
            options(pure, nomem, nostack, preserves_flags));
    }
    index
}

/// The state of the CPU that runs this, which is part of `kernel`.
#[inline(always)]
#[must_use]
pub fn this_node(_kernel: &Kernel) -> &Node {
    // SAFETY: there is one kernel, and `claim` set the field to its node before this CPU's first
    // kernel entry.
    unsafe { &*this_cpu().node.get() }
}
