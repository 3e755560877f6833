//! Changing the contents of regular files.
//!
//! Everything happens in memory; the next transaction group writes it, and the intent log before that if asked.

use alloc::vec::Vec;

use super::Zpl;
use super::new::SECTOR;
use crate::error::Error;
use crate::zil::Change;

/// Offsets beyond this are no file's.
const MAX_SIZE: u64 = 1 << 63;

impl Zpl {
    /// Writes to a regular file, which grows as needed.
    pub async fn write(
        &self,
        object: u64,
        offset: u64,
        data: &[u8],
        now: [u64; 2],
    ) -> Result<(), Error> {
        self.check_changeable()?;
        self.check_space_quota(object).await?;
        let size = self.regular_size(object).await?;
        let end = offset
            .checked_add(data.len() as u64)
            .filter(|&end| end < MAX_SIZE)
            .ok_or(Error::OutOfRange)?;
        self.grow_block(object, size.max(end)).await?;
        self.objset.write(object, offset, data).await?;
        self.set_words(
            object,
            &[
                ("ZPL_SIZE", &[size.max(end)]),
                ("ZPL_MTIME", &now),
                ("ZPL_CTIME", &now),
            ],
        )
        .await?;
        self.objset.log(Change::Write {
            object,
            offset,
            length: data.len() as u64,
            pointer: None,
            data: Vec::new(),
        });
        Ok(())
    }

    /// A file of one block has a block as large as it needs, up to a full record.
    async fn grow_block(&self, object: u64, end: u64) -> Result<(), Error> {
        let record = self.objset.record_size();
        let dnode = self.objset.dnode(object).await?;
        if dnode.phys.max_block > 0 || dnode.phys.block_size >= record {
            return self.round_block(object, end).await;
        }
        let wanted = usize::try_from(end)
            .unwrap_or(record)
            .min(record)
            .next_multiple_of(SECTOR);
        if wanted > dnode.phys.block_size {
            self.objset.set_block_size(object, wanted).await?;
        }
        self.round_block(object, end).await
    }

    /// Only an object of one block may have a block that is no power of two.
    async fn round_block(&self, object: u64, end: u64) -> Result<(), Error> {
        let size = self.objset.dnode(object).await?.phys.block_size;
        if end > size as u64 && !size.is_power_of_two() {
            self.objset
                .set_block_size(object, size.next_power_of_two())
                .await?;
        }
        Ok(())
    }

    /// Cuts a regular file off or extends it with a hole.
    pub async fn truncate(&self, object: u64, size: u64, now: [u64; 2]) -> Result<(), Error> {
        self.check_changeable()?;
        let old = self.regular_size(object).await?;
        if size >= MAX_SIZE {
            return Err(Error::OutOfRange);
        }
        if size < old {
            self.objset.cut(object, size, u64::MAX).await?;
        } else {
            self.grow_block(object, size).await?;
        }
        self.set_words(
            object,
            &[
                ("ZPL_SIZE", &[size]),
                ("ZPL_MTIME", &now),
                ("ZPL_CTIME", &now),
            ],
        )
        .await?;
        self.objset.log(Change::Truncate {
            object,
            offset: size,
            length: 0,
        });
        Ok(())
    }

    /// Makes a range of a regular file a hole; its size stays.
    pub async fn punch_hole(
        &self,
        object: u64,
        offset: u64,
        length: u64,
        now: [u64; 2],
    ) -> Result<(), Error> {
        self.check_changeable()?;
        let size = self.regular_size(object).await?;
        let end = offset
            .checked_add(length)
            .ok_or(Error::OutOfRange)?
            .min(size);
        if offset >= end {
            return Ok(());
        }
        self.objset.cut(object, offset, end).await?;
        self.set_words(object, &[("ZPL_MTIME", &now), ("ZPL_CTIME", &now)])
            .await?;
        self.objset.log(Change::Truncate {
            object,
            offset,
            length: end - offset,
        });
        Ok(())
    }

    /// Replays a write whose data is a whole block: the file ends where the write ended.
    pub(super) async fn write_block(
        &self,
        object: u64,
        offset: u64,
        block: &[u8],
        end: u64,
        now: [u64; 2],
    ) -> Result<(), Error> {
        let size = self.regular_size(object).await?;
        self.write(object, offset, block, now).await?;
        self.set_words(object, &[("ZPL_SIZE", &[size.max(end)])])
            .await
    }
}
