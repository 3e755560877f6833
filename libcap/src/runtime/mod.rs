//! What the language expects below `main`: entry point, heap, panic, threads.
//!
//! Owns everything that makes an ELF file a program on the kernel. A program names its main
//! function with [`program!`](crate::program!), the root task with
//! [`root_task!`](crate::root_task!); both define `_start`.

mod entry;
mod heap;
mod panic;
#[cfg(feature = "root-task")]
mod root_task;
pub mod threads;

#[doc(hidden)]
pub use entry::begin;
#[cfg(feature = "root-task")]
pub use root_task::{BootEnv, StaticMemory};
#[cfg(feature = "root-task")]
#[doc(hidden)]
pub use root_task::{STACK_BYTES, begin_root_task};
