//! Space accounting: what blocks that were written and given up count for, in data sets and directories.
//!
//! A directory counts what it and its children use, or have reserved if that is more; its parent counts that as one sum.

use alloc::vec::Vec;

use super::deadlist::Deadlist;
use super::{DslDataset, DslDirPhys, OpenDataset};
use crate::blkptr::BlockPointer;
use crate::dmu::{BlockSums, Ledger};
use crate::error::Error;
use crate::spa::Spa;

/// A change of a sum.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct SpaceChange {
    /// Bytes allocated, without parity.
    pub used: i64,
    /// Bytes stored.
    pub compressed: i64,
    /// Bytes before compression.
    pub uncompressed: i64,
}

impl SpaceChange {
    /// What `sums` add.
    pub fn plus(sums: BlockSums) -> Self {
        SpaceChange {
            used: sums.used as i64,
            compressed: sums.compressed as i64,
            uncompressed: sums.uncompressed as i64,
        }
    }

    /// What `sums` take away.
    pub fn minus(sums: BlockSums) -> Self {
        let plus = SpaceChange::plus(sums);
        SpaceChange {
            used: -plus.used,
            compressed: -plus.compressed,
            uncompressed: -plus.uncompressed,
        }
    }

    /// The change so many times.
    pub fn times(self, factor: i64) -> Self {
        SpaceChange {
            used: self.used * factor,
            compressed: self.compressed * factor,
            uncompressed: self.uncompressed * factor,
        }
    }

    /// Both changes.
    pub fn and(self, other: SpaceChange) -> Self {
        SpaceChange {
            used: self.used + other.used,
            compressed: self.compressed + other.compressed,
            uncompressed: self.uncompressed + other.uncompressed,
        }
    }
}

/// What uses space in a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum UsedBy {
    Head,
    Snapshots,
    Children,
    ChildReservations,
    ReferenceReservation,
}

impl DslDirPhys {
    fn used_by(&mut self, by: UsedBy) -> &mut u64 {
        match by {
            UsedBy::Head => &mut self.used.head,
            UsedBy::Snapshots => &mut self.used.snapshots,
            UsedBy::Children => &mut self.used.children,
            UsedBy::ChildReservations => &mut self.used.child_reservations,
            UsedBy::ReferenceReservation => &mut self.used.reference_reservation,
        }
    }

    fn move_use(&mut self, from: UsedBy, to: UsedBy, bytes: i64) {
        let source = self.used_by(from);
        *source = source.saturating_add_signed(-bytes);
        let target = self.used_by(to);
        *target = target.saturating_add_signed(bytes);
    }
}

/// How a sum that counts at least `reserved` changes when `used` changes by `delta`.
fn accounted(used: u64, reserved: u64, delta: i64) -> i64 {
    let after = used.saturating_add_signed(delta);
    after.max(reserved) as i64 - used.max(reserved) as i64
}

impl Spa {
    /// Puts a head's new pointer into the MOS, and what it wrote and no longer has into the sums.
    pub(super) async fn account(
        &self,
        open: &OpenDataset,
        pointer: BlockPointer,
        ledger: Ledger,
    ) -> Result<(), Error> {
        self.drop_livelist(open.dir).await?;
        let head = self.dsl_dataset(open.dataset).await?;
        self.count_written(&head, &ledger.killed).await?;
        let mut freed = BlockSums::default();
        let mut kept = Vec::new();
        for old in &ledger.killed {
            if old.birth() > head.phys.previous_snapshot_txg {
                freed.add(self.zio(), old);
                self.zio().free(old)?;
            } else {
                kept.push(*old);
            }
        }
        let kept = self.keep_for_snapshots(&head, &kept).await?;
        let mut phys = self.dsl_dataset(open.dataset).await?.phys;
        let change = SpaceChange::plus(ledger.born).and(SpaceChange::minus(freed));
        let total = change.and(SpaceChange::minus(kept));
        phys.pointer = pointer;
        phys.referenced_bytes = phys.referenced_bytes.saturating_add_signed(total.used);
        phys.compressed_bytes = phys
            .compressed_bytes
            .saturating_add_signed(total.compressed);
        phys.uncompressed_bytes = phys
            .uncompressed_bytes
            .saturating_add_signed(total.uncompressed);
        let unique = phys.unique_bytes;
        phys.unique_bytes = unique.saturating_add_signed(change.used);
        self.mos().set_bonus(open.dataset, phys.encode()).await?;
        self.use_reference_reservation(open.dir, unique, change)
            .await
    }

