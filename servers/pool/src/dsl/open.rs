//! Data sets that are open for writing, and their part of a transaction group.

use alloc::rc::Rc;
use alloc::vec::Vec;

use super::NewValue;
use super::account::{SpaceChange, UsedBy};
use super::create::Creation;
use crate::dmu::{Accounting, Objset, ObjsetType, Rewrite, SyncPolicy};
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::Zap;
use crate::{zpl, zvol};

/// Longest name of a data set or snapshot, without its path.
const MAX_NAME: usize = 49;

/// What file systems count when the pool has these features.
const ACCOUNTING_FEATURES: [(&str, Accounting); 2] = [
    ("org.zfsonlinux:userobj_accounting", Accounting::Objects),
    ("org.zfsonlinux:project_quota", Accounting::Projects),
];

/// A head whose objects may change.
pub struct OpenDataset {
    /// Its objects.
    pub objset: Rc<Objset>,
    /// Its object in the MOS.
    pub dataset: u64,
    /// Its directory's.
    pub dir: u64,
}

/// What a new volume is to be.
#[derive(Clone, Copy, Debug)]
pub struct NewVolume {
    /// Bytes.
    pub size: u64,
    /// Bytes of a block, a power of two.
    pub block_size: usize,
    /// Whether its space is set aside.
    pub reservation: VolumeReservation,
}

/// Whether a new volume's space is set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VolumeReservation {
    /// It is, so that writing never fails for want of space.
    Full,
    /// It is not: `zfs create -s`.
    None,
}

/// What a new data set holds.
#[derive(Clone, Copy)]
enum Contents {
    Filesystem,
    Volume(NewVolume),
}

pub(super) fn valid_name(name: &str) -> Result<(), Error> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.: ".contains(letter);
    match name.len() {
        0 => Err(Error::InvalidName),
        length if length > MAX_NAME => Err(Error::NameTooLong),
        _ if name.chars().all(allowed) => Ok(()),
        _ => Err(Error::InvalidName),
    }
}

impl Spa {
    pub(crate) fn add_open_dataset(&self, open: OpenDataset) {
        self.datasets
            .borrow_mut()
            .insert(open.dataset, Rc::new(open));
    }

    /// Opens a head for reading and writing. All openers share its objects.
    pub async fn open_head(&self, name: &str) -> Result<Rc<Objset>, Error> {
        let entry = self.find_dataset(name).await?;
        if entry.dataset.is_snapshot() {
            return Err(Error::ReadOnly);
        }
        let object = entry.dataset.object;
        if let Some(open) = self.datasets.borrow().get(&object) {
            return Ok(open.objset.clone());
        }
        let objset = self.open_objset(&entry.dataset, None).await?;
        let open = OpenDataset {
            objset: objset.clone(),
            dataset: object,
            dir: entry.dir.object,
        };
        if self.check_writable().await.is_ok() {
            // A table's salt is all that is random here, and the data set's own identity is as good.
            let mut seed = entry.dataset.phys.guid;
            let mut random = || {
                seed = seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                seed
            };
            let mut creation = Creation {
                txg: self.open_txg(),
                now: 0,
                random: &mut random,
            };
            self.apply_settings(&entry, &open, &mut creation).await?;
            objset.set_budget(self.budget_of(&open).await?);
            if objset.kind() == ObjsetType::Filesystem && !entry.dataset.phys.pointer.is_encrypted()
            {
                zpl::Zpl::open(objset.clone())
                    .await?
                    .drain_delete_queue()
                    .await?;
            }
        }
        self.add_open_dataset(open);
        Ok(objset)
    }

    /// The objects of a new head, which are none yet. What the pool counts of file systems is counted from the start.
    pub(super) async fn create_objset(
        &self,
        head: u64,
        kind: ObjsetType,
        creation: &mut Creation<'_>,
    ) -> Result<Rc<Objset>, Error> {
        let objset = Objset::create(self.zio().clone(), head, kind);
        if kind == ObjsetType::Filesystem {
            let features = self.feature_counts().await?;
            for (guid, accounting) in ACCOUNTING_FEATURES {
                if features.contains_key(guid) {
                    objset.account_for(accounting);
                    self.use_feature(head, guid, creation).await?;
                }
            }
        }
        Ok(Rc::new(objset))
    }

    /// Makes an empty file system below its parent and commits it.
    pub async fn create_filesystem(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        self.create_dataset(name, Contents::Filesystem, now, random)
            .await
    }

    /// Makes a volume of zeros below its parent and commits it. Its size is reserved unless it is sparse.
    ///
    /// # Errors
    /// As [`zvol::create`]; `NoSpace` when its size cannot be reserved.
    pub async fn create_volume(
        &self,
        name: &str,
        volume: NewVolume,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        zvol::check_shape(volume.size, volume.block_size)?;
        let (parent, _) = self.new_place(name).await?;
        if volume.reservation == VolumeReservation::Full
            && volume.size > self.available(&parent).await?
        {
            return Err(Error::NoSpace);
        }
        self.create_dataset(name, Contents::Volume(volume), now, random)
            .await
    }

