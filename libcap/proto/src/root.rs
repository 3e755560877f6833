//! Protocol `Root`: the programs of the system, and the machine.
//!
//! Everybody holds an endpoint to root, and the manifest says what each may ask (its
//! [`Authority`](crate::boot::Authority)): a monitor may only report, the shell may manage. A
//! program is named by its process number, which is never used twice; a slot for a program of
//! several instances is named by program and instance.

use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::protocol::protocol;
use crate::start::CapKind;

/// Most bytes of a program's arguments in [`Start`]: what is left of a message beside the names.
pub const ARGUMENT_BYTES_MAX: usize = 860;

/// The number of a run of a program, from 1; root itself is 0.
pub type Pid = u32;

/// What a program is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramState {
    /// It runs.
    Running,
    /// It died and is started again in so many milliseconds.
    Restarting(u32),
    /// It ended in this way.
    Ended(Ending),
}

/// How a program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ending {
    /// It said that its work is done; for a monitor: the guest switched its machine off.
    Finished,
    /// It asked to be started anew; for a monitor: the guest reset its machine.
    WantsRestart,
    /// It said that it cannot go on.
    GaveUp,
    /// Somebody stopped it.
    Stopped,
    /// It faulted, or was killed, more often than the manifest allows.
    Died(Death),
    /// Root could not build it, for lack of memory or because its image is damaged.
    NotBuilt,
}

/// What killed a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Death {
    /// It touched memory that it does not have.
    MemoryFault {
        /// Address of the instruction.
        ip: u64,
        /// Address that it touched.
        address: u64,
    },
    /// It raised an exception of the CPU, a panic included.
    Exception {
        /// Address of the instruction.
        ip: u64,
        /// Vector of the exception.
        vector: u32,
    },
    /// It used a capability that it does not have.
    CapFault {
        /// Address of the instruction.
        ip: u64,
        /// The capability.
        slot: u64,
    },
    /// It made a system call that does not exist.
    UnknownSyscall {
        /// Address of the instruction.
        ip: u64,
        /// Number of the call.
        number: u64,
    },
    /// Another fault of the kernel's, by its label.
    OtherFault(u64),
    /// Somebody killed it.
    Killed,
}

/// One program, or one slot for an instance of one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramInfo {
    /// Number of the last run.
    pub pid: Pid,
    /// Name in the manifest.
    pub name: String,
    /// Instance number; 0 for a program with one instance.
    pub instance: u16,
    /// What it does.
    pub state: ProgramState,
    /// What it last said of itself with [`Report`].
    pub status: u32,
    /// Scheduling priority.
    pub priority: u8,
    /// Threads.
    pub threads: u16,
    /// Memory that it holds, guest memory included, in bytes.
    pub memory_bytes: u64,
    /// CPU time of this run, in microseconds.
    pub cpu_us: u64,
    /// Restarts since the system started.
    pub restarts: u32,
}

/// Some of the programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramPart {
    /// As many as fit, in the manifest's order.
    pub programs: Vec<ProgramInfo>,
    /// What to ask for next; `None` at the end.
    pub next: Option<u32>,
}

/// A capability that a program holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapInfo {
    /// The holder.
    pub pid: Pid,
    /// Its name there.
    pub name: String,
    /// What it is.
    pub kind: CapKind,
}

/// Some of the capabilities.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CapPart {
    /// As many as fit.
    pub caps: Vec<CapInfo>,
    /// What to ask for next; `None` at the end.
    pub next: Option<u32>,
}

/// Where the machine's memory is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// What the kernel gave to root.
    pub total: u64,
    /// Free.
    pub free: u64,
    /// The largest piece of it that is in one block.
    pub largest_free: u64,
    /// Programs, without guest memory.
    pub programs: u64,
    /// Guest memory.
    pub guests: u64,
    /// The boot archive.
    pub archive: u64,
}

/// What a program was started with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Guest memory, in bytes.
    pub guest_bytes: u64,
    /// Its arguments, at most [`ARGUMENT_BYTES_MAX`].
    pub args: Vec<u8>,
}

/// What machine this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineInfo {
    /// CPUs.
    pub cpus: u16,
    /// How guests run on it.
    pub virtualisation: Virtualisation,
    /// Time since root started, in microseconds.
    pub uptime_us: u64,
}

/// How guests run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Virtualisation {
    /// They cannot.
    None,
    /// AMD SVM with nested paging.
    Svm,
    /// Intel VMX with EPT.
    Vmx,
}

protocol! {
    /// The programs of the system, and the machine.
    protocol Root { client RootClient, server RootServer, request RootRequest }

    /// Why root refuses.
    error RootError {
        /// The manifest does not let the caller ask for this.
        NotAllowed,
        /// There is no such program, instance or process.
        NotFound,
        /// It runs already.
        AlreadyRunning,
        /// It does not run.
        NotRunning,
        /// Guest memory or arguments are more than the manifest or the protocol allows, or guest
        /// memory is not a multiple of 2 MiB.
        BadSize,
        /// There is not enough memory.
        OutOfMemory,
        /// The program's image is damaged.
        BadImage,
        /// The manifest does not declare all of these signals for the program.
        BadSignal,
        /// The machine did not do it.
        Unsupported,
    }

    /// Programs from number `from` on. Needs Observe.
    1 List = fn list(from: u32) -> ProgramPart;

    /// The capabilities that programs hold, from number `from` on. Needs Observe.
    2 Caps = fn caps(from: u32) -> CapPart;

    /// Where the memory is. Needs Observe.
    3 Memory = fn memory() -> MemoryUse;

    /// What machine this is. Needs Observe.
    4 Machine = fn machine() -> MachineInfo;

    /// Starts an instance that does not run, with so much guest memory (a multiple of 2 MiB) and
    /// these arguments. Needs Manage.
    5 Start = fn start(program: String, instance: u16, guest_bytes: u64, args: Vec<u8>) -> Pid;

    /// Ends a program for good. Needs Manage.
    6 Stop = fn stop(pid: Pid) -> ();

    /// Ends a program as a fault would: the manifest says whether it is started again. Needs Manage.
    7 Kill = fn kill(pid: Pid) -> ();

    /// Ends a program and starts it again at once. Needs Manage.
    8 Restart = fn restart(pid: Pid) -> Pid;

    /// Sets bits of a program's `wake` badge. Needs Manage.
    9 Signal = fn signal(pid: Pid, bits: u64) -> ();

    /// Says how the caller is; the number's meaning is the program's own. Seen in `List`.
    10 Report = fn report(status: u32) -> ();

    /// Ends the caller. There is no reply.
    11 Finish = fn finish(ending: Ending) -> ();

    /// Resets the machine. Needs Manage.
    12 Reboot = fn reboot() -> ();

    /// Switches the machine off. Needs Manage.
    13 Halt = fn halt() -> ();

    /// What the last run of a program was started with: a shell that is restarted learns from it
    /// which VMs run. Needs Manage.
    14 StartedWith = fn started_with(pid: Pid) -> Started;
}
