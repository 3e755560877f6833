//! The kernel ABI as constants and types, nothing else
#![cfg_attr(not(test), no_std)]