    async fn create_dataset(
        &self,
        name: &str,
        contents: Contents,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let done = self.try_create_dataset(name, contents, now, random).await;
        self.keep_whole(done)
    }

    async fn try_create_dataset(
        &self,
        name: &str,
        contents: Contents,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let (parent, child) = self.new_place(name).await?;
        self.check_writable().await?;
        self.check_unencrypted(&parent).await?;
        let txg = self.open_txg();
        let mut creation = Creation { txg, now, random };
        let dir = self
            .create_dir(Some((&parent, child)), &mut creation)
            .await?;
        self.count_new_dir(parent.object, dir.object, &mut creation)
            .await?;
        let origin = self.origin_snapshot().await?;
        let head = self.create_head(&dir, &origin, &mut creation).await?;
        let kind = match contents {
            Contents::Filesystem => ObjsetType::Filesystem,
            Contents::Volume(_) => ObjsetType::Volume,
        };
        let objset = self.create_objset(head.object, kind, &mut creation).await?;
        match contents {
            Contents::Filesystem => zpl::create(&objset, txg, now, creation.random).await?,
            Contents::Volume(volume) => {
                zvol::create(&objset, volume.size, volume.block_size, (creation.random)()).await?;
            }
        }
        let open = OpenDataset {
            objset,
            dataset: head.object,
            dir: dir.object,
        };
        self.add_open_dataset(open);
        let entry = self.find_dataset(name).await?;
        if let Contents::Volume(volume) = contents
            && volume.reservation == VolumeReservation::Full
        {
            let value = NewValue::Number(zvol::reservation(volume.size, volume.block_size));
            let applied = self
                .apply_property(&entry, "refreservation", &value, &mut creation)
                .await;
            applied.map_err(|_| Error::NoSpace)?;
        }
        let open = self.datasets.borrow().get(&head.object).cloned();
        if let Some(open) = open {
            self.apply_settings(&entry, &open, &mut creation).await?;
        }
        self.sync(now).await
    }

    /// Makes a snapshot `name@snapshot` and commits it.
    pub async fn snapshot(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let done = self.try_snapshot(name, now, random).await;
        self.keep_whole(done)
    }

    async fn try_snapshot(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let (path, snapshot) = name.split_once('@').ok_or(Error::InvalidName)?;
        valid_name(snapshot)?;
        let entry = self.find_dataset(path).await?;
        let names = Zap::open(self.mos(), entry.dataset.phys.snapshot_names).await?;
        if names.lookup(snapshot.as_bytes()).await?.is_some() {
            return Err(Error::AlreadyExists);
        }
        self.check_writable().await?;
        self.check_unencrypted(&entry.dir).await?;
        let txg = self.open_txg();
        // A snapshot has no log.
        self.open_head(path).await?.end_log()?;
        // The snapshot has what this group wrote, so that is written first.
        self.sync_datasets(txg).await?;
        let head = self.dsl_dataset(entry.dataset.object).await?;
        let mut creation = Creation { txg, now, random };
        let unique = head.phys.unique_bytes;
        let new = self.snapshot_head(&head, snapshot, &mut creation).await?;
        self.copy_features(head.object, new.object, &mut creation)
            .await?;
        self.reserve_again(head.phys.dir, unique).await?;
        self.sync(now).await
    }

    /// After a snapshot a head has nothing of its own, so that all of its reservation is unused again.
    pub(super) async fn reserve_again(&self, dir: u64, unique: u64) -> Result<(), Error> {
        let reserved = self.reference_reservation(dir).await?;
        let change = SpaceChange {
            used: unique.min(reserved) as i64,
            ..SpaceChange::default()
        };
        self.count_space(dir, UsedBy::ReferenceReservation, change)
            .await
    }

    /// Writes the changes of all open data sets and counts them.
    pub(crate) async fn sync_datasets(&self, txg: u64) -> Result<(), Error> {
        let open: Vec<Rc<OpenDataset>> = self.datasets.borrow().values().cloned().collect();
        for dataset in open.iter().filter(|dataset| dataset.objset.is_dirty()) {
            dataset.objset.retire_log()?;
            let settings = dataset.objset.settings();
            let policy = SyncPolicy {
                data: self.stored_as(settings.data()),
                metadata: self.stored_as(settings.metadata()),
                ..self.sync_policy(txg, Rewrite::Never)
            };
            let (pointer, ledger) = dataset.objset.sync(policy).await?;
            self.account(dataset, pointer, ledger).await?;
        }
        Ok(())
    }
}
