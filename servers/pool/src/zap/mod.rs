//! ZAP objects: tables from names to values, the only directory structure of the pool.
//!
//! A small one is a single block of fixed entries (micro), a large one an extendible hash of leaf blocks (fat).
//! [`Zap`] hides which it is.

mod fat;
mod fat_update;
mod hash;
mod leaf;
mod leaf_build;
mod micro;
pub mod update;

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

use crate::dmu::{Dnode, Objset};
use crate::error::{Error, Structure};
use crate::layout::Fields;
use fat::FatHeader;

const CORRUPT: Error = Error::Corrupt(Structure::Zap);

const MICRO_BLOCK: u64 = 0x8000_0000_0000_0003;
const FAT_BLOCK: u64 = 0x8000_0000_0000_0001;

/// The value of an entry: integers of 1, 2, 4 or 8 bytes, big-endian as in the leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZapValue {
    /// Bytes of one integer.
    pub integer_size: usize,
    /// All of them.
    pub bytes: Vec<u8>,
}

impl ZapValue {
    /// A single 64-bit value.
    pub fn from_u64(value: u64) -> Self {
        ZapValue {
            integer_size: 8,
            bytes: value.to_be_bytes().to_vec(),
        }
    }

    /// The value when it is exactly one integer of 8 bytes.
    pub fn u64(&self) -> Option<u64> {
        let bytes: [u8; 8] = self.bytes.as_slice().try_into().ok()?;
        (self.integer_size == 8).then_some(u64::from_be_bytes(bytes))
    }

    /// All integers, widened to 64 bits.
    pub fn integers(&self) -> Vec<u64> {
        let integers = self.bytes.chunks_exact(self.integer_size.max(1));
        integers
            .map(|bytes| {
                bytes
                    .iter()
                    .fold(0, |value, &byte| value << 8 | u64::from(byte))
            })
            .collect()
    }

    /// The text of a string value, up to its NUL.
    pub fn string(&self) -> Option<String> {
        let text = self.bytes.name_at(0, self.bytes.len())?;
        (self.integer_size == 1).then(|| String::from_utf8_lossy(text).into_owned())
    }
}

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ZapEntry {
    /// The name without its NUL; for tables with integer keys, their big-endian bytes.
    pub name: Vec<u8>,
    /// Its value.
    pub value: ZapValue,
}

impl ZapEntry {
    /// The name as text, with what is not UTF-8 replaced.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.name).into_owned()
    }
}

/// How names are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NormalizationFlags(pub u64);

impl NormalizationFlags {
    /// Whether names match byte by byte.
    pub fn is_exact(self) -> bool {
        self.0 == 0
    }
}

enum Form {
    Micro,
    Fat(FatHeader),
}

/// A table open for reading.
pub struct Zap<'a> {
    objset: &'a Objset,
    dnode: Dnode,
    form: Form,
    normalization: NormalizationFlags,
}

