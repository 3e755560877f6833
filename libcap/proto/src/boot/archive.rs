//! The container: a checked header, a directory, and files that each start on a page.
//!
//! Files start on page boundaries so that root can map them without copying. The header page
//! carries a version and a CRC-32 of the directory; each file has its own CRC-32, which a
//! reader checks when it uses the file, so that starting does not read the whole archive.
//!
//! | byte | field |
//! | --- | --- |
//! | 0 | magic `TESSERA\0` |
//! | 8 | version, u32 |
//! | 12 | length of the directory in bytes, u32 |
//! | 16 | CRC-32 of the directory, u32 |
//! | 20 | the directory: postcard of [`Directory`] |

use super::manifest::Manifest;
use alloc::string::String;
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// First bytes of an archive.
pub const MAGIC: [u8; 8] = *b"TESSERA\0";
/// Version of the format that this module reads and writes.
pub const VERSION: u32 = 1;
/// Alignment of files: the page size.
pub const ALIGNMENT: usize = 4096;
/// Bytes before the directory.
pub const HEADER_BYTES: usize = 20;

/// Everything about the archive but the files' bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Directory {
    /// The system manifest.
    pub manifest: Manifest,
    /// The files, by rising offset.
    pub files: Vec<Entry>,
}

/// One file of the archive.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Full path, as `/bin/console` or `/boot/vmlinuz`.
    pub path: String,
    /// Byte offset from the start of the archive, a multiple of [`ALIGNMENT`].
    pub offset: u64,
    /// Length in bytes.
    pub length: u64,
    /// CRC-32 of its bytes.
    pub crc32: u32,
}

/// Why bytes are not an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArchiveError {
    /// The magic number is missing.
    NotAnArchive,
    /// The archive has another version.
    Version(u32),
    /// It ends before the header says.
    Truncated,
    /// A checksum does not fit.
    Checksum,
    /// The directory does not decode, or a file lies where it may not.
    Directory,
    /// No file of that path.
    NotFound,
}

/// An archive whose header and directory were checked.
#[derive(Clone, Debug)]
pub struct Archive<'a> {
    bytes: &'a [u8],
    directory: Directory,
}

impl<'a> Archive<'a> {
    /// Checks header and directory of `bytes`, which may be longer than the archive.
    ///
    /// # Errors
    /// Any [`ArchiveError`] but `NotFound`.
    pub fn open(bytes: &'a [u8]) -> Result<Self, ArchiveError> {
        let header = bytes.get(..HEADER_BYTES).ok_or(ArchiveError::Truncated)?;
        if header[..8] != MAGIC {
            return Err(ArchiveError::NotAnArchive);
        }
        let version = word(header, 8);
        if version != VERSION {
            return Err(ArchiveError::Version(version));
        }
        let end = HEADER_BYTES + word(header, 12) as usize;
        let encoded = bytes
            .get(HEADER_BYTES..end)
            .ok_or(ArchiveError::Truncated)?;
        if crc32(encoded) != word(header, 16) {
            return Err(ArchiveError::Checksum);
        }
        let (directory, rest) =
            postcard::take_from_bytes::<Directory>(encoded).map_err(|_| ArchiveError::Directory)?;
        if !rest.is_empty() {
            return Err(ArchiveError::Directory);
        }
        let archive = Self { bytes, directory };
        archive.check_layout(end)?;
        Ok(archive)
    }

    /// The system manifest.
    #[must_use]
    pub fn manifest(&self) -> &Manifest {
        &self.directory.manifest
    }

    /// All files, by rising offset.
    #[must_use]
    pub fn entries(&self) -> &[Entry] {
        &self.directory.files
    }

    /// The bytes of the file at `path`, checked against its checksum.
    ///
    /// # Errors
    /// `NotFound`, or `Checksum` when the file is damaged.
    pub fn file(&self, path: &str) -> Result<&'a [u8], ArchiveError> {
        let entry = self.entries().iter().find(|entry| entry.path == path);
        let entry = entry.ok_or(ArchiveError::NotFound)?;
        let bytes = self.slice(entry)?;
        if crc32(bytes) != entry.crc32 {
            return Err(ArchiveError::Checksum);
        }
        Ok(bytes)
    }

    /// The bytes of `entry`, without a look at the checksum: for files so large that the
    /// consumer checks them in its own way.
    ///
    /// # Errors
    /// `Truncated` when the entry is not one of this archive and lies outside of it.
    pub fn slice(&self, entry: &Entry) -> Result<&'a [u8], ArchiveError> {
        let start = usize::try_from(entry.offset).map_err(|_| ArchiveError::Truncated)?;
        let length = usize::try_from(entry.length).map_err(|_| ArchiveError::Truncated)?;
        let end = start.checked_add(length).ok_or(ArchiveError::Truncated)?;
        self.bytes.get(start..end).ok_or(ArchiveError::Truncated)
    }

    /// Files are aligned, in order, apart from each other and inside of the archive.
    fn check_layout(&self, directory_end: usize) -> Result<(), ArchiveError> {
        let mut free = directory_end as u64;
        for entry in self.entries() {
            if entry.offset < free || !entry.offset.is_multiple_of(ALIGNMENT as u64) {
                return Err(ArchiveError::Directory);
            }
            self.slice(entry)?;
            free = entry.offset + entry.length;
        }
        Ok(())
    }
}

