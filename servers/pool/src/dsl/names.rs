//! Names of data sets: from a path to objects, and back.

use alloc::boxed::Box;
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{DslDataset, DslDir};
use crate::dmu::ObjsetType;
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::{Zap, entries_or_none};

/// Nesting of directories at most; OpenZFS allows 50.
const MAX_NESTING: usize = 64;
/// First character of directories that the pool keeps for itself, and of those that are being received.
const INTERNAL: char = '$';
const HIDDEN: [char; 2] = [INTERNAL, '%'];

/// What a data set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatasetKind {
    /// A file system.
    Filesystem,
    /// A volume.
    Volume,
    /// A snapshot of either.
    Snapshot,
}

impl DatasetKind {
    /// The value of the `type` property.
    pub fn name(self) -> &'static str {
        match self {
            DatasetKind::Filesystem => "filesystem",
            DatasetKind::Volume => "volume",
            DatasetKind::Snapshot => "snapshot",
        }
    }
}

/// A data set with its place in the name tree.
#[derive(Clone, Debug)]
pub struct DatasetEntry {
    /// Full name, with `@snapshot` for a snapshot.
    pub name: String,
    /// The data set.
    pub dataset: DslDataset,
    /// Its directory.
    pub dir: DslDir,
}

impl Spa {
    /// The directory at the root of the name tree, which has the pool's name.
    pub async fn root_dir(&self) -> Result<DslDir, Error> {
        let object = self
            .directory("root_dataset")
            .ok_or(Error::Corrupt(Structure::Dataset))?;
        self.dsl_dir(object).await
    }

    /// Finds a directory by its name, which starts with the pool's.
    pub async fn find_dir(&self, name: &str) -> Result<DslDir, Error> {
        let mut components = name.split('/');
        if components.next() != Some(self.name()) {
            return Err(Error::NotFound);
        }
        let mut dir = self.root_dir().await?;
        for component in components {
            if component.is_empty() || component.starts_with(INTERNAL) {
                return Err(Error::NotFound);
            }
            let children = Zap::open(self.mos(), dir.phys.child_dirs).await?;
            dir = self.dsl_dir(children.lookup_u64(component).await?).await?;
        }
        Ok(dir)
    }

    /// Finds a file system, volume or snapshot (`name@snapshot`).
    pub async fn find_dataset(&self, name: &str) -> Result<DatasetEntry, Error> {
        let (path, snapshot) = match name.split_once('@') {
            Some((path, snapshot)) => (path, Some(snapshot)),
            None => (name, None),
        };
        let dir = self.find_dir(path).await?;
        let mut dataset = self.dsl_dataset(dir.phys.head_dataset).await?;
        if let Some(snapshot) = snapshot {
            let names = Zap::open(self.mos(), dataset.phys.snapshot_names).await?;
            dataset = self.dsl_dataset(names.lookup_u64(snapshot).await?).await?;
        }
        Ok(DatasetEntry {
            name: name.into(),
            dataset,
            dir,
        })
    }

    /// Child directories with their names, in the order of their names.
    pub async fn child_dirs(&self, dir: &DslDir) -> Result<Vec<(String, DslDir)>, Error> {
        let mut names: Vec<(String, u64)> = Vec::new();
        for entry in entries_or_none(self.mos(), dir.phys.child_dirs).await? {
            let object = entry.value.u64().ok_or(Error::Corrupt(Structure::Zap))?;
            if !entry.text().starts_with(HIDDEN) {
                names.push((entry.text(), object));
            }
        }
        names.sort();
        let mut children = Vec::with_capacity(names.len());
        for (name, object) in names {
            children.push((name, self.dsl_dir(object).await?));
        }
        Ok(children)
    }

    /// Snapshots of a head, oldest first.
    pub async fn snapshots(&self, head: &DslDataset) -> Result<Vec<(String, DslDataset)>, Error> {
        let mut snapshots = Vec::new();
        for entry in entries_or_none(self.mos(), head.phys.snapshot_names).await? {
            let object = entry.value.u64().ok_or(Error::Corrupt(Structure::Zap))?;
            snapshots.push((entry.text(), self.dsl_dataset(object).await?));
        }
        snapshots.sort_by_key(|(_, snapshot)| snapshot.phys.creation_txg);
        Ok(snapshots)
    }

