//! Destroying snapshots, file systems and volumes.
//!
//! A snapshot's own blocks are those of the dead list after it that were born since the snapshot before it; everything else that it
//! listed goes to the one after it. A head's own blocks are all that were born since its last snapshot.

use alloc::format;
use alloc::vec::Vec;

use super::account::{SpaceChange, UsedBy};
use super::bookmark::BOOKMARKS;
use super::deadlist::Deadlist;
use super::limits::Counted;
use super::receive::RECEIVE_CLONE;
use super::{DatasetEntry, DslDataset, DslDir};
use crate::dmu::{BlockSums, Objset};
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::{Zap, entries_or_none, update};

/// `flags` of a snapshot: it goes when its last clone or hold does.
const FLAG_DEFER_DESTROY: u64 = 8;
/// Entries of a data set that are features it uses, which the pool counts.
pub(super) const DATASET_FEATURES: [&str; 12] = [
    "org.zfsonlinux:userobj_accounting",
    "org.zfsonlinux:project_quota",
    "org.openzfs:zilsaxattr",
    "org.zfsonlinux:longname",
    "com.klarasystems:large_microzap",
    "org.open-zfs:large_blocks",
    "org.zfsonlinux:large_dnode",
    "org.illumos:sha512",
    "org.illumos:skein",
    "org.illumos:edonr",
    "org.openzfs:blake3",
    "org.freebsd:zstd_compress",
];

/// What becomes of a snapshot that clones or holds still need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deferral {
    /// Destroying it is refused.
    Refused,
    /// It goes with the last of them: `zfs destroy -d`.
    Deferred,
}

impl Spa {
    /// Destroys a snapshot, or a file system or volume without snapshots and children, and commits that.
    ///
    /// # Errors
    /// `Busy` for a snapshot with clones or holds, `NotEmpty` for a data set with snapshots or children; `InvalidArgument` for
    /// the pool's root.
    pub async fn destroy(&self, name: &str, deferral: Deferral, now: u64) -> Result<(), Error> {
        let done = self.try_destroy(name, deferral, now).await;
        self.keep_whole(done)
    }

    async fn try_destroy(&self, name: &str, deferral: Deferral, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let entry = self.find_dataset(name).await?;
        self.check_unencrypted(&entry.dir).await?;
        if entry.dataset.is_snapshot() {
            if entry.dataset.phys.children > 1 || self.is_held(&entry.dataset).await? {
                if deferral == Deferral::Refused {
                    return Err(Error::Busy);
                }
                self.set_deferred(&entry.dataset).await?;
            } else {
                self.destroy_snapshot(&entry.dataset).await?;
            }
            return self.sync(now).await;
        }
        if entry.dir.phys.parent == 0 {
            return Err(Error::InvalidArgument);
        }
        let snapshots = entries_or_none(self.mos(), entry.dataset.phys.snapshot_names).await?;
        if !snapshots.is_empty() || !self.child_dirs(&entry.dir).await?.is_empty() {
            return Err(Error::NotEmpty);
        }
        if self.receive_clone(&entry.dir).await?.is_some() {
            let part = format!("{name}/{}", super::receive::RECEIVE_CLONE);
            let part = self.find_dataset(&part).await?;
            self.destroy_head(&part).await?;
        }
        let entry = self.find_dataset(name).await?;
        self.destroy_head(&entry).await?;
        self.sync(now).await
    }

    async fn is_held(&self, snapshot: &DslDataset) -> Result<bool, Error> {
        Ok(!self.holds(snapshot).await?.is_empty())
    }

    async fn set_deferred(&self, snapshot: &DslDataset) -> Result<(), Error> {
        let mut phys = snapshot.phys.clone();
        phys.flags |= FLAG_DEFER_DESTROY;
        self.mos().set_bonus(snapshot.object, phys.encode()).await
    }

