//! The labs: emulated machines that boot the image, driven as a person at the terminal would.
//!
//! [`qemu`] is the machine with AMD SVM, [`bochs`] the one with Intel VMX. Both give a
//! [`Machine`]: what its COM1 prints is waited for, text is typed into it, and it never outlives
//! the value that stands for it. [`Desk`] is the screen and keyboard of those that have them.

pub mod bochs;
mod desk;
mod machine;
pub mod qemu;

pub use bochs::Bochs;
pub use desk::Desk;
pub use machine::{LabError, Machine};
pub use qemu::{Firmware, Medium, Qemu};
