//! Manifest to boot archive to ISO; the QEMU and Bochs labs; the bench; the house
//! rules.
//!
//! Everything here runs on the machine that builds Tessera, never on Tessera. The binary of the
//! same name is what the Makefile calls; the system tests use [`lab`] as a library.

pub mod archive;
pub mod bench;
pub mod debian;
pub mod elf;
pub mod graph;
pub mod initramfs;
pub mod iso;
pub mod lab;
pub mod manifest;
pub mod tidy;
