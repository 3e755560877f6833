//! The microkernel's object model: everything but the machine.
//!
//! seL4's MCS API for x86_64 (docs/abi.md). The library is what the host tests; the binary adds
//! boot, traps and the hardware below `arch`. An invocation is decoded into a plain value, with
//! every check, and then performed without an error path.
#![cfg_attr(any(feature = "bare", not(test)), no_std)]
#![deny(unsafe_code)]

#[cfg(not(feature = "bare"))]
extern crate std;

pub mod answer;
pub mod arch;
pub mod asid;
pub mod big_lock;
pub mod boot;
pub mod cap;
pub mod cap_type;
pub mod config;
pub mod debug;
pub mod derivation;
pub mod donation;
pub mod fastpath;
pub mod fault;
pub mod fault_delivery;
pub mod finalise;
pub mod firmware;
pub mod invocation;
pub mod ipc;
pub mod kernel;
pub mod lookup;
pub mod object;
pub mod refill;
pub mod retype;
pub mod scheduler;
pub mod signal;
pub mod store;
pub mod syscall;
pub mod thread;
pub mod time;
pub mod timer;
pub mod vcpu;
pub mod vspace;
