//! `zfs` commands that change data sets, with the words, refusals and exit codes of zfs(8). Each is one transaction group or a few.

use std::io::Write;

use pool::dsl::{
    DatasetKind, Deferral, NewVolume, PropertyError, VolumeReservation, parse, parse_size,
};
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zvol::DEFAULT_BLOCK_SIZE;

use crate::arguments::Options;
use crate::failure::Failure;

/// `zfs` commands that are here.
pub const COMMANDS: [&str; 14] = [
    "create", "snapshot", "destroy", "rollback", "clone", "promote", "rename", "bookmark", "hold",
    "release", "set", "inherit", "receive", "recv",
];

/// What a change needs besides the pool.
pub struct Context<'a> {
    /// Seconds since 1970.
    pub now: u64,
    /// Guids and salts.
    pub random: &'a mut dyn FnMut() -> u64,
}

/// Runs such a command.
pub fn run(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let (command, rest) = words
        .split_first()
        .ok_or_else(|| usage("zfs needs a command"))?;
    match *command {
        "create" => create(spa, rest, context),
        "snapshot" => snapshot(spa, rest, context),
        "destroy" => destroy(spa, rest, context),
        "rollback" => rollback(spa, rest, context),
        "clone" => clone(spa, rest, context),
        "promote" => promote(spa, rest, context),
        "rename" => rename(spa, rest, context),
        "bookmark" => bookmark(spa, rest, context),
        "hold" => hold(spa, rest, context),
        "release" => release(spa, rest, context),
        "set" => set(spa, rest, context),
        "inherit" => inherit(spa, rest, context),
        "receive" | "recv" => crate::receive::run(spa, rest, context),
        other => Err(usage(&format!("no zfs command is called '{other}'"))),
    }
}

fn usage(reason: &str) -> Failure {
    Failure::Usage(reason.into())
}

/// The words in which zfs(8) gives an error.
fn reason(error: Error) -> String {
    match error {
        Error::NotFound => "dataset does not exist".into(),
        Error::AlreadyExists => "dataset already exists".into(),
        Error::Busy => "dataset is busy".into(),
        Error::NoSpace => "out of space".into(),
        Error::InvalidName => "invalid character in name".into(),
        Error::NameTooLong => "name is too long".into(),
        Error::FeatureDisabled => "pool must be upgraded to support this".into(),
        other => other.to_string(),
    }
}

fn cannot(action: &str, name: &str, error: Error) -> Failure {
    Failure::Told(format!("cannot {action} '{name}': {}", reason(error)))
}

/// Refuses names of data sets that are not there in the words of zfs(8).
fn exists(spa: &Spa, name: &str) -> Result<(), Failure> {
    block_on(spa.find_dataset(name))
        .map(drop)
        .map_err(|error| cannot("open", name, error))
}

fn setting(word: &str) -> Result<(&str, &str), Failure> {
    word.split_once('=')
        .ok_or_else(|| usage(&format!("missing '=' for property=value argument '{word}'")))
}

fn property_failure(name: &str, property: &str, value: &str, error: PropertyError) -> Failure {
    let why = match error {
        PropertyError::Unknown => format!("invalid property '{property}'"),
        PropertyError::ReadOnly => format!("'{property}' is readonly"),
        PropertyError::InvalidValue => {
            format!("'{property}' must be one of its values, not '{value}'")
        }
        PropertyError::WrongKind => format!("'{property}' does not apply to datasets of this type"),
        PropertyError::BelowUse => "size is less than current used or reserved space".into(),
        PropertyError::Pool(error) => reason(error),
    };
    Failure::Told(format!("cannot set property for '{name}': {why}"))
}

/// Settings of `-o`, all checked before anything is made.
fn checked_settings<'a>(
    options: &Options<'a>,
    name: &str,
) -> Result<Vec<(&'a str, &'a str)>, Failure> {
    let mut settings = Vec::new();
    for word in options.values('o') {
        let (property, value) = setting(word)?;
        parse(property, value).map_err(|error| property_failure(name, property, value, error))?;
        settings.push((property, value));
    }
    Ok(settings)
}

fn apply(
    spa: &Spa,
    name: &str,
    settings: &[(&str, &str)],
    context: &mut Context<'_>,
) -> Result<(), Failure> {
    settings.iter().try_for_each(|(property, value)| {
        block_on(spa.set_property(name, property, value, context.now, context.random))
            .map_err(|error| property_failure(name, property, value, error))
    })
}

