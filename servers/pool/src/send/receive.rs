//! Receiving a stream: what it is, where it goes, and what becomes of it.
//!
//! A compound stream describes its data sets first and then holds one part for each snapshot. A part is checked against what is there
//! before anything changes; one that fails on the way leaves nothing, or what is needed to go on.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::apply::Applier;
use super::plan::{Plan, PlannedDataset};
use super::receive_options::{CutOff, InTheWay, Naming, Progress, ReceiveError, ReceiveOptions};
use super::record::{begin_flag, feature};
use super::{BeginRecord, CORRUPT, Record, RecordReader, StreamKind, StreamReader, token};
use crate::dmu::ObjsetType;
use crate::dsl::create::Creation;
use crate::dsl::{
    BlockForms, DatasetEntry, DatasetKind, Deferral, NewValue, ReceiveBase, ReceiveState,
    ReceivedSnapshot,
};
use crate::error::{Error, Unsupported};
use crate::nvlist::Nvlist;
use crate::spa::Spa;

const LARGE_BLOCKS: &str = "org.open-zfs:large_blocks";
const LARGE_DNODE: &str = "org.zfsonlinux:large_dnode";

/// A receive of one or more parts.
struct Receive<'a> {
    spa: &'a Spa,
    options: &'a ReceiveOptions<'a>,
    random: &'a mut dyn FnMut() -> u64,
    progress: &'a mut dyn FnMut(Progress),
    plan: Plan,
    /// Name of the topmost data set where it was sent.
    top: String,
    /// Whether parts that are here already are passed over.
    compound: StreamKind,
}

/// Receives a whole stream.
///
/// # Errors
/// Parts that were whole before stay; what failed leaves nothing unless it is to be kept.
pub async fn receive(
    spa: &Spa,
    reader: &mut dyn StreamReader,
    options: &ReceiveOptions<'_>,
    random: &mut dyn FnMut() -> u64,
    progress: &mut dyn FnMut(Progress),
) -> Result<(), ReceiveError> {
    let mut reader = RecordReader::new(reader);
    let Some((Record::Begin(begin), payload)) = reader.next().await? else {
        return Err(CORRUPT.into());
    };
    let (top, _) = split_name(&begin.to_name)?;
    let mut receive = Receive {
        spa,
        options,
        random,
        progress,
        plan: Plan::default(),
        top: top.into(),
        compound: begin.kind,
    };
    if begin.kind == StreamKind::Substream {
        return receive.part(&begin, &payload, &mut reader).await;
    }
    receive.plan = Plan::decode(&payload)?;
    let Some((Record::End { .. }, _)) = reader.next().await? else {
        return Err(CORRUPT.into());
    };
    receive.drop_foreign_snapshots().await?;
    loop {
        match reader.next().await? {
            Some((Record::Begin(begin), payload)) if begin.kind == StreamKind::Substream => {
                receive.part(&begin, &payload, &mut reader).await?;
            }
            Some((Record::End { .. }, _)) => return Ok(()),
            _ => return Err(CORRUPT.into()),
        }
    }
}

/// Data set and snapshot of a name in a stream.
fn split_name(name: &str) -> Result<(&str, &str), Error> {
    name.split_once('@').ok_or(CORRUPT)
}

