//! Virtual devices: the tree that turns an offset in the pool into bytes of devices.
//!
//! A top-level vdev is a leaf, a mirror, a raidz or what is left of a removed one. Reads carry a check of the
//! data, because only redundancy knows where else to look; a bad copy that was covered is
//! rewritten on the spot.

pub mod config;
pub mod indirect;
pub mod label;
mod leaf;
mod mirror;
pub mod raidz;
pub mod raidz_math;
mod scrub;
mod tree;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::cell::Cell;
use core::future::Future;
use core::pin::Pin;

pub use config::{VdevConfig, VdevType};
pub use leaf::Leaf;
pub use tree::{DeviceSet, VdevTree};

use crate::block_device::Access;
use crate::error::DeviceError;
use indirect::Indirect;

/// Bytes at the start of a leaf that hold two labels and the boot area; address 0 of a leaf is after them.
pub const LABEL_START_SIZE: u64 = 4 << 20;
/// Bytes at the end of a leaf that hold two labels.
pub const LABEL_END_SIZE: u64 = 512 << 10;

/// A block of this size tells how much of a raidz vdev is parity.
const DEFLATE_BLOCK: u64 = 128 << 10;

/// A vdev and what is below it.
pub struct Vdev {
    /// What the pool's configuration says of it.
    pub config: VdevConfig,
    /// What it is, with the state that kind needs.
    pub kind: VdevKind,
    /// Its children, in the order of the configuration.
    pub children: Vec<Vdev>,
    /// Counters since the import.
    pub statistics: Statistics,
}

/// The kinds of vdev, by how they place data.
pub enum VdevKind {
    /// A device.
    Leaf(Leaf),
    /// The same data on every child; also a replacement in progress and an active spare.
    Mirror,
    /// Striped with this many parity columns.
    Raidz(usize),
    /// A removed vdev, whose data was copied elsewhere.
    Indirect(Indirect),
    /// Never holds data: a removed log's place, or a vdev this import lacks.
    Absent,
}

/// Errors of a vdev since the import, as `zpool status` counts them.
#[derive(Debug, Default)]
pub struct Statistics {
    /// Reads that the device failed.
    pub read_errors: Cell<u64>,
    /// Writes that the device failed.
    pub write_errors: Cell<u64>,
    /// Reads that gave wrong data.
    pub checksum_errors: Cell<u64>,
}

/// Adds one to a counter.
fn count(counter: &Cell<u64>) {
    counter.set(counter.get() + 1);
}

/// The state of a vdev, in the words of `zpool status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VdevState {
    /// All there.
    Online,
    /// Usable, with less redundancy than configured.
    Degraded,
    /// Taken out of use by the administrator.
    Offline,
    /// Its device was not found or cannot be used.
    Unavailable,
    /// Given up because of errors.
    Faulted,
    /// Physically removed.
    Removed,
}

impl VdevState {
    /// The word in `zpool status`.
    pub fn name(self) -> &'static str {
        match self {
            VdevState::Online => "ONLINE",
            VdevState::Degraded => "DEGRADED",
            VdevState::Offline => "OFFLINE",
            VdevState::Unavailable => "UNAVAIL",
            VdevState::Faulted => "FAULTED",
            VdevState::Removed => "REMOVED",
        }
    }
}

/// Why a vdev could not give good data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadFailure {
    /// A device failed, and nothing covered it.
    Device(DeviceError),
    /// Data was read but no copy or reconstruction passes the check.
    WrongData,
    /// The address does not exist on this vdev.
    BadAddress,
}

/// A future of this layer; the tree recurses, so it is boxed.
pub type VdevFuture<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// A check whether bytes are those that were written.
pub type Verify<'a> = &'a dyn Fn(&[u8]) -> bool;

/// One read of a vdev.
#[derive(Clone, Copy)]
pub struct ReadRequest<'a> {
    /// Byte offset in the vdev's data area.
    pub offset: u64,
    /// Bytes, a multiple of the vdev's sector size.
    pub size: usize,
    /// Accepts good data.
    pub verify: Verify<'a>,
    /// Which copy to try first, for callers that try all in turn.
    pub prefer: usize,
    /// How many mappings of removed vdevs led here.
    pub steps: usize,
    /// Whether bad copies are rewritten.
    pub repair: Access,
}