fn create(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "psu", "obV")?;
    let [name] = options.rest[..] else {
        return Err(usage("zfs create needs one name"));
    };
    let settings = checked_settings(&options, name)?;
    if options.has('p') {
        make_parents(spa, name, context)?;
        if block_on(spa.find_dataset(name)).is_ok() {
            return Ok(());
        }
    }
    let size = |text: &str| parse_size(text).ok_or_else(|| usage(&format!("bad size '{text}'")));
    let made = match options.value('V') {
        None => block_on(spa.create_filesystem(name, context.now, context.random)),
        Some(text) => {
            let asked = settings
                .iter()
                .find(|(property, _)| *property == "volblocksize")
                .map(|(_, value)| *value);
            let block_size = match options.value('b').or(asked) {
                Some(text) => size(text)? as usize,
                None => DEFAULT_BLOCK_SIZE,
            };
            let volume = NewVolume {
                // zfs(8) rounds up to whole blocks.
                size: size(text)?.next_multiple_of(block_size.max(1) as u64),
                block_size,
                reservation: if options.has('s') {
                    VolumeReservation::None
                } else {
                    VolumeReservation::Full
                },
            };
            block_on(spa.create_volume(name, volume, context.now, context.random))
        }
    };
    made.map_err(|error| match error {
        Error::NotFound => Failure::Told(format!("cannot create '{name}': parent does not exist")),
        error => cannot("create", name, error),
    })?;
    apply(spa, name, &settings, context)
}

/// Makes what is missing of the path to a name.
fn make_parents(spa: &Spa, name: &str, context: &mut Context<'_>) -> Result<(), Failure> {
    for (at, _) in name.match_indices('/') {
        let parent = &name[..at];
        if block_on(spa.find_dataset(parent)).is_err() {
            block_on(spa.create_filesystem(parent, context.now, context.random))
                .map_err(|error| cannot("create", parent, error))?;
        }
    }
    Ok(())
}

/// A data set and, when asked, all below it of the same kind of name.
fn with_children(spa: &Spa, path: &str, options: &Options<'_>) -> Result<Vec<String>, Failure> {
    exists(spa, path)?;
    if !options.has('r') {
        return Ok(vec![path.into()]);
    }
    let all = block_on(spa.list_datasets(path)).map_err(|error| cannot("open", path, error))?;
    Ok(all
        .into_iter()
        .map(|entry| entry.name)
        .filter(|name| !name.contains('@'))
        .collect())
}

fn snapshot(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "r", "o")?;
    if options.rest.is_empty() {
        return Err(usage("zfs snapshot needs a name"));
    }
    for name in &options.rest {
        let (path, own) = name
            .split_once('@')
            .ok_or_else(|| usage(&format!("'{name}' is not a snapshot")))?;
        let settings = checked_settings(&options, name)?;
        for dataset in with_children(spa, path, &options)? {
            let snapshot = format!("{dataset}@{own}");
            block_on(spa.snapshot(&snapshot, context.now, context.random))
                .map_err(|error| cannot("create snapshot", &snapshot, error))?;
            apply(spa, &snapshot, &settings, context)?;
        }
    }
    Ok(())
}

fn destroy(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "rRfdnv", "")?;
    let [name] = options.rest[..] else {
        return Err(usage("zfs destroy needs one name"));
    };
    if name.contains('#') {
        return block_on(spa.destroy_bookmark(name, context.now))
            .map_err(|error| cannot("destroy bookmark", name, error));
    }
    let doomed = match name.split_once('@') {
        Some((path, own)) => {
            let datasets = with_children(spa, path, &options)?;
            let names: Vec<String> = datasets
                .into_iter()
                .map(|dataset| format!("{dataset}@{own}"))
                .collect();
            let there: Vec<String> = names
                .into_iter()
                .filter(|name| block_on(spa.find_dataset(name)).is_ok())
                .collect();
            if there.is_empty() {
                return Err(Failure::Told(
                    "could not find any snapshots to destroy; check snapshot names.".into(),
                ));
            }
            there
        }
        None => doomed_datasets(spa, name, &options)?,
    };
    let mut out = std::io::stdout().lock();
    for name in &doomed {
        if options.has('v') || options.has('n') {
            let word = if options.has('n') {
                "would destroy"
            } else {
                "will destroy"
            };
            writeln!(out, "{word} {name}")?;
        }
    }
    if options.has('n') {
        return Ok(());
    }
    let deferral = if options.has('d') {
        Deferral::Deferred
    } else {
        Deferral::Refused
    };
    doomed.iter().try_for_each(|name| {
        block_on(spa.destroy(name, deferral, context.now)).map_err(|error| match error {
            Error::InvalidArgument => Failure::Told(format!("cannot destroy '{name}': operation does not apply to pools\nuse 'zpool destroy {name}' to destroy the pool itself")),
            Error::Busy => Failure::Told(format!("cannot destroy snapshot {name}: dataset is busy")),
            error => cannot("destroy", name, error),
        })
    })
}

