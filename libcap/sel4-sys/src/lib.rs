//! The kernel ABI as constants and types, nothing else.
//!
//! Owns every number that the kernel and its users must agree on: system calls, message layout,
//! object types, invocation labels, errors, faults, boot information. The first half is seL4's
//! MCS kernel for x86_64 in the configuration that seL4's own tests simulate ("configuration A":
//! no VT-x, no IOMMU, no hardware debug API); the second half is what Tessera adds, as
//! docs/abi.md explains it. Neighbours: `microkernel` decodes with this crate and `libcap`
//! encodes with it. It is separate so that neither side can have its own idea of a number.
//!
//! The crate holds no behaviour beyond packing and unpacking words, and no `unsafe`.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

mod numbered;

pub mod boot_info;
pub mod cap_type;
pub mod capability;
pub mod error;
pub mod fault;
pub mod invocation;
pub mod message;
pub mod object;
pub mod syscall;
pub mod thread;
pub mod vcpu;
pub mod vcpu_field;

pub use boot_info::{BootInfo, ExtraRecord, ExtraRecordHeader, SlotRegion, UntypedDescriptor};
pub use cap_type::CapType;
pub use capability::{CNodeData, CPtr, CapRights, InitialSlot, VmAttributes};
pub use error::{ErrorCode, LookupFailureKind};
pub use fault::FaultLabel;
pub use invocation::InvocationLabel;
pub use message::{IpcBuffer, MessageInfo};
pub use numbered::UnknownNumber;
pub use object::ObjectType;
pub use syscall::Syscall;
pub use thread::TcbFlags;
pub use vcpu::{Event, ExitReason};
pub use vcpu_field::VcpuField;

/// A machine word of the ABI: registers, message registers, capability pointers.
pub type Word = u64;
