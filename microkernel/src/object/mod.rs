//! The kernel objects as they lie in memory: their fields and what an object can do alone.
//!
//! What needs several objects at once (a message, a deletion, a choice of thread) stands in the
//! modules above: `ipc`, `scheduler`, `derivation`, `invocation`.

mod endpoint;
mod notification;
mod queue;
mod reply;
mod sched_context;
mod slot;
mod tcb;
mod timer;

pub use endpoint::Endpoint;
pub use notification::Notification;
pub use queue::QueueEnds;
pub use reply::Reply;
pub use sched_context::{Refill, SchedContext};
pub use slot::{DerivationFlags, Slot};
pub use tcb::{
    Blocking, BufferUse, FPU_AREA_BYTES, FpuArea, Registers, Tcb, TcbFlags, TcbSlot, ThreadState,
};
pub use timer::Timer;

pub use crate::vcpu::Vcpu;

/// A pool of 512 address-space identifiers: each entry is 0 or a packed root (see `asid`).
pub type AsidPool = crate::store::Table;
