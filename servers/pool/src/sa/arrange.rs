//! Arranging attributes: which go into the bonus and which into the spill block, and the layouts that say so.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::pack::{Length, REGISTERED, pack};
use super::{Attribute, CORRUPT, SaRegistry};
use crate::blkptr::BLKPTR_SIZE;
use crate::dmu::{Dnode, Objset};
use crate::error::Error;
use crate::zap::{Zap, ZapValue, update};

/// Largest spill block, which bounds the attributes of one file.
const SPILL_MAX: usize = 128 << 10;
/// Spill blocks are whole sectors.
const SECTOR: usize = 512;

/// Attributes by name, in the order in which they are stored.
pub type Ordered = Vec<(String, Vec<u8>)>;

/// Attributes as they are stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packed {
    /// The bonus.
    pub bonus: Vec<u8>,
    /// The spill block, when the bonus is too small.
    pub spill: Option<Vec<u8>>,
}

impl SaRegistry {
    /// All attributes of a file in the order of their layouts.
    pub async fn ordered(&self, objset: &Objset, dnode: &Dnode) -> Result<Ordered, Error> {
        let mut all = Ordered::new();
        let bonus = &dnode.phys.bonus;
        self.visit(bonus, |name, place| {
            all.push((name.into(), Vec::from(&bonus[place])));
        })?;
        if let Some(spill) = objset.spill(dnode).await? {
            self.visit(&spill, |name, place| {
                all.push((name.into(), Vec::from(&spill[place])));
            })?;
        }
        Ok(all)
    }

    /// Packs attributes into a bonus of at most `capacity` bytes and a spill block, registering layouts as needed.
    ///
    /// # Errors
    /// `OutOfRange` when they do not fit into a spill block either.
    pub async fn arrange(
        &mut self,
        objset: &Objset,
        values: &[(String, Vec<u8>)],
        capacity: usize,
    ) -> Result<Packed, Error> {
        let mut kinds = Vec::with_capacity(values.len());
        for (name, value) in values {
            kinds.push(self.kind_of(objset, name, value).await?);
        }
        let size =
            |range: core::ops::Range<usize>| packed_size(&values[range.clone()], &kinds[range]);
        let all = values.len();
        if size(0..all) <= capacity {
            return Ok(Packed {
                bonus: self.pack_part(objset, values, &kinds).await?,
                spill: None,
            });
        }
        // The pointer to the spill block takes room at the end of the bonus.
        let room = capacity.saturating_sub(BLKPTR_SIZE);
        let split = (0..=all)
            .rev()
            .find(|&end| size(0..end) <= room)
            .ok_or(Error::OutOfRange)?;
        if size(split..all) > SPILL_MAX {
            return Err(Error::OutOfRange);
        }
        let bonus = self
            .pack_part(objset, &values[..split], &kinds[..split])
            .await?;
        let mut spill = self
            .pack_part(objset, &values[split..], &kinds[split..])
            .await?;
        spill.resize(spill.len().next_multiple_of(SECTOR), 0);
        Ok(Packed {
            bonus,
            spill: Some(spill),
        })
    }

    async fn pack_part(
        &mut self,
        objset: &Objset,
        values: &[(String, Vec<u8>)],
        kinds: &[(u16, Length)],
    ) -> Result<Vec<u8>, Error> {
        let numbers: Vec<u16> = kinds.iter().map(|(number, _)| *number).collect();
        let layout = self.layout(objset, &numbers).await?;
        let values: Vec<(Vec<u8>, Length)> = values
            .iter()
            .zip(kinds)
            .map(|((_, value), (_, length))| (value.clone(), *length))
            .collect();
        pack(layout, &values)
    }

    /// Number of an attribute and whether its length is its own; one that is not registered is.
    async fn kind_of(
        &mut self,
        objset: &Objset,
        name: &str,
        value: &[u8],
    ) -> Result<(u16, Length), Error> {
        let known = self
            .attributes
            .iter()
            .find(|(_, attribute)| attribute.name == name);
        let (number, length) = match known {
            Some((number, attribute)) => (*number, attribute.length),
            None => self.register(objset, name).await?,
        };
        match length {
            0 => Ok((number, Length::Own)),
            length if length == value.len() => Ok((number, Length::Fixed)),
            _ => Err(CORRUPT),
        }
    }

    async fn register(&mut self, objset: &Objset, name: &str) -> Result<(u16, usize), Error> {
        let standard = REGISTERED
            .iter()
            .find(|attribute| attribute.name == name)
            .ok_or(CORRUPT)?;
        let number = self
            .attributes
            .keys()
            .next_back()
            .map_or(0, |last| last + 1);
        let table = Zap::open(objset, self.master)
            .await?
            .lookup_u64("REGISTRY")
            .await?;
        let entry = super::pack::Registered {
            number,
            ..*standard
        };
        update::update(objset, table, name.as_bytes(), entry.encode()).await?;
        let attribute = Attribute {
            name: name.into(),
            length: usize::from(standard.length),
        };
        let length = attribute.length;
        self.attributes.insert(number, attribute);
        Ok((number, length))
    }

    /// Number of the layout with these attributes; a new one is registered.
    async fn layout(&mut self, objset: &Objset, numbers: &[u16]) -> Result<u16, Error> {
        let found = |layouts: &alloc::collections::BTreeMap<u16, Vec<u16>>| {
            let mut all = layouts.iter();
            all.find(|(_, layout)| *layout == numbers)
                .map(|(number, _)| *number)
        };
        if let Some(number) = found(&self.layouts) {
            return Ok(number);
        }
        // Somebody else who has the file system open may have registered it.
        let fresh = SaRegistry::open(objset, self.master).await?;
        self.layouts = fresh.layouts;
        if let Some(number) = found(&self.layouts) {
            return Ok(number);
        }
        let last = self.layouts.keys().next_back().map_or(0, |last| last + 1);
        let number = last.max(super::pack::FIRST_LAYOUT);
        let bytes = numbers
            .iter()
            .flat_map(|number| number.to_be_bytes())
            .collect();
        let value = ZapValue {
            integer_size: 2,
            bytes,
        };
        let table = Zap::open(objset, self.master)
            .await?
            .lookup_u64("LAYOUTS")
            .await?;
        update::set(objset, table, format!("{number}").as_bytes(), &value).await?;
        self.layouts.insert(number, numbers.into());
        Ok(number)
    }
}

/// Bytes that attributes take with their header.
fn packed_size(values: &[(String, Vec<u8>)], kinds: &[(u16, Length)]) -> usize {
    let own = kinds
        .iter()
        .filter(|(_, length)| *length == Length::Own)
        .count();
    let header = (super::LENGTHS_AT + 2 * own).next_multiple_of(8);
    let sizes = values
        .iter()
        .map(|(_, value)| value.len().next_multiple_of(8));
    header + sizes.sum::<usize>()
}
