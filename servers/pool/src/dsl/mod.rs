//! The DSL: data sets, snapshots and their directories, as objects of the MOS.
//!
//! A directory (`DslDir`) is a node of the name tree with its space accounting; a data set (`DslDataset`) is what has
//! contents: the directory's head, and each of its snapshots.

mod account;
mod async_destroy;
mod bookmark;
mod clone;
mod clone_swap;
pub(crate) mod create;
mod crypt;
mod dataset;
mod deadlist;
mod destroy;
mod dir;
mod extension;
mod hold;
mod limits;
mod livelist;
mod names;
mod open;
mod owner_quota;
mod promote;
mod prop;
mod prop_set;
pub mod prop_table;
mod prop_value;
mod properties;
mod receive;
mod space;

pub use bookmark::Bookmark;
pub use dataset::{DslDataset, DslDatasetPhys};
pub use destroy::Deferral;
pub use dir::{DslDir, DslDirPhys, UsedBreakdown};
pub use names::{DatasetEntry, DatasetKind};
pub use open::{NewVolume, OpenDataset, VolumeReservation};
pub use prop::{Source, StoredProperties};
pub use prop_value::{NewValue, PropertyError, parse, parse_size};
pub use properties::PropertyValue;
pub use receive::{BlockForms, ReceiveBase, ReceiveState, ReceivedSnapshot, Receiving};