    /// Destroys a snapshot that was to go when nothing needs it any more, if that is now.
    pub(super) async fn destroy_if_deferred(&self, snapshot: u64) -> Result<(), Error> {
        let snapshot = self.dsl_dataset(snapshot).await?;
        let unneeded = snapshot.phys.children == 1 && !self.is_held(&snapshot).await?;
        if snapshot.phys.flags & FLAG_DEFER_DESTROY != 0 && unneeded {
            self.destroy_snapshot(&snapshot).await?;
        }
        Ok(())
    }

    /// Takes a snapshot without clones and holds out of its chain and frees what only it has.
    async fn destroy_snapshot(&self, snapshot: &DslDataset) -> Result<(), Error> {
        let mos = self.mos();
        self.count_limited(snapshot.phys.dir, Counted::Snapshots, -1)
            .await?;
        self.forget_written(snapshot).await?;
        let previous = self.unlink_snapshot(snapshot).await?;
        let next = self.dsl_dataset(snapshot.phys.next_snapshot).await?;
        let mut next_list = Deadlist::open(self, next.phys.deadlist).await?;
        let own_start = snapshot.phys.previous_snapshot_txg;
        if let Some(previous) = previous {
            // What was shared by the two is now the older one's own.
            let range = previous.phys.previous_snapshot_txg..own_start;
            let mut phys = previous.phys.clone();
            phys.unique_bytes += next_list.range_sums(range).await?.used;
            mos.set_bonus(previous.object, phys.encode()).await?;
        }
        let own = next_list.range_sums(own_start..u64::MAX).await?;
        self.count_space(
            snapshot.phys.dir,
            UsedBy::Snapshots,
            SpaceChange::minus(own),
        )
        .await?;
        for pointer in next_list.take_from(own_start).await? {
            self.zio().free(&pointer)?;
        }
        next_list
            .merge(Deadlist::open(self, snapshot.phys.deadlist).await?)
            .await?;
        self.forget_range_in_clones(snapshot.phys.dir, snapshot.phys.creation_txg)
            .await?;
        self.follow_on(snapshot, &next).await?;
        self.remove_snapshot_name(snapshot).await?;
        for table in [
            snapshot.phys.next_clones,
            snapshot.phys.props,
            snapshot.phys.user_references,
        ] {
            if table != 0 {
                mos.free_object(table).await?;
            }
        }
        self.release_features(snapshot.object).await?;
        self.free_extensible(snapshot.object).await
    }

    /// Lets the neighbours of a snapshot name each other. Gives the one before when it is of the same line.
    async fn unlink_snapshot(&self, snapshot: &DslDataset) -> Result<Option<DslDataset>, Error> {
        let mos = self.mos();
        let mut next = self.dsl_dataset(snapshot.phys.next_snapshot).await?.phys;
        next.previous_snapshot = snapshot.phys.previous_snapshot;
        next.previous_snapshot_txg = snapshot.phys.previous_snapshot_txg;
        mos.set_bonus(snapshot.phys.next_snapshot, next.encode())
            .await?;
        if snapshot.phys.previous_snapshot == 0 {
            return Ok(None);
        }
        let previous = self.dsl_dataset(snapshot.phys.previous_snapshot).await?;
        if previous.phys.next_snapshot == snapshot.object {
            let mut phys = previous.phys.clone();
            phys.next_snapshot = snapshot.phys.next_snapshot;
            mos.set_bonus(previous.object, phys.encode()).await?;
            return Ok(Some(self.dsl_dataset(previous.object).await?));
        }
        if previous.phys.next_clones != 0 {
            self.replace_next_clone(&previous, snapshot.object, snapshot.phys.next_snapshot)
                .await?;
        }
        Ok(None)
    }

    /// Puts another data set into the set of those that follow a snapshot in clones.
    async fn replace_next_clone(
        &self,
        origin: &DslDataset,
        old: u64,
        new: u64,
    ) -> Result<(), Error> {
        let key = format!("{old:x}");
        update::remove(self.mos(), origin.phys.next_clones, key.as_bytes()).await?;
        update::add_number(self.mos(), origin.phys.next_clones, new).await
    }

