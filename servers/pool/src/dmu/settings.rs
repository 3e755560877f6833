//! How an object set's blocks are to be stored: what the properties of its data set say.

use super::StoragePolicy;
use crate::block_device::Access;
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::error::Error;

/// Copies of metadata: one more than of data, up to three.
const EXTRA_METADATA_COPIES: usize = 1;
const MAX_COPIES: usize = 3;

/// What a commit of the intent log does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SyncMode {
    /// It returns when all changes are durable.
    #[default]
    Standard,
    /// As standard; whoever changes something commits after each change.
    Always,
    /// It returns at once: the user prefers speed to the last seconds.
    Disabled,
}

/// When reading a file sets its access time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccessTimes {
    /// Never.
    Off,
    /// When it is not after the last change, or a day old.
    Relative,
    /// Always.
    On,
}

/// Where new extended attributes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttributePlace {
    /// They are refused.
    None,
    /// Into files of a hidden directory.
    Directory,
    /// Into a list among the file's own attributes, as far as there is room.
    List,
}

/// How much may be written until the next transaction group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Bytes.
    pub left: u64,
    /// What more than that is refused with: a quota's end or the pool's.
    pub refusal: Error,
}

impl Default for Budget {
    fn default() -> Self {
        Budget {
            left: u64::MAX,
            refusal: Error::NoSpace,
        }
    }
}

/// The settings of one object set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Largest block of a new file.
    pub record_size: usize,
    /// Compression of data.
    pub compression: Compression,
    /// Checksum of data.
    pub checksum: ChecksumKind,
    /// Copies of data, 1 to 3.
    pub copies: usize,
    /// What committing the log means.
    pub sync: SyncMode,
    /// Whether users may change anything.
    pub access: Access,
    /// When reading a file sets its access time.
    pub access_times: AccessTimes,
    /// Where new extended attributes go.
    pub attributes: AttributePlace,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            record_size: 128 << 10,
            compression: Compression::Lz4,
            checksum: ChecksumKind::Fletcher4,
            copies: 1,
            sync: SyncMode::Standard,
            access: Access::ReadWrite,
            access_times: AccessTimes::Relative,
            attributes: AttributePlace::List,
        }
    }
}

impl Settings {
    /// How blocks of files and volumes are stored.
    pub fn data(&self) -> StoragePolicy {
        StoragePolicy {
            compression: self.compression,
            checksum: self.checksum,
            copies: self.copies,
        }
    }

    /// How everything else is stored: always compressed and always with a checksum that detects.
    pub fn metadata(&self) -> StoragePolicy {
        StoragePolicy {
            compression: Compression::Lz4,
            checksum: match self.checksum.detects() {
                true => self.checksum,
                false => ChecksumKind::Fletcher4,
            },
            copies: (self.copies + EXTRA_METADATA_COPIES).min(MAX_COPIES),
        }
    }
}
