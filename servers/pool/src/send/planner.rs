//! Planning a stream: which snapshots it has, in which order, and what is said of them before.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::format;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;

use super::plan::{Plan, PlannedDataset, PropertyList, Recursion};
use super::source::ResumePlace;
use crate::crypt::DatasetKey;
use crate::dsl::{BlockForms, DatasetEntry, NewValue, ReceiveState, Source};
use crate::error::Error;
use crate::spa::Spa;

/// What a stream starts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendFrom<'a> {
    /// Nothing.
    Nothing,
    /// One earlier snapshot or bookmark, by its full name: `-i`.
    One(&'a str),
    /// An earlier snapshot, with all snapshots between: `-I`.
    All(&'a str),
}

/// Which data sets a stream has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendScope {
    /// The snapshot alone.
    Snapshot,
    /// The snapshot with the properties of its data set: `-p`.
    WithProperties,
    /// All data sets below too, with their properties and earlier snapshots: `-R`.
    Replicate,
}

/// What to send.
pub struct SendRequest<'a> {
    /// Full name of the snapshot.
    pub snapshot: &'a str,
    /// What to start from.
    pub from: SendFrom<'a>,
    /// Which data sets.
    pub scope: SendScope,
    /// Forms in which blocks may go.
    pub forms: BlockForms,
    /// The key of an encrypted data set.
    pub key: Option<Rc<DatasetKey>>,
}

/// One part of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SendPart {
    /// Full name of the snapshot.
    pub snapshot: String,
    /// Full name of what it starts from.
    pub from: Option<String>,
    /// Bytes of blocks that it has, about.
    pub estimate: u64,
    /// Group of what it starts from.
    pub(super) since: u64,
    /// Guid of that.
    pub(super) from_guid: u64,
    /// Whether it starts from a snapshot of another data set.
    pub(super) is_clone: bool,
}

/// A stream that was planned: its parts, with what goes before them.
pub struct SendPlan {
    /// The parts in their order.
    pub parts: Vec<SendPart>,
    /// Data sets below that lack the snapshot, which are left out.
    pub left_out: Vec<String>,
    /// Description of a compound stream; `None` for a single part.
    pub(super) compound: Option<Plan>,
    /// Forms in which blocks may go.
    pub(super) forms: BlockForms,
    /// The key of an encrypted data set.
    pub(super) key: Option<Rc<DatasetKey>>,
    /// Where the only part starts, when it is the rest of one.
    pub(super) resume: ResumePlace,
}

/// Works out what a stream has to have.
///
/// # Errors
/// `NotFound` when a snapshot or bookmark is not there, `InvalidArgument` when the one to start from is not an earlier one.
pub async fn plan(spa: &Spa, request: &SendRequest<'_>) -> Result<SendPlan, Error> {
    let (path, name) = request.snapshot.split_once('@').ok_or(Error::InvalidName)?;
    let mut planner = Planner {
        spa,
        forms: request.forms,
        parts: Vec::new(),
        left_out: Vec::new(),
    };
    let mut compound = None;
    if request.scope == SendScope::Snapshot {
        let parts = planner.parts_of(path, name, request.from).await?;
        if matches!(request.from, SendFrom::All(_)) {
            compound = Some(Plan::default());
        }
        planner.parts = parts;
    } else {
        compound = Some(planner.compound(path, name, request).await?);
    }
    Ok(SendPlan {
        parts: planner.parts,
        left_out: planner.left_out,
        compound,
        forms: request.forms,
        key: request.key.clone(),
        resume: ResumePlace::default(),
    })
}

