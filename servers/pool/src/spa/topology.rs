//! Devices that come, go, rest and take the place of others.
//!
//! A change is planned on the pool as it is; adopting the plan gives the pool anew over the changed vdev tree and commits it. What a new
//! device lacks stands in its dirty time log until a resilver is finished.

use alloc::rc::Rc;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

use super::missed::find_mut;
use super::{Spa, mos};
use crate::block_device::BlockDevice;
use crate::dmu::Objset;
use crate::error::Error;
use crate::nvlist::{Nvlist, Value};
use crate::vdev::config::{MISSED_GROUPS, VdevConfig, VdevType};
use crate::vdev::{DeviceSet, LABEL_END_SIZE, LABEL_START_SIZE, VdevKind, VdevTree};
use crate::zio::Zio;

/// Pairs that belong to whatever stands at the top.
const TOP_PAIRS: [&str; 8] = [
    "metaslab_array",
    "metaslab_shift",
    "ashift",
    "asize",
    "is_log",
    "alloc_bias",
    "non_allocating",
    "com.delphix:vdev_zap_top",
];

/// A device that joins a pool.
pub struct NewLeaf {
    /// What its label shall say.
    pub path: String,
    /// The device.
    pub device: Rc<dyn BlockDevice>,
}

/// How a device joins another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Join {
    /// As another side of a mirror.
    Mirror,
    /// To take its place when all is copied.
    Replacing,
}

/// Why a change of the vdevs is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TopologyError {
    /// No device of the pool has the name.
    NoSuchDevice,
    /// The pool would lose data without it.
    NoReplicas,
    /// The device is too small.
    TooSmall,
    /// Only devices in mirrors, or alone, can do that.
    NotMirror,
    /// Preparing it failed.
    Pool(Error),
}

impl From<Error> for TopologyError {
    fn from(error: Error) -> Self {
        TopologyError::Pool(error)
    }
}

/// A planned change.
pub struct Topology {
    pub(super) root: VdevConfig,
    pub(super) devices: DeviceSet,
    /// Devices whose labels are cleared before, because they join, and after, because they leave.
    pub(super) joining: Vec<Rc<dyn BlockDevice>>,
    leaving: Vec<Rc<dyn BlockDevice>>,
}

impl Spa {
    /// The guid of a leaf by its path or guid.
    pub(super) fn leaf_guid(&self, name: &str) -> Result<u64, TopologyError> {
        let leaves = self.zio().vdevs().leaves();
        let found = leaves.into_iter().find(|leaf| {
            leaf.config.path.as_deref() == Some(name) || leaf.config.guid.to_string() == name
        });
        found
            .map(|leaf| leaf.config.guid)
            .ok_or(TopologyError::NoSuchDevice)
    }

    /// A plan that changes nothing yet.
    pub(super) fn same_topology(&self) -> Topology {
        let leaves = self.zio().vdevs().leaves();
        let devices = leaves.into_iter().filter_map(|leaf| match &leaf.kind {
            VdevKind::Leaf(held) => Some((leaf.config.guid, held.held()?)),
            _ => None,
        });
        Topology {
            root: self.root.borrow().clone(),
            devices: devices.collect(),
            joining: Vec::new(),
            leaving: Vec::new(),
        }
    }

