//! Making a pool: the first transaction group on empty devices.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::string::String;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::feature::Compatibility;
use super::mos::{DIRECTORY_OBJECT, SALT};
use super::{CompatibilitySet, Spa};
use crate::blkptr::BlockPointer;
use crate::block_device::{Access, BlockDevice};
use crate::dmu::{NewObject, Objset, ObjsetType};
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::metaslab::{Allocator, TopSpace};
use crate::nvlist::{Nvlist, Value};
use crate::uberblock::Uberblock;
use crate::vdev::config::Purpose;
use crate::vdev::label::LABEL_SIZE;
use crate::vdev::{DeviceSet, LABEL_END_SIZE, LABEL_START_SIZE, VdevConfig, VdevTree};
use crate::zap::{ZapValue, update};
use crate::zio::Zio;

/// Version of pools with feature flags, and of their software.
const VERSION: u64 = 5000;
/// The transaction group before the first.
const START_TXG: u64 = 3;
/// Metaslabs that a vdev is divided into, about, and the smallest size of one: it must hold the largest block.
const METASLABS: u64 = 200;
const METASLAB_SHIFT_MIN: u32 = 24;
/// Size of the configuration's object's blocks.
const CONFIG_BLOCK: usize = 16 << 10;

/// How a top-level vdev is made of devices.
pub enum NewVdev {
    /// One device, with the path that its label shall say.
    Disk(String, Rc<dyn BlockDevice>),
    /// Each holds everything.
    Mirror(Vec<NewVdev>),
    /// Striped with this many parity columns.
    Raidz(usize, Vec<NewVdev>),
}

/// What a new pool is to be.
pub struct NewPool {
    /// Its name.
    pub name: String,
    /// Its top-level vdevs.
    pub vdevs: Vec<NewVdev>,
    /// Top-level vdevs for the intent log alone.
    pub logs: Vec<NewVdev>,
    /// Its features.
    pub features: CompatibilitySet,
    /// log2 of the sector size, 9 to 16.
    pub ashift: u32,
    /// Seconds since 1970.
    pub now: u64,
    /// Bytes the ARC may hold.
    pub arc_limit: usize,
}

/// Makes a pool and leaves it imported. `random` gives guids and salts.
///
/// # Errors
/// `InvalidArgument` when a device is too small or the arrangement makes no sense.
pub async fn create(new: NewPool, random: &mut dyn FnMut() -> u64) -> Result<Spa, Error> {
    if !(9..=16).contains(&new.ashift) || new.vdevs.is_empty() {
        return Err(Error::InvalidArgument);
    }
    let mut devices = DeviceSet::new();
    let mut tops = Vec::new();
    let data = new.vdevs.iter().map(|vdev| (vdev, Purpose::Normal));
    let logs = new.logs.iter().map(|vdev| (vdev, Purpose::Log));
    for (id, (vdev, purpose)) in data.chain(logs).enumerate() {
        let mut top = describe(vdev, id as u64, random, &mut devices)?;
        describe_top(&mut top, vdev, new.ashift, purpose)?;
        top.set_u64("create_txg", START_TXG + 1);
        tops.push(top);
    }
    let mut root = Nvlist::new();
    root.set_string("type", "root");
    root.set_u64("id", 0);
    root.set_u64("guid", random());
    root.set_u64("create_txg", START_TXG + 1);
    root.set("children", Value::ListArray(tops));
    let root = VdevConfig::decode(&root)?;
    let tree = VdevTree::build(&root, &devices)?;
    let mut spaces = Vec::new();
    for top in tree.tops() {
        spaces.extend(TopSpace::new(top)?);
    }
    let zio = Rc::new(Zio::new(tree, new.arc_limit, Access::ReadWrite));
    zio.set_allocator(Allocator::new(spaces));
    let mos = Rc::new(Objset::create(zio.clone(), 0, ObjsetType::Meta));
    let uberblock = Uberblock {
        version: VERSION,
        txg: START_TXG,
        guid_sum: root.guid_sum(),
        timestamp: new.now,
        rootbp: BlockPointer::HOLE,
        software_version: VERSION,
        mmp: [0; 3],
        checkpoint_txg: 0,
        raidz_reflow: 0,
    };
    let spa = Spa {
        config: RefCell::new(config(&new.name, &root)),
        name: new.name,
        access: Access::ReadWrite,
        root: RefCell::new(root),
        uberblock: Cell::new(uberblock),
        zio,
        mos,
        directory: RefCell::new(BTreeMap::new()),
        state: Cell::default(),
        free_limit: Cell::new(super::FREE_LIMIT),
        block_forms: Cell::default(),
        flush_extent: Cell::default(),
        datasets: RefCell::default(),
    };
    populate(&spa, new.features, new.now, random).await?;
    spa.clear_labels().await?;
    spa.sync_with_labels(new.now).await?;
    Ok(spa)
}

/// The configuration without the vdev tree's details that come later.
fn config(name: &str, root: &VdevConfig) -> Nvlist {
    let mut config = Nvlist::new();
    config.set_u64("version", VERSION);
    config.set_string("name", name);
    config.set_u64("state", 0);
    config.set_u64("txg", START_TXG + 1);
    config.set_u64("pool_guid", root.guid);
    config.set_u64("errata", 0);
    config.set_u64("vdev_children", root.children.len() as u64);
    config.set("vdev_tree", Value::List(root.encode()));
    let mut features = Nvlist::new();
    for guid in ["com.delphix:hole_birth", "com.delphix:embedded_data"] {
        features.set(guid, Value::Boolean);
    }
    config.set("features_for_read", Value::List(features));
    config
}

