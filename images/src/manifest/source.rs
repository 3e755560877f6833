//! The shape of `images/*.toml`. Unknown keys are refused by the parser.

use serde::Deserialize;

/// A whole manifest file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The table `[system]`.
    pub system: System,
    /// The tables `[[device]]`.
    #[serde(default)]
    pub device: Vec<Device>,
    /// The tables `[[program]]`, in the order in which root starts them.
    pub program: Vec<Program>,
    /// The table `[root]`: channels of the root task, which no `[[program]]` describes.
    #[serde(default)]
    pub root: Root,
}

/// What holds for the whole system.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Its name.
    pub name: String,
    /// Memory of the smallest machine on which everything that starts at boot must fit.
    pub memory: String,
}

/// The root task's own entry.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// Its channels.
    #[serde(default)]
    pub channels: Vec<Channel>,
}

/// One `[[device]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Device {
    /// Its name.
    pub name: String,
    /// First and last I/O port.
    pub ports: Option<[u16; 2]>,
    /// ISA interrupt line.
    pub interrupt: Option<u8>,
    /// Whether it is the boot loader's frame buffer.
    #[serde(default)]
    pub framebuffer: bool,
}

/// One `[[program]]`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Program {
    /// Its name; its image is the package of the same name unless `package` says otherwise.
    pub name: String,
    /// The cargo package that it is built from.
    pub package: Option<String>,
    /// `boot` (the default) or `request`.
    pub start: Option<String>,
    /// How many may run at once; default 1.
    pub instances: Option<u16>,
    /// Threads; default 1.
    pub threads: Option<u16>,
    /// 1..=254.
    pub priority: u16,
    /// A CPU number; spread over all CPUs when absent.
    pub cpu: Option<u16>,
    /// CPU time in each period, as `10 ms`.
    pub budget: String,
    /// The period; the budget when absent.
    pub period: Option<String>,
    /// Heap, as `4 MiB`.
    pub heap: String,
    /// Stack of each thread; default `64 KiB`.
    pub stack: Option<String>,
    /// Reply objects; needed by a program that others call.
    #[serde(default)]
    pub replies: u16,
    /// Badge bit of its timer.
    pub timer: Option<u8>,
    /// Badge bits that others may signal through root.
    #[serde(default)]
    pub signals: Vec<u8>,
    /// Names of the servers it calls; `root` is one.
    #[serde(default)]
    pub calls: Vec<String>,
    /// `report` (the default), `observe` or `manage`.
    pub authority: Option<String>,
    /// Devices it drives.
    #[serde(default)]
    pub devices: Vec<Grant>,
    /// Channels to other programs.
    #[serde(default)]
    pub channels: Vec<Channel>,
    /// Whether it sees the boot archive.
    #[serde(default)]
    pub archive: bool,
    /// Virtual CPUs.
    #[serde(default)]
    pub vcpus: u16,
    /// Most guest memory of an instance.
    pub guest: Option<String>,
    /// What happens when it dies; by default it stays dead.
    pub restart: Option<Restart>,
}

/// A device in a program's `devices`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Grant {
    /// The device's name.
    pub device: String,
    /// Badge bit of its interrupt.
    pub bit: Option<u8>,
}

/// A channel in a program's `channels`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Channel {
    /// Its name in this program.
    pub name: String,
    /// The program at the other end.
    pub to: String,
    /// Its name there; `{instance}` stands for this program's instance number.
    pub to_name: String,
    /// Badge bit here.
    pub bit: u8,
    /// Badge bit there.
    pub to_bit: u8,
    /// `bytes` (the default) or `log`.
    pub kind: Option<String>,
}

/// A program's `restart`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Restart {
    /// Restarts in a row.
    pub limit: u32,
    /// Wait before the first one.
    pub backoff: String,
    /// Quiet time after which they are forgotten.
    pub calm: String,
}
