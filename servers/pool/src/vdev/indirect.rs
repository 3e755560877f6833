//! Removed vdevs: their addresses stay in old block pointers, and a mapping says where the data went.

use alloc::vec::Vec;
use core::cell::OnceCell;

use super::{ReadFailure, ReadRequest, VdevTree};
use crate::blkptr::Dva;
use crate::layout::Fields;

/// Bytes of one mapping entry.
pub const ENTRY_SIZE: usize = 24;
/// One removal can point to a vdev that was removed later; more steps than vdevs is a cycle.
const MAX_STEPS: usize = 64;

/// One moved range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MappingEntry {
    /// Start of the range on the removed vdev, in bytes.
    pub source: u64,
    /// Where it went; `allocated` is the length of the range.
    pub destination: Dva,
}

/// The mapping of one removed vdev, loaded from the MOS after the MOS can be read.
#[derive(Default)]
pub struct Indirect {
    mapping: OnceCell<Vec<MappingEntry>>,
}

/// A piece of a read after mapping.
struct Piece {
    vdev: u32,
    offset: u64,
    size: usize,
}

impl MappingEntry {
    /// Reads one entry; `None` when it has no destination.
    pub fn decode(bytes: &[u8]) -> Option<MappingEntry> {
        let source = (bytes.u64_at(0)? & !(1 << 63)) << 9;
        let (first, second) = (bytes.u64_at(8)?, bytes.u64_at(16)?);
        Some(MappingEntry {
            source,
            destination: Dva {
                vdev: (first >> 32) as u32 & 0xff_ffff,
                offset: (second & !(1 << 63)) << 9,
                allocated: (first & 0xff_ffff) << 9,
                gang: crate::blkptr::Gang::No,
            },
        })
    }
}

impl Indirect {
    /// Whether the mapping was loaded.
    pub fn is_loaded(&self) -> bool {
        self.mapping.get().is_some()
    }

    /// Gives the mapping; entries must be sorted by source, which is checked.
    pub fn load(&self, mapping: Vec<MappingEntry>) -> Result<(), ReadFailure> {
        let sorted = mapping.windows(2).all(|pair| {
            pair[0]
                .source
                .checked_add(pair[0].destination.allocated)
                .is_some_and(|end| end <= pair[1].source)
        });
        if !sorted {
            return Err(ReadFailure::BadAddress);
        }
        let _ = self.mapping.set(mapping);
        Ok(())
    }

    fn pieces(&self, mut offset: u64, mut size: usize) -> Option<Vec<Piece>> {
        let mapping = self.mapping.get()?;
        let mut pieces = Vec::new();
        while size > 0 {
            let index = mapping
                .partition_point(|entry| entry.source <= offset)
                .checked_sub(1)?;
            let entry = mapping[index];
            let inside = offset - entry.source;
            let left = entry
                .destination
                .allocated
                .checked_sub(inside)
                .filter(|&left| left > 0)?;
            let taken = left.min(size as u64);
            pieces.push(Piece {
                vdev: entry.destination.vdev,
                offset: entry.destination.offset.checked_add(inside)?,
                size: taken as usize,
            });
            offset += taken;
            size -= taken as usize;
        }
        Some(pieces)
    }

    pub(super) async fn read(
        &self,
        tree: &VdevTree,
        request: ReadRequest<'_>,
    ) -> Result<Vec<u8>, ReadFailure> {
        if request.steps >= MAX_STEPS {
            return Err(ReadFailure::BadAddress);
        }
        let pieces = self
            .pieces(request.offset, request.size)
            .ok_or(ReadFailure::BadAddress)?;
        let copies = pieces
            .iter()
            .filter_map(|piece| tree.top(piece.vdev))
            .map(|top| top.copies())
            .max();
        let mut failure = ReadFailure::WrongData;
        // Only the whole can be checked, so each round takes another copy of every piece.
        for prefer in 0..copies.unwrap_or(1).max(1) {
            match self.read_pieces(tree, &pieces, &request, prefer).await {
                Ok(data) if (request.verify)(&data) => return Ok(data),
                Ok(_) => {}
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }

    async fn read_pieces(
        &self,
        tree: &VdevTree,
        pieces: &[Piece],
        request: &ReadRequest<'_>,
        prefer: usize,
    ) -> Result<Vec<u8>, ReadFailure> {
        let any = |_: &[u8]| true;
        let mut data = Vec::with_capacity(request.size);
        for piece in pieces {
            let top = tree.top(piece.vdev).ok_or(ReadFailure::BadAddress)?;
            let whole = pieces.len() == 1;
            let part = ReadRequest {
                offset: piece.offset,
                size: piece.size,
                verify: if whole { request.verify } else { &any },
                prefer,
                steps: request.steps + 1,
                repair: request.repair,
            };
            data.extend(top.read(tree, part).await?);
        }
        Ok(data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(source: u64, vdev: u32, offset: u64, allocated: u64) -> MappingEntry {
        MappingEntry {
            source,
            destination: Dva {
                vdev,
                offset,
                allocated,
                ..Dva::default()
            },
        }
    }

    #[test]
    fn a_range_over_two_entries_is_read_in_two_pieces() {
        let indirect = Indirect::default();
        indirect
            .load(alloc::vec![
                entry(0, 1, 8192, 4096),
                entry(4096, 2, 0, 4096)
            ])
            .unwrap();
        let pieces = indirect.pieces(2048, 4096).unwrap();
        let places: Vec<_> = pieces
            .iter()
            .map(|piece| (piece.vdev, piece.offset, piece.size))
            .collect();
        assert_eq!(places, [(1, 10240, 2048), (2, 0, 2048)]);
        assert!(indirect.pieces(6144, 4096).is_none());
    }

    #[test]
    fn overlapping_entries_are_refused() {
        let indirect = Indirect::default();
        assert!(
            indirect
                .load(alloc::vec![entry(0, 1, 0, 8192), entry(4096, 1, 0, 4096)])
                .is_err()
        );
    }
}
