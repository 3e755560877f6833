//! Promoting a clone: the snapshots up to its origin become its own, and what it was cloned from becomes the clone.

use alloc::format;
use alloc::vec::Vec;

use super::DslDataset;
use super::account::{SpaceChange, UsedBy};
use super::create::Creation;
use super::deadlist::Deadlist;
use super::limits::Counted;
use crate::dmu::BlockSums;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::{Zap, entries_or_none, update};

/// What is promoted, and what changes places with it.
struct Promotion {
    /// The clone.
    clone: DslDataset,
    /// The snapshot that it is a clone of.
    origin: DslDataset,
    /// The head that the origin is a snapshot of.
    former: DslDataset,
    /// The origin and the snapshots before it in the former's directory, newest first.
    shared: Vec<DslDataset>,
    /// The clone and its snapshots, newest first.
    of_clone: Vec<DslDataset>,
    /// The former head and its snapshots since the origin, newest first.
    of_former: Vec<DslDataset>,
}

impl Spa {
    /// Promotes a clone and commits that.
    ///
    /// # Errors
    /// `InvalidArgument` when it is no clone, `AlreadyExists` when it has a snapshot with the name of one that it would get.
    pub async fn promote(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let done = self.try_promote(name, now, random).await;
        self.keep_whole(done)
    }

    async fn try_promote(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        self.check_writable().await?;
        let clone = self.find_dataset(name).await?.dataset;
        if clone.is_snapshot() {
            return Err(Error::InvalidArgument);
        }
        let origin = self.dsl_dir(clone.phys.dir).await?.phys.origin;
        if origin == 0 {
            return Err(Error::InvalidArgument);
        }
        let origin = self.dsl_dataset(origin).await?;
        if self.directory_of_origin(&origin).await? {
            return Err(Error::InvalidArgument);
        }
        let former_dir = self.dsl_dir(origin.phys.dir).await?;
        let former = self.dsl_dataset(former_dir.phys.head_dataset).await?;
        self.check_unencrypted(&former_dir).await?;
        let promotion = Promotion {
            shared: self.line(&origin, former_dir.phys.origin).await?,
            of_clone: self.line(&clone, origin.object).await?,
            of_former: self.line(&former, origin.object).await?,
            clone,
            origin,
            former,
        };
        self.check_names(&promotion).await?;
        let mut creation = Creation {
            txg: self.open_txg(),
            now,
            random,
        };
        self.perform(&promotion, &mut creation).await?;
        self.sync(now).await
    }

    /// A data set and those before it, down to but without `end`.
    async fn line(&self, from: &DslDataset, end: u64) -> Result<Vec<DslDataset>, Error> {
        let mut line = Vec::from([from.clone()]);
        let mut at = from.phys.previous_snapshot;
        while at != end && at != 0 {
            let dataset = self.dsl_dataset(at).await?;
            at = dataset.phys.previous_snapshot;
            line.push(dataset);
        }
        Ok(line)
    }

    async fn check_names(&self, promotion: &Promotion) -> Result<(), Error> {
        let own = Zap::open(self.mos(), promotion.clone.phys.snapshot_names).await?;
        for (name, _) in self.names_of(promotion).await? {
            if own.lookup(name.as_bytes()).await?.is_some() {
                return Err(Error::AlreadyExists);
            }
        }
        Ok(())
    }

    /// The names of the snapshots that change hands.
    async fn names_of(
        &self,
        promotion: &Promotion,
    ) -> Result<Vec<(alloc::string::String, u64)>, Error> {
        let names = Zap::open(self.mos(), promotion.former.phys.snapshot_names)
            .await?
            .numbers()
            .await?;
        let shared = |object: u64| {
            promotion
                .shared
                .iter()
                .any(|snapshot| snapshot.object == object)
        };
        Ok(names
            .into_iter()
            .filter(|(_, object)| shared(*object))
            .collect())
    }

    async fn perform(
        &self,
        promotion: &Promotion,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        // Sums are taken before anything moves.
        let moved = self.shared_space(promotion).await?;
        let old_origin_txg = self.origin_txg(promotion.former.phys.dir).await?;
        let of_clone = self.dead_since(&promotion.shared, old_origin_txg).await?
            + self.dead_since(&promotion.of_clone, old_origin_txg).await?;
        let of_former = self
            .dead_since(&promotion.of_former, promotion.origin.phys.creation_txg)
            .await?;
        let unique = self.new_unique(promotion).await?;
        self.relink_origin(promotion, unique).await?;
        self.swap_origins(promotion, creation).await?;
        self.move_snapshots(promotion).await?;
        let (clone_dir, former_dir) = (promotion.clone.phys.dir, promotion.former.phys.dir);
        for dir in [clone_dir, former_dir] {
            self.drop_livelist(dir).await?;
        }
        for head in [&promotion.clone, &promotion.former] {
            self.forget_written_since(head, 0..=u64::MAX).await?;
        }
        let snapshots = promotion.shared.len() as i64;
        self.count_limited(former_dir, Counted::Snapshots, -snapshots)
            .await?;
        self.count_limited(clone_dir, Counted::Snapshots, snapshots)
            .await?;
        self.move_sums(clone_dir, SpaceChange::plus(moved), of_clone)
            .await?;
        self.move_sums(former_dir, SpaceChange::minus(moved), of_former)
            .await
    }

