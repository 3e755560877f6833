//! One virtual machine: vCPUs, devices, firmware
#![cfg_attr(not(test), no_std)]