impl Receive<'_> {
    /// Names of the data set and snapshot that a snapshot of the stream becomes.
    fn target(&self, source: &str) -> Result<(String, String), Error> {
        let (path, snapshot) = split_name(source)?;
        let rest = path.strip_prefix(self.top.as_str()).ok_or(CORRUPT)?;
        let (target, own) = match self.options.target.split_once('@') {
            Some((target, own)) => (target, Some(own)),
            None => (self.options.target, None),
        };
        let dataset = match self.options.naming {
            Naming::Exact => format!("{target}{rest}"),
            Naming::WithoutPool => match path.split_once('/') {
                Some((_, below)) => format!("{target}/{below}"),
                None => target.into(),
            },
            Naming::LastPart => {
                let last = self.top.rsplit('/').next().unwrap_or_default();
                format!("{target}/{last}{rest}")
            }
        };
        Ok((dataset, own.unwrap_or(snapshot).into()))
    }

    /// Receives one part up to its END.
    async fn part(
        &mut self,
        begin: &BeginRecord,
        payload: &[u8],
        reader: &mut RecordReader<'_>,
    ) -> Result<(), ReceiveError> {
        if begin.features & feature::RAW != 0 {
            return Err(Error::Unsupported(Unsupported::RawStream).into());
        }
        let (name, snapshot) = self.target(&begin.to_name)?;
        let full = format!("{name}@{snapshot}");
        let resuming = begin.features & feature::RESUMING != 0;
        let existing = self.spa.find_dataset(&name).await.ok();
        if let Some(existing) = &existing
            && self.is_here(existing, begin, &snapshot).await?
        {
            (self.progress)(Progress::Skipped { target: full });
            return skip(reader).await;
        }
        let start = reader.bytes();
        let (receiving, state) = match resuming {
            true => self.resume(&name, begin, payload).await?,
            false => self.start(&name, existing.as_ref(), begin).await?,
        };
        (self.progress)(Progress::Started {
            incremental: begin.from_guid != 0,
            source: begin.to_name.clone(),
            target: full,
        });
        let mut applier = Applier::new(self.spa, &receiving, begin, state);
        let mut creation = Creation {
            txg: self.spa.open_txg(),
            now: self.options.now,
            random: &mut *self.random,
        };
        let done = applier.run(reader, &mut creation).await;
        if let Err(error) = done {
            let begun = receiving.objset.is_dirty() || !receiving.objset.pointer().is_hole();
            let kept = applier.state.is_some() && begun && is_stream_trouble(error);
            if kept {
                applier.commit(reader.bytes(), &mut creation).await?;
                let state = self.spa.receive_state(&name).await?.unwrap_or_default();
                return Err(ReceiveError::CutOff(name, token::encode(&state)));
            }
            self.spa.drop_receive(receiving, self.options.now).await?;
            return Err(match error {
                Error::StreamMismatch => ReceiveError::LargeBlocks(name),
                error => error.into(),
            });
        }
        let snapshot = ReceivedSnapshot {
            name: snapshot,
            guid: begin.to_guid,
            creation_time: begin.creation_time,
        };
        self.spa
            .end_receive(receiving, &snapshot, &mut creation)
            .await?;
        self.finish_properties(&name, &snapshot).await?;
        (self.progress)(Progress::Finished {
            bytes: reader.bytes() - start,
        });
        Ok(())
    }

    /// Whether the snapshot of a part is here already; one of the same name that is another is refused.
    async fn is_here(
        &self,
        existing: &DatasetEntry,
        begin: &BeginRecord,
        snapshot: &str,
    ) -> Result<bool, ReceiveError> {
        let snapshots = self.spa.snapshots(&existing.dataset).await?;
        let same = snapshots
            .iter()
            .any(|(_, known)| known.phys.guid == begin.to_guid);
        if same && self.compound == StreamKind::Compound {
            return Ok(true);
        }
        match snapshots.iter().any(|(name, _)| name == snapshot) {
            true => Err(ReceiveError::SnapshotExists(format!(
                "{}@{snapshot}",
                existing.name
            ))),
            false => Ok(false),
        }
    }

    async fn resume(
        &mut self,
        name: &str,
        begin: &BeginRecord,
        payload: &[u8],
    ) -> Result<(crate::dsl::Receiving, Option<ReceiveState>), ReceiveError> {
        let nothing = || ReceiveError::NothingToResume(name.into());
        let state = match self.spa.receive_state(name).await {
            Ok(state) => state.ok_or_else(nothing)?,
            Err(Error::NotFound) => return Err(nothing()),
            Err(error) => return Err(error.into()),
        };
        let place = Nvlist::decode(payload).map_err(|_| CORRUPT)?;
        let same = state.to_guid == begin.to_guid
            && state.from_guid == begin.from_guid
            && place.u64("resume_object") == Some(state.object)
            && place.u64("resume_offset") == Some(state.offset);
        if !same {
            return Err(nothing());
        }
        let mut creation = Creation {
            txg: self.spa.open_txg(),
            now: self.options.now,
            random: &mut *self.random,
        };
        let receiving = self.spa.continue_receive(name, &mut creation).await?;
        Ok((receiving, Some(state)))
    }

    async fn start(
        &mut self,
        name: &str,
        existing: Option<&DatasetEntry>,
        begin: &BeginRecord,
    ) -> Result<(crate::dsl::Receiving, Option<ReceiveState>), ReceiveError> {
        let kind = match begin.objset_type {
            2 => ObjsetType::Filesystem,
            3 => ObjsetType::Volume,
            other => {
                return Err(Error::Unsupported(Unsupported::ObjsetType(other.into())).into());
            }
        };
        let base = match existing {
            Some(existing) => self.base_of_existing(existing, begin, kind).await?,
            None => self.base_of_new(name, begin, kind).await?,
        };
        let features: Vec<&str> = [
            (feature::LARGE_BLOCKS, LARGE_BLOCKS),
            (feature::LARGE_DNODE, LARGE_DNODE),
        ]
        .into_iter()
        .filter(|(bit, _)| begin.features & bit != 0)
        .map(|(_, guid)| guid)
        .collect();
        let mut creation = Creation {
            txg: self.spa.open_txg(),
            now: self.options.now,
            random: &mut *self.random,
        };
        let begun = self
            .spa
            .begin_receive(name, base, &features, &mut creation)
            .await;
        let receiving = begun.map_err(|error| match error {
            Error::Busy => ReceiveError::PartThere(name.into()),
            Error::NotFound => ReceiveError::ParentMissing(name.into()),
            error => error.into(),
        })?;
        if existing.is_none() {
            self.set_properties(name, begin.to_guid).await?;
        }
        let state = (self.options.cut_off == CutOff::Kept).then(|| ReceiveState {
            from_guid: begin.from_guid,
            to_guid: begin.to_guid,
            to_name: begin.to_name.clone(),
            forms: BlockForms {
                large: begin.features & feature::LARGE_BLOCKS != 0,
                embedded: begin.features & feature::EMBEDDED != 0,
                compressed: begin.features & feature::COMPRESSED != 0,
            },
            ..ReceiveState::default()
        });
        Ok((receiving, state))
    }

    async fn base_of_new(
        &self,
        name: &str,
        begin: &BeginRecord,
        kind: ObjsetType,
    ) -> Result<ReceiveBase, ReceiveError> {
        let parent = name.rsplit_once('/').map_or("", |(parent, _)| parent);
        if self.spa.find_dir(parent).await.is_err() {
            return Err(ReceiveError::ParentMissing(parent.into()));
        }
        if begin.from_guid == 0 {
            return Ok(ReceiveBase::Nothing(kind));
        }
        if begin.flags & begin_flag::CLONE == 0 && self.options.origin.is_none() {
            return Err(ReceiveError::Missing(name.into()));
        }
        let missing = || ReceiveError::OriginMissing(name.into());
        let origin = match self.options.origin {
            Some(origin) => self.spa.find_dataset(origin).await.ok(),
            None => self.find_guid(begin.from_guid).await?,
        };
        let origin = origin.filter(|origin| origin.dataset.phys.guid == begin.from_guid);
        let origin = origin.ok_or_else(missing)?;
        Ok(ReceiveBase::Clone(origin.dataset.object))
    }

    /// The snapshot with a guid, anywhere in the pool.
    async fn find_guid(&self, guid: u64) -> Result<Option<DatasetEntry>, Error> {
        let all = self.spa.list_datasets(self.spa.name()).await?;
        Ok(all
            .into_iter()
            .find(|entry| entry.dataset.is_snapshot() && entry.dataset.phys.guid == guid))
    }

    async fn base_of_existing(
        &self,
        existing: &DatasetEntry,
        begin: &BeginRecord,
        kind: ObjsetType,
    ) -> Result<ReceiveBase, ReceiveError> {
        let name = existing.name.clone();
        if existing.dataset.is_inconsistent() || self.spa.receive_state(&name).await?.is_some() {
            return Err(ReceiveError::PartThere(name));
        }
        let snapshots = self.spa.snapshots(&existing.dataset).await?;
        let force = self.options.in_the_way == InTheWay::Dropped;
        if begin.from_guid == 0 {
            return match (snapshots.is_empty(), force) {
                (true, true) => Ok(ReceiveBase::Overwrite(kind)),
                (false, true) => Err(ReceiveError::HasSnapshots(name)),
                (_, false) => Err(ReceiveError::Exists(name)),
            };
        }
        let wanted = match kind {
            ObjsetType::Volume => DatasetKind::Volume,
            _ => DatasetKind::Filesystem,
        };
        if self.spa.dataset_kind(&existing.dataset).await? != wanted {
            return Err(Error::StreamMismatch.into());
        }
        let from = snapshots
            .iter()
            .position(|(_, snapshot)| snapshot.phys.guid == begin.from_guid)
            .ok_or_else(|| ReceiveError::NotLatest(name.clone()))?;
        let newer = &snapshots[from + 1..];
        if !newer.is_empty() && !force {
            return Err(ReceiveError::NotLatest(name));
        }
        let (own, latest) = &snapshots[from];
        let head = &existing.dataset.phys;
        let modified =
            head.pointer != latest.phys.pointer && head.pointer.birth() > latest.phys.creation_txg;
        if modified && !force {
            return Err(ReceiveError::Modified(name));
        }
        for (doomed, _) in newer.iter().rev() {
            let doomed = format!("{name}@{doomed}");
            self.spa
                .destroy(&doomed, Deferral::Refused, self.options.now)
                .await?;
        }
        if modified || !newer.is_empty() {
            let snapshot = format!("{name}@{own}");
            let mut seed = begin.to_guid;
            let mut random = move || {
                seed = seed.rotate_left(17).wrapping_mul(0x9e37_79b9_7f4a_7c15);
                seed
            };
            self.spa
                .rollback(&snapshot, self.options.now, &mut random)
                .await?;
        }
        Ok(ReceiveBase::Latest)
    }

    /// With `-F`, an incremental replication makes snapshots go that are not in the stream.
    async fn drop_foreign_snapshots(&self) -> Result<(), ReceiveError> {
        if self.options.in_the_way == InTheWay::Kept || self.plan.from_snapshot.is_none() {
            return Ok(());
        }
        for planned in self.plan.datasets.values() {
            let (name, _) = self.target(&format!("{}@", planned.name))?;
            let Ok(existing) = self.spa.find_dataset(&name).await else {
                continue;
            };
            for (own, snapshot) in self.spa.snapshots(&existing.dataset).await? {
                if !planned
                    .snapshots
                    .values()
                    .any(|guid| *guid == snapshot.phys.guid)
                {
                    let doomed = format!("{name}@{own}");
                    self.spa
                        .destroy(&doomed, Deferral::Refused, self.options.now)
                        .await?;
                }
            }
        }
        Ok(())
    }

    /// The properties that a part brings, as they are to be set here.
    fn properties_of(&self, planned: Option<&PlannedDataset>) -> Vec<(String, NewValue)> {
        let all = planned.map(|planned| planned.properties.clone());
        let mut all = all.unwrap_or_default();
        all.retain(|(name, _)| !self.options.excluded.contains(name));
        all
    }

    /// Sets the properties of a data set: those of the stream as received, those that were asked for as its own.
    async fn set_properties(&mut self, name: &str, guid: u64) -> Result<(), ReceiveError> {
        let received = self.properties_of(self.plan.of_snapshot(guid));
        let mut creation = Creation {
            txg: self.spa.open_txg(),
            now: self.options.now,
            random: &mut *self.random,
        };
        self.spa
            .apply_received(name, &received, &self.options.set, &mut creation)
            .await?;
        Ok(())
    }

    async fn finish_properties(
        &mut self,
        name: &str,
        snapshot: &ReceivedSnapshot,
    ) -> Result<(), ReceiveError> {
        let planned = self.plan.of_snapshot(snapshot.guid);
        let of_snapshot = planned
            .and_then(|planned| {
                let source = planned
                    .snapshots
                    .iter()
                    .find(|(_, guid)| **guid == snapshot.guid)?;
                planned.snapshot_properties.get(source.0).cloned()
            })
            .unwrap_or_default();
        if planned.is_none() && self.options.set.is_empty() {
            return Ok(());
        }
        self.set_properties(name, snapshot.guid).await?;
        let full = format!("{name}@{}", snapshot.name);
        let mut creation = Creation {
            txg: self.spa.open_txg(),
            now: self.options.now,
            random: &mut *self.random,
        };
        self.spa
            .apply_received(&full, &of_snapshot, &[], &mut creation)
            .await?;
        Ok(self.spa.sync(self.options.now).await?)
    }
}

/// Whether an error is the stream's own, so that the same stream sent again may be whole.
fn is_stream_trouble(error: Error) -> bool {
    error == CORRUPT || matches!(error, Error::Device(_))
}

/// Passes over a part.
async fn skip(reader: &mut RecordReader<'_>) -> Result<(), ReceiveError> {
    loop {
        match reader.next().await? {
            Some((Record::End { .. }, _)) => return Ok(()),
            Some((Record::Begin(_), _)) | None => return Err(CORRUPT.into()),
            Some(_) => {}
        }
    }
}
