//! Segment, task-state and interrupt descriptors, and the MSRs of `syscall`.
//!
//! Selectors are those that Linux uses, because Linux programs can see them: user code 0x33, user
//! data 0x2b. `sysret` wants user data right before user code, `syscall` kernel data right after
//! kernel code.

use core::arch::asm;
use core::cell::{Cell, UnsafeCell};

use x86::msr::{
    IA32_CSTAR, IA32_EFER, IA32_FMASK, IA32_GS_BASE, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_STAR,
    IA32_SYSENTER_CS, rdmsr, wrmsr,
};

use super::cpu::{CPUS, Cpu, STACKS, StackTops};

/// Kernel code segment.
pub const KERNEL_CODE: u16 = 0x10;
/// Kernel data segment.
pub const KERNEL_DATA: u16 = 0x18;
/// What `sysret` counts from: 8 below user data, 16 below user code. No descriptor is there.
const USER_BASE: u16 = 0x20 | 3;
/// User data segment.
pub const USER_DATA: u16 = USER_BASE + 8;
/// User code segment.
pub const USER_CODE: u16 = USER_BASE + 16;
/// Task state of the CPU.
pub const TASK: u16 = 0x38;

/// Interrupt-stack-table index of the stack for double faults and machine checks.
const FATAL_STACK: u64 = 1;
/// Interrupt-stack-table index of the stack for non-maskable interrupts.
const NMI_STACK: u64 = 2;

/// Vectors with an entry of their own.
mod vector {
    pub const NMI: usize = 2;
    pub const BREAKPOINT: usize = 3;
    pub const DOUBLE_FAULT: usize = 8;
    pub const MACHINE_CHECK: usize = 18;
    /// From here on `int` may be used by user code, as in seL4: it is an unknown system call.
    pub const FIRST_TRAP: usize = super::super::trap::vector::FIRST_TRAP as usize;
}

/// RFLAGS bits that `syscall` clears: everything that could disturb the kernel (TF, IF, DF, IOPL,
/// NT, RF, AC, ID) and the arithmetic flags.
const SYSCALL_FLAGS_CLEARED: u64 = 0x0025_7fd5;
const EFER_SYSCALL: u64 = 1;

/// The segment descriptors of one CPU.
#[repr(C, align(16))]
pub struct Gdt([Cell<u64>; 9]);

impl Gdt {
    pub const fn new() -> Self {
        Self([
            Cell::new(0),
            Cell::new(0),
            Cell::new(0x00af_9b00_0000_ffff), // kernel code, 64 bits
            Cell::new(0x00cf_9300_0000_ffff), // kernel data
            Cell::new(0),
            Cell::new(0x00cf_f300_0000_ffff), // user data
            Cell::new(0x00af_fb00_0000_ffff), // user code, 64 bits
            Cell::new(0),                     // task state, set by `load`
            Cell::new(0),
        ])
    }
}

/// The task state of one CPU, as 32-bit words: nothing but stacks. There is no I/O permission map,
/// because ports are capabilities.
#[repr(C, align(16))]
pub struct TaskState([Cell<u32>; TaskState::WORDS]);

impl TaskState {
    const WORDS: usize = 26;
    /// Stack for entries from user mode.
    const KERNEL_STACK: usize = 1;
    /// First entry of the interrupt stack table, which counts from 1.
    const INTERRUPT_STACKS: usize = 9;

    pub const fn new() -> Self {
        Self([const { Cell::new(0) }; Self::WORDS])
    }

    const BYTES: usize = Self::WORDS * size_of::<u32>();

    fn set_address(&self, word: usize, address: usize) {
        self.0[word].set(address as u32);
        self.0[word + 1].set((address as u64 >> 32) as u32);
    }

    /// Before the task register is loaded.
    fn set_stacks(&self, tops: &StackTops) {
        self.set_address(Self::KERNEL_STACK, tops.kernel);
        let interrupt_stack = |index: u64| Self::INTERRUPT_STACKS + 2 * (index as usize - 1);
        self.set_address(interrupt_stack(FATAL_STACK), tops.fatal);
        self.set_address(interrupt_stack(NMI_STACK), tops.nmi);
        // The permission map begins behind the limit: no port is open.
        self.0[Self::WORDS - 1].set((Self::BYTES as u32) << 16);
    }
}

/// The interrupt descriptors, the same for all CPUs.
#[repr(C, align(4096))]
struct Idt(UnsafeCell<[[u64; 2]; 256]>);

// SAFETY: written by the first CPU before any interrupt is on, then only read, by the hardware.
unsafe impl Sync for Idt {}

static IDT: Idt = Idt(UnsafeCell::new([[0; 2]; 256]));

/// Bytes of an entry of `vector_stubs`.
const STUB_BYTES: usize = 16;

unsafe extern "C" {
    safe static vector_stubs: [u8; 256 * STUB_BYTES];
    fn syscall_entry();
    fn nmi_entry();
    fn double_fault_entry();
    fn machine_check_entry();
}

/// Operand of `lgdt` and `lidt`.
#[repr(C, packed(2))]
struct TablePointer {
    limit: u16,
    base: u64,
}

