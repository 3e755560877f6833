//! What every program above the kernel stands on.
//!
//! Owns the way from Rust to the kernel and back: system calls and typed capabilities
//! ([`capability`]), what a program was given ([`mod@env`]), the event loop ([`executor`]), shared
//! memory ([`ring`], [`region`]), the log ([`mod@log`]) and, with feature `runtime`, everything that
//! makes an ELF file a program (entry point, heap, panic). Its neighbours are `sel4-sys`, which
//! has the kernel's numbers, and `proto`, which has the messages; it is separate from both
//! because those also serve the kernel and the host.
//!
//! Without `runtime` the crate is an ordinary library: the logic in it is tested on the host, and
//! so is that of the servers which use it. A system call there is a panic.
//!
//! docs/libcap.md shows a server in thirty lines.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod capability;
pub mod env;
pub mod executor;
pub mod inbox;
pub mod invocation;
pub mod kernel;
pub mod lock;
pub mod log;
#[allow(unsafe_code, reason = "memory functions work on raw memory")]
pub mod memory;
#[allow(
    unsafe_code,
    reason = "turns memory that root mapped into types that are safe to use"
)]
pub mod region;
pub mod ring;
#[cfg(feature = "runtime")]
#[allow(unsafe_code, reason = "what the language expects below main")]
pub mod runtime;
pub mod vcpu;

pub use capability::{Endpoint, Notification, Reply};
pub use env::Env;
pub use invocation::KernelError;