impl<'a> Zap<'a> {
    /// Opens the table in object `number`.
    pub async fn open(objset: &'a Objset, number: u64) -> Result<Zap<'a>, Error> {
        let dnode = objset.dnode(number).await?;
        Zap::of_dnode(objset, dnode).await
    }

    /// Opens the table in an object that was looked up.
    pub async fn of_dnode(objset: &'a Objset, dnode: Dnode) -> Result<Zap<'a>, Error> {
        let block = objset.block(&dnode, 0).await?.ok_or(CORRUPT)?;
        let (form, normalization) = match block.u64_at(0) {
            Some(MICRO_BLOCK) => (Form::Micro, block.u64_at(16).ok_or(CORRUPT)?),
            Some(FAT_BLOCK) => {
                let header = FatHeader::decode(&block, &dnode)?;
                let normalization = header.normalization;
                (Form::Fat(header), normalization)
            }
            _ => return Err(CORRUPT),
        };
        Ok(Zap {
            objset,
            dnode,
            form,
            normalization: NormalizationFlags(normalization),
        })
    }

    /// How names are compared.
    pub fn normalization(&self) -> NormalizationFlags {
        self.normalization
    }

    /// The value of exactly this name.
    pub async fn lookup(&self, name: &[u8]) -> Result<Option<ZapValue>, Error> {
        if !self.normalization.is_exact() {
            // Names are hashed in normal form, so an exact match is looked for among all.
            let entries = self.entries().await?;
            return Ok(entries
                .into_iter()
                .find(|entry| entry.name == name)
                .map(|entry| entry.value));
        }
        match &self.form {
            Form::Micro => {
                let block = self.objset.block(&self.dnode, 0).await?.ok_or(CORRUPT)?;
                Ok(micro::entries(&block)
                    .find(|entry| entry.name == name)
                    .map(|entry| ZapValue::from_u64(entry.value)))
            }
            Form::Fat(header) => {
                let hash = header.hash_name(name);
                let leaf = self.leaf(header, header.leaf_index(hash)).await?;
                let mut stored = Vec::from(name);
                stored.push(0);
                leaf::Leaf::new(&leaf)?.lookup(hash, &stored, 1)
            }
        }
    }

    /// The value of a name that must have exactly one 64-bit integer.
    ///
    /// # Errors
    /// `NotFound` when the name is not there.
    pub async fn lookup_u64(&self, name: &str) -> Result<u64, Error> {
        self.lookup(name.as_bytes())
            .await?
            .ok_or(Error::NotFound)?
            .u64()
            .ok_or(CORRUPT)
    }

    /// The value of a key of 64-bit integers.
    pub async fn lookup_words(&self, key: &[u64]) -> Result<Option<ZapValue>, Error> {
        let Form::Fat(header) = &self.form else {
            return Ok(None);
        };
        let hash = header.hash_words(key);
        let leaf = self.leaf(header, header.leaf_index(hash)).await?;
        let stored: Vec<u8> = key.iter().flat_map(|word| word.to_be_bytes()).collect();
        leaf::Leaf::new(&leaf)?.lookup(hash, &stored, 8)
    }

    /// All entries, in the order of the table.
    pub async fn entries(&self) -> Result<Vec<ZapEntry>, Error> {
        match &self.form {
            Form::Micro => {
                let block = self.objset.block(&self.dnode, 0).await?.ok_or(CORRUPT)?;
                let entries = micro::entries(&block);
                Ok(entries
                    .map(|entry| ZapEntry {
                        name: entry.name.into(),
                        value: ZapValue::from_u64(entry.value),
                    })
                    .collect())
            }
            Form::Fat(header) => {
                let mut all = Vec::new();
                let mut last = None;
                for index in 0..header.table_length() {
                    let block = self.leaf_block(header, index).await?;
                    // A leaf with a short prefix stands at several neighbouring places of the table.
                    if last.replace(block) != Some(block) {
                        let leaf = self.read_leaf(block).await?;
                        leaf::Leaf::new(&leaf)?.entries(header.key_form(), &mut all)?;
                    }
                }
                Ok(all)
            }
        }
    }

    /// Names and single 64-bit values of all entries that have one.
    pub async fn numbers(&self) -> Result<Vec<(String, u64)>, Error> {
        let entries = self.entries().await?;
        Ok(entries
            .iter()
            .filter_map(|entry| Some((entry.text(), entry.value.u64()?)))
            .collect())
    }

    async fn leaf(&self, header: &FatHeader, index: u64) -> Result<crate::arc::Buffer, Error> {
        let block = self.leaf_block(header, index).await?;
        self.read_leaf(block).await
    }

    async fn leaf_block(&self, header: &FatHeader, index: u64) -> Result<u64, Error> {
        let mut word = [0; 8];
        self.objset
            .read(&self.dnode, header.table_offset(index), &mut word)
            .await?;
        Ok(u64::from_le_bytes(word))
    }

    async fn read_leaf(&self, block: u64) -> Result<crate::arc::Buffer, Error> {
        if block == 0 {
            return Err(CORRUPT);
        }
        self.objset.block(&self.dnode, block).await?.ok_or(CORRUPT)
    }
}

/// The entries of a table, or none when the object number is 0, which means that there is no table.
pub async fn entries_or_none(objset: &Objset, number: u64) -> Result<Vec<ZapEntry>, Error> {
    if number == 0 {
        return Ok(vec![]);
    }
    Zap::open(objset, number).await?.entries().await
}