    /// Counts a change of a head's own blocks, of which the reservation of the head itself covers a part.
    pub(super) async fn use_reference_reservation(
        &self,
        dir: u64,
        unique: u64,
        change: SpaceChange,
    ) -> Result<(), Error> {
        let reserved = self.reference_reservation(dir).await?;
        let delta = accounted(unique, reserved, change.used);
        let counted = SpaceChange {
            used: delta,
            ..change
        };
        self.count_space(dir, UsedBy::Head, counted).await?;
        if change.used != delta {
            self.move_space(
                dir,
                UsedBy::ReferenceReservation,
                UsedBy::Head,
                change.used - delta,
            )
            .await?;
        }
        Ok(())
    }

    /// The `refreservation` of a directory's head in bytes.
    pub(super) async fn reference_reservation(&self, dir: u64) -> Result<u64, Error> {
        let dir = self.dsl_dir(dir).await?;
        Ok(self.own_number(&dir, "refreservation").await?.unwrap_or(0))
    }

    /// Appends blocks that snapshots still have to the head's dead list; gives what they count for.
    async fn keep_for_snapshots(
        &self,
        head: &DslDataset,
        kept: &[BlockPointer],
    ) -> Result<BlockSums, Error> {
        if kept.is_empty() {
            return Ok(BlockSums::default());
        }
        let mut dead = Deadlist::open(self, head.phys.deadlist).await?;
        let sums = dead.insert(kept).await?;
        let previous = self.dsl_dataset(head.phys.previous_snapshot).await?;
        let origin_txg = self.origin_txg(head.phys.dir).await?;
        let (mut unique, mut to_snapshots) = (0, 0);
        for pointer in kept {
            let size = self.zio().deflated_size(pointer);
            if previous.phys.children == 1 && pointer.birth() > previous.phys.previous_snapshot_txg
            {
                unique += size;
            }
            // What is older than the origin of a clone was never counted here.
            if pointer.birth() > origin_txg {
                to_snapshots += size;
            }
        }
        if unique > 0 {
            let mut phys = previous.phys.clone();
            phys.unique_bytes += unique;
            self.mos().set_bonus(previous.object, phys.encode()).await?;
        }
        self.move_space(
            head.phys.dir,
            UsedBy::Head,
            UsedBy::Snapshots,
            to_snapshots as i64,
        )
        .await?;
        Ok(sums)
    }

    /// When the snapshot that a directory was cloned from was made; 0 without one.
    pub(super) async fn origin_txg(&self, dir: u64) -> Result<u64, Error> {
        match self.dsl_dir(dir).await?.phys.origin {
            0 => Ok(0),
            origin => Ok(self.dsl_dataset(origin).await?.phys.creation_txg),
        }
    }

    /// Counts a change in a directory and, as its children's, in those above, beyond what is reserved there.
    pub(super) async fn count_space(
        &self,
        dir: u64,
        by: UsedBy,
        change: SpaceChange,
    ) -> Result<(), Error> {
        let (mut object, mut by, mut change) = (dir, by, change);
        // What this level adds beyond what its parent counted for it as reserved.
        let mut covered = 0;
        while object != 0 {
            let mut phys = self.dsl_dir(object).await?.phys;
            let delta = accounted(phys.used_bytes, phys.reserved, change.used);
            phys.used_bytes = phys.used_bytes.saturating_add_signed(change.used);
            phys.compressed_bytes = phys
                .compressed_bytes
                .saturating_add_signed(change.compressed);
            phys.uncompressed_bytes = phys
                .uncompressed_bytes
                .saturating_add_signed(change.uncompressed);
            let used = phys.used_by(by);
            *used = used.saturating_add_signed(change.used);
            if covered != 0 {
                phys.move_use(UsedBy::ChildReservations, UsedBy::Children, covered);
            }
            self.mos().set_bonus(object, phys.encode()).await?;
            covered = change.used - delta;
            change.used = delta;
            by = UsedBy::Children;
            object = phys.parent;
        }
        Ok(())
    }

    /// Moves bytes of a directory from one use to another.
    pub(super) async fn move_space(
        &self,
        dir: u64,
        from: UsedBy,
        to: UsedBy,
        bytes: i64,
    ) -> Result<(), Error> {
        if bytes == 0 {
            return Ok(());
        }
        let mut phys = self.dsl_dir(dir).await?.phys;
        phys.move_use(from, to, bytes);
        self.mos().set_bonus(dir, phys.encode()).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reservation_covers_does_not_count_again() {
        assert_eq!(accounted(10, 100, 50), 0);
        assert_eq!(accounted(90, 100, 50), 40);
        assert_eq!(accounted(140, 100, -100), -40);
        assert_eq!(accounted(10, 0, -5), -5);
    }
}