/// Writes an archive of `manifest` and `files` (path, bytes), in the order given.
#[must_use]
pub fn build(manifest: &Manifest, files: &[(String, Vec<u8>)]) -> Vec<u8> {
    // Offsets are varints whose width changes the directory's own length, so room for the
    // directory is first reserved with the widest offsets.
    let widest = directory_at(manifest, files, u64::from(u32::MAX) << 16);
    let start = (HEADER_BYTES + encode(&widest).len()).next_multiple_of(ALIGNMENT);
    let directory = directory_at(manifest, files, start as u64);
    let encoded = encode(&directory);
    let mut archive = Vec::new();
    archive.extend_from_slice(&MAGIC);
    archive.extend_from_slice(&VERSION.to_le_bytes());
    archive.extend_from_slice(&(encoded.len() as u32).to_le_bytes());
    archive.extend_from_slice(&crc32(&encoded).to_le_bytes());
    archive.extend_from_slice(&encoded);
    for (entry, (_, bytes)) in directory.files.iter().zip(files) {
        archive.resize(entry.offset as usize, 0);
        archive.extend_from_slice(bytes);
    }
    archive.resize(archive.len().next_multiple_of(ALIGNMENT), 0);
    archive
}

/// The directory when the first file starts at `offset`.
fn directory_at(manifest: &Manifest, files: &[(String, Vec<u8>)], mut offset: u64) -> Directory {
    let entry = |(path, bytes): &(String, Vec<u8>)| {
        let start = offset;
        offset = (offset + bytes.len() as u64).next_multiple_of(ALIGNMENT as u64);
        Entry {
            path: path.clone(),
            offset: start,
            length: bytes.len() as u64,
            crc32: crc32(bytes),
        }
    };
    Directory {
        manifest: manifest.clone(),
        files: files.iter().map(entry).collect(),
    }
}

fn encode(directory: &Directory) -> Vec<u8> {
    // postcard refuses only types that do not know their length; these all do.
    postcard::to_allocvec(directory).unwrap_or_default()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    let field = bytes
        .get(at..at + 4)
        .and_then(|field| field.try_into().ok());
    u32::from_le_bytes(field.unwrap_or_default())
}

/// CRC-32 of IEEE 802.3 (reflected, polynomial 0xedb88320).
#[must_use]
pub fn crc32(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = crc32_table();
    !bytes.iter().fold(!0, |crc: u32, byte| {
        (crc >> 8) ^ TABLE[((crc ^ u32::from(*byte)) & 0xff) as usize]
    })
}

const fn crc32_table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u32;
        let mut bit = 0;
        while bit < 8 {
            value = if value & 1 == 1 {
                (value >> 1) ^ 0xedb8_8320
            } else {
                value >> 1
            };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn empty_manifest() -> Manifest {
        Manifest {
            system: "test".into(),
            devices: vec![],
            programs: vec![],
            channels: vec![],
        }
    }

    fn sample() -> Vec<u8> {
        let files = [
            ("/bin/a".into(), vec![1; 5000]),
            ("/boot/empty".into(), vec![]),
            ("/boot/b".into(), vec![7; 3]),
        ];
        build(&empty_manifest(), &files)
    }

    #[test]
    fn crc_of_the_check_string() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }

    #[test]
    fn files_come_back_on_page_boundaries() {
        let bytes = sample();
        let archive = Archive::open(&bytes).expect("own archive");
        assert_eq!(archive.manifest(), &empty_manifest());
        assert_eq!(archive.file("/bin/a"), Ok(&[1; 5000][..]));
        assert_eq!(archive.file("/boot/b"), Ok(&[7; 3][..]));
        assert_eq!(archive.file("/boot/empty"), Ok(&[][..]));
        assert_eq!(archive.file("/boot/c"), Err(ArchiveError::NotFound));
        assert!(
            archive
                .entries()
                .iter()
                .all(|entry| entry.offset % 4096 == 0)
        );
    }

    #[test]
    fn each_kind_of_damage_has_its_error() {
        let mut bytes = sample();
        bytes[4096] ^= 1;
        let archive = Archive::open(&bytes).expect("the directory is whole");
        assert_eq!(archive.file("/bin/a"), Err(ArchiveError::Checksum));
        bytes[HEADER_BYTES] ^= 1;
        assert_eq!(Archive::open(&bytes).err(), Some(ArchiveError::Checksum));
        bytes[8] = 9;
        assert_eq!(Archive::open(&bytes).err(), Some(ArchiveError::Version(9)));
        bytes[0] = 0;
        assert_eq!(
            Archive::open(&bytes).err(),
            Some(ArchiveError::NotAnArchive)
        );
        assert_eq!(
            Archive::open(&sample()[..4096]).err(),
            Some(ArchiveError::Truncated)
        );
        assert_eq!(
            Archive::open(&sample()[..30]).err(),
            Some(ArchiveError::Truncated)
        );
    }

    /// A directory with a right checksum but `offset` and `length` of a hostile writer.
    fn forged(offset: u64, length: u64) -> Vec<u8> {
        let files = vec![Entry {
            path: "/x".into(),
            offset,
            length,
            crc32: 0,
        }];
        let encoded = encode(&Directory {
            manifest: empty_manifest(),
            files,
        });
        let mut bytes = MAGIC.to_vec();
        bytes.extend(VERSION.to_le_bytes());
        bytes.extend((encoded.len() as u32).to_le_bytes());
        bytes.extend(crc32(&encoded).to_le_bytes());
        bytes.extend(encoded);
        bytes.resize(8192, 0);
        bytes
    }

    proptest! {
        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            prop_assert!(Archive::open(&bytes).is_err());
        }

        #[test]
        fn files_never_lie_outside(offset in any::<u64>(), length in any::<u64>()) {
            let bytes = forged(offset & !4095, length);
            if let Ok(archive) = Archive::open(&bytes) {
                let slice = archive.slice(&archive.entries()[0]).expect("checked by open");
                prop_assert_eq!(slice.len() as u64, length);
            }
        }
    }
}
