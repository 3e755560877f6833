//! Clones, rollback and renaming.

use alloc::string::String;

use super::account::{SpaceChange, UsedBy};
use super::create::Creation;
use super::deadlist::Deadlist;
use super::open::valid_name;
use super::{DatasetEntry, DslDir};
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{Zap, update};

/// Longest full name.
const MAX_FULL_NAME: usize = 255;

impl Spa {
    /// Finds where a new directory goes: its parent and its own name.
    ///
    /// # Errors
    /// `NotFound` without the parent, `AlreadyExists` when the name is taken.
    pub(super) async fn new_place<'a>(&self, name: &'a str) -> Result<(DslDir, &'a str), Error> {
        let (parent, child) = name.rsplit_once('/').ok_or(Error::AlreadyExists)?;
        valid_name(child)?;
        if name.len() > MAX_FULL_NAME {
            return Err(Error::NameTooLong);
        }
        let parent = self.find_dir(parent).await?;
        let taken = Zap::open(self.mos(), parent.phys.child_dirs)
            .await?
            .lookup(child.as_bytes())
            .await?;
        match taken {
            Some(_) => Err(Error::AlreadyExists),
            None => Ok((parent, child)),
        }
    }

    /// Makes a file system or volume that starts as a snapshot and commits it. The cost does not grow with the snapshot.
    pub async fn clone_snapshot(
        &self,
        snapshot: &str,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let done = self.try_clone_snapshot(snapshot, name, now, random).await;
        self.keep_whole(done)
    }

    async fn try_clone_snapshot(
        &self,
        snapshot: &str,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let origin = self.find_dataset(snapshot).await?;
        if !origin.dataset.is_snapshot() {
            return Err(Error::InvalidArgument);
        }
        let (parent, child) = self.new_place(name).await?;
        self.check_writable().await?;
        self.check_unencrypted(&parent).await?;
        self.check_unencrypted(&origin.dir).await?;
        let txg = self.open_txg();
        let mut creation = Creation { txg, now, random };
        let dir = self
            .create_dir(Some((&parent, child)), &mut creation)
            .await?;
        self.count_new_dir(parent.object, dir.object, &mut creation)
            .await?;
        let head = self
            .create_head(&dir, &origin.dataset, &mut creation)
            .await?;
        self.copy_features(origin.dataset.object, head.object, &mut creation)
            .await?;
        self.sync(now).await
    }

    /// Makes a head again what its latest snapshot is and commits that. Who has the head open must open it anew.
    ///
    /// # Errors
    /// `InvalidArgument` when the snapshot is not the latest.
    pub async fn rollback(
        &self,
        snapshot: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let done = self.try_rollback(snapshot, now, random).await;
        self.keep_whole(done)
    }

    async fn try_rollback(
        &self,
        snapshot: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        self.check_writable().await?;
        let target = self.find_dataset(snapshot).await?;
        let path = snapshot.split('@').next().unwrap_or_default();
        let entry = self.find_dataset(path).await?;
        if !target.dataset.is_snapshot()
            || entry.dataset.phys.previous_snapshot != target.dataset.object
        {
            return Err(Error::InvalidArgument);
        }
        self.check_unencrypted(&entry.dir).await?;
        let mut creation = Creation {
            txg: self.open_txg(),
            now,
            random,
        };
        self.roll_back_head(&entry, &mut creation).await?;
        self.sync(now).await
    }

    async fn roll_back_head(
        &self,
        entry: &DatasetEntry,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let mos = self.mos();
        self.drop_livelist(entry.dir.object).await?;
        self.forget_written_since(
            &entry.dataset,
            entry.dataset.phys.previous_snapshot_txg..=u64::MAX,
        )
        .await?;
        let objset = self.take_open(entry).await?;
        let head = self.dsl_dataset(entry.dataset.object).await?.phys;
        let freed = self
            .free_blocks_of(&objset, head.previous_snapshot_txg)
            .await?;
        self.use_reference_reservation(head.dir, head.unique_bytes, SpaceChange::minus(freed))
            .await?;
        let old = Deadlist::open(self, head.deadlist).await?;
        let origin_txg = self.origin_txg(head.dir).await?;
        let back = old.range_sums(origin_txg..u64::MAX).await?.used as i64;
        self.move_space(head.dir, UsedBy::Snapshots, UsedBy::Head, back)
            .await?;
        let new = Deadlist::create_like(self, head.deadlist, u64::MAX, creation)
            .await?
            .object();
        old.destroy().await?;
        let mut snapshot = self.dsl_dataset(head.previous_snapshot).await?.phys;
        // The two are the same again.
        snapshot.unique_bytes = 0;
        mos.set_bonus(head.previous_snapshot, snapshot.encode())
            .await?;
        let mut phys = head;
        phys.pointer = snapshot.pointer;
        phys.referenced_bytes = snapshot.referenced_bytes;
        phys.compressed_bytes = snapshot.compressed_bytes;
        phys.uncompressed_bytes = snapshot.uncompressed_bytes;
        phys.unique_bytes = 0;
        phys.deadlist = new;
        mos.set_bonus(entry.dataset.object, phys.encode()).await
    }

    /// Gives a file system, volume or snapshot another name and commits that.
    ///
    /// # Errors
    /// `InvalidArgument` when a file system would move below itself, or a snapshot to another data set.
    pub async fn rename(&self, from: &str, to: &str, now: u64) -> Result<(), Error> {
        let done = self.try_rename(from, to, now).await;
        self.keep_whole(done)
    }

    async fn try_rename(&self, from: &str, to: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        match (from.split_once('@'), to.split_once('@')) {
            (Some((path, old)), Some((to_path, new))) if path == to_path || to_path.is_empty() => {
                self.rename_snapshot(path, old, new).await?;
            }
            (None, None) => self.rename_dir(from, to).await?,
            _ => return Err(Error::InvalidArgument),
        }
        self.sync(now).await
    }

    async fn rename_snapshot(&self, path: &str, old: &str, new: &str) -> Result<(), Error> {
        valid_name(new)?;
        let table = self.find_dataset(path).await?.dataset.phys.snapshot_names;
        let names = Zap::open(self.mos(), table).await?;
        let object = names.lookup_u64(old).await?;
        if names.lookup(new.as_bytes()).await?.is_some() {
            return Err(Error::AlreadyExists);
        }
        update::remove(self.mos(), table, old.as_bytes()).await?;
        update::update(self.mos(), table, new.as_bytes(), object).await
    }

    async fn rename_dir(&self, from: &str, to: &str) -> Result<(), Error> {
        let dir = self.find_dir(from).await?;
        let below = String::from(from) + "/";
        if dir.phys.parent == 0 || to.starts_with(&below) {
            return Err(Error::InvalidArgument);
        }
        let (parent, name) = self.new_place(to).await?;
        let (_, old_name) = from.rsplit_once('/').ok_or(Error::InvalidArgument)?;
        let old_parent = self.dsl_dir(dir.phys.parent).await?;
        update::remove(self.mos(), old_parent.phys.child_dirs, old_name.as_bytes()).await?;
        update::update(
            self.mos(),
            parent.phys.child_dirs,
            name.as_bytes(),
            dir.object,
        )
        .await?;
        if parent.object == old_parent.object {
            return Ok(());
        }
        let used = SpaceChange {
            used: dir.phys.used_bytes as i64,
            compressed: dir.phys.compressed_bytes as i64,
            uncompressed: dir.phys.uncompressed_bytes as i64,
        };
        let unused = SpaceChange {
            used: dir.phys.reserved.saturating_sub(dir.phys.used_bytes) as i64,
            ..SpaceChange::default()
        };
        for (parent, sign) in [(old_parent.object, -1), (parent.object, 1)] {
            self.count_space(parent, UsedBy::Children, used.times(sign))
                .await?;
            self.count_space(parent, UsedBy::ChildReservations, unused.times(sign))
                .await?;
        }
        self.move_counts(dir.object, old_parent.object, parent.object)
            .await?;
        let mut phys = self.dsl_dir(dir.object).await?.phys;
        phys.parent = parent.object;
        self.mos().set_bonus(dir.object, phys.encode()).await
    }
}
