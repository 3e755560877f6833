//! Builds the system from the manifest and restarts what dies.
//!
//! Root is the first program. It holds every initial capability, reads the system manifest from
//! the boot archive, builds each program's address space and capability space, and from then on
//! waits: for faults, after which it destroys a program and builds it anew, and for the requests
//! of `proto::root`. It parses nothing that comes from outside but requests, whose form `proto`
//! checks.
//!
//! All of it is logic above the trait [`kernel::Kernel`], so that the host tests it against a
//! kernel that keeps books. `main.rs` joins it to the real one.
#![cfg_attr(not(test), no_std)]
#![deny(unsafe_code)]

extern crate alloc;

pub mod acpi;
pub mod address_space;
pub mod badge;
pub mod boot;
pub mod builder;
pub mod clock;
pub mod cspace;
pub mod death;
pub mod elf;
pub mod error;
pub mod fixed;
pub mod kernel;
pub mod layout;
pub mod machine;
#[cfg(test)]
mod mock;
pub mod native;
pub mod peers;
pub mod power;
pub mod resources;
pub mod restart;
pub mod run;
pub mod serial;
pub mod service;
pub mod supervisor;
pub mod untyped;
