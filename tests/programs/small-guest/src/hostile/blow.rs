//! Instructions that break the program itself. Nothing here is safe but for the fact that nothing
//! is lost with this VM; what could be survived is called through `attempt`.

use core::arch::asm;

/// Kinds of [`hypercall`].
pub const HYPERCALLS: u64 = 12;
/// Kinds of [`access_memory`].
pub const MEMORY_KINDS: u64 = 18;
/// Kinds of [`write_control`].
pub const CONTROL_KINDS: u64 = 7;
/// Those of them that write CR0 and CR4.
pub const WRITE_CR0: u64 = 0;
pub const WRITE_CR4: u64 = 1;
/// Kinds of [`odd_instruction`].
pub const ODD_KINDS: u64 = 6;
/// Memory that nothing else uses: 4 KiB.
const SCRATCH: u64 = 0x40_0000;
/// A device's registers.
const DEVICE: u64 = crate::apic::LOCAL;

/// An access to device memory.
pub struct MemoryAccess {
    /// Where.
    pub address: u64,
    /// By which instruction.
    pub kind: u64,
    /// What is written.
    pub value: u64,
}

/// A write to a control or debug register.
pub struct ControlWrite {
    /// Which.
    pub kind: u64,
    /// What.
    pub value: u64,
}

/// The argument of a function for `attempt`.
pub fn address<T>(argument: &T) -> u64 {
    core::ptr::from_ref(argument).addr() as u64
}

/// The argument behind [`address`].
pub fn at<T>(address: u64) -> &'static T {
    // SAFETY: callers got the number from `address` for a value of this type that outlives the
    // attempt they run in.
    unsafe { &*core::ptr::with_exposed_provenance(address as usize) }
}

/// Memory that nothing else uses.
pub const fn scratch() -> u64 {
    SCRATCH
}

/// Runs one instruction for each kind; the operand is in RAX.
macro_rules! one_of {
    ($kind:expr, $operand:expr, $($number:literal => $code:literal),+ $(,)?) => {
        match $kind {
            // SAFETY: see the module's head.
            $( $number => unsafe {
                asm!($code, inout("rax") $operand => _, out("rcx") _, out("rdx") _, out("rdi") _, out("rsi") _)
            }, )+
            _ => {}
        }
    };
}

/// Hypercalls and instructions for hypervisors; `argument` holds the kind above 32 bits of RAX.
pub extern "sysv64" fn hypercall(argument: u64) {
    let operand = argument & 0xffff_ffff;
    one_of!(argument >> 32, operand,
        0 => "vmcall", 1 => "vmmcall", 2 => "vmrun", 3 => "vmload", 4 => "vmsave", 5 => "stgi",
        6 => "clgi", 7 => "invlpga", 8 => "vmlaunch", 9 => "vmxoff", 10 => "rsm", 11 => "getsec",
    );
}

/// One access.
pub extern "sysv64" fn access_memory(argument: u64) {
    let access = at::<MemoryAccess>(argument);
    let (address, value) = (access.address, access.value);
    macro_rules! access {
        ($code:literal) => {
            // SAFETY: see the module's head; the address is no memory of the program's.
            unsafe {
                asm!($code, in("rdi") address, in("rsi") address, inout("rax") value => _,
                    inout("rcx") 1u64 => _, inout("rdx") value => _)
            }
        };
    }
    match access.kind {
        0 => access!("mov [rdi], al"),
        1 => access!("mov [rdi], ax"),
        2 | 3 => access!("mov [rdi], eax"),
        4 => access!("mov [rdi], rax"),
        5 => access!("mov al, [rdi]"),
        6 => access!("movzx eax, word ptr [rdi]"),
        7 => access!("mov eax, [rdi]"),
        8 => access!("mov rax, [rdi]"),
        9 => access!("add [rdi], eax"),
        10 => access!("and dword ptr [rdi], 0x55"),
        11 => access!("xchg [rdi], eax"),
        12 => access!("or rax, [rdi]"),
        13 => access!("movsx rax, byte ptr [rdi]"),
        14 => access!("test dword ptr [rdi], 0x1000"),
        15 => access!("cmp [rdi], rax"),
        16 => access!("push rdi; rep stosd; pop rdi"),
        _ => access!("mov dword ptr [rdi], 0x12345678"),
    }
}

