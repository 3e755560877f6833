//! Finding pools on devices and opening them.
//!
//! The labels say which devices belong together and give a first vdev tree, good enough to read the MOS; the MOS then
//! has the configuration that counts. Nothing is written here.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::{ImportError, Spa, feature, mos};
use crate::block_device::{Access, BlockDevice};
use crate::dmu::Objset;
use crate::error::{Error, Structure};
use crate::nvlist::{Nvlist, Value};
use crate::uberblock::Uberblock;
use crate::vdev::label::{DeviceLabels, read_labels};
use crate::vdev::{DeviceSet, VdevConfig, VdevTree};
use crate::zap::ZapEntry;
use crate::zio::Zio;

/// The version that feature flags came with, the only one after 28.
const VERSION_FEATURES: u64 = 5000;
/// Older pools are read too; nothing on disk that this reads differs since.
const VERSION_OLDEST: u64 = 28;
/// Top-level vdevs at most; the format has 24 bits, OpenZFS far fewer in use.
const MAX_TOPS: u64 = 4096;

/// The state in a label.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolState {
    /// In use, or not exported by its last user.
    Active,
    /// Exported.
    Exported,
    /// Destroyed.
    Destroyed,
}

/// A device with what its labels say.
type Member = (Rc<dyn BlockDevice>, DeviceLabels);

/// A pool that was found on devices.
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Its guid.
    pub guid: u64,
    /// What its last user did with it.
    pub state: PoolState,
    /// Name of the host that used it last, when the labels tell.
    pub hostname: Option<String>,
    config: Nvlist,
    members: Vec<Member>,
}

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct ImportOptions {
    /// Read-only or for writing.
    pub access: Access,
    /// Bytes the ARC may hold.
    pub arc_limit: usize,
    /// Seconds since 1970: times that replaying a log needs.
    pub now: u64,
}

/// Reads the labels of all devices and groups them into pools.
pub async fn scan(devices: Vec<Rc<dyn BlockDevice>>) -> Vec<Candidate> {
    let mut pools: BTreeMap<u64, Vec<Member>> = BTreeMap::new();
    for device in devices {
        let labels = read_labels(device.as_ref()).await;
        let guid = labels.config().and_then(|config| {
            // Spares and cache devices have labels without a vdev tree; they hold nothing of the pool.
            config
                .list("vdev_tree")
                .and_then(|_| config.u64("pool_guid"))
        });
        if let Some(guid) = guid {
            pools.entry(guid).or_default().push((device, labels));
        }
    }
    pools
        .into_iter()
        .filter_map(|(guid, members)| candidate(guid, members))
        .collect()
}

fn candidate(guid: u64, members: Vec<Member>) -> Option<Candidate> {
    let configs = members.iter().filter_map(|(_, labels)| labels.config());
    let config = configs
        .max_by_key(|config| config.u64("txg").unwrap_or(0))?
        .clone();
    let state = match config.u64("state") {
        Some(1) => PoolState::Exported,
        Some(2) => PoolState::Destroyed,
        _ => PoolState::Active,
    };
    Some(Candidate {
        name: config.string("name")?.into(),
        guid,
        state,
        hostname: config.string("hostname").map(String::from),
        config,
        members,
    })
}

impl Candidate {
    /// The latest uberblock of all labels.
    fn uberblock(&self) -> Result<Uberblock, ImportError> {
        let all = self
            .members
            .iter()
            .flat_map(|(_, labels)| &labels.uberblocks);
        let mut best: Option<Uberblock> = None;
        let mut foreign = None;
        for found in all {
            match found {
                Ok(uberblock) if best.is_none_or(|best| uberblock.rank() > best.rank()) => {
                    best = Some(*uberblock)
                }
                Ok(_) => {}
                Err(error) => foreign = Some(*error),
            }
        }
        best.ok_or(foreign.map_or(ImportError::NoUberblock, ImportError::Pool))
    }

