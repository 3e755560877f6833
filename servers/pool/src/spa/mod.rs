//! A pool that was imported: its vdevs, its MOS and what the MOS directory says.

mod add;
mod commit;
mod compatibility;
pub mod create;
mod errlog;
pub mod feature;
mod history;
mod import;
mod missed;
mod mos;
mod pool_set;
mod record;
mod scrub;
mod space;
mod space_log;
mod sync;
mod topology;
mod trim;
mod vdev_tables;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use core::cell::{Cell, Ref, RefCell};
use core::fmt;

pub use compatibility::CompatibilitySet;
pub use history::HistoryRecord;
pub use import::{Candidate, ImportOptions, PoolState, import, scan};
pub use mos::stored_bytes;
pub use scrub::{Scan, ScanState};
pub use topology::{Join, NewLeaf, Topology, TopologyError};

use crate::block_device::Access;
use crate::dmu::Objset;
use crate::dsl::OpenDataset;
use crate::error::Error;
use crate::nvlist::Nvlist;
use crate::uberblock::Uberblock;
use crate::vdev::VdevConfig;
use crate::zio::Zio;

/// Why a pool cannot be imported.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImportError {
    /// The pool's version is older or newer than what is understood.
    UnsupportedVersion(u64),
    /// Active features, by guid, without which nothing can be read.
    UnsupportedFeatures(alloc::vec::Vec<String>),
    /// Active features, by guid, that allow only a read-only import.
    ReadOnlyFeatures(alloc::vec::Vec<String>),
    /// Top-level vdevs, by number, that are missing or lack too many devices.
    MissingVdevs(alloc::vec::Vec<u64>),
    /// No uberblock is valid.
    NoUberblock,
    /// The devices found are not those that the uberblock was written for.
    WrongDevices,
    /// A read-write import needs devices that accept writes.
    ReadOnlyDevices,
    /// Reading the pool failed.
    Pool(Error),
}

impl From<Error> for ImportError {
    fn from(error: Error) -> Self {
        ImportError::Pool(error)
    }
}

impl fmt::Display for ImportError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ImportError::UnsupportedVersion(version) => {
                write!(formatter, "pool version {version} is not supported")
            }
            ImportError::UnsupportedFeatures(guids) => {
                write!(
                    formatter,
                    "the pool uses unsupported features: {}",
                    guids.join(", ")
                )
            }
            ImportError::ReadOnlyFeatures(guids) => write!(
                formatter,
                "the pool can only be imported read-only; unsupported features: {}",
                guids.join(", ")
            ),
            ImportError::MissingVdevs(numbers) => {
                write!(
                    formatter,
                    "top-level vdevs are missing or have too few devices: {numbers:?}"
                )
            }
            ImportError::NoUberblock => formatter.write_str("no valid uberblock was found"),
            ImportError::WrongDevices => formatter.write_str("the devices do not make up the pool"),
            ImportError::ReadOnlyDevices => {
                formatter.write_str("a device is read-only; import the pool read-only")
            }
            ImportError::Pool(error) => write!(formatter, "{error}"),
        }
    }
}

impl core::error::Error for ImportError {}

/// Blocks of destroyed data sets that a transaction group frees at most: finding them takes about as long as writing a
/// full group of changes.
const FREE_LIMIT: usize = 20_000;

/// Whether what is in memory may be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum SpaState {
    /// It may.
    #[default]
    Whole,
    /// It is a part of something that failed: it must not become the pool's state.
    Suspended,
}

/// An imported pool.
pub struct Spa {
    name: String,
    access: Access,
    config: RefCell<Nvlist>,
    root: RefCell<VdevConfig>,
    uberblock: Cell<Uberblock>,
    zio: Rc<Zio>,
    mos: Rc<Objset>,
    /// The entries of the MOS directory that are single numbers.
    directory: RefCell<BTreeMap<String, u64>>,
    /// Whether something failed half-way.
    state: Cell<SpaState>,
    /// How many blocks of destroyed data sets a transaction group frees at most.
    pub(crate) free_limit: Cell<usize>,
    /// Which metaslabs the next group flushes.
    flush_extent: Cell<space_log::FlushExtent>,
    /// What blocks can be like, as the features were when they were last looked at.
    block_forms: Cell<space::BlockForms>,
    /// Heads that are open for writing, by their objects.
    pub(crate) datasets: RefCell<BTreeMap<u64, Rc<OpenDataset>>>,
}

impl Spa {
    /// The pool's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it was imported for writing.
    pub fn access(&self) -> Access {
        self.access
    }

    /// Passes on how a change of several steps ended. One that failed on the way has left memory in a state that must not be written.
    pub(crate) fn keep_whole<T>(&self, done: Result<T, Error>) -> Result<T, Error> {
        if let Err(Error::Device(_) | Error::Unreadable(_) | Error::Corrupt(_)) = done {
            self.state.set(SpaState::Suspended);
        }
        done
    }

    /// The pool's guid.
    pub fn guid(&self) -> u64 {
        self.root.borrow().guid
    }

    /// The configuration as the MOS has it.
    pub fn config(&self) -> Ref<'_, Nvlist> {
        self.config.borrow()
    }

    /// The root of the vdev configuration.
    pub fn root_vdev(&self) -> Ref<'_, VdevConfig> {
        self.root.borrow()
    }

    /// The uberblock that is the pool's state.
    pub fn uberblock(&self) -> Uberblock {
        self.uberblock.get()
    }

    /// The block layer.
    pub fn zio(&self) -> &Rc<Zio> {
        &self.zio
    }

    /// The meta object set.
    pub fn mos(&self) -> &Rc<Objset> {
        &self.mos
    }

    /// A number from the MOS directory.
    pub fn directory(&self, name: &str) -> Option<u64> {
        self.directory.borrow().get(name).copied()
    }
}