/// A file system or volume with all that must go before it, children first.
fn doomed_datasets(spa: &Spa, name: &str, options: &Options<'_>) -> Result<Vec<String>, Failure> {
    exists(spa, name)?;
    let all = block_on(spa.list_datasets(name)).map_err(|error| cannot("open", name, error))?;
    let mut names: Vec<String> = all.into_iter().map(|entry| entry.name).collect();
    if names.len() > 1 && !options.has('r') && !options.has('R') {
        let entry =
            block_on(spa.find_dataset(name)).map_err(|error| cannot("open", name, error))?;
        let kind = block_on(spa.dataset_kind(&entry.dataset))
            .unwrap_or(DatasetKind::Filesystem)
            .name();
        let below = names[1..].join("\n");
        return Err(Failure::Told(format!(
            "cannot destroy '{name}': {kind} has children\nuse '-r' to destroy the following datasets:\n{below}"
        )));
    }
    // Newer snapshots go first, and every data set after its own snapshots.
    names.reverse();
    names.sort_by_key(|name| (usize::MAX - name.matches('/').count(), !name.contains('@')));
    Ok(names)
}

fn rollback(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "rRf", "")?;
    let [name] = options.rest[..] else {
        return Err(usage("zfs rollback needs one snapshot"));
    };
    let (path, _) = name
        .split_once('@')
        .ok_or_else(|| usage(&format!("'{name}' is not a snapshot")))?;
    exists(spa, name)?;
    let failed = |error| cannot("rollback to", name, error);
    let entry = block_on(spa.find_dataset(path)).map_err(failed)?;
    let target = block_on(spa.find_dataset(name)).map_err(failed)?;
    let snapshots = block_on(spa.snapshots(&entry.dataset)).map_err(failed)?;
    let created = target.dataset.phys.creation_txg;
    let mut newer: Vec<String> = snapshots
        .into_iter()
        .filter(|(_, snapshot)| snapshot.phys.creation_txg > created)
        .map(|(own, _)| format!("{path}@{own}"))
        .collect();
    if !newer.is_empty() && !options.has('r') && !options.has('R') {
        return Err(Failure::Told(format!(
            "cannot rollback to '{name}': more recent snapshots or bookmarks exist\nuse '-r' to force deletion of the following snapshots and bookmarks:\n{}",
            newer.join("\n")
        )));
    }
    newer.reverse();
    for snapshot in newer {
        block_on(spa.destroy(&snapshot, Deferral::Refused, context.now)).map_err(|error| {
            Failure::Told(format!(
                "cannot destroy snapshot {snapshot}: {}",
                reason(error)
            ))
        })?;
    }
    block_on(spa.rollback(name, context.now, context.random)).map_err(failed)
}

fn clone(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "p", "o")?;
    let [snapshot, name] = options.rest[..] else {
        return Err(usage("zfs clone needs a snapshot and a name"));
    };
    let settings = checked_settings(&options, name)?;
    exists(spa, snapshot)?;
    if options.has('p') {
        make_parents(spa, name, context)?;
    }
    block_on(spa.clone_snapshot(snapshot, name, context.now, context.random)).map_err(|error| {
        match error {
            Error::NotFound => {
                Failure::Told(format!("cannot create '{name}': parent does not exist"))
            }
            error => cannot("create", name, error),
        }
    })?;
    apply(spa, name, &settings, context)
}