    /// All file systems, volumes and snapshots at and below a name, parents first.
    pub async fn list_datasets(&self, name: &str) -> Result<Vec<DatasetEntry>, Error> {
        let dir = self.find_dir(name).await?;
        let mut all = Vec::new();
        self.list_below(name.into(), dir, 0, &mut all).await?;
        Ok(all)
    }

    fn list_below<'a>(
        &'a self,
        name: String,
        dir: DslDir,
        depth: usize,
        all: &'a mut Vec<DatasetEntry>,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
        Box::pin(async move {
            if depth > MAX_NESTING {
                return Err(Error::Corrupt(Structure::Dataset));
            }
            if dir.phys.head_dataset != 0 {
                let head = self.dsl_dataset(dir.phys.head_dataset).await?;
                if head.is_inconsistent() {
                    return Ok(());
                }
                all.push(DatasetEntry {
                    name: name.clone(),
                    dataset: head.clone(),
                    dir: dir.clone(),
                });
                for (snapshot, dataset) in self.snapshots(&head).await? {
                    all.push(DatasetEntry {
                        name: format!("{name}@{snapshot}"),
                        dataset,
                        dir: dir.clone(),
                    });
                }
            }
            for (child, child_dir) in self.child_dirs(&dir).await? {
                self.list_below(format!("{name}/{child}"), child_dir, depth + 1, all)
                    .await?;
            }
            Ok(())
        })
    }

    /// The full name of a directory.
    pub async fn dir_name(&self, dir: &DslDir) -> Result<String, Error> {
        let mut components = Vec::new();
        let mut dir = dir.clone();
        while dir.phys.parent != 0 {
            if components.len() > MAX_NESTING {
                return Err(Error::Corrupt(Structure::Dataset));
            }
            let parent = self.dsl_dir(dir.phys.parent).await?;
            let siblings = Zap::open(self.mos(), parent.phys.child_dirs)
                .await?
                .numbers()
                .await?;
            let own = siblings
                .into_iter()
                .find(|(_, object)| *object == dir.object);
            components.push(own.ok_or(Error::Corrupt(Structure::Dataset))?.0);
            dir = parent;
        }
        components.push(self.name().to_string());
        components.reverse();
        Ok(components.join("/"))
    }

    /// The full name of a data set.
    pub async fn dataset_name(&self, dataset: &DslDataset) -> Result<String, Error> {
        let dir = self.dsl_dir(dataset.phys.dir).await?;
        let name = self.dir_name(&dir).await?;
        if !dataset.is_snapshot() {
            return Ok(name);
        }
        let head = self.dsl_dataset(dir.phys.head_dataset).await?;
        let names = Zap::open(self.mos(), head.phys.snapshot_names)
            .await?
            .numbers()
            .await?;
        let own = names
            .into_iter()
            .find(|(_, object)| *object == dataset.object);
        let (snapshot, _) = own.ok_or(Error::Corrupt(Structure::Dataset))?;
        Ok(format!("{name}@{snapshot}"))
    }

    /// Whether a snapshot is the empty one that everything starts from that is no clone.
    pub(super) async fn directory_of_origin(&self, snapshot: &DslDataset) -> Result<bool, Error> {
        let children = Zap::open(self.mos(), self.root_dir().await?.phys.child_dirs).await?;
        let origin = children
            .lookup(b"$ORIGIN")
            .await?
            .and_then(|value| value.u64());
        Ok(origin == Some(snapshot.phys.dir))
    }

    /// What a data set is. Opens its object set.
    pub async fn dataset_kind(&self, dataset: &DslDataset) -> Result<DatasetKind, Error> {
        if dataset.is_snapshot() {
            return Ok(DatasetKind::Snapshot);
        }
        match self.open_objset(dataset, None).await?.kind() {
            ObjsetType::Volume => Ok(DatasetKind::Volume),
            _ => Ok(DatasetKind::Filesystem),
        }
    }
}
