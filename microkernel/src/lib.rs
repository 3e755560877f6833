//! The microkernel's object model: everything but the machine.
//!
//! seL4's MCS API for x86_64 (docs/abi.md). The library is what the host tests; the binary adds
//! boot, traps and the hardware below `arch`. An invocation is decoded into a plain value, with
//! every check, and then performed without an error path.
#![cfg_attr(any(feature = "bare", not(test)), no_std)]
#![deny(unsafe_code)]

#[cfg(not(feature = "bare"))]
extern crate std;

pub mod arch;
pub mod boot;
pub mod cap;
pub mod config;
pub mod derivation;
pub mod fault;
pub mod firmware;
pub mod invocation;
pub mod kernel;
pub mod lookup;
pub mod object;
pub mod store;
pub mod vcpu;
