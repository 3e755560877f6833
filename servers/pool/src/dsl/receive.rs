//! The data sets that streams are received into.
//!
//! A new data set is marked inconsistent until its first snapshot is whole. The next snapshot of an existing one goes to a hidden
//! clone `%recv` below it, which changes places with the head at the end. A power cut leaves one or the other behind; the next import
//! for writing removes it, unless it keeps how far it came.

use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::create::Creation;
use super::open::valid_name;
use super::{DatasetEntry, DslDataset, DslDir, OpenDataset};
use crate::dmu::{Objset, ObjsetType};
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{Zap, ZapValue, entries_or_none, update};

/// Name of the hidden clone.
pub(super) const RECEIVE_CLONE: &str = "%recv";
/// `flags` of a data set: it is only a part of something.
const FLAG_INCONSISTENT: u64 = 1;

/// Entries of a data set that say how far an interrupted receive came.
mod resume {
    pub const FROM_GUID: &str = "com.delphix:resume_fromguid";
    pub const TO_GUID: &str = "com.delphix:resume_toguid";
    pub const TO_NAME: &str = "com.delphix:resume_toname";
    pub const OBJECT: &str = "com.delphix:resume_object";
    pub const OFFSET: &str = "com.delphix:resume_offset";
    pub const BYTES: &str = "com.delphix:resume_bytes";
    pub const LARGE_BLOCKS: &str = "com.delphix:resume_largeblockok";
    pub const EMBEDDED: &str = "com.delphix:resume_embedok";
    pub const COMPRESSED: &str = "com.delphix:resume_compressok";
    pub const ALL: [&str; 9] = [
        FROM_GUID,
        TO_GUID,
        TO_NAME,
        OBJECT,
        OFFSET,
        BYTES,
        LARGE_BLOCKS,
        EMBEDDED,
        COMPRESSED,
    ];
}

/// How far a receive came, so that it can go on: what a resume token says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReceiveState {
    /// Guid of the snapshot it started from; 0 without one.
    pub from_guid: u64,
    /// Guid of the snapshot that is being received.
    pub to_guid: u64,
    /// Its name where it is sent from.
    pub to_name: String,
    /// The object that came last.
    pub object: u64,
    /// Byte offset in it.
    pub offset: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Whether the stream has large, embedded and compressed blocks.
    pub forms: BlockForms,
}

/// Forms of blocks that a stream may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockForms {
    /// Blocks above 128 KiB: `-L`.
    pub large: bool,
    /// Blocks in their pointers: `-e`.
    pub embedded: bool,
    /// Blocks as they are stored: `-c`.
    pub compressed: bool,
}

/// What a stream starts from.
#[derive(Clone, Copy, Debug)]
pub enum ReceiveBase {
    /// Nothing: the data set is new.
    Nothing(ObjsetType),
    /// A snapshot, by its object, of which the new data set becomes a clone.
    Clone(u64),
    /// The latest snapshot of the data set that is there.
    Latest,
    /// Nothing, in place of all that a data set without snapshots has.
    Overwrite(ObjsetType),
}

/// The snapshot that a finished receive leaves.
#[derive(Clone, Debug)]
pub struct ReceivedSnapshot {
    /// Name after the `@`.
    pub name: String,
    /// Its guid, which is that of the one that was sent.
    pub guid: u64,
    /// When that was made, in seconds since 1970.
    pub creation_time: u64,
}

/// A receive in progress.
pub struct Receiving {
    /// The objects that are written.
    pub objset: Rc<Objset>,
    /// The data set as users will see it.
    pub name: String,
    /// The data set that is written: the same, or the hidden clone.
    written: String,
    head: u64,
}

impl Receiving {
    fn is_clone(&self) -> bool {
        self.written != self.name
    }
}

impl DslDataset {
    /// Whether it is a part of something that is being received, or was.
    pub fn is_inconsistent(&self) -> bool {
        self.phys.flags & FLAG_INCONSISTENT != 0
    }
}

