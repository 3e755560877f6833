//! How a stream is to be received, what is told on the way, and why it may be refused.

use alloc::string::String;
use alloc::vec::Vec;

use crate::dsl::NewValue;
use crate::error::Error;

/// How the name of what is received follows from where it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// The top of the stream is the target.
    Exact,
    /// The names in the stream, without the pool's, below the target: `-d`.
    WithoutPool,
    /// The last part of the top's name, below the target: `-e`.
    LastPart,
}

/// What becomes of changes and snapshots that are in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InTheWay {
    /// They are kept and the stream is refused.
    Kept,
    /// They go: `-F`.
    Dropped,
}

/// What becomes of a part that was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CutOff {
    /// It is dropped.
    Dropped,
    /// It is kept, so that a resuming stream can go on: `-s`.
    Kept,
}

/// How to receive.
pub struct ReceiveOptions<'a> {
    /// Name of the data set, with `@snapshot` if the snapshot shall have another name.
    pub target: &'a str,
    /// How names follow.
    pub naming: Naming,
    /// What becomes of what is in the way.
    pub in_the_way: InTheWay,
    /// What becomes of a part that was cut off.
    pub cut_off: CutOff,
    /// Properties to set here instead: `-o`.
    pub set: Vec<(String, NewValue)>,
    /// Properties of the stream that shall not count: `-x`.
    pub excluded: Vec<String>,
    /// A snapshot to start from: `-o origin=`.
    pub origin: Option<&'a str>,
    /// Seconds since 1970.
    pub now: u64,
}

/// What was received, as it goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// A part starts.
    Started {
        /// Whether it starts from an earlier snapshot.
        incremental: bool,
        /// The snapshot where it was sent.
        source: String,
        /// The snapshot it will be here.
        target: String,
    },
    /// The snapshot is whole.
    Finished {
        /// Bytes of the part.
        bytes: u64,
    },
    /// A part was passed over, because its snapshot is here.
    Skipped {
        /// The snapshot.
        target: String,
    },
}

/// Why a stream was not received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReceiveError {
    /// A data set of that name is there.
    Exists(String),
    /// It is there, with snapshots.
    HasSnapshots(String),
    /// The data set that the stream would change is not there.
    Missing(String),
    /// The data set above it is not there.
    ParentMissing(String),
    /// The snapshot from which the stream starts is not the latest.
    NotLatest(String),
    /// The data set changed since its latest snapshot.
    Modified(String),
    /// The snapshot is there already.
    SnapshotExists(String),
    /// The snapshot of which the stream is a clone is not there.
    OriginMissing(String),
    /// What is here has blocks of another size than the stream.
    LargeBlocks(String),
    /// An earlier receive left a part, which has to be finished or dropped first.
    PartThere(String),
    /// There is no part with which a resuming stream could go on.
    NothingToResume(String),
    /// The stream broke off; the token lets it go on.
    CutOff(String, String),
    /// Receiving it failed.
    Pool(Error),
}

impl From<Error> for ReceiveError {
    fn from(error: Error) -> Self {
        ReceiveError::Pool(error)
    }
}
