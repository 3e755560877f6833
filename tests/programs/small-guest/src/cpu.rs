//! Instructions that Rust has no words for, and memory that is no object of Rust's.
//!
//! The program is alone on its machine: whatever an instruction does, it does to this VM, and that
//! is what the VM is for. Functions here are safe in that sense; those that could pull the ground
//! from under the Rust code are only given to [`crate::trap::attempt`].

use core::arch::{asm, x86_64::__cpuid_count};

/// Width of an access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// 8 bits.
    Byte,
    /// 16 bits.
    Word,
    /// 32 bits.
    Dword,
}

impl Width {
    /// All ones: what nobody answers.
    pub const fn mask(self) -> u32 {
        match self {
            Width::Byte => 0xff,
            Width::Word => 0xffff,
            Width::Dword => 0xffff_ffff,
        }
    }
}

/// IN.
pub fn input(port: u16, width: Width) -> u32 {
    let mut value = 0u32;
    // SAFETY: see the module's head; no memory of the program is touched.
    unsafe {
        match width {
            Width::Byte => asm!("in al, dx", in("dx") port, inout("eax") value),
            Width::Word => asm!("in ax, dx", in("dx") port, inout("eax") value),
            Width::Dword => asm!("in eax, dx", in("dx") port, inout("eax") value),
        }
    }
    value
}

/// OUT.
pub fn output(port: u16, width: Width, value: u32) {
    // SAFETY: see the module's head; no memory of the program is touched.
    unsafe {
        match width {
            Width::Byte => asm!("out dx, al", in("dx") port, in("eax") value),
            Width::Word => asm!("out dx, ax", in("dx") port, in("eax") value),
            Width::Dword => asm!("out dx, eax", in("dx") port, in("eax") value),
        }
    }
}

/// REP OUTSB.
pub fn output_string(port: u16, bytes: &[u8]) {
    // SAFETY: reads exactly the slice.
    unsafe {
        asm!("rep outsb", in("dx") port, inout("rsi") bytes.as_ptr() => _, inout("rcx") bytes.len() => _);
    }
}

/// REP INSB.
pub fn input_string(port: u16, bytes: &mut [u8]) {
    // SAFETY: writes exactly the slice.
    unsafe {
        asm!("rep insb", in("dx") port, inout("rdi") bytes.as_mut_ptr() => _, inout("rcx") bytes.len() => _);
    }
}

/// REP INSD.
pub fn input_string_wide(port: u16, words: &mut [u32]) {
    // SAFETY: writes exactly the slice.
    unsafe {
        asm!("rep insd", in("dx") port, inout("rdi") words.as_mut_ptr() => _, inout("rcx") words.len() => _);
    }
}

/// Reads 32 bits at a physical address below 4 GiB, which is its virtual one.
pub fn read_memory(address: u64) -> u32 {
    let value: u32;
    // SAFETY: a read changes nothing of the program's; device memory answers.
    unsafe { asm!("mov {:e}, [{}]", out(reg) value, in(reg) address, options(nostack)) };
    value
}

/// Writes 32 bits at the physical address of a device.
pub fn write_memory(address: u64, value: u32) {
    // SAFETY: callers pass addresses of devices, not of the program.
    unsafe { asm!("mov [{}], {:e}", in(reg) address, in(reg) value, options(nostack)) };
}

/// Adds to 32 bits at the physical address of a device, in one instruction; the flags' low half.
pub fn add_memory(address: u64, value: u32) {
    // SAFETY: callers pass addresses of devices, not of the program.
    unsafe { asm!("add [{}], {:e}", in(reg) address, in(reg) value, options(nostack)) };
}

/// Exchanges 32 bits at the physical address of a device.
pub fn exchange_memory(address: u64, value: u32) -> u32 {
    let mut value = value;
    // SAFETY: callers pass addresses of devices, not of the program.
    unsafe { asm!("xchg [{}], {:e}", in(reg) address, inout(reg) value, options(nostack)) };
    value
}

/// Copies 32-bit words from a device's memory with a string instruction.
pub fn copy_from_device(address: u64, words: &mut [u32]) {
    // SAFETY: writes exactly the slice.
    unsafe {
        asm!("rep movsd", inout("rsi") address => _, inout("rdi") words.as_mut_ptr() => _, inout("rcx") words.len() => _);
    }
}

/// RDMSR.
pub fn read_msr(msr: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reading a register touches no memory.
    unsafe { asm!("rdmsr", in("ecx") msr, out("eax") low, out("edx") high, options(nostack)) };
    u64::from(high) << 32 | u64::from(low)
}

