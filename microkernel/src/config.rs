//! Limits of the kernel, each with the reason for its value.

/// CPUs the kernel can run on. Eight keeps the static per-node state under 1 MiB.
pub const MAX_NODES: usize = 8;
/// Thread priorities, 0..=255: seL4's range, one byte in the ABI.
pub const NUM_PRIORITIES: usize = 256;
/// Scheduling domains. Images for seL4's configuration A, which the debug kernel runs, know of one
/// and expect a second to be refused; Tessera's own kernel has as many as seL4 allows in practice.
pub const NUM_DOMAINS: usize = if DEBUG_SYSCALLS { 1 } else { 16 };
/// Entries of the run-time domain schedule; the last is an end marker.
pub const DOMAIN_SCHEDULE_LENGTH: usize = if DEBUG_SYSCALLS { 2 } else { 256 };
/// Objects that one Retype may create: bounds the time of one invocation (seL4's default).
pub const RETYPE_FAN_OUT_LIMIT: u64 = 256;
/// Work items between two looks for a pending interrupt (seL4's default).
pub const WORK_UNITS_LIMIT: u32 = 100;
/// Bytes cleared between two preemption points: seL4's 256-byte chunks.
pub const CLEAR_CHUNK_BYTES: usize = 256;
/// Worst-case execution time that MCS charges for a kernel entry, in microseconds (x86 seL4).
pub const KERNEL_WCET_US: u64 = 10;
/// Refills that fit in the core of a scheduling context.
pub const MIN_REFILLS: u64 = 2;
/// Time slice of the initial thread, in microseconds.
pub const BOOT_THREAD_TIME_SLICE_US: u64 = 5_000;
/// IRQ numbers: 0..=15 the legacy range, then user vectors 0..=107, then the kernel's own.
pub const NUM_IRQS: usize = 128;
/// First user vector as an IRQ number.
pub const IRQ_USER_BASE: u64 = 16;
/// Highest vector argument that IssueIRQHandler accepts.
pub const MAX_USER_VECTOR: u64 = 107;
/// ASID pools (3 bits) and ASIDs per pool (9 bits), as in seL4.
pub const NUM_ASID_POOLS: usize = 8;
/// Entries of one ASID pool.
pub const ASIDS_PER_POOL: usize = 512;
/// First address that no user mapping may reach.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;
/// Radix of the root task's CNode; 13 is what seL4's test image asks for and enough for 8,192 slots.
pub const ROOT_CNODE_SIZE_BITS: u8 = 13;
/// Untyped capabilities that BootInfo can list.
pub const MAX_BOOTINFO_UNTYPEDS: usize = 230;
/// Largest and smallest untyped, in bits.
pub const MAX_UNTYPED_BITS: u8 = 47;
/// Smallest untyped, in bits.
pub const MIN_UNTYPED_BITS: u8 = 4;

const _: () = assert!(IRQ_USER_BASE as usize + MAX_USER_VECTOR as usize + 1 < NUM_IRQS);
const _: () = assert!(NUM_PRIORITIES.is_multiple_of(64));

/// seL4's debug system calls, for root tasks that print through DebugPutChar.
pub const DEBUG_SYSCALLS: bool = cfg!(feature = "debug-syscalls");
