//! Virtual CPUs on the host: fields and exits of both vendors, on control blocks that are memory.

mod exits;
mod fields;
mod world;