    /// The data set after a destroyed snapshot has what was shared by just the two.
    async fn follow_on(&self, snapshot: &DslDataset, next: &DslDataset) -> Result<(), Error> {
        let mut phys = self.dsl_dataset(next.object).await?.phys;
        if phys.next_snapshot == 0 {
            let before = phys.unique_bytes;
            phys.unique_bytes = self.head_unique(&phys).await?;
            self.mos().set_bonus(next.object, phys.encode()).await?;
            let reserved = self.reference_reservation(phys.dir).await?;
            let covered = |unique: u64| reserved.saturating_sub(unique) as i64;
            let change = SpaceChange {
                used: covered(phys.unique_bytes) - covered(before),
                ..SpaceChange::default()
            };
            return self
                .count_space(phys.dir, UsedBy::ReferenceReservation, change)
                .await;
        }
        let after = self.dsl_dataset(phys.next_snapshot).await?;
        let range = snapshot.phys.previous_snapshot_txg..snapshot.phys.creation_txg;
        phys.unique_bytes += Deadlist::open(self, after.phys.deadlist)
            .await?
            .range_sums(range)
            .await?
            .used;
        self.mos().set_bonus(next.object, phys.encode()).await?;
        let head = self.dsl_dir(snapshot.phys.dir).await?.phys.head_dataset;
        let head = self.dsl_dataset(head).await?;
        Deadlist::open(self, head.phys.deadlist)
            .await?
            .remove_key(snapshot.phys.creation_txg)
            .await
    }

    /// What only a head has: what it references, less what the snapshot before it does and it does not lack.
    pub(super) async fn head_unique(&self, head: &super::DslDatasetPhys) -> Result<u64, Error> {
        let shared = if head.previous_snapshot == 0 {
            0
        } else {
            self.dsl_dataset(head.previous_snapshot)
                .await?
                .phys
                .referenced_bytes
        };
        let dead = Deadlist::open(self, head.deadlist).await?.sums().await?;
        Ok(head
            .referenced_bytes
            .saturating_sub(shared.saturating_sub(dead.used)))
    }