/// Puts the registers that [`write_control`] writes back to what start.s made of them.
pub fn restore_control() {
    // SAFETY: the values are those that the program runs with.
    unsafe {
        asm!("mov cr0, {}", "mov cr4, {}", "mov cr8, {}", "mov dr7, {}",
            in(reg) 0x8001_0033u64, in(reg) 0x620u64, in(reg) 0u64, in(reg) 0x400u64);
    }
}

/// Writes a register.
pub extern "sysv64" fn write_control(argument: u64) {
    let ControlWrite { kind, value } = *at::<ControlWrite>(argument);
    one_of!(kind, value,
        0 => "mov cr0, rax",
        1 => "mov cr4, rax",
        2 => "mov cr8, rax",
        3 => "mov dr0, rax; mov dr3, rax",
        4 => "mov dr6, rax; mov dr7, rax",
        5 => "xor ecx, ecx; mov rdx, rax; shr rdx, 32; xsetbv",
        6 => "mov cr2, rax; lmsw ax; clts",
    );
}

/// INT n, by code that is made for it.
pub extern "sysv64" fn software_interrupt(vector: u64) {
    // INT n; RET
    crate::cpu::write_memory(SCRATCH, 0x00c3_00cd | (vector as u32 & 0xff) << 8);
    crate::cpu::call(SCRATCH);
}

/// Calls what is at `address` with interrupts on.
pub extern "sysv64" fn call_with_interrupts(address: u64) {
    // SAFETY: see the module's head.
    unsafe { asm!("sti", "call {}", in(reg) address, clobber_abi("sysv64")) };
}

/// Instructions that no monitor expects to see on a device.
pub extern "sysv64" fn odd_instruction(kind: u64) {
    one_of!(kind, DEVICE,
        0 => "lock cmpxchg8b [rax]",
        1 => "movups xmm0, [rax]; movups [rax + 0x80], xmm0",
        2 => "fxsave [rax]",
        3 => "bts dword ptr [rax], 3; xadd [rax], eax",
        4 => "lgdt [rax]; ltr [rax]",
        5 => "jmp qword ptr [rax]",
    );
}

/// Gives the CPU other page tables.
pub fn load_tables(address: u64) {
    // SAFETY: see the module's head.
    unsafe { asm!("mov cr3, {}", in(reg) address) };
}

/// Gives the CPU another descriptor table, and loads every segment from it.
pub fn load_descriptors(address: u64) {
    let mut pointer = [0u8; 10];
    pointer[..2].copy_from_slice(&0xfff_u16.to_le_bytes());
    pointer[2..].copy_from_slice(&address.to_le_bytes());
    // SAFETY: see the module's head.
    unsafe { asm!("lgdt [{}]", in(reg) &pointer) };
    for selector in (8..0x1000).step_by(8) {
        let _ = crate::trap::attempt(0, load_segments, selector);
    }
}

extern "sysv64" fn load_segments(selector: u64) {
    one_of!(0, selector, 0 => "mov ds, eax; mov es, eax; mov fs, eax; mov gs, eax; lldt ax; ltr ax");
}

/// HLT, with interrupts off.
pub fn sleep_without_interrupts() {
    // SAFETY: touches nothing.
    unsafe { asm!("cli", "hlt") };
}

/// An exception with a stack at `address`.
pub fn fault_with_stack(address: u64) {
    // SAFETY: see the module's head.
    unsafe { asm!("mov rsp, {}", "ud2", in(reg) address, options(noreturn)) };
}

/// Leaves long mode for real mode, at what is at 0x3000:0.
pub fn enter_real_mode() {
    // SAFETY: start.s' code does not come back.
    unsafe { asm!("jmp to_random_real_mode", options(noreturn)) };
}
