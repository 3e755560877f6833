//! System attributes: the attributes of a file, packed into its bonus and spill block by layouts that each file
//! system registers for itself.

mod arrange;
pub mod pack;

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use crate::dmu::{Dnode, Objset};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::Fields;
use crate::zap::Zap;

pub use arrange::Packed;

const CORRUPT: Error = Error::Corrupt(Structure::SystemAttributes);

const MAGIC: u32 = 0x002f_505a;
/// Bytes before the lengths in a header.
const LENGTHS_AT: usize = 6;

/// What a file system registered for one attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Attribute {
    name: String,
    /// Bytes; 0 when each value has its own length.
    length: usize,
}

/// The attributes and layouts of one file system.
#[derive(Clone, Debug)]
pub struct SaRegistry {
    /// The object that leads to the tables of attributes and layouts.
    master: u64,
    attributes: BTreeMap<u16, Attribute>,
    layouts: BTreeMap<u16, Vec<u16>>,
}

impl SaRegistry {
    /// Reads the registry from its master object.
    pub async fn open(objset: &Objset, master: u64) -> Result<SaRegistry, Error> {
        let zap = Zap::open(objset, master).await?;
        let registry = Zap::open(objset, zap.lookup_u64("REGISTRY").await?).await?;
        let mut attributes = BTreeMap::new();
        for (name, value) in registry.numbers().await? {
            let attribute = Attribute {
                name,
                length: (value >> 24 & 0xffff) as usize,
            };
            attributes.insert(value as u16, attribute);
        }
        let mut layouts = BTreeMap::new();
        for entry in Zap::open(objset, zap.lookup_u64("LAYOUTS").await?)
            .await?
            .entries()
            .await?
        {
            let number: u16 = entry.text().parse().map_err(|_| CORRUPT)?;
            let numbers = entry
                .value
                .integers()
                .into_iter()
                .map(|number| number as u16)
                .collect();
            layouts.insert(number, numbers);
        }
        Ok(SaRegistry {
            master,
            attributes,
            layouts,
        })
    }

    /// Whether the layout of a packed buffer is known; others may have registered one since.
    pub fn knows(&self, buffer: &[u8]) -> bool {
        let layout = buffer.u16_at(4).unwrap_or(0) & 0x3ff;
        buffer.u32_at(0).unwrap_or(0) != MAGIC || self.layouts.contains_key(&layout)
    }

    /// All attributes of a file, of its bonus and its spill block.
    pub async fn attributes(&self, objset: &Objset, dnode: &Dnode) -> Result<SaAttributes, Error> {
        if dnode.phys.bonus_type != ObjectType::SYSTEM_ATTRIBUTES {
            return Err(CORRUPT);
        }
        let mut found = SaAttributes::default();
        self.unpack(&dnode.phys.bonus, &mut found)?;
        if let Some(spill) = objset.spill(dnode).await? {
            self.unpack(&spill, &mut found)?;
        }
        Ok(found)
    }

    /// Where the attributes of a packed buffer are in it, by name.
    pub fn places(
        &self,
        buffer: &[u8],
    ) -> Result<BTreeMap<String, core::ops::Range<usize>>, Error> {
        let mut places = BTreeMap::new();
        self.visit(buffer, |name, place| {
            places.insert(String::from(name), place);
        })?;
        Ok(places)
    }

    /// Adds the attributes of one buffer.
    fn unpack(&self, buffer: &[u8], found: &mut SaAttributes) -> Result<(), Error> {
        self.visit(buffer, |name, place| {
            found.values.insert(name.into(), Vec::from(&buffer[place]));
        })
    }

    /// Gives the name and place of each attribute of a buffer; the places are inside it.
    fn visit(
        &self,
        buffer: &[u8],
        mut each: impl FnMut(&str, core::ops::Range<usize>),
    ) -> Result<(), Error> {
        let magic = buffer.u32_at(0).unwrap_or(0);
        if magic == 0 {
            return Ok(());
        }
        let info = buffer.u16_at(4).ok_or(CORRUPT)?;
        let header_size = usize::from(info >> 10) * 8;
        let layout = self
            .layouts
            .get(&(info & 0x3ff))
            .filter(|_| magic == MAGIC)
            .ok_or(CORRUPT)?;
        let mut at = header_size;
        let mut variable = 0;
        for number in layout {
            let attribute = self.attributes.get(number).ok_or(CORRUPT)?;
            let length = match attribute.length {
                0 => {
                    let length_at = LENGTHS_AT + 2 * variable;
                    variable += 1;
                    usize::from(
                        buffer
                            .u16_at(length_at)
                            .filter(|_| length_at < header_size)
                            .ok_or(CORRUPT)?,
                    )
                }
                length => length,
            };
            buffer.bytes_at(at, length).ok_or(CORRUPT)?;
            each(&attribute.name, at..at + length);
            at = (at + length).next_multiple_of(8);
        }
        Ok(())
    }
}

/// The attributes of one file by their names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SaAttributes {
    values: BTreeMap<String, Vec<u8>>,
}

impl SaAttributes {
    /// The bytes of an attribute.
    pub fn get(&self, name: &str) -> Option<&[u8]> {
        self.values.get(name).map(Vec::as_slice)
    }

    /// The attribute as one number; `Corrupt` when the file does not have it.
    pub fn u64(&self, name: &str) -> Result<u64, Error> {
        self.get(name)
            .and_then(|bytes| bytes.u64_at(0))
            .ok_or(Error::Corrupt(Structure::Znode))
    }

    /// The attribute as a time: seconds and nanoseconds.
    pub fn time(&self, name: &str) -> Result<[u64; 2], Error> {
        let bytes = self.get(name).ok_or(Error::Corrupt(Structure::Znode))?;
        let [seconds, nanoseconds] = [0, 8].map(|at| bytes.u64_at(at));
        seconds
            .zip(nanoseconds)
            .map(|(seconds, nanoseconds)| [seconds, nanoseconds])
            .ok_or(Error::Corrupt(Structure::Znode))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(super) fn registry() -> SaRegistry {
        let attribute = |name: &str, length| Attribute {
            name: name.into(),
            length,
        };
        SaRegistry {
            master: 2,
            attributes: [
                (1, attribute("MODE", 8)),
                (2, attribute("LINK", 0)),
                (3, attribute("SIZE", 8)),
            ]
            .into(),
            layouts: [(4, alloc::vec![1, 2, 3])].into(),
        }
    }

    #[test]
    fn a_variable_attribute_moves_what_follows_to_the_next_eight_bytes() {
        let mut buffer = Vec::from(MAGIC.to_le_bytes());
        buffer.extend((4u16 | 1 << 10).to_le_bytes());
        buffer.extend(3u16.to_le_bytes());
        buffer.extend(7u64.to_le_bytes());
        buffer.extend(*b"abc\0\0\0\0\0");
        buffer.extend(9u64.to_le_bytes());
        let mut found = SaAttributes::default();
        registry().unpack(&buffer, &mut found).unwrap();
        assert_eq!(
            (found.u64("MODE"), found.get("LINK"), found.u64("SIZE")),
            (Ok(7), Some(&b"abc"[..]), Ok(9))
        );
    }

    proptest! {
        #[test]
        fn random_buffers_never_panic(mut buffer in proptest::collection::vec(any::<u8>(), 0..200)) {
            if buffer.len() >= 6 {
                buffer[..4].copy_from_slice(&MAGIC.to_le_bytes());
                buffer[4] = 4;
            }
            let _ = registry().unpack(&buffer, &mut SaAttributes::default());
        }
    }
}
