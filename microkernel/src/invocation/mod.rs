//! Invocations: a message to a capability that the kernel itself serves.
//!
//! Each submodule serves one kind of object: it decodes the message into a plain value, with
//! every check, and then performs it. [`Arguments`] is what a message offers to a decoder.

mod asid;
mod cnode;
mod domain;
mod frame;
mod ioport;
mod irq;
mod sched_context;
mod sched_control;
mod table;
mod tcb;
mod timer;
mod untyped;
mod vcpu;

use heapless::Vec;

use crate::cap::Cap;
use crate::fault::{Preempted, SyscallError};
use crate::kernel::Kernel;
use crate::object::{Slot, Tcb};
use crate::store::{IpcBuffer, Ref};

/// Words that an answer can have: a VCPU's fields are the longest.
pub const MAX_ANSWER_WORDS: usize = 32;
/// Capabilities that a message can carry.
pub const MAX_EXTRA_CAPS: usize = 3;

/// What an invocation answers.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "the kernel has no heap to box it in, and it is never moved far"
)]
pub enum Answer {
    /// These message words (none for most).
    Words(Vec<u64, MAX_ANSWER_WORDS>),
    /// The invocation wrote the caller's answer itself, or will later.
    Deferred,
}

impl Answer {
    /// No words.
    #[must_use]
    pub const fn empty() -> Self {
        Self::Words(Vec::new())
    }

    /// These words; more than [`MAX_ANSWER_WORDS`] are cut.
    #[must_use]
    pub fn words(words: &[u64]) -> Self {
        Self::Words(words.iter().copied().take(MAX_ANSWER_WORDS).collect())
    }
}

/// Why an invocation did not happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The caller is told.
    Error(SyscallError),
    /// An interrupt came first; the system call runs again.
    Preempted,
}

impl From<SyscallError> for Refusal {
    fn from(error: SyscallError) -> Self {
        Self::Error(error)
    }
}
impl From<Preempted> for Refusal {
    fn from(_: Preempted) -> Self {
        Self::Preempted
    }
}

/// The result of an invocation.
pub type Outcome = Result<Answer, Refusal>;

/// An invocation's message.
#[derive(Clone, Copy, Debug)]
pub struct Arguments {
    /// The invocation label.
    pub label: u64,
    /// Message words.
    pub length: u64,
    /// The slot of the invoked capability.
    pub slot: Ref<Slot>,
    /// Slots of the extra capabilities, in order; all `None` behind the last.
    pub extra: [Option<Ref<Slot>>; MAX_EXTRA_CAPS],
    /// The invoking thread, whose registers hold the first words.
    pub tcb: Ref<Tcb>,
    /// Its IPC buffer, which holds the others.
    pub buffer: Option<Ref<IpcBuffer>>,
}

impl Arguments {
    /// Message word `index`.
    ///
    /// # Errors
    /// `TruncatedMessage` if the message is shorter, or the word would be in an IPC buffer that
    /// the thread does not have.
    pub fn word(&self, index: usize) -> Result<u64, SyscallError> {
        if index as u64 >= self.length {
            return Err(SyscallError::TruncatedMessage);
        }
        match self.tcb.registers.message().get(index) {
            Some(register) => Ok(register.get()),
            None => {
                let buffer = self.buffer.ok_or(SyscallError::TruncatedMessage)?;
                Ok(buffer.word(1 + index).get())
            }
        }
    }

    /// Extra capability `index`.
    ///
    /// # Errors
    /// `TruncatedMessage` if there are fewer.
    pub fn extra_slot(&self, index: usize) -> Result<Ref<Slot>, SyscallError> {
        self.extra
            .get(index)
            .copied()
            .flatten()
            .ok_or(SyscallError::TruncatedMessage)
    }
}

/// Serves an invocation of a capability that is not a message object.
///
/// # Errors
/// What the object says; `InvalidCapability(0)` for one that cannot be invoked.
pub fn perform(kernel: &Kernel, cap: Cap, arguments: &Arguments) -> Outcome {
    match cap {
        Cap::Untyped(untyped) => untyped::invoke(kernel, untyped, arguments),
        Cap::CNode(node) => cnode::invoke(kernel, node, arguments),
        Cap::Thread { tcb } => tcb::invoke(kernel, tcb, arguments),
        Cap::SchedContext { context, .. } => sched_context::invoke(kernel, context, arguments),
        Cap::SchedControl { node } => sched_control::invoke(kernel, node, arguments),
        Cap::Domain => domain::invoke(kernel, arguments),
        Cap::IrqControl => irq::invoke_control(kernel, arguments),
        Cap::IrqHandler { irq } => irq::invoke_handler(kernel, irq, arguments),
        Cap::Frame(frame) => frame::invoke(kernel, frame, arguments),
        Cap::Table(table) => table::invoke(kernel, table, arguments),
        Cap::AsidControl => asid::invoke_control(kernel, arguments),
        Cap::AsidPool { pool, base } => asid::invoke_pool(kernel, pool, base, arguments),
        Cap::IoPortControl => ioport::invoke_control(kernel, arguments),
        Cap::IoPort { first, last } => ioport::invoke_port(first, last, arguments),
        Cap::Vcpu { vcpu } => vcpu::invoke(kernel, vcpu, arguments),
        Cap::Timer { timer } => timer::invoke(kernel, timer, arguments),
        Cap::Root(_) => Err(SyscallError::IllegalOperation.into()),
        _ => Err(SyscallError::InvalidCapability(0).into()),
    }
}