    /// Everything that the shared snapshots brought: what the newest has, and what died on the way to it.
    async fn shared_space(&self, promotion: &Promotion) -> Result<BlockSums, Error> {
        let of = |dataset: &DslDataset| BlockSums {
            used: dataset.phys.referenced_bytes,
            compressed: dataset.phys.compressed_bytes,
            uncompressed: dataset.phys.uncompressed_bytes,
        };
        let mut sums = of(&promotion.origin);
        for snapshot in &promotion.shared {
            sums += Deadlist::open(self, snapshot.phys.deadlist)
                .await?
                .sums()
                .await?;
        }
        let origin = self.dsl_dir(promotion.former.phys.dir).await?.phys.origin;
        if origin != 0 {
            sums -= of(&self.dsl_dataset(origin).await?);
        }
        Ok(sums)
    }

    /// Bytes on the dead lists of a line that were born after `txg`.
    async fn dead_since(&self, line: &[DslDataset], txg: u64) -> Result<u64, Error> {
        let mut used = 0;
        for dataset in line {
            used += Deadlist::open(self, dataset.phys.deadlist)
                .await?
                .range_sums(txg..u64::MAX)
                .await?
                .used;
        }
        Ok(used)
    }

    /// What only the origin has once the clone follows it.
    async fn new_unique(&self, promotion: &Promotion) -> Result<u64, Error> {
        let next = promotion
            .of_clone
            .last()
            .ok_or(Error::Corrupt(Structure::Dataset))?;
        let list = Deadlist::open(self, next.phys.deadlist).await?;
        Ok(list
            .range_sums(promotion.origin.phys.previous_snapshot_txg..u64::MAX)
            .await?
            .used)
    }

    /// The origin is followed by the clone's line, and the former's line starts from it as a clone's does.
    async fn relink_origin(&self, promotion: &Promotion, unique: u64) -> Result<(), Error> {
        let corrupt = Error::Corrupt(Structure::Dataset);
        let next = promotion.of_clone.last().ok_or(corrupt)?.object;
        let mut phys = self.dsl_dataset(promotion.origin.object).await?.phys;
        let old_next = phys.next_snapshot;
        phys.next_snapshot = next;
        phys.unique_bytes = unique;
        self.mos()
            .set_bonus(promotion.origin.object, phys.encode())
            .await?;
        if phys.next_clones != 0 {
            self.remove_number(phys.next_clones, next).await?;
            update::add_number(self.mos(), phys.next_clones, old_next).await?;
        }
        Ok(())
    }

    async fn remove_number(&self, table: u64, number: u64) -> Result<(), Error> {
        update::remove(self.mos(), table, format!("{number:x}").as_bytes()).await
    }

    async fn swap_origins(
        &self,
        promotion: &Promotion,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let mos = self.mos();
        let (clone_dir, former_dir) = (promotion.clone.phys.dir, promotion.former.phys.dir);
        let mut former = self.dsl_dir(former_dir).await?.phys;
        let mut clone = self.dsl_dir(clone_dir).await?.phys;
        let older = former.origin;
        clone.origin = older;
        former.origin = promotion.origin.object;
        if clone.clones == 0 {
            clone.clones = update::create(mos, ObjectType::DSL_CLONES, (creation.random)()).await?;
        }
        mos.set_bonus(former_dir, former.encode()).await?;
        mos.set_bonus(clone_dir, clone.encode()).await?;
        self.remove_number(former.clones, promotion.clone.object)
            .await?;
        update::add_number(mos, clone.clones, promotion.former.object).await?;
        if older != 0 {
            let older = self.dsl_dataset(older).await?;
            let table = self.dsl_dir(older.phys.dir).await?.phys.clones;
            if table != 0 {
                self.remove_number(table, promotion.former.object).await?;
                update::add_number(mos, table, promotion.clone.object).await?;
            }
        }
        Ok(())
    }

    async fn move_snapshots(&self, promotion: &Promotion) -> Result<(), Error> {
        let mos = self.mos();
        let (clone_dir, former_dir) = (promotion.clone.phys.dir, promotion.former.phys.dir);
        let tables = (
            self.dsl_dir(former_dir).await?.phys.clones,
            self.dsl_dir(clone_dir).await?.phys.clones,
        );
        for (name, object) in self.names_of(promotion).await? {
            update::remove(mos, promotion.former.phys.snapshot_names, name.as_bytes()).await?;
            update::update(
                mos,
                promotion.clone.phys.snapshot_names,
                name.as_bytes(),
                object,
            )
            .await?;
            let mut phys = self.dsl_dataset(object).await?.phys;
            phys.dir = clone_dir;
            mos.set_bonus(object, phys.encode()).await?;
            for follower in entries_or_none(mos, phys.next_clones).await? {
                let follower = self.dsl_dataset(follower.value.u64().unwrap_or(0)).await?;
                if follower.phys.dir == former_dir {
                    // The former head's line, whose reference moved with the origin.
                    continue;
                }
                let head = self.dsl_dir(follower.phys.dir).await?.phys.head_dataset;
                self.remove_number(tables.0, head).await?;
                update::add_number(mos, tables.1, head).await?;
            }
        }
        Ok(())
    }

    /// Counts what a directory gets or gives, so that its snapshots use `of_snapshots` in the end.
    async fn move_sums(
        &self,
        dir: u64,
        moved: SpaceChange,
        of_snapshots: u64,
    ) -> Result<(), Error> {
        let before = self.dsl_dir(dir).await?.phys.used.snapshots;
        let delta = of_snapshots as i64 - before as i64;
        let snapshots = SpaceChange {
            used: delta,
            ..SpaceChange::default()
        };
        let head = SpaceChange {
            used: moved.used - delta,
            ..moved
        };
        self.count_space(dir, UsedBy::Snapshots, snapshots).await?;
        self.count_space(dir, UsedBy::Head, head).await
    }
}
