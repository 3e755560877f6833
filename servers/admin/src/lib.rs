//! The shell of the operator
#![cfg_attr(not(test), no_std)]