    /// Devices by the guid of the leaf that their label says they are.
    fn devices(&self) -> DeviceSet {
        let found = self
            .members
            .iter()
            .filter_map(|(device, labels)| Some((labels.config()?.u64("guid")?, device.clone())));
        found.collect()
    }

    /// The vdev tree that the labels describe: each label knows its own top-level vdev.
    fn label_tree(&self) -> Result<VdevConfig, Error> {
        let corrupt = Error::Corrupt(Structure::Label);
        let count = self
            .config
            .u64("vdev_children")
            .filter(|&count| count <= MAX_TOPS)
            .ok_or(corrupt)?;
        let mut tops: BTreeMap<u64, &Nvlist> = BTreeMap::new();
        let mut txgs: BTreeMap<u64, u64> = BTreeMap::new();
        for (_, labels) in &self.members {
            let Some(config) = labels.config() else {
                continue;
            };
            let Some(tree) = config.list("vdev_tree") else {
                continue;
            };
            let (Some(id), txg) = (tree.u64("id"), config.u64("txg").unwrap_or(0)) else {
                continue;
            };
            if txgs.get(&id).is_none_or(|&known| txg > known) {
                tops.insert(id, tree);
                txgs.insert(id, txg);
            }
        }
        let children = (0..count).map(|id| {
            tops.get(&id)
                .map_or_else(|| missing(id), |tree| (*tree).clone())
        });
        let mut root = Nvlist::new();
        root.set_string("type", "root");
        root.set_u64("guid", self.guid);
        root.set("children", Value::ListArray(children.collect()));
        VdevConfig::decode(&root)
    }
}

fn missing(id: u64) -> Nvlist {
    let mut vdev = Nvlist::new();
    vdev.set_string("type", "missing");
    vdev.set_u64("id", id);
    vdev.set_u64("guid", 0);
    vdev
}

/// Opens a pool.
///
/// # Errors
/// Says what is missing or not understood. A refused import changed nothing.
pub async fn import(candidate: &Candidate, options: ImportOptions) -> Result<Spa, ImportError> {
    check_version(&candidate.config)?;
    check_label_features(&candidate.config)?;
    let uberblock = candidate.uberblock()?;
    let devices = candidate.devices();
    let first = build_zio(&candidate.label_tree()?, &devices, options)?;
    let (directory, config) = match read_configuration(&first, &uberblock, options.access).await {
        Ok(read) => read,
        // What cannot be read with vdevs missing is better explained by the vdevs.
        Err(ImportError::Pool(error)) => {
            return Err(check_tops(first.vdevs())
                .err()
                .unwrap_or(ImportError::Pool(error)));
        }
        Err(error) => return Err(error),
    };
    let tree = config
        .list("vdev_tree")
        .ok_or(Error::Corrupt(Structure::VdevTree))?;
    let root = VdevConfig::decode(tree)?;
    if root.guid_sum() != uberblock.guid_sum || root.guid != candidate.guid {
        return Err(ImportError::WrongDevices);
    }
    check_devices(&devices, options.access)?;
    let zio = build_zio(&root, &devices, options)?;
    check_tops(zio.vdevs())?;
    let mos = Rc::new(Objset::open(zio, 0, &uberblock.rootbp, None).await?);
    if let Some(salt) = mos::salt(&directory) {
        mos.zio().set_salt(salt);
    }
    mos::load_mappings(&mos, mos.zio().vdevs()).await?;
    let directory = directory
        .iter()
        .filter_map(|entry| Some((entry.text(), entry.value.u64()?)))
        .collect();
    let spa = Spa {
        name: candidate.name.clone(),
        access: options.access,
        config: RefCell::new(config),
        root: RefCell::new(root),
        uberblock: Cell::new(uberblock),
        zio: mos.zio().clone(),
        mos,
        directory: RefCell::new(directory),
        state: Cell::default(),
        free_limit: Cell::new(super::FREE_LIMIT),
        block_forms: Cell::default(),
        flush_extent: Cell::default(),
        datasets: RefCell::default(),
    };
    if options.access == Access::ReadWrite && spa.check_writable().await.is_ok() {
        spa.load_allocator().await?;
    }
    spa.replay_logs(options.now).await?;
    if options.access == Access::ReadWrite && spa.check_writable().await.is_ok() {
        spa.drop_lost_receives(options.now).await?;
    }
    Ok(spa)
}