impl Vdev {
    /// Reads data that passes the check.
    pub fn read<'a>(
        &'a self,
        tree: &'a VdevTree,
        request: ReadRequest<'a>,
    ) -> VdevFuture<'a, Result<Vec<u8>, ReadFailure>> {
        Box::pin(async move {
            match &self.kind {
                VdevKind::Leaf(leaf) => self.read_leaf(leaf, request).await,
                VdevKind::Mirror => self.read_mirror(tree, request).await,
                VdevKind::Raidz(parity) => self.read_raidz(tree, *parity, request).await,
                VdevKind::Indirect(indirect) => indirect.read(tree, request).await,
                VdevKind::Absent => Err(ReadFailure::BadAddress),
            }
        })
    }

    /// Writes data to every place this vdev keeps it. Fails when no place took it that could give it back.
    pub fn write<'a>(
        &'a self,
        tree: &'a VdevTree,
        offset: u64,
        data: &'a [u8],
    ) -> VdevFuture<'a, Result<(), DeviceError>> {
        Box::pin(async move {
            match &self.kind {
                VdevKind::Leaf(leaf) => self.write_leaf(leaf, offset, data).await,
                VdevKind::Mirror => self.write_mirror(tree, offset, data).await,
                VdevKind::Raidz(parity) => self.write_raidz(tree, *parity, offset, data).await,
                VdevKind::Indirect(_) | VdevKind::Absent => Err(DeviceError::OutOfRange),
            }
        })
    }

    /// The state of this vdev, from its configuration and its children.
    pub fn state(&self) -> VdevState {
        match &self.kind {
            VdevKind::Leaf(leaf) => leaf.state(),
            VdevKind::Indirect(_) => VdevState::Online,
            VdevKind::Absent => match self.config.kind {
                VdevType::Hole => VdevState::Online,
                _ => VdevState::Unavailable,
            },
            VdevKind::Mirror => self.state_with_spares(self.children.len().saturating_sub(1)),
            VdevKind::Raidz(parity) => self.state_with_spares(*parity),
        }
    }

    fn state_with_spares(&self, spares: usize) -> VdevState {
        let states = || self.children.iter().map(Vdev::state);
        let unusable = states()
            .filter(|state| !matches!(state, VdevState::Online | VdevState::Degraded))
            .count();
        if unusable > spares {
            VdevState::Unavailable
        } else if states().all(|state| state == VdevState::Online) {
            VdevState::Online
        } else {
            VdevState::Degraded
        }
    }

    /// Whether data can be read from this vdev.
    pub fn is_readable(&self) -> bool {
        matches!(self.state(), VdevState::Online | VdevState::Degraded)
    }

    /// Whether it may lack what was written while it was away. Without a check, what it gives cannot be told from what is right.
    pub fn is_stale(&self) -> bool {
        match self.kind {
            VdevKind::Leaf(_) => {
                let missed = self.config.nvlist.u64(config::MISSED_GROUPS);
                missed.is_some_and(|log| log != 0)
            }
            VdevKind::Mirror => self.children.iter().all(Vdev::is_stale),
            VdevKind::Raidz(_) | VdevKind::Indirect(_) | VdevKind::Absent => false,
        }
    }

    /// Every leaf at or below this vdev.
    pub fn leaves(&self) -> Vec<&Vdev> {
        if matches!(self.kind, VdevKind::Leaf(_)) {
            return Vec::from([self]);
        }
        self.children.iter().flat_map(Vdev::leaves).collect()
    }

    /// Bytes that a block of this physical size takes here, with parity and padding.
    pub fn allocated_size(&self, physical_size: u64) -> u64 {
        let ashift = self.config.ashift;
        match self.kind {
            VdevKind::Raidz(parity) => raidz::allocated_size(
                physical_size,
                ashift,
                self.children.len() as u64,
                parity as u64,
            ),
            _ => physical_size.next_multiple_of(1 << ashift),
        }
    }

    /// The device of a leaf that can be used.
    pub fn device(&self) -> Option<alloc::rc::Rc<dyn crate::block_device::BlockDevice>> {
        match &self.kind {
            VdevKind::Leaf(leaf) => leaf.device(),
            _ => None,
        }
    }

    /// Whether where a block goes depends on the whole block, so that neighbours cannot be written as one.
    pub fn places_blocks_alone(&self) -> bool {
        matches!(self.kind, VdevKind::Raidz(_))
    }

    /// What space of this vdev counts for, without parity.
    pub fn deflated_space(&self, space: u64) -> u64 {
        let ratio = DEFLATE_BLOCK / (self.allocated_size(DEFLATE_BLOCK) >> 9);
        (space >> 9) * ratio
    }

    /// Metaslabs of a top-level vdev.
    pub fn metaslab_count(&self) -> u64 {
        self.config.asize >> self.config.metaslab_shift
    }

    /// Bytes of a top-level vdev's metaslabs; what is left at its end is not used.
    pub fn metaslab_space(&self) -> u64 {
        self.metaslab_count() << self.config.metaslab_shift
    }

    /// How many ways there are to read a block here, for callers that try all.
    fn copies(&self) -> usize {
        match self.kind {
            VdevKind::Mirror => self.children.iter().map(Vdev::copies).sum(),
            _ => 1,
        }
    }
}
