//! Directories: ZAPs from names to objects.

use alloc::string::String;
use alloc::vec::Vec;

use unicode_normalization::UnicodeNormalization;

use super::{FileType, Zpl};
use crate::error::{Error, Structure};
use crate::zap::{NormalizationFlags, Zap};

/// Bits of a directory value that are the object's number.
const OBJECT_BITS: u32 = 48;

/// The type that a directory entry caches, so that listing need not look at the file.
pub type EntryKind = FileType;

/// One name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// The name as stored.
    pub name: Vec<u8>,
    /// Its object.
    pub object: u64,
    /// Its type.
    pub kind: EntryKind,
}

fn entry(name: Vec<u8>, value: u64) -> DirectoryEntry {
    let kind = FileType::from_mode(value >> 60 << 12);
    DirectoryEntry {
        name,
        object: value & ((1 << OBJECT_BITS) - 1),
        kind,
    }
}

impl Zpl {
    /// The entries of a directory in the order of the table, without `.` and `..`.
    pub async fn readdir(&self, directory: u64) -> Result<Vec<DirectoryEntry>, Error> {
        let zap = self.directory(directory).await?;
        let mut entries = Vec::new();
        for found in zap.entries().await? {
            let value = found.value.u64().ok_or(Error::Corrupt(Structure::Znode))?;
            entries.push(entry(found.name, value));
        }
        Ok(entries)
    }

    /// Finds a name in a directory, as the file system compares names.
    pub async fn lookup(&self, directory: u64, name: &[u8]) -> Result<DirectoryEntry, Error> {
        let zap = self.directory(directory).await?;
        if let Some(value) = zap.lookup(name).await? {
            let value = value.u64().ok_or(Error::Corrupt(Structure::Znode))?;
            return Ok(entry(Vec::from(name), value));
        }
        if zap.normalization().is_exact() {
            return Err(Error::NotFound);
        }
        let wanted = normalize(name, zap.normalization());
        let entries = self.readdir(directory).await?;
        let found = entries
            .into_iter()
            .find(|entry| normalize(&entry.name, zap.normalization()) == wanted);
        found.ok_or(Error::NotFound)
    }

    async fn directory(&self, object: u64) -> Result<Zap<'_>, Error> {
        if self.znode(object).await?.file_type != FileType::Directory {
            return Err(Error::NotDirectory);
        }
        Zap::open(&self.objset, object).await
    }
}

/// Flags of the text preparation that the table was made with.
const UPPERCASE: u64 = 0x01;
const CANONICAL: u64 = 0x10;
const COMPATIBLE: u64 = 0x20;
const COMPOSED: u64 = 0x40;

/// A name in the form in which the table compares it. Bytes that are not UTF-8 stay as they are.
fn normalize(name: &[u8], flags: NormalizationFlags) -> Vec<u8> {
    let Ok(text) = core::str::from_utf8(name) else {
        return name.into();
    };
    let cased: String = if flags.0 & UPPERCASE != 0 {
        text.to_uppercase()
    } else {
        text.into()
    };
    let form: String = match (
        flags.0 & CANONICAL != 0,
        flags.0 & COMPATIBLE != 0,
        flags.0 & COMPOSED != 0,
    ) {
        (_, true, true) => cased.nfkc().collect(),
        (_, true, false) => cased.nfkd().collect(),
        (true, false, true) => cased.nfc().collect(),
        (true, false, false) => cased.nfd().collect(),
        (false, false, _) => cased,
    };
    form.into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_differ_in_case_or_composition_normalize_alike() {
        let upper = NormalizationFlags(UPPERCASE);
        assert_eq!(normalize(b"ReadMe", upper), normalize(b"README", upper));
        let form_d = NormalizationFlags(CANONICAL);
        assert_eq!(
            normalize("\u{e9}".as_bytes(), form_d),
            normalize("e\u{301}".as_bytes(), form_d)
        );
        assert_eq!(normalize(b"\xff", form_d), b"\xff");
    }
}
