//! Checking every copy of a block.

use alloc::vec::Vec;

use super::{BlockCheck, Zio, aligned};
use crate::blkptr::{BlockPointer, Gang};
use crate::error::{Bookmark, Error};
use crate::vdev::ReadRequest;

impl Zio {
    /// Reads every copy of a block and repairs the bad ones. Gives the bytes that were rewritten.
    ///
    /// # Errors
    /// `Unreadable` when no copy is good.
    pub async fn scrub(&self, pointer: &BlockPointer, bookmark: Bookmark) -> Result<u64, Error> {
        if pointer.is_embedded() || pointer.is_hole() {
            return Ok(0);
        }
        pointer.validate()?;
        let check = BlockCheck::of(pointer, self.salt.get())?;
        let size = pointer.physical_size();
        let verify = |data: &[u8]| check.passes(&data[..size]);
        let mut repaired = 0;
        let mut bad = Vec::new();
        for dva in pointer.dvas() {
            let Some(top) = self.tree.top(dva.vdev) else {
                bad.push(dva);
                continue;
            };
            if dva.gang == Gang::Header {
                let whole = |data: &[u8]| check.passes(data);
                if self.read_gang(pointer, dva, &whole).await.is_err() {
                    bad.push(dva);
                }
                continue;
            }
            let request = ReadRequest {
                offset: dva.offset,
                size: aligned(top, size),
                verify: &verify,
                prefer: 0,
                steps: 0,
                repair: self.repair.get(),
            };
            match top.scrub(&self.tree, request).await {
                Ok(bytes) => repaired += bytes,
                Err(_) => bad.push(dva),
            }
        }
        if bad.is_empty() {
            return Ok(repaired);
        }
        let data = self.read_physical(pointer, bookmark).await?;
        // The pieces of a gang are repaired one by one as they are read.
        bad.retain(|dva| dva.gang == Gang::No);
        self.repair_copies(&bad, &data).await;
        Ok(repaired + (bad.len() * size) as u64)
    }
}