/// WRMSR.
pub fn write_msr(msr: u32, value: u64) {
    // SAFETY: see the module's head.
    unsafe {
        asm!("wrmsr", in("ecx") msr, in("eax") value as u32, in("edx") (value >> 32) as u32, options(nostack));
    }
}

/// CPUID: EAX, EBX, ECX, EDX.
pub fn identify(leaf: u32, subleaf: u32) -> [u32; 4] {
    let answer = __cpuid_count(leaf, subleaf);
    [answer.eax, answer.ebx, answer.ecx, answer.edx]
}

/// RDTSC.
pub fn time_stamp() -> u64 {
    // SAFETY: reads a counter.
    unsafe { core::arch::x86_64::_rdtsc() }
}

/// Takes interrupts until one came, or for an instant if `HLT` is not wanted.
pub fn wait_for_interrupt() {
    // SAFETY: the handlers keep every register.
    unsafe { asm!("sti", "hlt", "cli") };
}

/// Takes interrupts that are due, and waits a moment for others.
pub fn open_to_interrupts() {
    // SAFETY: the handlers keep every register.
    unsafe { asm!("sti", "nop", "pause", "cli") };
}

/// The hypercall instruction of this vendor, with `number` in RAX; RAX afterwards.
pub fn hypercall(number: u64, is_amd: Amd) -> u64 {
    let mut value = number;
    // SAFETY: the hypervisor has no call that touches memory.
    unsafe {
        match is_amd {
            Amd::Yes => asm!("vmmcall", inout("rax") value, options(nostack)),
            Amd::No => asm!("vmcall", inout("rax") value, options(nostack)),
        }
    }
    value
}

/// Whether the CPU is AMD's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amd {
    /// It is.
    Yes,
    /// It is Intel's.
    No,
}

/// Who made the CPU.
pub fn vendor() -> Amd {
    // "Auth"
    if identify(0, 0)[1] == u32::from_le_bytes(*b"Auth") {
        Amd::Yes
    } else {
        Amd::No
    }
}

/// CR0, CR3, CR4.
pub fn control_registers() -> [u64; 3] {
    let (zero, three, four);
    // SAFETY: reading registers touches no memory.
    unsafe {
        asm!("mov {}, cr0", "mov {}, cr3", "mov {}, cr4", out(reg) zero, out(reg) three, out(reg) four, options(nostack));
    }
    [zero, three, four]
}

/// Forgets the translations of the page at `address`.
pub fn forget_page(address: u64) {
    // SAFETY: translations only speed things up.
    unsafe { asm!("invlpg [{}]", in(reg) address, options(nostack)) };
}

/// Sets the task register.
pub fn load_task(selector: u16) {
    // SAFETY: a wrong selector is an exception.
    unsafe { asm!("ltr {:x}", in(reg) selector) };
}

/// Sets the interrupt table.
pub fn load_interrupt_table(base: u64, limit: u16) {
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&limit.to_le_bytes());
    pointer[2..].copy_from_slice(&base.to_le_bytes());
    // SAFETY: callers pass the program's own table, or want the consequences.
    unsafe { asm!("lidt [{}]", in(reg) &pointer) };
}

/// Sets DR0 and DR7.
pub fn set_breakpoint(address: u64, control: u64) {
    // SAFETY: a breakpoint is an exception, which `attempt` catches.
    unsafe {
        asm!("mov dr0, {}", "mov dr6, {}", "mov dr7, {}", in(reg) address, in(reg) 0xffff_0ff0u64, in(reg) control);
    }
}

/// DR6.
pub fn debug_status() -> u64 {
    let status;
    // SAFETY: reading a register touches no memory.
    unsafe { asm!("mov {}, dr6", out(reg) status, options(nostack)) };
    status
}

/// Sets the trap flag: an exception follows after the next instruction.
pub fn single_step() {
    // SAFETY: callers are inside of `attempt`, which catches the exception.
    unsafe { asm!("pushfq", "or qword ptr [rsp], 0x100", "popfq", "nop", "nop") };
}

/// UD2.
pub fn undefined() {
    // SAFETY: callers are inside of `attempt`, which catches the exception.
    unsafe { asm!("ud2") };
}

/// Calls what is at `address`.
pub fn call(address: u64) {
    // SAFETY: callers are inside of `attempt`, and what they run keeps to the calling convention or
    // ends in an exception.
    unsafe { asm!("call {}", in(reg) address, clobber_abi("sysv64")) };
}

/// As [`single_step`], before CPUID.
pub fn single_step_cpuid() {
    // SAFETY: callers are inside of `attempt`, which catches the exception.
    unsafe {
        asm!("push rbx", "pushfq", "or qword ptr [rsp], 0x100", "popfq", "cpuid", "nop", "pop rbx",
            inout("eax") 0 => _, inout("ecx") 0 => _, out("edx") _);
    }
}
