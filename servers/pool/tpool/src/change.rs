//! Commands that change a pool. Each is one transaction group.

use std::fs::File;
use std::io::Read;
use std::time::{SystemTime, UNIX_EPOCH};

use pool::error::Error;
use pool::future::block_on;
use pool::spa::create::{NewPool, create};
use pool::spa::{CompatibilitySet, Spa};
use pool::zpl::{FileType, NewFile, Owner, Zpl};
use pool::zvol::Zvol;

use crate::arguments::{Arguments, Options};
use crate::failure::{About, Failure};
use crate::{layout, vdevs, zfs_change, zpool_change};

/// Sector size of new pools, as log2, when none is asked for.
const DEFAULT_ASHIFT: u32 = 12;
/// Files are copied in pieces of this size; what is not yet written is in memory.
const PIECE: usize = 8 << 20;

/// `zpool` commands that change a pool and are not about its devices.
const ZPOOL_CHANGES: [&str; 3] = ["set", "export", "scrub"];

/// Whether a command changes the pool.
pub fn is_change(command: &str, words: &[&str]) -> bool {
    match command {
        "mkdir" | "rm" | "rmdir" => true,
        "cp" => words.last().is_some_and(|target| target.contains(':')),
        "zfs" => words
            .first()
            .is_some_and(|word| zfs_change::COMMANDS.contains(word)),
        "zpool" => words
            .first()
            .is_some_and(|word| ZPOOL_CHANGES.contains(word) || vdevs::COMMANDS.contains(word)),
        "volume" => words.first() == Some(&"write"),
        _ => false,
    }
}

/// Runs such a command. Those of zpool(8) and zfs(8) go into the pool's history.
pub fn run(spa: &Spa, command: &str, words: &[&str]) -> Result<(), Failure> {
    if matches!(command, "zfs" | "zpool") && words.first() != Some(&"export") {
        perform(spa, command, words)?;
        log_history(spa, command, words)?;
        return finish_freeing(spa);
    }
    perform(spa, command, words)
}

/// Runs transaction groups until what was destroyed is freed: nobody goes on after this run.
fn finish_freeing(spa: &Spa) -> Result<(), Failure> {
    let freeing = || block_on(spa.freeing()).about(spa.name());
    let mut left = freeing()?;
    while left > 0 {
        block_on(spa.sync(now()[0])).about(spa.name())?;
        let before = std::mem::replace(&mut left, freeing()?);
        if left >= before {
            break;
        }
    }
    Ok(())
}

/// Remembers a command that succeeded.
pub fn log_history(spa: &Spa, command: &str, words: &[&str]) -> Result<(), Failure> {
    let text = format!("{command} {}", words.join(" "));
    let now = now()[0];
    block_on(spa.log_history(&text, now)).about(spa.name())?;
    block_on(spa.sync(now)).about(spa.name())
}

fn perform(spa: &Spa, command: &str, words: &[&str]) -> Result<(), Failure> {
    let (now, mut random) = (now(), random()?);
    match (command, words) {
        ("zfs", words) => {
            let mut context = zfs_change::Context {
                now: now[0],
                random: &mut random,
            };
            zfs_change::run(spa, words, &mut context)
        }
        ("zpool", words) => zpool_change::run(spa, words, now[0]),
        ("volume", ["write", volume, rest @ ..]) => write_volume(spa, volume, rest, now[0]),
        ("cp", [source, target]) => copy_in(spa, source, target, &mut random),
        ("mkdir", [place]) => {
            let at = Parent::open(spa, place)?;
            let new = new_file(FileType::Directory, 0o755, now, random());
            block_on(
                at.zpl
                    .create(at.directory, at.name.as_bytes(), &new, spa.open_txg(), &[]),
            )
            .about(place)?;
            block_on(spa.sync(now[0])).about(place)
        }
        ("rm", [place]) => {
            let at = Parent::open(spa, place)?;
            block_on(at.zpl.unlink(at.directory, at.name.as_bytes(), now)).about(place)?;
            block_on(spa.sync(now[0])).about(place)
        }
        ("rmdir", [place]) => {
            let at = Parent::open(spa, place)?;
            block_on(at.zpl.rmdir(at.directory, at.name.as_bytes(), now)).about(place)?;
            block_on(spa.sync(now[0])).about(place)
        }
        _ => Err(Failure::Usage(format!(
            "'{command}' does not take these arguments"
        ))),
    }
}

/// `zpool create`.
pub fn create_pool(arguments: &Arguments, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "f", "oO")?;
    let mut ashift = DEFAULT_ASHIFT;
    let mut features = CompatibilitySet::default();
    for setting in options.values('o') {
        let refusal = || Failure::Usage(format!("zpool create cannot set '{setting}'"));
        match setting.split_once('=') {
            Some(("ashift", number)) => ashift = number.parse().map_err(|_| refusal())?,
            Some(("compatibility", name)) => {
                let named = |set: &CompatibilitySet| set.name() == name;
                let set = CompatibilitySet::ALL.into_iter().find(named);
                features = set.ok_or_else(refusal)?;
            }
            _ => return Err(refusal()),
        }
    }
    let (name, layout) = options
        .rest
        .split_first()
        .ok_or_else(|| Failure::Usage("zpool create needs a name".into()))?;
    let mut parts = layout.split(|word| *word == "log");
    let vdevs_of = |words: Option<&[&str]>| layout::vdevs(arguments, words.unwrap_or_default());
    let new = NewPool {
        name: (*name).into(),
        vdevs: vdevs_of(parts.next())?,
        logs: vdevs_of(parts.next())?,
        features,
        ashift,
        now: now()[0],
        arc_limit: crate::ARC_LIMIT,
    };
    let spa = block_on(create(new, &mut random()?)).about(name)?;
    let command: Vec<&str> = std::iter::once("create")
        .chain(words.iter().copied())
        .collect();
    log_history(&spa, "zpool", &command)?;
    for setting in options.values('O') {
        perform(&spa, "zfs", &["set", setting, name])?;
    }
    Ok(())
}