pub(super) fn describe(
    vdev: &NewVdev,
    id: u64,
    random: &mut dyn FnMut() -> u64,
    devices: &mut DeviceSet,
) -> Result<Nvlist, Error> {
    let guid = random();
    let mut list = Nvlist::new();
    let (kind, children) = match vdev {
        NewVdev::Disk(path, device) => {
            devices.insert(guid, device.clone());
            list.set_string("path", path);
            ("file", &[][..])
        }
        NewVdev::Mirror(children) => ("mirror", children.as_slice()),
        NewVdev::Raidz(parity, children) => {
            list.set_u64("nparity", *parity as u64);
            ("raidz", children.as_slice())
        }
    };
    list.set_string("type", kind);
    list.set_u64("id", id);
    list.set_u64("guid", guid);
    if !children.is_empty() {
        let mut lists = Vec::new();
        for (index, child) in children.iter().enumerate() {
            lists.push(describe(child, index as u64, random, devices)?);
        }
        list.set("children", Value::ListArray(lists));
    }
    Ok(list)
}

/// Bytes of the data area of a vdev.
fn data_size(vdev: &NewVdev) -> u64 {
    let smallest = |children: &[NewVdev]| children.iter().map(data_size).min().unwrap_or(0);
    match vdev {
        NewVdev::Disk(_, device) => {
            let usable = device.length() - device.length() % LABEL_SIZE;
            usable.saturating_sub(LABEL_START_SIZE + LABEL_END_SIZE)
        }
        NewVdev::Mirror(children) => smallest(children),
        NewVdev::Raidz(_, children) => smallest(children) * children.len() as u64,
    }
}

pub(super) fn describe_top(
    list: &mut Nvlist,
    vdev: &NewVdev,
    ashift: u32,
    purpose: Purpose,
) -> Result<(), Error> {
    let size = data_size(vdev);
    let shift = (size / METASLABS)
        .checked_ilog2()
        .unwrap_or(0)
        .max(METASLAB_SHIFT_MIN);
    if size >> shift == 0 {
        return Err(Error::InvalidArgument);
    }
    list.set_u64("metaslab_array", 0);
    list.set_u64("metaslab_shift", u64::from(shift));
    list.set_u64("ashift", u64::from(ashift));
    list.set_u64("asize", size);
    list.set_u64("is_log", u64::from(purpose == Purpose::Log));
    Ok(())
}

/// The first objects of the MOS.
async fn populate(
    spa: &Spa,
    features: CompatibilitySet,
    now: u64,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Error> {
    let mos = spa.mos();
    update::create(mos, ObjectType::OBJECT_DIRECTORY, random()).await?;
    populate_features(spa, features, random).await?;
    let config = NewObject {
        object_type: ObjectType::PACKED_NVLIST,
        block_size: CONFIG_BLOCK,
        bonus_type: ObjectType::PACKED_NVLIST_SIZE,
        bonus: alloc::vec![0; 8],
    };
    spa.set_directory("config", mos.allocate(config).await?)
        .await?;
    spa.set_directory("creation_version", VERSION).await?;
    spa.set_directory("deflate", 1).await?;
    let mut salt = [0; 32];
    for word in salt.as_chunks_mut::<8>().0 {
        *word = random().to_le_bytes();
    }
    let value = ZapValue {
        integer_size: 1,
        bytes: salt.into(),
    };
    update::set(mos, DIRECTORY_OBJECT, SALT.as_bytes(), &value).await?;
    spa.zio().set_salt(salt);
    for id in 0..spa.zio().vdevs().tops().len() {
        spa.create_metaslab_array(id).await?;
    }
    spa.create_vdev_tables(random).await?;
    spa.create_name_tree(START_TXG + 1, now, random).await
}

/// Features of a new pool, with how often each is in use.
async fn populate_features(
    spa: &Spa,
    features: CompatibilitySet,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Error> {
    let mos = spa.mos();
    let mut objects = [0; 2];
    for (slot, name) in objects
        .iter_mut()
        .zip(["features_for_read", "features_for_write"])
    {
        *slot = update::create(mos, ObjectType::ZAP_METADATA, random()).await?;
        spa.set_directory(name, *slot).await?;
    }
    for name in ["feature_descriptions", "feature_enabled_txg"] {
        let object = update::create(mos, ObjectType::ZAP_METADATA, random()).await?;
        spa.set_directory(name, object).await?;
    }
    let enabled = spa.directory("feature_enabled_txg").unwrap_or(0);
    for (feature, count) in features.features() {
        let [read, write] = objects;
        let object = if feature.compatibility == Compatibility::ReadOnly {
            write
        } else {
            read
        };
        update::update(mos, object, feature.guid.as_bytes(), count).await?;
        update::update(mos, enabled, feature.guid.as_bytes(), START_TXG + 1).await?;
        if feature.name == "log_spacemap" {
            let logs = update::create(mos, ObjectType::ZAP_METADATA, random()).await?;
            spa.set_directory(crate::space_map::LOGS, logs).await?;
        }
    }
    Ok(())
}