    /// Refuses a tree in which a vdev has no device left that has everything.
    fn check_topology(topology: &Topology) -> Result<(), TopologyError> {
        let tree = VdevTree::build(&topology.root, &topology.devices)?;
        let usable = tree.tops().iter().all(|top| {
            top.is_readable() || matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_))
        });
        let fresh = tree.tops().iter().all(|top| {
            let leaves = top.leaves();
            leaves.is_empty()
                || leaves
                    .iter()
                    .any(|leaf| leaf.is_readable() && !leaf.is_stale())
        });
        match usable && fresh {
            true => Ok(()),
            false => Err(TopologyError::NoReplicas),
        }
    }

    /// Plans to let a device rest: `zpool offline`.
    ///
    /// # Errors
    /// `NoReplicas` when the others do not have everything.
    pub fn plan_offline(&self, name: &str) -> Result<Topology, TopologyError> {
        self.plan_mark(name, |leaf| leaf.set_u64("offline", 1))
    }

    /// Plans to use a device again: `zpool online`. A resilver gives it what it missed.
    ///
    /// # Errors
    /// `NoSuchDevice`.
    pub fn plan_online(&self, name: &str) -> Result<Topology, TopologyError> {
        self.plan_mark(name, |leaf| {
            leaf.remove("offline");
        })
    }

    fn plan_mark(&self, name: &str, mark: impl Fn(&mut Nvlist)) -> Result<Topology, TopologyError> {
        let guid = self.leaf_guid(name)?;
        let mut topology = self.same_topology();
        if let Some(leaf) = find_mut(&mut topology.root, guid) {
            mark(&mut leaf.nvlist);
        }
        topology.root = VdevConfig::decode(&topology.root.encode())?;
        Self::check_topology(&topology)?;
        Ok(topology)
    }

    /// Plans to let a new device join another: `zpool attach` and the first half of `zpool replace`.
    ///
    /// # Errors
    /// `TooSmall`; `NotMirror` for a side of a mirror in raidz.
    pub async fn plan_attach(
        &self,
        name: &str,
        new: NewLeaf,
        join: Join,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Topology, TopologyError> {
        let guid = self.leaf_guid(name)?;
        let mut topology = self.same_topology();
        let (depth, parent) = place_of(&topology.root, guid).ok_or(TopologyError::NoSuchDevice)?;
        let in_mirror = parent.kind == VdevType::Mirror;
        if join == Join::Mirror && depth > 1 && !in_mirror {
            return Err(TopologyError::NotMirror);
        }
        let top = top_of(&topology.root, guid).ok_or(TopologyError::NoSuchDevice)?;
        let needed = match top.kind {
            VdevType::Raidz => top.asize / top.children.len() as u64,
            _ => top.asize,
        };
        let usable = new.device.length() - new.device.length() % (256 << 10);
        if usable.saturating_sub(LABEL_START_SIZE + LABEL_END_SIZE) < needed {
            return Err(TopologyError::TooSmall);
        }
        let leaf = self.describe_leaf(&new.path, random).await?;
        let own = leaf.u64("guid").unwrap_or(0);
        let wrapper = random();
        let parent = parent.guid;
        let list = match join == Join::Mirror && in_mirror {
            true => rebuild(&topology.root, parent, &mut |mut mirror| {
                let mut children = mirror.lists("children").to_vec();
                children.push(leaf.clone());
                mirror.set("children", Value::ListArray(children));
                Some(mirror)
            }),
            false => rebuild(&topology.root, guid, &mut |old| {
                Some(wrap(old, leaf.clone(), join, wrapper))
            }),
        };
        let list = list.ok_or(TopologyError::NoSuchDevice)?;
        topology.root = VdevConfig::decode(&list)?;
        topology.devices.insert(own, new.device.clone());
        topology.joining.push(new.device);
        Self::check_topology(&topology)?;
        Ok(topology)
    }

    /// The configuration of a device that has nothing of the pool yet.
    async fn describe_leaf(
        &self,
        path: &str,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Nvlist, Error> {
        self.check_writable().await?;
        let missed = self.create_space_map().await?;
        self.add_missed(missed, 1, self.open_txg()).await?;
        let mut leaf = Nvlist::new();
        leaf.set_string("type", "file");
        leaf.set_u64("id", 0);
        leaf.set_u64("guid", random());
        leaf.set_string("path", path);
        leaf.set_u64("create_txg", self.open_txg());
        leaf.set_u64(MISSED_GROUPS, missed);
        self.give_leaf_table(&mut leaf, random).await?;
        Ok(leaf)
    }

    /// Plans to take a device out of a mirror: `zpool detach` and the second half of `zpool replace`.
    ///
    /// # Errors
    /// `NotMirror` outside mirrors, `NoReplicas` when the others do not have everything.
    pub async fn plan_detach(&self, name: &str) -> Result<Topology, TopologyError> {
        self.check_writable().await?;
        let guid = self.leaf_guid(name)?;
        let mut topology = self.same_topology();
        let (_, parent) = place_of(&topology.root, guid).ok_or(TopologyError::NoSuchDevice)?;
        let joint = matches!(
            parent.kind,
            VdevType::Mirror | VdevType::Replacing | VdevType::Spare
        );
        if !joint || parent.children.len() < 2 {
            return Err(TopologyError::NotMirror);
        }
        let parent = parent.guid;
        let mut gone = None;
        let list = rebuild(&topology.root, parent, &mut |mut mirror| {
            let all = mirror.lists("children").to_vec();
            let (out, mut stay): (Vec<Nvlist>, Vec<Nvlist>) = all
                .into_iter()
                .partition(|child| child.u64("guid") == Some(guid));
            gone = out.into_iter().next();
            match stay.len() {
                1 => stay.pop().map(|only| unwrap(&mirror, only)),
                _ => {
                    renumber(&mut stay);
                    mirror.set("children", Value::ListArray(stay));
                    Some(mirror)
                }
            }
        });
        topology.root = VdevConfig::decode(&list.ok_or(TopologyError::NoSuchDevice)?)?;
        topology.leaving.extend(topology.devices.remove(&guid));
        Self::check_topology(&topology)?;
        if let Some(gone) = gone {
            self.drop_leaf_objects(&gone).await?;
        }
        Ok(topology)
    }

    async fn drop_leaf_objects(&self, leaf: &Nvlist) -> Result<(), Error> {
        if let Some(missed) = leaf.u64(MISSED_GROUPS).filter(|&missed| missed != 0) {
            self.free_space_map(missed).await?;
        }
        self.take_leaf_table(leaf).await
    }

    /// Gives the pool anew over a planned vdev tree, and commits that. Who has data sets open must open them anew.
    ///
    /// # Errors
    /// Those of writing; the pool is then as it was or as it was to be.
    pub async fn adopt(self, topology: Topology, now: u64) -> Result<Spa, Error> {
        self.sync(now).await?;
        for device in &topology.joining {
            super::commit::clear_device(device.as_ref()).await?;
        }
        let tree = VdevTree::build(&topology.root, &topology.devices)?;
        let zio = Rc::new(Zio::new(tree, self.zio.arc_limit(), self.access));
        let mut uberblock = self.uberblock.get();
        let mos = Rc::new(Objset::open(zio.clone(), 0, &uberblock.rootbp, None).await?);
        if let Some(salt) = mos::salt(&mos::directory(&mos).await?) {
            zio.set_salt(salt);
        }
        mos::load_mappings(&mos, zio.vdevs()).await?;
        uberblock.guid_sum = topology.root.guid_sum();
        let tops = topology.root.children.len() as u64;
        self.config.borrow_mut().set_u64("vdev_children", tops);
        let spa = Spa {
            name: self.name,
            access: self.access,
            config: self.config,
            root: RefCell::new(topology.root),
            uberblock: Cell::new(uberblock),
            zio,
            mos,
            directory: self.directory,
            state: Cell::default(),
            datasets: RefCell::default(),
            free_limit: self.free_limit,
            block_forms: self.block_forms,
            flush_extent: Cell::default(),
        };
        spa.load_allocator().await?;
        spa.sync_with_labels(now).await?;
        for device in &topology.leaving {
            super::commit::clear_device(device.as_ref()).await?;
        }
        Ok(spa)
    }
}

/// The depth of a leaf below the root, and its parent.
fn place_of(root: &VdevConfig, guid: u64) -> Option<(usize, &VdevConfig)> {
    if root.children.iter().any(|child| child.guid == guid) {
        return Some((1, root));
    }
    let deeper = root.children.iter().find_map(|child| place_of(child, guid));
    deeper.map(|(depth, parent)| (depth + 1, parent))
}

/// The top-level vdev above or at a leaf.
fn top_of(root: &VdevConfig, guid: u64) -> Option<&VdevConfig> {
    fn has(vdev: &VdevConfig, guid: u64) -> bool {
        vdev.guid == guid || vdev.children.iter().any(|child| has(child, guid))
    }
    root.children.iter().find(|top| has(top, guid))
}

/// The configuration again, with one vdev changed.
fn rebuild(
    vdev: &VdevConfig,
    guid: u64,
    change: &mut dyn FnMut(Nvlist) -> Option<Nvlist>,
) -> Option<Nvlist> {
    if vdev.guid == guid {
        return change(vdev.encode());
    }
    let mut list = vdev.nvlist.clone();
    if !vdev.children.is_empty() {
        let mut children = Vec::new();
        for child in &vdev.children {
            children.push(rebuild(child, guid, change)?);
        }
        list.set("children", Value::ListArray(children));
    }
    Some(list)
}

fn renumber(children: &mut [Nvlist]) {
    for (index, child) in children.iter_mut().enumerate() {
        child.set_u64("id", index as u64);
    }
}

/// Moves what belongs to the top from one vdev to another.
fn move_top_pairs(from: &mut Nvlist, to: &mut Nvlist) {
    for name in TOP_PAIRS {
        if let Some(value) = from.remove(name) {
            to.set(name, value);
        }
    }
}

/// A vdev that has an old leaf and a new one as its children, in the place of the old.
fn wrap(mut old: Nvlist, new: Nvlist, join: Join, guid: u64) -> Nvlist {
    let mut wrapper = Nvlist::new();
    let kind = match join {
        Join::Mirror => VdevType::Mirror,
        Join::Replacing => VdevType::Replacing,
    };
    wrapper.set_string("type", kind.name());
    wrapper.set_u64("id", old.u64("id").unwrap_or(0));
    wrapper.set_u64("guid", guid);
    wrapper.set_u64("create_txg", old.u64("create_txg").unwrap_or(4));
    move_top_pairs(&mut old, &mut wrapper);
    let mut children = Vec::from([old, new]);
    renumber(&mut children);
    wrapper.set("children", Value::ListArray(children));
    wrapper
}

/// The last child of a vdev in the place of that vdev.
fn unwrap(parent: &Nvlist, mut only: Nvlist) -> Nvlist {
    let mut parent = parent.clone();
    only.set_u64("id", parent.u64("id").unwrap_or(0));
    move_top_pairs(&mut parent, &mut only);
    only
}
