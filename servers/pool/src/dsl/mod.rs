//! The DSL: data sets, snapshots and their directories, as objects of the MOS.
//!
//! A directory (`DslDir`) is a node of the name tree with its space accounting; a data set (`DslDataset`) is what has
//! contents: the directory's head, and each of its snapshots.

mod bookmark;
mod create;
mod crypt;
mod dataset;
mod dir;
mod names;
mod open;
mod prop;
pub mod prop_table;
mod properties;
mod space;

pub use bookmark::Bookmark;
pub use dataset::{DslDataset, DslDatasetPhys};
pub use dir::{DslDir, DslDirPhys, UsedBreakdown};
pub use names::{DatasetEntry, DatasetKind};
pub use open::OpenDataset;
pub use prop::{Source, StoredProperties};
pub use properties::PropertyValue;
