//! Exceptions and interrupts: each CPU's block, stack and task segment, and [`attempt`], which runs
//! something that may end in an exception.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::cpu;
use crate::serial::say;

/// CPUs that the program can have.
pub const CPUS: usize = 2;
/// The interrupt that breaks an attempt off, as exceptions do.
pub const WATCHDOG: u8 = 0xf0;
/// Selector of the first CPU's task segment; each takes two descriptors.
const FIRST_TASK: u16 = 0x30;
/// Descriptor of an available task segment of 104 bytes, without its base.
const TASK_DESCRIPTOR: u64 = 0x0000_8900_0000_0067;
/// Where a task segment has the pointer to stack 1 of the interrupt stack table.
const INTERRUPT_STACK: usize = 36;
/// Interrupt gate, present, stack 1, in the 64-bit code segment.
const GATE: u64 = 0x0000_8e01_0018_0000;
/// The assembler's stubs are so far apart.
const STUB_BYTES: u64 = 16;

/// What the assembler's part knows of a CPU. Its layout is start.s'.
#[repr(C)]
struct Block {
    /// Where to go back to; 0 if nothing is attempted.
    recovery: AtomicU64,
    vector: AtomicU64,
    error_code: AtomicU64,
    rip: AtomicU64,
    cr2: AtomicU64,
}

/// Stack of exceptions; the block's address stands above it.
#[repr(C, align(16))]
struct TrapStack([AtomicU64; 512], AtomicU64, AtomicU64);

/// A task segment. It begins with four bytes that nothing uses; its pointers are not aligned.
#[repr(C, align(16))]
struct Task([AtomicU32; 28]);

static BLOCKS: [Block; CPUS] = [const {
    Block {
        recovery: AtomicU64::new(0),
        vector: AtomicU64::new(0),
        error_code: AtomicU64::new(0),
        rip: AtomicU64::new(0),
        cr2: AtomicU64::new(0),
    }
}; CPUS];
static STACKS: [TrapStack; CPUS] = [const {
    TrapStack(
        [const { AtomicU64::new(0) }; 512],
        AtomicU64::new(0),
        AtomicU64::new(0),
    )
}; CPUS];
static TASKS: [Task; CPUS] = [const { Task([const { AtomicU32::new(0) }; 28]) }; CPUS];

mod symbol {
    use core::sync::atomic::{AtomicU32, AtomicU64};

    // SAFETY: start.s defines these, with these types.
    unsafe extern "C" {
        pub safe static gdt: [AtomicU64; 10];
        pub safe static idt: [AtomicU64; 512];
        pub safe static interrupts: [AtomicU32; 256];
        pub safe static uses_x2apic: AtomicU32;
        pub safe static third_tables: [AtomicU64; 2048];
        pub safe static trap_stubs: u8;
        pub safe static trampoline_status: u8;
        pub fn attempt(block: *const super::Block, function: u64, argument: u64) -> bool;
    }
}

pub use symbol::{third_tables, uses_x2apic};

/// What broke an attempt off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exception {
    /// Its vector.
    pub vector: u8,
    /// Its error code, or 0.
    pub error_code: u64,
    /// Where it happened.
    pub rip: u64,
    /// CR2 then.
    pub address: u64,
}

/// Prepares CPU `index` for exceptions.
pub fn prepare(index: usize) {
    let stack = &STACKS[index];
    let top = (&raw const stack.1).addr() as u64;
    stack
        .1
        .store((&raw const BLOCKS[index]).addr() as u64, Relaxed);
    let task = &TASKS[index].0;
    task[INTERRUPT_STACK / 4].store(top as u32, Relaxed);
    task[INTERRUPT_STACK / 4 + 1].store((top >> 32) as u32, Relaxed);
    let base = (&raw const *task).addr() as u64;
    let low = TASK_DESCRIPTOR | (base & 0xff_ffff) << 16 | (base >> 24 & 0xff) << 56;
    let selector = FIRST_TASK + 16 * index as u16;
    let descriptor = usize::from(selector / 8);
    symbol::gdt[descriptor].store(low, Relaxed);
    symbol::gdt[descriptor + 1].store(base >> 32, Relaxed);
    for vector in 0..256 {
        let stub = (&raw const symbol::trap_stubs).addr() as u64 + vector as u64 * STUB_BYTES;
        let gate = GATE | stub & 0xffff | (stub >> 16 & 0xffff) << 48;
        symbol::idt[2 * vector].store(gate, Relaxed);
        symbol::idt[2 * vector + 1].store(stub >> 32, Relaxed);
    }
    restore_interrupt_table();
    cpu::load_task(selector);
}

/// The program's own interrupt table.
pub fn restore_interrupt_table() {
    let table = (&raw const symbol::idt).addr() as u64;
    cpu::load_interrupt_table(table, 256 * 16 - 1);
}

/// Handles a vector on whatever stack the CPU has, instead of one of its own.
pub fn use_interrupted_stack(vector: u8) {
    let gate = &symbol::idt[2 * usize::from(vector)];
    gate.store(gate.load(Relaxed) & !(7 << 32), Relaxed);
}

/// How often the interrupt came, on all CPUs.
pub fn interrupts(vector: u8) -> u32 {
    symbol::interrupts[usize::from(vector)].load(Relaxed)
}

/// The low half of CR0 as it was in real mode.
pub fn real_mode_status() -> u64 {
    u64::from(cpu::read_memory(
        (&raw const symbol::trampoline_status).addr() as u64,
    )) & 0xffff
}

/// Runs `function` on CPU `index`; the exception that broke it off, if one did. What it held is lost
/// then, as after a long jump.
pub fn attempt(
    index: usize,
    function: extern "sysv64" fn(u64),
    argument: u64,
) -> Result<(), Exception> {
    let block = &BLOCKS[index];
    // SAFETY: start.s keeps the registers that the convention wants kept. A function that is broken
    // off runs no destructors; those that are given here own nothing.
    let broken = unsafe { symbol::attempt(block, function as usize as u64, argument) };
    if !broken {
        return Ok(());
    }
    Err(Exception {
        vector: block.vector.load(Relaxed) as u8,
        error_code: block.error_code.load(Relaxed),
        rip: block.rip.load(Relaxed),
        address: block.cr2.load(Relaxed),
    })
}

// SAFETY: the name is start.s' and nothing else's.
#[unsafe(no_mangle)]
extern "sysv64" fn unexpected_exception(block: &Block) -> ! {
    say!(
        "GUEST exception {} code {:#x} at {:#x} address {:#x}",
        block.vector.load(Relaxed),
        block.error_code.load(Relaxed),
        block.rip.load(Relaxed),
        block.cr2.load(Relaxed)
    );
    crate::end()
}
