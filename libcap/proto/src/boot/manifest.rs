//! The system manifest as root executes it: every name resolved, every default filled in.
//!
//! The form that people write is `images/system.toml`; crate `images` refuses a wrong one and
//! turns a right one into these types. Programs and devices are named by their index in
//! [`Manifest::programs`] and [`Manifest::devices`], so nothing is left to look up. Root still
//! checks each index, because a boot medium can be damaged.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// Largest badge bit of a notification that a manifest may assign: bit 63 marks a caller
/// ([`crate::protocol::CALLER_BIT`]).
pub const LAST_WAKE_BIT: u8 = 61;

/// The whole system: who runs, with what, and who may talk to whom.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// Name of the system, shown when it starts.
    pub system: String,
    /// Devices that programs are given.
    pub devices: Vec<Device>,
    /// Programs in the order in which root starts them.
    pub programs: Vec<Program>,
    /// Shared-memory channels between programs.
    pub channels: Vec<Channel>,
}

/// One device: the ports, the interrupt and the memory that belong to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Its name; capabilities are called `<name>.ports`, `<name>.irq`, regions `<name>.memory`.
    pub name: String,
    /// I/O ports.
    pub ports: Option<PortRange>,
    /// ISA interrupt line (edge triggered, active high), the number of the I/O APIC pin.
    pub interrupt: Option<u8>,
    /// Whether the device is the frame buffer that the boot loader set up.
    pub framebuffer: bool,
}

/// An inclusive range of I/O ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PortRange {
    /// First port.
    pub first: u16,
    /// Last port, not below `first`.
    pub last: u16,
}

/// When root starts a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum StartWhen {
    /// When the system starts.
    AtBoot,
    /// When a program that may manage asks for it (`proto::root`).
    OnRequest,
}

/// Which CPU a program's threads run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Placement {
    /// This CPU, modulo the number of CPUs that the machine has.
    Cpu(u16),
    /// Thread `t` of instance `i` runs on CPU `i + t`, modulo the number of CPUs.
    Spread,
}

/// What a program may ask root for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Authority {
    /// Report its own state.
    Report,
    /// Also list programs, capabilities and memory.
    Observe,
    /// Also start, stop, kill, restart and signal programs, and reboot or halt the machine.
    Manage,
}

/// Whom a program may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Callee {
    /// The root task.
    Root,
    /// The program of that index.
    Program(u16),
}

/// What root does when a program dies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// How many restarts in a row root tries; a program that runs for `calm_ms` starts afresh.
    pub limit: u32,
    /// Wait before the first restart; doubled for each further one in a row.
    pub backoff_ms: u32,
    /// After that long without a fault earlier restarts are forgotten.
    pub calm_ms: u32,
}

/// A device given to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceGrant {
    /// Index in [`Manifest::devices`].
    pub device: u16,
    /// Bit of the program's `wake` badge that says that the device interrupted.
    pub bit: Option<u8>,
}

/// One program and everything it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// Its name, unique.
    pub name: String,
    /// Its ELF image in the boot archive.
    pub image: String,
    /// When root starts it.
    pub start: StartWhen,
    /// How many instances may run at once, at least 1.
    pub instances: u16,
    /// Threads of an instance, the main thread included.
    pub threads: u16,
    /// Scheduling priority, 1..=254; root runs at 255.
    pub priority: u8,
    /// CPU of its threads.
    pub placement: Placement,
    /// CPU time of each thread in each period.
    pub budget_us: u64,
    /// Length of the period; equal to the budget for plain round robin.
    pub period_us: u64,
    /// Heap, in bytes, a multiple of 4 KiB.
    pub heap_bytes: u64,
    /// Stack of each thread, in bytes, a multiple of 4 KiB.
    pub stack_bytes: u64,
    /// Reply objects; 0 for a program without an endpoint of its own.
    pub replies: u16,
    /// Bit of the `wake` badge for the program's timer, if it has one.
    pub timer_bit: Option<u8>,
    /// Bits of the `wake` badge that a program that may manage can signal through root.
    pub signal_bits: u64,
    /// Servers that it holds a client endpoint of.
    pub calls: Vec<Callee>,
    /// What it may ask root for.
    pub authority: Authority,
    /// Devices that it drives.
    pub devices: Vec<DeviceGrant>,
    /// Whether it sees the boot archive, read-only, as region `boot`.
    pub boot_archive: bool,
    /// Virtual CPUs; VCPU `n` is bound to thread `n + 1`.
    pub vcpus: u16,
    /// Most guest memory that one instance may be started with, in bytes.
    pub guest_bytes: u64,
    /// What happens when it dies.
    pub restart: Restart,
}

/// What a channel carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChannelKind {
    /// Bytes both ways.
    Bytes,
    /// Log lines, only from `from` to `to`.
    Log,
}

/// A shared-memory channel: one page for each direction, and a notification each way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// What it carries.
    pub kind: ChannelKind,
    /// The program that asked for it; one channel for each of its instances.
    pub from: Callee,
    /// Its name there.
    pub from_name: String,
    /// Bit of the `wake` badge at `from`.
    pub from_bit: u8,
    /// Index of the program at the other end, which has a single instance.
    pub to: u16,
    /// Its name there; `{instance}` stands for the instance number of `from`.
    pub to_name: String,
    /// Bit of the `wake` badge at `to`.
    pub to_bit: u8,
}

impl Manifest {
    /// Index of the program called `name`.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<u16> {
        let index = self
            .programs
            .iter()
            .position(|program| program.name == name)?;
        u16::try_from(index).ok()
    }
}

impl Channel {
    /// The channel's name at the `to` end, for instance `instance` of `from`.
    #[must_use]
    pub fn to_name(&self, instance: u16) -> String {
        self.to_name
            .replace("{instance}", &alloc::format!("{instance}"))
    }
}
