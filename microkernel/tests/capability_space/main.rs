//! The capability space as its users see it: invocations, their errors and their effects.
//!
//! `world` is a machine with one thread; the other modules ask it for something and look at what
//! became of the slots. `properties` runs random sequences against `model`.

mod cnode;
mod deletion;
mod interrupts;
mod messages;
mod model;
mod ports;
mod properties;
mod soundness;
mod untyped;
mod world;
