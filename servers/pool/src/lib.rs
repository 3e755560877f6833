//! The ZFS pool: vdevs, txgs, datasets, volumes, files
#![cfg_attr(not(test), no_std)]
