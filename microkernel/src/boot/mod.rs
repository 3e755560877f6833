//! Boot: from what the boot loader left in memory to a machine with a root task.
//!
//! [`Machine`] is the hand-over between the two halves: `arch` fills it from the boot loader's and
//! the firmware's tables (parsed by [`crate::firmware`]), and everything here turns it into
//! objects without asking the hardware again.

mod machine;

pub use machine::{
    Framebuffer, MAX_MEMORY_ENTRIES, MAX_MODULES, MAX_RAM_RANGES, MAX_WITHHELD, Machine,
    MemoryEntry, PhysicalRange, RSDP_BYTES, Virtualisation,
};