impl Spa {
    /// Prepares a data set for a stream that uses these features. Nothing is committed yet.
    ///
    /// # Errors
    /// `Busy` when another receive left a part behind, `FeatureDisabled` when the pool lacks a feature.
    pub(crate) async fn begin_receive(
        &self,
        name: &str,
        base: ReceiveBase,
        features: &[&str],
        creation: &mut Creation<'_>,
    ) -> Result<Receiving, Error> {
        self.check_writable().await?;
        for feature in features {
            if !self.feature_counts().await?.contains_key(*feature) {
                return Err(Error::FeatureDisabled);
            }
        }
        let (written, parent, own) = match base {
            ReceiveBase::Latest | ReceiveBase::Overwrite(_) => (
                format!("{name}/{RECEIVE_CLONE}"),
                self.find_dir(name).await?,
                RECEIVE_CLONE,
            ),
            _ => {
                let (parent, own) = self.new_place(name).await?;
                (name.into(), parent, own)
            }
        };
        if self.receive_clone(&parent).await?.is_some() && own == RECEIVE_CLONE {
            return Err(Error::Busy);
        }
        let origin = match base {
            ReceiveBase::Nothing(_) => self.origin_snapshot().await?,
            ReceiveBase::Clone(snapshot) => self.dsl_dataset(snapshot).await?,
            ReceiveBase::Latest | ReceiveBase::Overwrite(_) => {
                let head = self.dsl_dataset(parent.phys.head_dataset).await?;
                self.dsl_dataset(head.phys.previous_snapshot).await?
            }
        };
        let kept = !matches!(base, ReceiveBase::Overwrite(_));
        if !kept && !self.directory_of_origin(&origin).await? {
            return Err(Error::AlreadyExists);
        }
        self.check_unencrypted(&parent).await?;
        let above = self.dsl_dir(origin.phys.dir).await?;
        self.check_unencrypted(&above).await?;
        let dir = self.create_dir(Some((&parent, own)), creation).await?;
        if own != RECEIVE_CLONE {
            self.count_new_dir(parent.object, dir.object, creation)
                .await?;
        }
        let head = self.create_head(&dir, &origin, creation).await?;
        self.set_inconsistent(head.object, Consistency::Partial)
            .await?;
        self.copy_features(origin.object, head.object, creation)
            .await?;
        let objset = match base {
            ReceiveBase::Nothing(kind) | ReceiveBase::Overwrite(kind) => {
                self.create_objset(head.object, kind, creation).await?
            }
            _ => self.open_objset(&head, None).await?,
        };
        self.open_receiving(name, written, objset, features, creation)
            .await
    }

    async fn open_receiving(
        &self,
        name: &str,
        written: String,
        objset: Rc<Objset>,
        features: &[&str],
        creation: &mut Creation<'_>,
    ) -> Result<Receiving, Error> {
        let entry = self.find_dataset(&written).await?;
        self.add_open_dataset(OpenDataset {
            objset: objset.clone(),
            dataset: entry.dataset.object,
            dir: entry.dir.object,
        });
        let open = self.datasets.borrow().get(&entry.dataset.object).cloned();
        if let Some(open) = open {
            self.apply_settings(&entry, &open, creation).await?;
            objset.set_budget(self.budget_of(&open).await?);
        }
        for feature in features {
            self.use_feature(entry.dataset.object, feature, creation)
                .await?;
        }
        Ok(Receiving {
            objset,
            name: name.into(),
            written,
            head: entry.dataset.object,
        })
    }

    /// Goes on with a receive that was interrupted.
    ///
    /// # Errors
    /// `NotFound` when there is none.
    pub(crate) async fn continue_receive(
        &self,
        name: &str,
        creation: &mut Creation<'_>,
    ) -> Result<Receiving, Error> {
        let (written, entry) = self.partial_entry(name).await?.ok_or(Error::NotFound)?;
        let objset = self.open_objset(&entry.dataset, None).await?;
        self.open_receiving(name, written, objset, &[], creation)
            .await
    }