fn build_zio(
    root: &VdevConfig,
    devices: &DeviceSet,
    options: ImportOptions,
) -> Result<Rc<Zio>, Error> {
    let tree = VdevTree::build(root, devices)?;
    Ok(Rc::new(Zio::new(tree, options.arc_limit, options.access)))
}

/// The MOS directory and the configuration, read with the vdev tree of the labels.
async fn read_configuration(
    zio: &Rc<Zio>,
    uberblock: &Uberblock,
    access: Access,
) -> Result<(Vec<ZapEntry>, Nvlist), ImportError> {
    let mos = Objset::open(zio.clone(), 0, &uberblock.rootbp, None).await?;
    let directory = mos::directory(&mos).await?;
    check_features(&mos, &directory, access).await?;
    let object = number(&directory, "config").ok_or(Error::Corrupt(Structure::Objset))?;
    let config = mos::config(&mos, object).await?;
    Ok((directory, config))
}

fn check_version(config: &Nvlist) -> Result<(), ImportError> {
    match config.u64("version") {
        Some(VERSION_OLDEST | VERSION_FEATURES) => Ok(()),
        version => Err(ImportError::UnsupportedVersion(version.unwrap_or(0))),
    }
}

/// Features that the MOS itself needs stand in the labels.
fn check_label_features(config: &Nvlist) -> Result<(), ImportError> {
    let Some(features) = config.list("features_for_read") else {
        return Ok(());
    };
    let guids = features.iter().map(|(guid, _)| guid);
    let unknown: Vec<String> = guids
        .filter(|guid| !feature::is_supported(guid, Access::ReadOnly))
        .map(String::from)
        .collect();
    if unknown.is_empty() {
        Ok(())
    } else {
        Err(ImportError::UnsupportedFeatures(unknown))
    }
}

async fn check_features(
    mos: &Objset,
    directory: &[ZapEntry],
    access: Access,
) -> Result<(), ImportError> {
    let active = async |name: &str, access: Access| -> Result<Vec<String>, Error> {
        let counts = mos::features(mos, number(directory, name).unwrap_or(0)).await?;
        let active = counts
            .into_iter()
            .filter(|(_, count)| *count > 0)
            .map(|(guid, _)| guid);
        Ok(active
            .filter(|guid| !feature::is_supported(guid, access))
            .collect())
    };
    let unreadable = active("features_for_read", Access::ReadOnly).await?;
    if !unreadable.is_empty() {
        return Err(ImportError::UnsupportedFeatures(unreadable));
    }
    if access == Access::ReadWrite {
        let unwritable = active("features_for_write", access).await?;
        if !unwritable.is_empty() {
            return Err(ImportError::ReadOnlyFeatures(unwritable));
        }
    }
    Ok(())
}

fn check_devices(devices: &DeviceSet, access: Access) -> Result<(), ImportError> {
    let read_only = devices
        .values()
        .any(|device| device.access() == Access::ReadOnly);
    if access == Access::ReadWrite && read_only {
        Err(ImportError::ReadOnlyDevices)
    } else {
        Ok(())
    }
}

fn check_tops(tree: &VdevTree) -> Result<(), ImportError> {
    let unreadable = tree.tops().iter().filter(|top| !top.is_readable());
    let numbers: Vec<u64> = unreadable.map(|top| top.config.id).collect();
    if numbers.is_empty() {
        Ok(())
    } else {
        Err(ImportError::MissingVdevs(numbers))
    }
}

fn number(directory: &[ZapEntry], name: &str) -> Option<u64> {
    directory
        .iter()
        .find(|entry| entry.name == name.as_bytes())?
        .value
        .u64()
}
