//! Micro tables: one block of 64-byte entries with short names and one 64-bit value each.

use crate::layout::Fields;

/// Size of an entry, and of the header before them.
pub const ENTRY_SIZE: usize = 64;
const NAME_AT: usize = 14;
/// Bytes of the name field, with the NUL.
pub const NAME_SIZE: usize = 50;

/// One used entry of the block.
pub struct MicroEntry<'a> {
    /// The name without NUL.
    pub name: &'a [u8],
    /// Its value.
    pub value: u64,
}

/// The used entries of a block.
pub fn entries(block: &[u8]) -> impl Iterator<Item = MicroEntry<'_>> {
    let entries = block
        .get(ENTRY_SIZE..)
        .unwrap_or_default()
        .chunks_exact(ENTRY_SIZE);
    entries.filter_map(|entry| {
        let name = entry
            .name_at(NAME_AT, NAME_SIZE)
            .filter(|name| !name.is_empty())?;
        Some(MicroEntry {
            name,
            value: entry.u64_at(0)?,
        })
    })
}
