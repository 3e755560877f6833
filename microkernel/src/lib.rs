//! The capability microkernel: its object model
#![cfg_attr(not(test), no_std)]
