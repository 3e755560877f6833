//! Pools that are made and written here. One program, because each one that uses the library compiles all of it again.

mod add;
mod background;
mod constant;
mod datasets;
mod files;
mod golden_write;
mod power_cut;
mod power_cut_random;
mod random_datasets;
mod receive;
mod scrub;
mod send;
#[path = "../support/mod.rs"]
mod support;
mod topology;
mod write;