    /// Clones of later snapshots need not tell apart any more what was born before and after a destroyed one.
    fn forget_range_in_clones(
        &self,
        dir: u64,
        key: u64,
    ) -> core::pin::Pin<alloc::boxed::Box<dyn Future<Output = Result<(), Error>> + '_>> {
        alloc::boxed::Box::pin(async move {
            let clones = self.dsl_dir(dir).await?.phys.clones;
            for clone in entries_or_none(self.mos(), clones).await? {
                let clone = self.dsl_dataset(clone.value.u64().unwrap_or(0)).await?;
                if self.origin_txg(clone.phys.dir).await? > key {
                    Deadlist::open(self, clone.phys.deadlist)
                        .await?
                        .remove_key(key)
                        .await?;
                    self.forget_range_in_clones(clone.phys.dir, key).await?;
                }
            }
            Ok(())
        })
    }

    async fn remove_snapshot_name(&self, snapshot: &DslDataset) -> Result<(), Error> {
        let head = self.dsl_dir(snapshot.phys.dir).await?.phys.head_dataset;
        let table = self.dsl_dataset(head).await?.phys.snapshot_names;
        let names = Zap::open(self.mos(), table).await?.numbers().await?;
        let own = names
            .into_iter()
            .find(|(_, object)| *object == snapshot.object);
        let (name, _) = own.ok_or(Error::Corrupt(Structure::Dataset))?;
        update::remove(self.mos(), table, name.as_bytes()).await
    }

    /// Counts the features that a data set used down.
    async fn release_features(&self, object: u64) -> Result<(), Error> {
        for (name, value) in self.extensions(object).await? {
            if DATASET_FEATURES.contains(&name.as_str()) {
                self.count_feature(&name, -1).await?;
            } else if name == BOOKMARKS {
                self.count_feature(BOOKMARKS, -1).await?;
                let table = value.u64().unwrap_or(0);
                for bookmark in entries_or_none(self.mos(), table).await? {
                    self.release_bookmark(&bookmark).await?;
                }
                self.mos().free_object(table).await?;
            }
        }
        Ok(())
    }

    /// Removes a head without snapshots and its directory without children.
    pub(super) async fn destroy_head(&self, entry: &DatasetEntry) -> Result<(), Error> {
        let mos = self.mos();
        self.clear_reservations(&entry.dir).await?;
        self.drop_livelist(entry.dir.object).await?;
        // What receives write to was never counted.
        if !entry.name.ends_with(RECEIVE_CLONE) {
            self.count_limited(entry.dir.phys.parent, Counted::Filesystems, -1)
                .await?;
        }
        let objset = self.take_open(entry).await?;
        if !self.free_later(entry).await? {
            let freed = self
                .free_blocks_of(&objset, entry.dataset.phys.previous_snapshot_txg)
                .await?;
            self.count_space(entry.dir.object, UsedBy::Head, SpaceChange::minus(freed))
                .await?;
        }
        let head = self.dsl_dataset(entry.dataset.object).await?;
        Deadlist::open(self, head.phys.deadlist)
            .await?
            .destroy()
            .await?;
        mos.free_object(head.phys.snapshot_names).await?;
        self.release_features(head.object).await?;
        self.free_extensible(head.object).await?;
        self.leave_origin(&head).await?;
        let dir = self.dsl_dir(entry.dir.object).await?;
        self.remove_dir(&dir, &entry.name).await?;
        if dir.phys.origin != 0 {
            self.destroy_if_deferred(dir.phys.origin).await?;
        }
        Ok(())
    }

    /// Closes a head that is to go: its changes are dropped, its log is freed.
    pub(super) async fn take_open(
        &self,
        entry: &DatasetEntry,
    ) -> Result<alloc::rc::Rc<Objset>, Error> {
        let objset = self.open_head(&entry.name).await?;
        objset.end_log()?;
        objset.discard_changes();
        self.datasets.borrow_mut().remove(&entry.dataset.object);
        Ok(objset)
    }

    /// Frees all blocks of an object set that were born after `txg`.
    pub(super) async fn free_blocks_of(
        &self,
        objset: &Objset,
        txg: u64,
    ) -> Result<BlockSums, Error> {
        let mut sums = BlockSums::default();
        for pointer in objset.blocks_since(txg).await? {
            sums.add(self.zio(), &pointer);
            self.zio().free(&pointer)?;
        }
        Ok(sums)
    }

    /// A head is no longer one of those that started from its origin.
    async fn leave_origin(&self, head: &DslDataset) -> Result<(), Error> {
        if head.phys.previous_snapshot == 0 {
            return Ok(());
        }
        let origin = self.dsl_dataset(head.phys.previous_snapshot).await?;
        let mut phys = origin.phys.clone();
        phys.children = phys.children.saturating_sub(1);
        self.mos().set_bonus(origin.object, phys.encode()).await?;
        let key = format!("{:x}", head.object);
        let clones = self.dsl_dir(origin.phys.dir).await?.phys.clones;
        for table in [phys.next_clones, clones] {
            if table != 0 {
                update::remove(self.mos(), table, key.as_bytes()).await?;
            }
        }
        Ok(())
    }

    async fn remove_dir(&self, dir: &DslDir, name: &str) -> Result<(), Error> {
        let (_, own) = name.rsplit_once('/').ok_or(Error::InvalidName)?;
        let parent = self.dsl_dir(dir.phys.parent).await?;
        update::remove(self.mos(), parent.phys.child_dirs, own.as_bytes()).await?;
        // What is delegated stands in a table for each kind of user.
        for entry in entries_or_none(self.mos(), dir.phys.delegation).await? {
            self.mos()
                .free_object(entry.value.u64().unwrap_or(0))
                .await?;
        }
        let tables: Vec<u64> = [
            dir.phys.child_dirs,
            dir.phys.props,
            dir.phys.delegation,
            dir.phys.clones,
        ]
        .into();
        for table in tables.into_iter().filter(|&table| table != 0) {
            self.mos().free_object(table).await?;
        }
        self.free_extensible(dir.object).await
    }
}
