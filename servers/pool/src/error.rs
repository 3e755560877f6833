//! What can go wrong in a pool, as one closed set of values without strings.
//!
//! Import has its own error beside this one (`spa::ImportError`), because its answers name
//! features and devices. Everything after import speaks [`Error`].

use core::fmt;

/// Where a block stands in the pool: the path from a data set down to one block of one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bookmark {
    /// Object number of the data set in the MOS; 0 is the MOS itself.
    pub objset: u64,
    /// Object number; the negative accounting objects are their two's complement.
    pub object: u64,
    /// 0 for data, above for indirect blocks, -1 for the object set's own block, -2 for a log block.
    pub level: i64,
    /// Block number within the level.
    pub block: u64,
}

impl Bookmark {
    /// The bookmark of an object set's own block.
    pub fn root(objset: u64) -> Self {
        Bookmark {
            objset,
            object: 0,
            level: -1,
            block: 0,
        }
    }

    /// The bookmark of a block of the intent log.
    pub fn log(objset: u64, sequence: u64) -> Self {
        Bookmark {
            objset,
            object: 0,
            level: -2,
            block: sequence,
        }
    }
}

impl fmt::Display for Bookmark {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "<{}, {}, {}, {}>",
            self.objset, self.object, self.level, self.block
        )
    }
}

/// The on-disk structure that was found damaged although its checksum, if any, was right.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// A vdev label or the configuration in it.
    Label,
    /// A packed name-value list.
    Nvlist,
    /// An uberblock.
    Uberblock,
    /// A block pointer.
    BlockPointer,
    /// A gang header.
    Gang,
    /// Compressed data that does not expand to its logical size.
    Compressed,
    /// An object set.
    Objset,
    /// A dnode.
    Dnode,
    /// A ZAP object.
    Zap,
    /// System attributes of a file.
    SystemAttributes,
    /// A DSL directory or data set.
    Dataset,
    /// A list of block pointers or a dead list.
    BlockList,
    /// A space map.
    SpaceMap,
    /// The mapping of a removed vdev.
    IndirectMapping,
    /// The vdev tree of the configuration.
    VdevTree,
    /// A ZPL file system: its master node or a znode.
    Znode,
    /// A volume.
    Volume,
    /// A block or record of the intent log.
    IntentLog,
    /// A send stream.
    Stream,
    /// A partition table.
    PartitionTable,
    /// Wrapped keys of an encrypted data set.
    Keys,
    /// A deduplication or block-cloning table.
    ReferenceTable,
}

/// A known part of the format that this implementation does not handle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unsupported {
    /// The block or structure was written by a big-endian machine.
    BigEndian,
    /// The checksum identifier is not one of the format's.
    Checksum(u8),
    /// The compression identifier is not one of the format's.
    Compression(u8),
    /// Embedded data of a kind other than plain data.
    EmbeddedType(u8),
    /// The encryption suite is unknown.
    CryptoSuite(u64),
    /// The file system version is unknown.
    FilesystemVersion(u64),
    /// A raidz vdev that is being, or was, expanded.
    RaidzExpansion,
    /// Changing a file system from before system attributes.
    OldFilesystemWrite,
    /// The object set is not of the kind the call needs.
    ObjsetType(u64),
    /// Transaction groups on a pool that uses features which are only read.
    Writing,
    /// Changing a table of names that are compared in a normal form, with a name that is not ASCII.
    NormalizedZapWrite,
    /// Extended attributes of a file system with `xattr=off`.
    ExtendedAttributes,
    /// A record of the intent log of a kind that is unknown.
    LogRecord,
    /// The stream needs a feature that is unknown; the number is its bit.
    StreamFeature(u8),
    /// A raw stream, whose blocks are encrypted as they were stored.
    RawStream,
}

/// What a device said about a failed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceError {
    /// The range is not within the device.
    OutOfRange,
    /// The device reported a failure of this request.
    Failed,
    /// The device is no longer there.
    Gone,
    /// The device does not accept writes.
    ReadOnly,
}

/// The result of every operation on an imported pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// A device failed and no redundancy covered it.
    Device(DeviceError),
    /// No copy of this block has the right checksum.
    Unreadable(Bookmark),
    /// A structure contradicts itself or the format.
    Corrupt(Structure),
    /// The format has it, this implementation does not.
    Unsupported(Unsupported),
    /// No such data set, object, entry or attribute.
    NotFound,
    /// The name is taken.
    AlreadyExists,
    /// A path component or a target is not a directory.
    NotDirectory,
    /// The operation needs something other than a directory.
    IsDirectory,
    /// The directory, or the data set with its children, is not empty.
    NotEmpty,
    /// The name has characters that may not be in it, or none.
    InvalidName,
    /// A name or path is longer than the format allows.
    NameTooLong,
    /// A value is outside what the call allows.
    InvalidArgument,
    /// The range ends beyond the volume or the largest file.
    OutOfRange,
    /// The pool has no free space left for it.
    NoSpace,
    /// A quota of the data set or one above it is used up.
    QuotaExceeded,
    /// The pool or the data set is read-only.
    ReadOnly,
    /// A transaction group or a change of the pool failed half-way: nothing is written any more until the pool is imported
    /// anew, which gives what was committed last.
    Suspended,
    /// The object is held, open or has dependants.
    Busy,
    /// The data set is encrypted and its key is not loaded.
    KeyUnavailable,
    /// The passphrase or key does not unwrap the data set's keys.
    WrongKey,
    /// The pool lacks a feature that the operation needs.
    FeatureDisabled,
    /// The stream does not fit the data set that should receive it.
    StreamMismatch,
}

impl From<DeviceError> for Error {
    fn from(error: DeviceError) -> Self {
        Error::Device(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Error::Device(DeviceError::OutOfRange) => "request beyond the end of a device",
            Error::Device(DeviceError::Failed) => "a device failed a request",
            Error::Device(DeviceError::Gone) => "a device is gone",
            Error::Device(DeviceError::ReadOnly) => "a device is read-only",
            Error::Unreadable(bookmark) => {
                return write!(formatter, "no good copy of block {bookmark}");
            }
            Error::Corrupt(structure) => return write!(formatter, "corrupt: {structure:?}"),
            Error::Unsupported(what) => return write!(formatter, "not supported: {what:?}"),
            Error::NotFound => "does not exist",
            Error::AlreadyExists => "already exists",
            Error::NotDirectory => "not a directory",
            Error::IsDirectory => "is a directory",
            Error::NotEmpty => "not empty",
            Error::InvalidName => "invalid name",
            Error::NameTooLong => "name too long",
            Error::InvalidArgument => "invalid argument",
            Error::OutOfRange => "out of range",
            Error::NoSpace => "out of space",
            Error::QuotaExceeded => "quota exceeded",
            Error::ReadOnly => "read-only",
            Error::Suspended => "the pool is suspended after a failure; import it anew",
            Error::Busy => "busy",
            Error::KeyUnavailable => "the encryption key is not loaded",
            Error::WrongKey => "wrong key or passphrase",
            Error::FeatureDisabled => "the pool does not have the needed feature enabled",
            Error::StreamMismatch => "the stream does not fit the destination",
        };
        formatter.write_str(text)
    }
}

impl core::error::Error for Error {}
