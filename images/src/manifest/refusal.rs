//! Why a manifest is refused. The sentences are part of the product: each has a test.

use super::quantity::show_size;
use std::fmt;

/// A mistake in a manifest. The first one found is reported.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Not TOML, or a key that does not exist or has another type.
    Syntax(String),
    /// Two things of a kind have one name.
    DuplicateName {
        /// `program`, `device` or `channel`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A name that capabilities cannot be called after, or that is taken.
    BadName {
        /// `program`, `device` or `channel`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// A program refers to something that is not there.
    UnknownName {
        /// The program that refers.
        program: String,
        /// `program` or `device`.
        what: &'static str,
        /// The name that does not exist.
        name: String,
    },
    /// Two programs drive one device.
    TwoOwners {
        /// The device.
        device: String,
        /// The programs.
        owners: [String; 2],
    },
    /// Two devices have a port or an interrupt in common.
    Overlap {
        /// The devices.
        devices: [String; 2],
        /// What they share.
        what: &'static str,
    },
    /// The calls are not downward.
    Cycle(Vec<String>),
    /// A program is called but cannot receive.
    NotAServer {
        /// The server.
        server: String,
        /// The program that calls it.
        client: String,
    },
    /// A value is outside of its range.
    OutOfRange {
        /// The program.
        program: String,
        /// The key.
        key: &'static str,
        /// What was written.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
    /// Two sources wake a program with one bit.
    SharedBit {
        /// The program.
        program: String,
        /// The bit.
        bit: u8,
        /// The sources.
        sources: [String; 2],
    },
    /// An interrupt was given without a bit, or a bit without an interrupt.
    InterruptBit {
        /// The program.
        program: String,
        /// The device.
        device: String,
    },
    /// A channel to a program with several instances.
    ManyPeers {
        /// The program that asks.
        program: String,
        /// The channel.
        channel: String,
        /// The peer.
        peer: String,
    },
    /// Instances would share one name at the other end.
    SharedChannelName {
        /// The program that asks.
        program: String,
        /// The channel.
        channel: String,
    },
    /// A virtual CPU has no thread of its own.
    TooFewThreads {
        /// The program.
        program: String,
        /// Its virtual CPUs.
        vcpus: u16,
        /// Its threads.
        threads: u16,
    },
    /// The programs do not fit in the promised machine.
    NotEnoughMemory {
        /// What the programs need.
        needed: u64,
        /// What `[system] memory` promises.
        promised: u64,
    },
    /// A device that has nothing.
    EmptyDevice(String),
    /// Ports in the wrong order.
    BackwardPorts {
        /// The device.
        device: String,
        /// First port.
        first: u16,
        /// Last port.
        last: u16,
    },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Syntax(message) => write!(f, "{message}"),
            Self::DuplicateName { what, name } => write!(f, "two {what}s are called `{name}`"),
            Self::BadName { what, name } => write!(
                f,
                "`{name}` cannot be the name of a {what}: use lower-case letters, digits and `-`, starting with a letter, and not `root`, `self`, `wake`, `timer`, `log` or `boot`"
            ),
            Self::UnknownName {
                program,
                what,
                name,
            } => {
                write!(
                    f,
                    "program `{program}` names the {what} `{name}`, which does not exist"
                )
            }
            Self::TwoOwners {
                device,
                owners: [a, b],
            } => {
                write!(f, "device `{device}` has two owners, `{a}` and `{b}`")
            }
            Self::Overlap {
                devices: [a, b],
                what,
            } => {
                write!(f, "devices `{a}` and `{b}` share {what}")
            }
            Self::Cycle(programs) => write!(f, "calls form a cycle: {}", programs.join(" -> ")),
            Self::NotAServer { server, client } => write!(
                f,
                "program `{client}` calls `{server}`, which has no `replies` and so receives no calls"
            ),
            Self::OutOfRange {
                program,
                key,
                value,
                allowed,
            } => {
                write!(f, "program `{program}`: {key} = {value} is not {allowed}")
            }
            Self::SharedBit {
                program,
                bit,
                sources: [a, b],
            } => {
                write!(
                    f,
                    "program `{program}`: {a} and {b} both use wake bit {bit}"
                )
            }
            Self::InterruptBit { program, device } => write!(
                f,
                "program `{program}`: device `{device}` needs a wake bit exactly if it has an interrupt"
            ),
            Self::ManyPeers {
                program,
                channel,
                peer,
            } => write!(
                f,
                "program `{program}`: channel `{channel}` leads to `{peer}`, which has several instances"
            ),
            Self::SharedChannelName { program, channel } => write!(
                f,
                "program `{program}` has several instances, so `to_name` of channel `{channel}` must contain {{instance}}"
            ),
            Self::TooFewThreads {
                program,
                vcpus,
                threads,
            } => write!(
                f,
                "program `{program}`: {vcpus} virtual CPUs need {} threads, it has {threads}",
                u32::from(*vcpus) + 1
            ),
            Self::NotEnoughMemory { needed, promised } => write!(
                f,
                "not enough memory: what starts at boot needs {}, the smallest machine has {}",
                show_size(*needed),
                show_size(*promised)
            ),
            Self::EmptyDevice(device) => {
                write!(
                    f,
                    "device `{device}` has no ports, no interrupt and no frame buffer"
                )
            }
            Self::BackwardPorts {
                device,
                first,
                last,
            } => {
                write!(f, "device `{device}`: port {first:#x} is above {last:#x}")
            }
        }
    }
}