fn promote(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let [name] = words else {
        return Err(usage("zfs promote needs one name"));
    };
    exists(spa, name)?;
    block_on(spa.promote(name, context.now, context.random)).map_err(|error| match error {
        Error::InvalidArgument => {
            Failure::Told(format!("cannot promote '{name}': not a cloned filesystem"))
        }
        error => cannot("promote", name, error),
    })
}

fn rename(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "fpu", "")?;
    let [from, to] = options.rest[..] else {
        return Err(usage("zfs rename needs an old and a new name"));
    };
    exists(spa, from)?;
    if options.has('p') {
        make_parents(spa, to, context)?;
    }
    block_on(spa.rename(from, to, context.now)).map_err(|error| match error {
        Error::AlreadyExists => Failure::Told(format!(
            "cannot rename '{from}': dataset '{to}' already exists"
        )),
        error => cannot("rename", from, error),
    })
}

fn bookmark(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let [snapshot, bookmark] = words else {
        return Err(usage("zfs bookmark needs a snapshot and a bookmark"));
    };
    exists(spa, snapshot)?;
    let path = snapshot.split('@').next().unwrap_or_default();
    let full = if bookmark.starts_with('#') {
        format!("{path}{bookmark}")
    } else {
        (*bookmark).into()
    };
    block_on(spa.bookmark(snapshot, &full, context.now, context.random)).map_err(
        |error| match error {
            Error::AlreadyExists => {
                Failure::Told(format!("cannot create bookmark '{full}': bookmark exists"))
            }
            error => cannot("create bookmark", &full, error),
        },
    )
}

/// The snapshots that `hold` and `release` are about.
fn tagged<'a>(spa: &Spa, options: &Options<'a>) -> Result<(&'a str, Vec<String>), Failure> {
    let (tag, names) = options
        .rest
        .split_first()
        .filter(|(_, names)| !names.is_empty())
        .ok_or_else(|| usage("a tag and a snapshot are needed"))?;
    let mut all = Vec::new();
    for name in names {
        let (path, own) = name
            .split_once('@')
            .ok_or_else(|| usage(&format!("'{name}' is not a snapshot")))?;
        all.extend(
            with_children(spa, path, options)?
                .into_iter()
                .map(|dataset| format!("{dataset}@{own}")),
        );
    }
    Ok((tag, all))
}

fn hold(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "r", "")?;
    let (tag, snapshots) = tagged(spa, &options)?;
    snapshots.iter().try_for_each(|name| {
        block_on(spa.hold(tag, name, context.now, context.random)).map_err(|error| match error {
            Error::AlreadyExists => Failure::Told(format!(
                "cannot hold snapshot '{name}': tag already exists on this dataset"
            )),
            error => cannot("hold snapshot", name, error),
        })
    })
}

fn release(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "r", "")?;
    let (tag, snapshots) = tagged(spa, &options)?;
    snapshots.iter().try_for_each(|name| {
        exists(spa, name)?;
        block_on(spa.release(tag, name, context.now)).map_err(|error| match error {
            Error::NotFound => Failure::Told(format!(
                "cannot release hold from snapshot '{name}': no such tag on this dataset"
            )),
            error => cannot("release hold from snapshot", name, error),
        })
    })
}

fn set(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let (settings, names): (Vec<&str>, Vec<&str>) =
        words.iter().partition(|word| word.contains('='));
    if settings.is_empty() || names.is_empty() {
        return Err(usage("zfs set needs property=value and a name"));
    }
    let settings: Vec<(&str, &str)> = settings
        .into_iter()
        .map(setting)
        .collect::<Result<_, _>>()?;
    for name in names {
        exists(spa, name)?;
        apply(spa, name, &settings, context)?;
    }
    Ok(())
}

fn inherit(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "rS", "")?;
    let (property, names) = options
        .rest
        .split_first()
        .filter(|(_, names)| !names.is_empty())
        .ok_or_else(|| usage("zfs inherit needs a property and a name"))?;
    for name in names {
        for dataset in with_children(spa, name, &options)? {
            block_on(spa.inherit_property(&dataset, property, context.now, context.random))
                .map_err(|error| match error {
                    PropertyError::Unknown => usage(&format!("invalid property '{property}'")),
                    PropertyError::Pool(error) => cannot("inherit", &dataset, error),
                    _ => usage(&format!("'{property}' property cannot be inherited")),
                })?;
        }
    }
    Ok(())
}
