//! Commands on the contents of data sets: files and volumes.

use std::io::Write;
use std::rc::Rc;

use pool::crypt::DatasetKey;
use pool::dsl::DatasetEntry;
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zpl::{FileType, Znode, Zpl};
use pool::zvol::Zvol;
use sha2::{Digest, Sha256};

use crate::failure::{About, Failure};

/// Files and volumes are moved in pieces of this size.
const PIECE: usize = 1 << 20;

/// Data sets with the secrets that unlock them and all below.
pub type Keys = [(String, String)];

/// Runs a command on files.
pub fn run(spa: &Spa, keys: &Keys, command: &str, words: &[&str]) -> Result<(), Failure> {
    match (command, words) {
        ("ls", ["-l", place]) => ls(&Place::open(spa, keys, place)?, Detail::Long),
        ("ls", [place]) => ls(&Place::open(spa, keys, place)?, Detail::Names),
        ("tree", [place]) => tree(&Place::open(spa, keys, place)?),
        ("cat", [place]) => copy_out(
            &Place::open(spa, keys, place)?,
            &mut std::io::stdout().lock(),
        ),
        ("cp", [place, target]) => {
            let place = Place::open(spa, keys, place)?;
            let mut file = std::fs::File::create(target)
                .map_err(|error| Failure::Host((*target).into(), error))?;
            copy_out(&place, &mut file)
        }
        ("manifest", [dataset]) => manifest(&Place::open(spa, keys, dataset)?),
        ("volume", ["size", volume]) => {
            writeln!(
                std::io::stdout(),
                "{}",
                open_volume(spa, keys, volume)?.size()
            )?;
            Ok(())
        }
        ("volume", ["read", volume, range @ ..]) => {
            read_volume(&open_volume(spa, keys, volume)?, volume, range)
        }
        _ => Err(Failure::Usage(format!(
            "'{command}' does not take these arguments"
        ))),
    }
}

pub fn key(
    spa: &Spa,
    keys: &Keys,
    entry: &DatasetEntry,
) -> Result<Option<Rc<DatasetKey>>, Failure> {
    let own = keys.iter().find(|(dataset, _)| {
        entry
            .name
            .strip_prefix(dataset.as_str())
            .is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    });
    match own {
        Some((_, secret)) => block_on(spa.unlock(&entry.dir, secret.as_bytes()))
            .about(&entry.name)
            .map(Some),
        None => Ok(None),
    }
}

/// A file or directory of a file system.
struct Place {
    name: String,
    zpl: Zpl,
    object: u64,
}

impl Place {
    /// Opens `DATASET[:PATH]`.
    fn open(spa: &Spa, keys: &Keys, text: &str) -> Result<Place, Failure> {
        let (dataset, path) = text.split_once(':').unwrap_or((text, ""));
        let entry = block_on(spa.find_dataset(dataset)).about(dataset)?;
        let key = key(spa, keys, &entry)?;
        let open = async { Zpl::open(spa.open_objset(&entry.dataset, key).await?).await };
        let zpl = block_on(open).about(dataset)?;
        let object = block_on(zpl.resolve(path.as_bytes())).about(text)?;
        Ok(Place {
            name: text.into(),
            zpl,
            object,
        })
    }