/// The directory of a path that is to be made or removed, and the name in it.
struct Parent {
    zpl: Zpl,
    directory: u64,
    name: String,
}

impl Parent {
    /// Opens `DATASET:PATH`.
    fn open(spa: &Spa, place: &str) -> Result<Parent, Failure> {
        let (dataset, path) = place
            .split_once(':')
            .ok_or(Failure::Usage("a path is DATASET:PATH".into()))?;
        let path = path.trim_matches('/');
        let (directory, name) = path.rsplit_once('/').unwrap_or(("", path));
        let zpl =
            block_on(async { Zpl::open(spa.open_head(dataset).await?).await }).about(dataset)?;
        let directory = block_on(zpl.resolve(directory.as_bytes())).about(place)?;
        Ok(Parent {
            zpl,
            directory,
            name: name.into(),
        })
    }
}

fn copy_in(
    spa: &Spa,
    source: &str,
    target: &str,
    random: &mut dyn FnMut() -> u64,
) -> Result<(), Failure> {
    let host = |error| Failure::Host(source.into(), error);
    let mut file = File::open(source).map_err(host)?;
    let at = Parent::open(spa, target)?;
    let now = now();
    let name = at.name.as_bytes();
    match block_on(at.zpl.unlink(at.directory, name, now)) {
        Ok(()) | Err(Error::NotFound) => {}
        Err(error) => return Err(Failure::Pool(target.into(), error)),
    }
    let new = new_file(FileType::Regular, 0o644, now, random());
    let object =
        block_on(at.zpl.create(at.directory, name, &new, spa.open_txg(), &[])).about(target)?;
    let mut piece = vec![0; PIECE];
    let mut offset = 0;
    loop {
        let count = read_full(&mut file, &mut piece).map_err(host)?;
        if count == 0 {
            return block_on(spa.sync(now[0])).about(target);
        }
        block_on(at.zpl.write(object, offset, &piece[..count], now)).about(target)?;
        offset += count as u64;
        block_on(spa.sync(now[0])).about(target)?;
    }
}

/// Writes standard input to a volume from an offset on.
fn write_volume(spa: &Spa, name: &str, rest: &[&str], now: u64) -> Result<(), Failure> {
    let mut offset = match rest {
        [] => 0,
        [offset] => offset
            .parse()
            .map_err(|_| Failure::Usage(format!("'{offset}' is no number of bytes")))?,
        _ => {
            return Err(Failure::Usage(
                "volume write takes a volume and an offset".into(),
            ));
        }
    };
    let volume = block_on(async { Zvol::open(spa.open_head(name).await?).await }).about(name)?;
    let mut input = std::io::stdin().lock();
    let mut piece = vec![0; PIECE];
    loop {
        let count = read_full(&mut input, &mut piece)?;
        if count == 0 {
            return block_on(spa.sync(now)).about(name);
        }
        block_on(volume.write(offset, &piece[..count])).about(name)?;
        offset += count as u64;
        block_on(spa.sync(now)).about(name)?;
    }
}

/// Fills the buffer unless the file ends.
fn read_full(file: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut done = 0;
    while done < buffer.len() {
        match file.read(&mut buffer[done..])? {
            0 => break,
            count => done += count,
        }
    }
    Ok(done)
}

fn new_file(file_type: FileType, mode: u64, now: [u64; 2], salt: u64) -> NewFile {
    NewFile {
        file_type,
        mode,
        owner: Owner { uid: 0, gid: 0 },
        now,
        rdev: 0,
        salt,
    }
}

/// Seconds and nanoseconds since 1970.
pub fn now() -> [u64; 2] {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    [since.as_secs(), u64::from(since.subsec_nanos())]
}

/// Random numbers of the host.
pub fn random() -> Result<impl FnMut() -> u64, Failure> {
    const SOURCE: &str = "/dev/urandom";
    let host = |error| Failure::Host(SOURCE.into(), error);
    let mut seed = [0; 16];
    File::open(SOURCE)
        .and_then(|mut file| file.read_exact(&mut seed))
        .map_err(host)?;
    let (mut key, mut counter) = (u128::from_le_bytes(seed), 0u64);
    // Guids and salts must differ, not be secret: hashing a seed and a counter is enough.
    Ok(move || {
        use sha2::{Digest, Sha256};
        counter += 1;
        let digest = Sha256::new()
            .chain_update(key.to_le_bytes())
            .chain_update(counter.to_le_bytes())
            .finalize();
        key = key.rotate_left(1);
        digest
            .first_chunk()
            .map_or(counter, |bytes| u64::from_le_bytes(*bytes))
    })
}
