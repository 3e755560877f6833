//! The vdev tree as the pool's configuration describes it.

use alloc::string::String;
use alloc::vec::Vec;

use crate::error::{Error, Structure, Unsupported};
use crate::nvlist::Nvlist;

/// Children of one vdev; OpenZFS allows 255 in draid and fewer elsewhere.
pub const MAX_CHILDREN: usize = 255;
/// Nesting: top, replacing or spare, leaf; one more for a spare inside a replacement.
const MAX_LEVELS: usize = 6;

/// Pair of a device's configuration: the space map of the groups that it missed.
pub const MISSED_GROUPS: &str = "DTL";

/// The types of vdev that a configuration can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VdevType {
    /// The pool itself.
    Root,
    /// A block device.
    Disk,
    /// A file.
    File,
    /// A mirror.
    Mirror,
    /// A disk and its replacement.
    Replacing,
    /// A disk and the hot spare that stands in.
    Spare,
    /// Striped with parity.
    Raidz,
    /// Striped with parity over permuted groups.
    Draid,
    /// The place of a removed log device.
    Hole,
    /// A vdev that the importer did not find.
    Missing,
    /// A removed vdev with a mapping to where its data went.
    Indirect,
}

impl VdevType {
    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            VdevType::Root => "root",
            VdevType::Disk => "disk",
            VdevType::File => "file",
            VdevType::Mirror => "mirror",
            VdevType::Replacing => "replacing",
            VdevType::Spare => "spare",
            VdevType::Raidz => "raidz",
            VdevType::Draid => "draid",
            VdevType::Hole => "hole",
            VdevType::Missing => "missing",
            VdevType::Indirect => "indirect",
        }
    }

    fn from_name(name: &str) -> Option<Self> {
        [
            VdevType::Root,
            VdevType::Disk,
            VdevType::File,
            VdevType::Mirror,
            VdevType::Replacing,
            VdevType::Spare,
            VdevType::Raidz,
            VdevType::Draid,
            VdevType::Hole,
            VdevType::Missing,
            VdevType::Indirect,
        ]
        .into_iter()
        .find(|kind| kind.name() == name)
    }

    /// Whether it is a device.
    pub fn is_leaf(self) -> bool {
        matches!(self, VdevType::Disk | VdevType::File)
    }
}

/// One vdev of the configuration.
#[derive(Clone, Debug)]
pub struct VdevConfig {
    /// What it is.
    pub kind: VdevType,
    /// Its place among its siblings; for a top-level vdev, its number in addresses.
    pub id: u64,
    /// Its identity.
    pub guid: u64,
    /// Where the device was found last.
    pub path: Option<String>,
    /// log2 of the sector size; top-level vdevs only.
    pub ashift: u32,
    /// Bytes of its data area; top-level vdevs only.
    pub asize: u64,
    /// Parity columns of raidz and draid.
    pub parity: usize,
    /// MOS object with the space map of each metaslab; 0 when there is none.
    pub metaslab_array: u64,
    /// log2 of a metaslab's size.
    pub metaslab_shift: u32,
    /// Whether it holds only the intent log.
    pub purpose: Purpose,
    /// MOS objects of an indirect vdev: mapping and births.
    pub indirect_objects: Option<(u64, u64)>,
    /// What the administrator or the fault manager decided.
    pub mark: Mark,
    /// Its children.
    pub children: Vec<VdevConfig>,
    /// All pairs but `children`, kept for writing the configuration again.
    pub nvlist: Nvlist,
}

/// What a top-level vdev is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Data.
    Normal,
    /// The intent log only.
    Log,
}

/// A persistent mark on a vdev.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// None.
    Normal,
    /// Taken out of use.
    Offline,
    /// Given up because of errors.
    Faulted,
    /// Physically removed.
    Removed,
}

impl VdevConfig {
    /// Reads a vdev and its children from a configuration.
    pub fn decode(nvlist: &Nvlist) -> Result<VdevConfig, Error> {
        VdevConfig::decode_level(nvlist, 0)
    }

    fn decode_level(nvlist: &Nvlist, level: usize) -> Result<VdevConfig, Error> {
        let corrupt = Error::Corrupt(Structure::VdevTree);
        let lists = nvlist.lists("children");
        if level > MAX_LEVELS || lists.len() > MAX_CHILDREN {
            return Err(corrupt);
        }
        if nvlist.get("raidz_expanding").is_some() || nvlist.get("raidz_expand_txgs").is_some() {
            return Err(Error::Unsupported(Unsupported::RaidzExpansion));
        }
        let kind = nvlist
            .string("type")
            .and_then(VdevType::from_name)
            .ok_or(corrupt)?;
        let children: Result<Vec<_>, _> = lists
            .iter()
            .map(|child| Self::decode_level(child, level + 1))
            .collect();
        let number = |name: &str| nvlist.u64(name).unwrap_or(0);
        let small = |name: &str, limit: u64| match number(name) {
            value if value <= limit => Ok(value as u32),
            _ => Err(corrupt),
        };
        let mut rest = nvlist.clone();
        rest.remove("children");
        let config = VdevConfig {
            kind,
            id: number("id"),
            guid: nvlist.u64("guid").ok_or(corrupt)?,
            path: nvlist.string("path").map(String::from),
            ashift: small("ashift", 16)?,
            asize: number("asize"),
            parity: small("nparity", 3)? as usize,
            metaslab_array: number("metaslab_array"),
            metaslab_shift: small("metaslab_shift", 63)?,
            purpose: if number("is_log") == 0 {
                Purpose::Normal
            } else {
                Purpose::Log
            },
            indirect_objects: nvlist
                .u64("com.delphix:indirect_object")
                .map(|mapping| (mapping, number("com.delphix:indirect_births"))),
            mark: mark(nvlist),
            children: children?,
            nvlist: rest,
        };
        config.check(level).then_some(config).ok_or(corrupt)
    }

    fn check(&self, level: usize) -> bool {
        let children = self.children.len();
        match self.kind {
            VdevType::Root => level == 0,
            VdevType::Disk
            | VdevType::File
            | VdevType::Hole
            | VdevType::Missing
            | VdevType::Indirect => children == 0,
            VdevType::Mirror | VdevType::Replacing | VdevType::Spare => children > 0,
            VdevType::Raidz | VdevType::Draid => self.parity > 0 && children > self.parity,
        }
    }

    /// The whole description again, children included.
    pub fn encode(&self) -> Nvlist {
        let mut nvlist = self.nvlist.clone();
        if !self.children.is_empty() {
            let children = self.children.iter().map(VdevConfig::encode).collect();
            nvlist.set("children", crate::nvlist::Value::ListArray(children));
        }
        nvlist
    }

    /// Wrapping sum of the guids at and below this vdev, as uberblocks have it.
    pub fn guid_sum(&self) -> u64 {
        let own = if self.kind == VdevType::Hole {
            0
        } else {
            self.guid
        };
        self.children
            .iter()
            .fold(own, |sum, child| sum.wrapping_add(child.guid_sum()))
    }
}

fn mark(nvlist: &Nvlist) -> Mark {
    let set = |name: &str| nvlist.u64(name).unwrap_or(0) != 0;
    if set("offline") {
        Mark::Offline
    } else if set("removed") {
        Mark::Removed
    } else if set("faulted") {
        Mark::Faulted
    } else {
        Mark::Normal
    }
}