/// Works out how the stream of a resume token goes on.
///
/// # Errors
/// `NotFound` when the snapshots that the token names are not here.
pub async fn plan_resume(
    spa: &Spa,
    state: &ReceiveState,
    key: Option<Rc<DatasetKey>>,
) -> Result<SendPlan, Error> {
    let all = spa.list_datasets(spa.name()).await?;
    let find = |guid: u64| {
        all.iter()
            .find(|entry| entry.dataset.is_snapshot() && entry.dataset.phys.guid == guid)
    };
    let to = find(state.to_guid).ok_or(Error::NotFound)?;
    let mut part = SendPart {
        snapshot: to.name.clone(),
        from: None,
        estimate: 0,
        since: 0,
        from_guid: state.from_guid,
        is_clone: false,
    };
    if state.from_guid != 0 {
        let (name, since) = match find(state.from_guid) {
            Some(from) => (from.name.clone(), from.dataset.phys.creation_txg),
            None => bookmark_of(spa, to, state.from_guid).await?,
        };
        part.is_clone = !name.starts_with(path_of(&to.name));
        (part.from, part.since) = (Some(name), since);
    }
    Ok(SendPlan {
        parts: Vec::from([part]),
        left_out: Vec::new(),
        compound: None,
        forms: state.forms,
        key,
        resume: ResumePlace {
            object: state.object,
            offset: state.offset,
        },
    })
}

fn path_of(name: &str) -> &str {
    name.split(['@', '#']).next().unwrap_or_default()
}

async fn bookmark_of(
    spa: &Spa,
    snapshot: &DatasetEntry,
    guid: u64,
) -> Result<(String, u64), Error> {
    let path = path_of(&snapshot.name);
    let head = spa.find_dataset(path).await?.dataset;
    let bookmarks = spa.bookmarks(&head).await?;
    let found = bookmarks.iter().find(|bookmark| bookmark.guid == guid);
    let found = found.ok_or(Error::NotFound)?;
    Ok((format!("{path}#{}", found.name), found.creation_txg))
}

/// Which snapshots have a part of their own.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Steps {
    Each,
    Last,
}

struct Planner<'a> {
    spa: &'a Spa,
    forms: BlockForms,
    parts: Vec<SendPart>,
    left_out: Vec<String>,
}

