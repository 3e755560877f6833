//! Pools that are made and written here. One program, because each one that uses the library compiles all of it again.

mod datasets;
mod power_cut;
#[path = "../support/mod.rs"]
mod support;
mod write;