    /// The name and entry of what an interrupted receive left of a data set.
    async fn partial_entry(&self, name: &str) -> Result<Option<(String, DatasetEntry)>, Error> {
        let entry = self.find_dataset(name).await?;
        if entry.dataset.is_inconsistent() {
            return Ok(Some((name.into(), entry)));
        }
        if self.receive_clone(&entry.dir).await?.is_none() {
            return Ok(None);
        }
        let written = format!("{name}/{RECEIVE_CLONE}");
        let entry = self.find_dataset(&written).await?;
        Ok(Some((written, entry)))
    }

    /// How far an interrupted receive into a data set came; `None` when nothing was kept.
    pub async fn receive_state(&self, name: &str) -> Result<Option<ReceiveState>, Error> {
        let Some((_, entry)) = self.partial_entry(name).await? else {
            return Ok(None);
        };
        let entries = self.extensions(entry.dataset.object).await?;
        let number = |name: &str| entries.get(name).and_then(ZapValue::u64).unwrap_or(0);
        if !entries.contains_key(resume::TO_GUID) {
            return Ok(None);
        }
        Ok(Some(ReceiveState {
            from_guid: number(resume::FROM_GUID),
            to_guid: number(resume::TO_GUID),
            to_name: entries
                .get(resume::TO_NAME)
                .and_then(ZapValue::string)
                .unwrap_or_default(),
            object: number(resume::OBJECT),
            offset: number(resume::OFFSET),
            bytes: number(resume::BYTES),
            forms: BlockForms {
                large: entries.contains_key(resume::LARGE_BLOCKS),
                embedded: entries.contains_key(resume::EMBEDDED),
                compressed: entries.contains_key(resume::COMPRESSED),
            },
        }))
    }

    /// Remembers how far a receive came, with the next transaction group.
    pub(crate) async fn keep_receive_state(
        &self,
        receiving: &Receiving,
        state: &ReceiveState,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let mut numbers = Vec::from([
            (resume::OBJECT, state.object),
            (resume::OFFSET, state.offset),
            (resume::BYTES, state.bytes),
        ]);
        let known = self.extensions(receiving.head).await?;
        if !known.contains_key(resume::TO_GUID) {
            numbers.push((resume::TO_GUID, state.to_guid));
            let flags = [
                (resume::FROM_GUID, state.from_guid),
                (resume::LARGE_BLOCKS, u64::from(state.forms.large)),
                (resume::EMBEDDED, u64::from(state.forms.embedded)),
                (resume::COMPRESSED, u64::from(state.forms.compressed)),
            ];
            numbers.extend(flags.into_iter().filter(|(_, value)| *value != 0));
        }
        for (name, value) in numbers {
            self.set_extension(receiving.head, name, value, creation)
                .await?;
        }
        if !known.contains_key(resume::TO_NAME) {
            let value = ZapValue {
                integer_size: 1,
                bytes: state.to_name.bytes().chain([0]).collect(),
            };
            update::set(
                self.mos(),
                receiving.head,
                resume::TO_NAME.as_bytes(),
                &value,
            )
            .await?;
        }
        Ok(())
    }

    /// Makes what was received a snapshot and commits it.
    pub(crate) async fn end_receive(
        &self,
        receiving: Receiving,
        snapshot: &ReceivedSnapshot,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        valid_name(&snapshot.name)?;
        let now = creation.now;
        creation.txg = self.open_txg();
        self.sync_datasets(creation.txg).await?;
        self.datasets.borrow_mut().remove(&receiving.head);
        for name in resume::ALL {
            if self.extensions(receiving.head).await?.contains_key(name) {
                self.remove_extension(receiving.head, name).await?;
            }
        }
        let target = self.find_dataset(&receiving.name).await?;
        if receiving.is_clone() {
            self.take_open(&target).await?;
            self.drop_livelist(target.dir.object).await?;
            let since = target.dataset.phys.previous_snapshot_txg;
            self.forget_written_since(&target.dataset, since..=u64::MAX)
                .await?;
            self.change_places(target.dataset.object, receiving.head)
                .await?;
            self.copy_features(receiving.head, target.dataset.object, creation)
                .await?;
        }
        let head = target.dataset.object;
        self.set_inconsistent(head, Consistency::Whole).await?;
        self.snapshot_received(head, snapshot, creation).await?;
        if receiving.is_clone() {
            let clone = self.find_dataset(&receiving.written).await?;
            self.destroy_head(&clone).await?;
        }
        self.sync(now).await
    }

