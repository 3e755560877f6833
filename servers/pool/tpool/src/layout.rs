//! How the words of a command describe vdevs, and whether new ones are as safe as those that are there.

use std::rc::Rc;

use pool::block_device::{Access, BlockDevice};
use pool::spa::create::NewVdev;
use pool::vdev::config::Purpose;
use pool::vdev::{VdevConfig, VdevType};

use crate::arguments::Arguments;
use crate::device::FileDevice;
use crate::failure::Failure;

/// Words for what this cannot add yet.
const LATER: [&str; 4] = ["cache", "spare", "special", "dedup"];

/// What `zpool add` adds: vdevs for data, then those after the word `log`.
pub fn additions(
    arguments: &Arguments,
    words: &[&str],
) -> Result<Vec<(NewVdev, Purpose)>, Failure> {
    if let Some(word) = words.iter().find(|word| LATER.contains(word)) {
        return Err(Failure::Usage(format!("zpool add cannot add '{word}' yet")));
    }
    let mut parts = words.split(|word| *word == "log");
    let data = vdevs(arguments, parts.next().unwrap_or_default())?;
    let mut new: Vec<_> = data
        .into_iter()
        .map(|vdev| (vdev, Purpose::Normal))
        .collect();
    for logs in parts {
        let logs = vdevs(arguments, logs)?;
        new.extend(logs.into_iter().map(|vdev| (vdev, Purpose::Log)));
    }
    match new.is_empty() {
        true => Err(Failure::Usage("zpool add needs devices".into())),
        false => Ok(new),
    }
}

/// How a top-level vdev keeps data safe: what it is, of how many devices, and how many of them it can lose.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Replication {
    kind: VdevType,
    width: usize,
    parity: usize,
}

impl Replication {
    fn of(top: &VdevConfig) -> Option<Replication> {
        let children = top.children.len();
        let (kind, width, parity) = match top.kind {
            VdevType::Mirror => (top.kind, children, children.saturating_sub(1)),
            VdevType::Raidz | VdevType::Draid => (top.kind, children, top.parity),
            VdevType::Disk | VdevType::File => (top.kind, 1, 0),
            // What stands there for a while counts as what it stands for.
            VdevType::Replacing | VdevType::Spare => return Self::of(top.children.first()?),
            _ => return None,
        };
        Some(Replication {
            kind,
            width,
            parity,
        })
    }

    fn of_new(vdev: &NewVdev) -> Replication {
        let (kind, width, parity) = match vdev {
            NewVdev::Disk(..) => (VdevType::File, 1, 0),
            NewVdev::Mirror(sides) => (VdevType::Mirror, sides.len(), sides.len() - 1),
            NewVdev::Raidz(parity, children) => (VdevType::Raidz, children.len(), *parity),
        };
        Replication {
            kind,
            width,
            parity,
        }
    }

    /// Why a new vdev does not go with this one, in the words of zpool(8).
    fn mismatch(self, new: Replication) -> Option<String> {
        let name = |of: Replication| of.kind.name();
        if self.width == 1 && new.width == 1 {
            return None;
        }
        if self.kind != new.kind {
            // A mirror and raidz that lose as many devices go together.
            let equal = self.parity > 0 && self.parity == new.parity;
            let why = format!("pool uses {} and new vdev is {}", name(self), name(new));
            return (!equal).then_some(why);
        }
        if new.kind == VdevType::Raidz && self.parity != new.parity {
            return Some(format!(
                "pool uses {} device parity and new vdev uses {}",
                self.parity, new.parity
            ));
        }
        let why = format!(
            "pool uses {}-way {} and new vdev uses {}-way {}",
            self.width,
            name(self),
            new.width,
            name(new)
        );
        (self.width != new.width).then_some(why)
    }
}

/// Refuses vdevs for data that are less safe than the pool's, or differ from them.
pub fn check_replication(root: &VdevConfig, new: &[(NewVdev, Purpose)]) -> Result<(), Failure> {
    let tops = root.children.iter();
    let mut data = tops.filter(|top| top.purpose == Purpose::Normal);
    let Some(old) = data.find_map(Replication::of) else {
        return Ok(());
    };
    let data = new
        .iter()
        .filter(|(_, purpose)| *purpose == Purpose::Normal);
    match data
        .map(|(vdev, _)| Replication::of_new(vdev))
        .find_map(|new| old.mismatch(new))
    {
        None => Ok(()),
        Some(why) => Err(Failure::Told(format!(
            "invalid vdev specification\nuse '-f' to override the following errors:\nmismatched replication level: {why}"
        ))),
    }
}

/// Top-level vdevs from `[mirror|raidzN] DEVICE...`, again and again.
pub fn vdevs(arguments: &Arguments, words: &[&str]) -> Result<Vec<NewVdev>, Failure> {
    let mut tops = Vec::new();
    let mut words = words.iter().peekable();
    while let Some(word) = words.next() {
        let parity = match *word {
            "mirror" => 0,
            "raidz" | "raidz1" => 1,
            "raidz2" => 2,
            "raidz3" => 3,
            path => {
                tops.push(leaf(arguments, path)?);
                continue;
            }
        };
        let mut children = Vec::new();
        while let Some(path) =
            words.next_if(|word| **word != "mirror" && !word.starts_with("raidz"))
        {
            children.push(leaf(arguments, path)?);
        }
        if children.len() < parity + 2 {
            return Err(Failure::Usage(format!("{word} needs more devices")));
        }
        tops.push(if parity == 0 {
            NewVdev::Mirror(children)
        } else {
            NewVdev::Raidz(parity, children)
        });
    }
    Ok(tops)
}

fn leaf(arguments: &Arguments, path: &str) -> Result<NewVdev, Failure> {
    if !arguments.devices.iter().any(|device| device == path) {
        return Err(Failure::Usage(format!(
            "'{path}' is not one of the --dev devices"
        )));
    }
    let device = FileDevice::open(path, Access::ReadWrite)
        .map_err(|error| Failure::Host(path.into(), error))?;
    Ok(NewVdev::Disk(
        path.into(),
        Rc::new(device) as Rc<dyn BlockDevice>,
    ))
}