fn gate(handler: usize, user_level: u64, stack: u64) -> [u64; 2] {
    const PRESENT_INTERRUPT_GATE: u64 = 0x8e00;
    let handler = handler as u64;
    let low = (handler & 0xffff)
        | u64::from(KERNEL_CODE) << 16
        | stack << 32
        | (PRESENT_INTERRUPT_GATE | user_level << 13) << 32
        | (handler >> 16 & 0xffff) << 48;
    [low, handler >> 32]
}

/// Fills the interrupt descriptors. For the first CPU, once.
pub fn fill_idt() {
    let stubs = (&raw const vector_stubs) as usize;
    let idt = IDT.0.get();
    for number in 0..256 {
        let user_level = match number {
            vector::BREAKPOINT | vector::FIRST_TRAP.. => 3,
            _ => 0,
        };
        let gate = match number {
            vector::NMI => gate(nmi_entry as *const () as usize, 0, NMI_STACK),
            vector::DOUBLE_FAULT => gate(double_fault_entry as *const () as usize, 0, FATAL_STACK),
            vector::MACHINE_CHECK => {
                gate(machine_check_entry as *const () as usize, 0, FATAL_STACK)
            }
            _ => gate(stubs + number * STUB_BYTES, user_level, 0),
        };
        // SAFETY: boot, one CPU, interrupts off: nobody reads the table yet; `number` is in it.
        unsafe { (*idt)[number] = gate };
    }
}

/// Gives this CPU its area, descriptors, stacks and system-call entry. Interrupts stay off.
pub fn load(index: usize) {
    let cpu = &CPUS[index];
    let tops = STACKS.tops(index);
    cpu.claim(index, tops.kernel);
    cpu.task_state.set_stacks(&tops);
    describe_task_state(cpu);
    let gdt = TablePointer {
        limit: size_of::<Gdt>() as u16 - 1,
        base: (&raw const cpu.gdt) as u64,
    };
    let idt = TablePointer {
        limit: size_of::<Idt>() as u16 - 1,
        base: IDT.0.get() as u64,
    };
    // SAFETY: the tables are static and filled; CS is reloaded by a far return to a segment with
    // the same meaning, the others are null except SS.
    unsafe {
        asm!(
            "lgdt [{gdt}]",
            "lidt [{idt}]",
            "push {code}",
            "lea {scratch}, [rip + 2f]",
            "push {scratch}",
            "retfq",
            "2:",
            "mov ss, {data:e}",
            "ltr {task:x}",
            gdt = in(reg) &gdt,
            idt = in(reg) &idt,
            code = const KERNEL_CODE,
            data = in(reg) u32::from(KERNEL_DATA),
            task = in(reg) TASK,
            scratch = lateout(reg) _,
        );
    }
    load_msrs(cpu);
}

/// Addresses of what this CPU's descriptor registers point to.
pub struct HostTables {
    /// Segment descriptors.
    pub gdt: u64,
    /// Interrupt descriptors.
    pub idt: u64,
    /// Task state.
    pub task_state: u64,
}

/// What the exit of a guest must load on `cpu`.
pub fn host_tables(cpu: &Cpu) -> HostTables {
    HostTables {
        gdt: (&raw const cpu.gdt) as u64,
        idt: IDT.0.get() as u64,
        task_state: (&raw const cpu.task_state) as u64,
    }
}

/// Makes the segment descriptors end where they do: VMX makes their limit 64 KiB, and user code
/// could load what lies behind.
pub fn restore_limit(cpu: &Cpu) {
    let gdt = TablePointer {
        limit: size_of::<Gdt>() as u16 - 1,
        base: (&raw const cpu.gdt) as u64,
    };
    // SAFETY: the same table as before.
    unsafe { asm!("lgdt [{}]", in(reg) &gdt, options(nostack, readonly)) };
}

fn describe_task_state(cpu: &Cpu) {
    const PRESENT_TASK_STATE: u64 = 0x89 << 40;
    let base = core::ptr::from_ref(&cpu.task_state) as u64;
    let limit = TaskState::BYTES as u64 - 1;
    let low = limit | (base & 0xff_ffff) << 16 | PRESENT_TASK_STATE | (base >> 24 & 0xff) << 56;
    cpu.gdt.0[usize::from(TASK / 8)].set(low);
    cpu.gdt.0[usize::from(TASK / 8) + 1].set(base >> 32);
}

fn load_msrs(cpu: &Cpu) {
    let star = u64::from(USER_BASE) << 48 | u64::from(KERNEL_CODE) << 32;
    // SAFETY: architectural MSRs of every 64-bit CPU, with values that name our own code.
    unsafe {
        wrmsr(IA32_GS_BASE, core::ptr::from_ref(cpu) as u64);
        wrmsr(IA32_KERNEL_GSBASE, 0);
        wrmsr(IA32_STAR, star);
        wrmsr(IA32_LSTAR, syscall_entry as *const () as u64);
        wrmsr(IA32_CSTAR, 0);
        wrmsr(IA32_FMASK, SYSCALL_FLAGS_CLEARED);
        wrmsr(IA32_SYSENTER_CS, 0);
        wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SYSCALL);
    }
}