    async fn snapshot_received(
        &self,
        head: u64,
        snapshot: &ReceivedSnapshot,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let head = self.dsl_dataset(head).await?;
        let unique = head.phys.unique_bytes;
        let new = self.snapshot_head(&head, &snapshot.name, creation).await?;
        self.copy_features(head.object, new.object, creation)
            .await?;
        let mut phys = self.dsl_dataset(new.object).await?.phys;
        phys.guid = snapshot.guid;
        phys.creation_time = snapshot.creation_time;
        self.mos().set_bonus(new.object, phys.encode()).await?;
        self.reserve_again(head.phys.dir, unique).await
    }

    /// Drops what was received of a stream that failed, and commits that.
    pub(crate) async fn drop_receive(&self, receiving: Receiving, now: u64) -> Result<(), Error> {
        let entry = self.find_dataset(&receiving.written).await?;
        self.destroy_head(&entry).await?;
        self.sync(now).await
    }

    /// Drops what an interrupted receive left of a data set: `zfs receive -A`.
    ///
    /// # Errors
    /// `NotFound` when there is nothing.
    pub async fn abandon_receive(&self, name: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let (_, entry) = self.partial_entry(name).await?.ok_or(Error::NotFound)?;
        self.destroy_head(&entry).await?;
        self.sync(now).await
    }

    /// Removes what receives left that were cut off and cannot go on.
    pub(crate) async fn drop_lost_receives(&self, now: u64) -> Result<(), Error> {
        let root = self.root_dir().await?;
        let mut lost = Vec::new();
        let mut open = Vec::from([(String::from(self.name()), root)]);
        while let Some((name, dir)) = open.pop() {
            for (child, object) in self.raw_children(&dir).await? {
                open.push((format!("{name}/{child}"), self.dsl_dir(object).await?));
            }
            if dir.phys.head_dataset == 0 {
                continue;
            }
            let head = self.dsl_dataset(dir.phys.head_dataset).await?;
            let kept = self
                .extensions(head.object)
                .await?
                .contains_key(resume::TO_GUID);
            if head.is_inconsistent() && !kept {
                lost.push(name);
            }
        }
        if lost.is_empty() {
            return Ok(());
        }
        for name in lost {
            let entry = self.find_dataset(&name).await?;
            self.destroy_head(&entry).await?;
        }
        self.sync(now).await
    }

    /// Children of a directory, the hidden clone included.
    async fn raw_children(&self, dir: &DslDir) -> Result<Vec<(String, u64)>, Error> {
        let entries = entries_or_none(self.mos(), dir.phys.child_dirs).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| Some((entry.text(), entry.value.u64()?)))
            .filter(|(name, _)| !name.starts_with('$'))
            .collect())
    }

    /// The hidden clone below a directory.
    pub(super) async fn receive_clone(&self, dir: &DslDir) -> Result<Option<u64>, Error> {
        let found = Zap::open(self.mos(), dir.phys.child_dirs)
            .await?
            .lookup(RECEIVE_CLONE.as_bytes())
            .await?;
        Ok(found.and_then(|value| value.u64()))
    }

    async fn set_inconsistent(&self, head: u64, consistency: Consistency) -> Result<(), Error> {
        let mut phys = self.dsl_dataset(head).await?.phys;
        phys.flags = match consistency {
            Consistency::Partial => phys.flags | FLAG_INCONSISTENT,
            Consistency::Whole => phys.flags & !FLAG_INCONSISTENT,
        };
        self.mos().set_bonus(head, phys.encode()).await
    }
}

/// Whether a data set is whole.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Consistency {
    Partial,
    Whole,
}
