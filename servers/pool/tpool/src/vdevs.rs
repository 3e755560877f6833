//! `zpool` commands that change the devices of a pool, with the words of zpool(8). They wait for the resilver that follows.

use std::io::IsTerminal;
use std::rc::Rc;

use pool::block_device::Access;
use pool::error::Error;
use pool::future::block_on;
use pool::spa::{Join, NewLeaf, Spa, Topology, TopologyError};

use crate::arguments::{Arguments, Options};
use crate::change::{log_history, now, random};
use crate::device::FileDevice;
use crate::failure::{About, Failure};
use crate::layout;

/// `zpool` commands that are here.
pub const COMMANDS: [&str; 8] = [
    "add", "attach", "clear", "detach", "replace", "offline", "online", "trim",
];
/// Bytes between two reports of how far a resilver is.
const STEP: u64 = 256 << 20;

/// Runs such a command, with its name first.
pub fn run(spa: Spa, arguments: &Arguments, words: &[&str]) -> Result<(), Failure> {
    let (command, rest) = words
        .split_first()
        .ok_or_else(|| Failure::Usage("zpool needs a command".into()))?;
    let options = Options::parse(rest, "fnsw", "")?;
    let [pool, names @ ..] = &options.rest[..] else {
        return Err(Failure::Usage(format!("zpool {command} needs a pool")));
    };
    if *pool != spa.name() {
        return Err(Failure::Told(format!("cannot open '{pool}': no such pool")));
    }
    let mut spa = spa;
    let spa = match (*command, names) {
        ("add", [_, ..]) => match add(spa, arguments, &options, names)? {
            Some(spa) => spa,
            None => return Ok(()),
        },
        ("clear", [] | [_]) => {
            let name = names.first().copied();
            let done = spa.clear_errors(name);
            done.map_err(|error| refusal("clear errors for", name.unwrap_or(pool), error))?;
            spa
        }
        ("trim", []) => {
            block_on(spa.trim()).about(pool)?;
            spa
        }
        ("attach", [old, new]) => {
            let spa = join(spa, arguments, [old, new], Join::Mirror)?;
            resilver(&spa)?;
            spa
        }
        ("replace", [old, new]) => {
            let spa = join(spa, arguments, [old, new], Join::Replacing)?;
            resilver(&spa)?;
            let plan = block_on(spa.plan_detach(old));
            let plan = plan.map_err(|error| refusal("replace", old, error))?;
            adopt(spa, plan)?
        }
        ("detach", [name]) => {
            let plan = block_on(spa.plan_detach(name));
            let plan = plan.map_err(|error| refusal("detach", name, error))?;
            adopt(spa, plan)?
        }
        ("offline", [name]) => {
            let plan = spa.plan_offline(name);
            let plan = plan.map_err(|error| refusal("offline", name, error))?;
            adopt(spa, plan)?
        }
        ("online", [name]) => {
            let plan = spa.plan_online(name);
            let plan = plan.map_err(|error| refusal("online", name, error))?;
            let spa = adopt(spa, plan)?;
            resilver(&spa)?;
            spa
        }
        _ => {
            return Err(Failure::Usage(format!(
                "zpool {command} does not take these arguments"
            )));
        }
    };
    log_history(&spa, "zpool", words)
}

fn adopt(spa: Spa, plan: Topology) -> Result<Spa, Failure> {
    let name = spa.name().to_string();
    block_on(spa.adopt(plan, now()[0])).about(&name)
}

/// `zpool add`; with `-n` it only says whether that would do.
fn add(
    spa: Spa,
    arguments: &Arguments,
    options: &Options<'_>,
    words: &[&str],
) -> Result<Option<Spa>, Failure> {
    let new = layout::additions(arguments, words)?;
    let used = spa.zio().vdevs().leaves();
    let is_used = |word: &&&str| {
        used.iter()
            .any(|leaf| leaf.config.path.as_deref() == Some(**word))
    };
    if let Some(path) = words.iter().find(is_used) {
        return Err(Failure::Told(format!(
            "invalid vdev specification\nthe following errors must be manually repaired:\n{path} is part of active pool '{}'",
            spa.name()
        )));
    }
    if !options.has('f') {
        layout::check_replication(&spa.root_vdev(), &new)?;
    }
    if options.has('n') {
        return Ok(None);
    }
    let plan = block_on(spa.plan_add(&new, &mut random()?));
    let plan = plan.map_err(|error| refusal("add to", spa.name(), error))?;
    adopt(spa, plan).map(Some)
}

fn join(
    spa: Spa,
    arguments: &Arguments,
    [old, path]: [&str; 2],
    join: Join,
) -> Result<Spa, Failure> {
    let action = match join {
        Join::Mirror => "attach",
        Join::Replacing => "replace",
    };
    if !arguments.devices.iter().any(|device| device == path) {
        return Err(Failure::Usage(format!(
            "'{path}' is not one of the --dev devices"
        )));
    }
    let used = spa.zio().vdevs().leaves();
    if used
        .iter()
        .any(|leaf| leaf.config.path.as_deref() == Some(path))
    {
        return Err(Failure::Told(format!(
            "cannot {action} {path} to {old}: {path} is busy"
        )));
    }
    let device = FileDevice::open(path, Access::ReadWrite)
        .map_err(|error| Failure::Host(path.into(), error))?;
    let new = NewLeaf {
        path: path.into(),
        device: Rc::new(device),
    };
    let plan = block_on(spa.plan_attach(old, new, join, &mut random()?));
    adopt(spa, plan.map_err(|error| refusal(action, old, error))?)
}

/// The words of zpool(8) for a change that is refused.
fn refusal(action: &str, name: &str, error: TopologyError) -> Failure {
    let why = match error {
        TopologyError::NoSuchDevice => "no such device in pool".into(),
        TopologyError::NoReplicas => "no valid replicas".into(),
        TopologyError::TooSmall => "device is too small".into(),
        TopologyError::NotMirror if action == "detach" => {
            "only applicable to mirror and replacing vdevs".into()
        }
        TopologyError::NotMirror => "can only attach to mirrors and top-level disks".into(),
        TopologyError::Pool(Error::ReadOnly) => "pool is read-only".into(),
        TopologyError::Pool(error) => error.to_string(),
    };
    Failure::Told(format!("cannot {action} {name}: {why}"))
}

/// Gives devices what they lack.
fn resilver(spa: &Spa) -> Result<(), Failure> {
    let name = spa.name();
    block_on(spa.start_resilver(now()[0])).about(name)?;
    let bar = std::io::stderr().is_terminal();
    loop {
        let scan = block_on(spa.scrub_some(STEP, now()[0])).about(name)?;
        if bar {
            let percent = (scan.examined * 100).checked_div(scan.to_examine);
            eprint!("\rresilver: {}% done", percent.unwrap_or(100).min(100));
        }
        if !scan.is_under_way() {
            if bar {
                eprintln!();
            }
            return match scan.errors {
                0 => Ok(()),
                count => Err(Failure::Told(format!(
                    "{name}: {count} blocks could not be resilvered; see 'zpool status -v'"
                ))),
            };
        }
    }
}