    fn znode(&self, object: u64) -> Result<Znode, Failure> {
        block_on(self.zpl.znode(object)).about(&self.name)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// How much of a file `ls` shows.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Detail {
    Names,
    Long,
}

fn ls(place: &Place, detail: Detail) -> Result<(), Failure> {
    let mut entries = block_on(place.zpl.readdir(place.object)).about(&place.name)?;
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    let mut out = std::io::stdout().lock();
    for entry in entries {
        let name = lossy(&entry.name);
        if detail == Detail::Names {
            writeln!(out, "{name}")?;
            continue;
        }
        let znode = place.znode(entry.object)?;
        let target = match znode.file_type {
            FileType::Symlink => format!(
                " -> {}",
                lossy(&block_on(place.zpl.readlink(entry.object)).about(&name)?)
            ),
            _ => String::new(),
        };
        let (mode, links, size) = (mode_text(&znode), znode.links, znode.size);
        writeln!(
            out,
            "{mode} {links:>3} {:>5} {:>5} {size:>12} {name}{target}",
            znode.uid, znode.gid
        )?;
    }
    Ok(())
}

/// `drwxr-xr-x`.
fn mode_text(znode: &Znode) -> String {
    let kind = match znode.file_type {
        FileType::Regular => '-',
        other => other.letter(),
    };
    let bits = (0..9).rev().zip("rwxrwxrwx".chars());
    let bits = bits.map(|(bit, letter)| {
        if znode.mode >> bit & 1 == 1 {
            letter
        } else {
            '-'
        }
    });
    std::iter::once(kind).chain(bits).collect()
}

fn tree(place: &Place) -> Result<(), Failure> {
    let mut all = block_on(place.zpl.walk(place.object)).about(&place.name)?;
    all.sort_by(|one, other| one.0.cmp(&other.0));
    let mut out = std::io::stdout().lock();
    for (path, entry) in all {
        let depth = path.iter().filter(|&&byte| byte == b'/').count();
        let slash = if entry.kind == FileType::Directory {
            "/"
        } else {
            ""
        };
        writeln!(out, "{}{}{slash}", "  ".repeat(depth), lossy(&entry.name))?;
    }
    Ok(())
}

/// Gives the contents of a regular file piece by piece.
fn pieces(
    place: &Place,
    object: u64,
    name: &str,
    each: &mut dyn FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let znode = place.znode(object)?;
    match znode.file_type {
        FileType::Regular => {}
        FileType::Directory => return Err(Failure::Pool(name.into(), Error::IsDirectory)),
        _ => return Err(Failure::Pool(name.into(), Error::InvalidArgument)),
    }
    let mut at = 0;
    while at < znode.size {
        let piece = block_on(place.zpl.read(object, at, PIECE)).about(name)?;
        at += piece.len() as u64;
        each(&piece)?;
    }
    Ok(())
}

fn copy_out(place: &Place, out: &mut dyn Write) -> Result<(), Failure> {
    pieces(place, place.object, &place.name, &mut |piece| {
        Ok(out.write_all(piece)?)
    })
}

fn manifest(place: &Place) -> Result<(), Failure> {
    let all = block_on(place.zpl.walk(place.object)).about(&place.name)?;
    let files = all
        .into_iter()
        .filter(|(_, entry)| entry.kind == FileType::Regular);
    let mut files: Vec<(String, u64)> = files
        .map(|(path, entry)| (format!("./{}", lossy(&path)), entry.object))
        .collect();
    files.sort();
    let mut out = std::io::stdout().lock();
    for (path, object) in files {
        let hash = hash(place, object, &path)?;
        writeln!(out, "{hash}  {path}")?;
    }
    Ok(())
}

/// Files from this size on that are nearly all holes are not hashed as a whole: their zeros alone would take hours.
const SPARSE_SIZE: u64 = 1 << 30;
/// What is nearly all: less than one part in so many is stored.
const SPARSE_PART: u64 = 64;

/// The hash of a regular file; of a huge one that is nearly all holes, that of its data and where they are, after `sparse:`.
fn hash(place: &Place, object: u64, name: &str) -> Result<String, Failure> {
    let size = place.znode(object)?.size;
    let stored = block_on(place.zpl.objset().dnode(object))
        .about(name)?
        .phys
        .used_bytes();
    let mut hasher = Sha256::new();
    let sparse = size >= SPARSE_SIZE && stored < size / SPARSE_PART;
    if sparse {
        let mut at = 0;
        while let Some(start) = block_on(place.zpl.next_data(object, at))
            .about(name)?
            .filter(|&start| start < size)
        {
            let piece = block_on(place.zpl.read(object, start, PIECE)).about(name)?;
            hasher.update(start.to_le_bytes());
            hasher.update(&piece);
            at = start + piece.len() as u64;
        }
    } else {
        pieces(place, object, name, &mut |piece| {
            hasher.update(piece);
            Ok(())
        })?;
    }
    let hash: String = hasher
        .finalize()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    Ok(if sparse {
        format!("sparse:{hash}")
    } else {
        hash
    })
}

fn open_volume(spa: &Spa, keys: &Keys, name: &str) -> Result<Zvol, Failure> {
    let entry = block_on(spa.find_dataset(name)).about(name)?;
    let key = key(spa, keys, &entry)?;
    block_on(async { Zvol::open(spa.open_objset(&entry.dataset, key).await?).await }).about(name)
}

fn read_volume(volume: &Zvol, name: &str, range: &[&str]) -> Result<(), Failure> {
    let number = |text: &&str| {
        text.parse::<u64>()
            .map_err(|_| Failure::Usage(format!("'{text}' is no number of bytes")))
    };
    let mut at = range.first().map(number).transpose()?.unwrap_or(0);
    let length = range
        .get(1)
        .map(number)
        .transpose()?
        .unwrap_or(volume.size().saturating_sub(at));
    let end = at
        .checked_add(length)
        .ok_or(Failure::Pool(name.into(), Error::OutOfRange))?;
    let mut out = std::io::stdout().lock();
    while at < end {
        let size = PIECE.min((end - at) as usize);
        out.write_all(&block_on(volume.read(at, size)).about(name)?)?;
        at += size as u64;
    }
    Ok(())
}
