//! What the boot loader hands to root as module 1: the boot archive.
//!
//! Owns the resolved system manifest ([`manifest`]) and the container that carries it together
//! with every program and the files under `/boot` ([`archive`]). The host crate `images` writes
//! both, root and the programs that were given the archive read them. It is a module of `proto`
//! because it is a format between programs like every message here, only at rest.

pub mod archive;
pub mod manifest;
pub mod screen;

pub use archive::{Archive, ArchiveError, Entry};
pub use manifest::{
    Authority, Callee, Channel, ChannelKind, Device, DeviceGrant, Manifest, Placement, PortRange,
    Program, Restart, StartWhen,
};
pub use screen::Screen;
