//! Gang blocks: a block for which no contiguous space was left is a header with pointers to pieces.

use alloc::boxed::Box;
use alloc::vec::Vec;

use super::{BlockCheck, Zio};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer, DVAS, Dva, Gang};
use crate::checksum::embedded_is_valid;
use crate::error::{Error, Structure};
use crate::vdev::{ReadFailure, VdevFuture, Verify};

const CORRUPT: Error = Error::Corrupt(Structure::BlockPointer);
/// Bytes of a gang header.
pub const HEADER_SIZE: usize = 512;
/// Deepest nesting of headers: three pieces each, so five levels make the largest block of single sectors.
const MAX_DEPTH: usize = 12;

impl Zio {
    /// Gives the space of all gang blocks that were freed back: their headers and their pieces.
    ///
    /// # Errors
    /// `Corrupt` when no copy of a header is good, or headers are nested beyond reason.
    pub async fn free_gangs(&self) -> Result<(), Error> {
        let mut waiting: Vec<(BlockPointer, usize)> = self
            .dead_gangs
            .take()
            .into_iter()
            .map(|gang| (gang, 0))
            .collect();
        while let Some((gang, depth)) = waiting.pop() {
            if gang.dvas().all(|dva| dva.gang == Gang::No) {
                self.free(&gang)?;
                continue;
            }
            let header = self.gang_header(&gang).await?;
            if depth > MAX_DEPTH {
                return Err(CORRUPT);
            }
            for index in 0..DVAS {
                let piece = BlockPointer::decode(&header, index * BLKPTR_SIZE).ok_or(CORRUPT)?;
                if !piece.is_hole() {
                    waiting.push((piece, depth + 1));
                }
            }
            for mut dva in gang.dvas() {
                // The address counts the pieces too, but only the header is there.
                let top = self.vdevs().top(dva.vdev).ok_or(CORRUPT)?;
                dva.allocated = top.allocated_size(HEADER_SIZE as u64);
                self.allocator().free(dva)?;
            }
        }
        Ok(())
    }

    /// A good copy of a gang block's header.
    async fn gang_header(&self, gang: &BlockPointer) -> Result<Vec<u8>, Error> {
        for dva in gang.dvas() {
            let verifier = [u64::from(dva.vdev), dva.offset, gang.physical_birth(), 0];
            let check = |header: &[u8]| embedded_is_valid(header, verifier);
            if let Ok(header) = self.read_dva(dva, HEADER_SIZE, &check).await {
                return Ok(header);
            }
        }
        Err(CORRUPT)
    }

    /// Joins the pieces of a gang block whose header is at `dva` and checks the whole.
    pub(super) async fn read_gang(
        &self,
        pointer: &BlockPointer,
        dva: Dva,
        verify: Verify<'_>,
    ) -> Result<Vec<u8>, ReadFailure> {
        let limit = pointer.physical_size();
        let data = self.gather(dva, pointer.physical_birth(), limit, 0).await?;
        if data.len() == limit && verify(&data) {
            Ok(data)
        } else {
            Err(ReadFailure::WrongData)
        }
    }

    fn gather(
        &self,
        dva: Dva,
        birth: u64,
        limit: usize,
        depth: usize,
    ) -> VdevFuture<'_, Result<Vec<u8>, ReadFailure>> {
        Box::pin(async move {
            if depth > MAX_DEPTH {
                return Err(ReadFailure::BadAddress);
            }
            let verifier = [u64::from(dva.vdev), dva.offset, birth, 0];
            let check = |header: &[u8]| embedded_is_valid(header, verifier);
            let header = self.read_dva(dva, HEADER_SIZE, &check).await?;
            let mut data = Vec::new();
            for index in 0..DVAS {
                let piece = BlockPointer::decode(&header, index * BLKPTR_SIZE)
                    .ok_or(ReadFailure::BadAddress)?;
                if piece.is_hole() {
                    continue;
                }
                // Pieces add up to the whole; more would be a header that refers to itself.
                if data.len() + piece.physical_size() > limit {
                    return Err(ReadFailure::WrongData);
                }
                data.extend(self.read_piece(&piece, depth).await?);
            }
            Ok(data)
        })
    }

    async fn read_piece(&self, piece: &BlockPointer, depth: usize) -> Result<Vec<u8>, ReadFailure> {
        let check = BlockCheck::of(piece, self.salt.get()).map_err(|_| ReadFailure::BadAddress)?;
        let size = piece.physical_size();
        let mut failure = ReadFailure::BadAddress;
        for dva in piece.dvas() {
            let read = match dva.gang {
                Gang::No => self.read_dva(dva, size, &|data| check.passes(data)).await,
                Gang::Header => match self
                    .gather(dva, piece.physical_birth(), size, depth + 1)
                    .await
                {
                    Ok(data) if data.len() == size && check.passes(&data) => Ok(data),
                    Ok(_) => Err(ReadFailure::WrongData),
                    Err(reason) => Err(reason),
                },
            };
            match read {
                Ok(data) => return Ok(data),
                Err(reason) => failure = reason,
            }
        }
        Err(failure)
    }
}
