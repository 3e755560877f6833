//! The ZFS pool: vdevs, txgs, datasets, volumes, files.
//!
//! A pure library: devices, time and randomness are arguments. `docs/pool.md` explains the layers;
//! `docs/decisions/0100-pool-shape.md` why they are cut this way.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod arc;
pub mod blkptr;
pub mod block_device;
pub mod bpobj;
pub mod bptree;
pub mod checksum;
pub mod compress;
pub mod crypt;
pub mod dmu;
pub mod dnode;
pub mod dsl;
pub mod error;
pub mod future;
pub mod layout;
pub mod metaslab;
pub mod nvlist;
pub mod partition;
pub mod range_tree;
pub mod sa;
pub mod send;
pub mod spa;
pub mod space_map;
pub mod uberblock;
pub mod vdev;
pub mod zap;
pub mod zil;
pub mod zio;
pub mod zpl;
pub mod zvol;
