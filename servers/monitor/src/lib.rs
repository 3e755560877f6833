//! One virtual machine: vCPUs, devices, firmware
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bell;
pub mod boot;
pub mod bus;
pub mod cpuid;
pub mod deadlines;
pub mod device;
pub mod emulate;
pub mod event;
pub mod exit;
pub mod host;
pub mod interrupts;
pub mod machine;
pub mod memory;
pub mod mode;
pub mod msr;
pub mod native;
pub mod outcome;
pub mod paging;
pub mod paravirtual_clock;
pub mod platform;
pub mod runner;
pub mod segment;
pub mod system_register;
pub mod time;
pub mod vcpu;
pub mod virtual_machine;
