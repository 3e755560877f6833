//! Builds the system from the manifest and restarts what dies
#![cfg_attr(not(test), no_std)]
