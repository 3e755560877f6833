//! Every message of the system, one module per server
#![cfg_attr(not(test), no_std)]

extern crate alloc;

pub mod boot;
