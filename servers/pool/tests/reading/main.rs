//! Reading what OpenZFS wrote. One program, because each one that uses the library compiles all of it again.

mod corruption;
mod golden_damage;
mod golden_properties;
mod golden_read;
mod streams;
#[path = "../support/mod.rs"]
mod support;