impl Planner<'_> {
    /// The parts of one data set.
    async fn parts_of(
        &self,
        path: &str,
        name: &str,
        from: SendFrom<'_>,
    ) -> Result<Vec<SendPart>, Error> {
        let to = self.spa.find_dataset(&format!("{path}@{name}")).await?;
        let from_name = match from {
            SendFrom::Nothing => return Ok(Vec::from([self.part(&to, None).await?])),
            SendFrom::One(from) | SendFrom::All(from) => from,
        };
        if from_name.contains('#') {
            let head = self.spa.find_dataset(path_of(from_name)).await?.dataset;
            let own = from_name.split('#').next_back().unwrap_or_default();
            let bookmarks = self.spa.bookmarks(&head).await?;
            let found = bookmarks.iter().find(|bookmark| bookmark.name == own);
            let found = found.ok_or(Error::NotFound)?;
            if found.creation_txg >= to.dataset.phys.creation_txg {
                return Err(Error::InvalidArgument);
            }
            let mut part = self.part(&to, None).await?;
            (part.since, part.from_guid) = (found.creation_txg, found.guid);
            part.from = Some(from_name.into());
            part.estimate = self.estimate(&to, found.creation_txg).await?;
            return Ok(Vec::from([part]));
        }
        let from_entry = self.spa.find_dataset(from_name).await?;
        let chain = self.chain(&to, &from_entry).await?;
        match from {
            SendFrom::All(_) => {
                let mut parts = Vec::new();
                for pair in chain.windows(2) {
                    parts.push(self.part(&pair[1], Some(&pair[0])).await?);
                }
                Ok(parts)
            }
            _ => Ok(Vec::from([self.part(&to, Some(&from_entry)).await?])),
        }
    }

    /// All snapshots from `from` to `to`, both included, oldest first.
    async fn chain(
        &self,
        to: &DatasetEntry,
        from: &DatasetEntry,
    ) -> Result<Vec<DatasetEntry>, Error> {
        let mut chain = Vec::from([to.clone()]);
        let mut at = to.dataset.clone();
        while at.object != from.dataset.object {
            if at.phys.previous_snapshot == 0 {
                return Err(Error::InvalidArgument);
            }
            let entry = self.entry_of(at.phys.previous_snapshot).await?;
            at = entry.dataset.clone();
            if at.phys.creation_txg < from.dataset.phys.creation_txg {
                return Err(Error::InvalidArgument);
            }
            chain.push(entry);
        }
        match chain.len() {
            1 => Err(Error::InvalidArgument),
            _ => {
                chain.reverse();
                Ok(chain)
            }
        }
    }

    async fn part(
        &self,
        to: &DatasetEntry,
        from: Option<&DatasetEntry>,
    ) -> Result<SendPart, Error> {
        let since = from.map_or(0, |from| from.dataset.phys.creation_txg);
        Ok(SendPart {
            snapshot: to.name.clone(),
            from: from.map(|from| from.name.clone()),
            estimate: self.estimate(to, since).await?,
            since,
            from_guid: from.map_or(0, |from| from.dataset.phys.guid),
            is_clone: from.is_some_and(|from| from.dataset.phys.dir != to.dataset.phys.dir),
        })
    }

    /// Bytes of the blocks that are new since a group.
    async fn estimate(&self, to: &DatasetEntry, since: u64) -> Result<u64, Error> {
        let phys = &to.dataset.phys;
        if since == 0 {
            return Ok(match self.forms.compressed {
                true => phys.compressed_bytes,
                false => phys.uncompressed_bytes,
            });
        }
        let objset = self.spa.open_objset(&to.dataset, None).await?;
        let sizes = objset.blocks_since(since).await?.into_iter();
        let data = sizes.filter(|pointer| pointer.level() == 0);
        Ok(data
            .map(|pointer| match self.forms.compressed {
                true => pointer.physical_size() as u64,
                false => pointer.logical_size() as u64,
            })
            .sum())
    }

    /// Plans a stream with properties, of one data set or of all below.
    async fn compound(
        &mut self,
        path: &str,
        name: &str,
        request: &SendRequest<'_>,
    ) -> Result<Plan, Error> {
        let from = match request.from {
            SendFrom::Nothing => None,
            SendFrom::One(from) | SendFrom::All(from) => from.split('@').next_back(),
        };
        let steps = match (request.scope, request.from) {
            (_, SendFrom::All(_)) | (SendScope::Replicate, SendFrom::Nothing) => Steps::Each,
            _ => Steps::Last,
        };
        let mut plan = Plan {
            from_snapshot: from.map(String::from),
            to_snapshot: Some(name.into()),
            recursion: match request.scope {
                SendScope::Replicate => Recursion::Recursive,
                _ => Recursion::Single,
            },
            datasets: BTreeMap::new(),
        };
        for head in self.heads(path, name, request.scope).await? {
            let snapshots = self.entries(&head).await?;
            let position = |wanted: &str| {
                let full = format!("{}@{wanted}", head.name);
                snapshots.iter().position(|entry| entry.name == full)
            };
            let Some(last) = position(name) else {
                self.left_out.push(format!("{}@{name}", head.name));
                continue;
            };
            let first = from.and_then(position).filter(|first| *first < last);
            if from.is_some() && first.is_none() && head.name == path {
                return Err(Error::NotFound);
            }
            let start = match (first, plan.recursion) {
                (Some(first), _) => first,
                (None, Recursion::Recursive) => 0,
                (None, Recursion::Single) => last,
            };
            let planned = self
                .describe(&head, &snapshots[start..=last], &plan)
                .await?;
            let base = match (first, planned.origin) {
                (Some(first), _) => Some(snapshots[first].clone()),
                (None, Some(_)) => Some(self.entry_of(head.dir.phys.origin).await?),
                (None, None) => None,
            };
            let after = first.map_or(start, |first| first + 1);
            self.add_parts(base, &snapshots[after..=last], steps)
                .await?;
            plan.datasets.insert(head.dataset.phys.guid, planned);
        }
        Ok(plan)
    }

    /// The snapshots of a head, oldest first.
    async fn entries(&self, head: &DatasetEntry) -> Result<Vec<DatasetEntry>, Error> {
        let snapshots = self.spa.snapshots(&head.dataset).await?.into_iter();
        Ok(snapshots
            .map(|(own, dataset)| DatasetEntry {
                name: format!("{}@{own}", head.name),
                dataset,
                dir: head.dir.clone(),
            })
            .collect())
    }

    /// A snapshot by its object.
    async fn entry_of(&self, object: u64) -> Result<DatasetEntry, Error> {
        let dataset = self.spa.dsl_dataset(object).await?;
        Ok(DatasetEntry {
            name: self.spa.dataset_name(&dataset).await?,
            dir: self.spa.dsl_dir(dataset.phys.dir).await?,
            dataset,
        })
    }

    /// The data sets of a stream; clones after what they are clones of.
    async fn heads(
        &self,
        path: &str,
        name: &str,
        scope: SendScope,
    ) -> Result<Vec<DatasetEntry>, Error> {
        self.spa.find_dataset(&format!("{path}@{name}")).await?;
        if scope != SendScope::Replicate {
            return Ok(Vec::from([self.spa.find_dataset(path).await?]));
        }
        let all = self.spa.list_datasets(path).await?;
        let mut waiting: Vec<DatasetEntry> = all
            .into_iter()
            .filter(|entry| !entry.dataset.is_snapshot())
            .collect();
        let mut done = BTreeSet::new();
        let mut ordered = Vec::new();
        while !waiting.is_empty() {
            let open: BTreeSet<u64> = waiting.iter().map(|entry| entry.dir.object).collect();
            let mut later = Vec::new();
            for entry in waiting {
                let origin = match entry.dir.phys.origin {
                    0 => 0,
                    origin => self.spa.dsl_dataset(origin).await?.phys.dir,
                };
                if open.contains(&origin) && !done.contains(&origin) {
                    later.push(entry);
                } else {
                    done.insert(entry.dir.object);
                    ordered.push(entry);
                }
            }
            waiting = later;
        }
        Ok(ordered)
    }

    async fn describe(
        &self,
        head: &DatasetEntry,
        snapshots: &[DatasetEntry],
        plan: &Plan,
    ) -> Result<PlannedDataset, Error> {
        let mut planned = PlannedDataset {
            name: head.name.clone(),
            properties: self.own_properties(head).await?,
            ..PlannedDataset::default()
        };
        let above = head.name.rsplit_once('/').map(|(above, _)| above);
        let parent = plan
            .datasets
            .values()
            .find(|other| above == Some(&other.name));
        let wanted = plan.from_snapshot.as_ref().or(plan.to_snapshot.as_ref());
        planned.parent_from = parent
            .zip(wanted)
            .and_then(|(parent, name)| parent.snapshots.get(name).copied())
            .unwrap_or(0);
        for snapshot in snapshots {
            let own = snapshot.name.split('@').next_back().unwrap_or_default();
            let guid = snapshot.dataset.phys.guid;
            planned.snapshots.insert(own.into(), guid);
            let properties = self.own_properties(snapshot).await?;
            planned.snapshot_properties.insert(own.into(), properties);
        }
        if head.dir.phys.origin != 0 {
            let origin = self.spa.dsl_dataset(head.dir.phys.origin).await?.phys.guid;
            planned.origin = plan.of_snapshot(origin).map(|_| origin);
        }
        Ok(planned)
    }

    /// Properties that are set at a data set or snapshot itself.
    async fn own_properties(&self, entry: &DatasetEntry) -> Result<PropertyList, Error> {
        let stored = self.spa.stored_properties(entry).await?;
        let own = stored
            .into_iter()
            .filter(|(_, (_, source))| matches!(source, Source::Local | Source::Received));
        Ok(own
            .filter_map(|(name, (value, _))| {
                let value = match value.u64() {
                    Some(number) => NewValue::Number(number),
                    None => NewValue::Text(value.string()?),
                };
                Some((name, value))
            })
            .collect())
    }

    /// Adds the parts of snapshots of one data set, oldest first; the first starts from `base`.
    async fn add_parts(
        &mut self,
        base: Option<DatasetEntry>,
        snapshots: &[DatasetEntry],
        steps: Steps,
    ) -> Result<(), Error> {
        let mut before = base;
        for (index, snapshot) in snapshots.iter().enumerate() {
            if steps == Steps::Each || index + 1 == snapshots.len() {
                self.parts.push(self.part(snapshot, before.as_ref()).await?);
                before = Some(snapshot.clone());
            }
        }
        Ok(())
    }
}
