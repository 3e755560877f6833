//! Comparing what the pool reads with a manifest.

use std::collections::BTreeMap;
use std::rc::Rc;

use pool::crypt::DatasetKey;
use pool::dsl::DatasetEntry;
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zpl::{FileType, Znode, Zpl};
use pool::zvol::Zvol;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Files are hashed in pieces of this size.
const PIECE: usize = 1 << 20;
/// Place of the time of change among what [`meta`] gives.
const MTIME_FIELD: usize = 6;
/// Larger files are sparse; manifests have no hash of them.
const LARGEST_HASHED: u64 = 600 << 20;

pub fn open(spa: &Spa, entry: &DatasetEntry, key: Option<Rc<DatasetKey>>) -> Zpl {
    block_on(async { Zpl::open(spa.open_objset(&entry.dataset, key).await?).await })
        .unwrap_or_else(|error| panic!("{}: {error}", entry.name))
}

/// Whether Linux counted the control directory as a link of the root.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ControlDirectory {
    Hidden,
    Visible,
}

pub fn filesystem(
    spa: &Spa,
    entry: &DatasetEntry,
    key: Option<Rc<DatasetKey>>,
    wanted: &Value,
    control: ControlDirectory,
) {
    let zpl = open(spa, entry, key);
    let mounts: Vec<&str> = wanted["child_mounts_removed"]
        .as_array()
        .map(|paths| paths.iter().filter_map(Value::as_str).collect())
        .unwrap_or_default();
    let found = read_all(&zpl, &entry.name);
    let mut hashes: BTreeMap<String, String> = BTreeMap::new();
    let wanted_metas = wanted_meta(wanted);
    let mut metas: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (path, object) in &found {
        let mut znode =
            block_on(zpl.znode(*object)).unwrap_or_else(|error| panic!("{path}: {error}"));
        if path == "." && control == ControlDirectory::Visible {
            znode.links += 1;
        }
        if mounts.contains(&path.as_str()) && znode.file_type == FileType::Directory {
            continue;
        }
        let mut found = meta(&zpl, path, &znode);
        if znode.mtime[0] == super::NOW {
            // Replaying the log gave it the time of import, which was another one when the manifest was made.
            found[MTIME_FIELD]
                .clone_from(&wanted_metas.get(path).expect("a path of the manifest")[MTIME_FIELD]);
        }
        metas.insert(path.clone(), found);
        if znode.file_type == FileType::Regular && znode.size < LARGEST_HASHED {
            let hash = hash_file(&zpl, &znode)
                .unwrap_or_else(|error| panic!("{}:{path}: {error}", entry.name));
            // The manifests were made line by line, so a name with a line feed is cut there.
            let path = path
                .trim_start_matches("./")
                .lines()
                .next()
                .unwrap_or_default();
            hashes.insert(path.into(), hash);
        }
    }
    compare_maps(&entry.name, "meta", &metas, &wanted_metas);
    compare_maps(&entry.name, "sha256", &hashes, &wanted_hashes(wanted));
    if let Some(text) = wanted["xattr_getfattr_hex"].as_str() {
        let found = found
            .iter()
            .map(|(path, object)| (path.trim_start_matches("./").into(), xattrs(&zpl, *object)));
        let found: BTreeMap<String, Vec<String>> = found
            .filter(|(_, list): &(_, Vec<_>)| !list.is_empty())
            .collect();
        compare_maps(&entry.name, "xattr", &found, &wanted_xattrs(text));
    }
}

/// All paths with their objects, `.` first.
fn read_all(zpl: &Zpl, name: &str) -> Vec<(String, u64)> {
    let walked = block_on(zpl.walk(zpl.root())).unwrap_or_else(|error| panic!("{name}: {error}"));
    let paths = walked.into_iter().map(|(path, entry)| {
        (
            format!("./{}", String::from_utf8_lossy(&path)),
            entry.object,
        )
    });
    std::iter::once((".".into(), zpl.root()))
        .chain(paths)
        .collect()
}

fn compare_maps<T: PartialEq + std::fmt::Debug>(
    name: &str,
    what: &str,
    found: &BTreeMap<String, T>,
    wanted: &BTreeMap<String, T>,
) {
    for (path, wanted) in wanted {
        assert_eq!(found.get(path), Some(wanted), "{what} of {name}:{path}");
    }
    for path in found.keys() {
        assert!(
            wanted.contains_key(path),
            "{what} of {name}:{path} is not in the manifest"
        );
    }
}

fn wanted_hashes(wanted: &Value) -> BTreeMap<String, String> {
    let hashes = wanted["sha256"].as_object().expect("hashes").iter();
    let hashes = hashes.filter(|(path, _)| !path.is_empty());
    hashes
        .map(|(path, hash)| {
            (
                path.trim_start_matches("./").into(),
                hash.as_str().expect("a hash").into(),
            )
        })
        .collect()
}

fn wanted_meta(wanted: &Value) -> BTreeMap<String, Vec<String>> {
    let rows = wanted["meta"].as_array().expect("meta").iter();
    rows.map(|row| {
        let mut fields: Vec<String> = row
            .as_array()
            .expect("a row")
            .iter()
            .map(|field| field.as_str().expect("text").into())
            .collect();
        let path = fields.remove(7);
        (path, fields)
    })
    .collect()
}

fn meta(zpl: &Zpl, path: &str, znode: &Znode) -> Vec<String> {
    let target = match znode.file_type {
        FileType::Symlink => {
            block_on(zpl.readlink(znode.object)).unwrap_or_else(|error| panic!("{path}: {error}"))
        }
        _ => Vec::new(),
    };
    vec![
        znode.file_type.letter().into(),
        format!("{:o}", znode.mode & 0o7777),
        znode.uid.to_string(),
        znode.gid.to_string(),
        znode.links.to_string(),
        znode.size.to_string(),
        format!("{}.{:09}0", znode.mtime[0], znode.mtime[1]),
        String::from_utf8_lossy(&target).into_owned(),
    ]
}

pub fn hash_file(zpl: &Zpl, znode: &Znode) -> Result<String, Error> {
    let mut hasher = Sha256::new();
    let mut at = 0;
    while at < znode.size {
        let piece = block_on(zpl.read(znode.object, at, PIECE))?;
        at += piece.len() as u64;
        hasher.update(&piece);
    }
    Ok(hex(&hasher.finalize()))
}

pub fn volume(spa: &Spa, entry: &DatasetEntry, wanted: &str) {
    let volume = block_on(async { Zvol::open(spa.open_objset(&entry.dataset, None).await?).await })
        .unwrap_or_else(|error| panic!("{}: {error}", entry.name));
    let mut hasher = Sha256::new();
    let mut at = 0;
    while at < volume.size() {
        let size = PIECE.min((volume.size() - at) as usize);
        hasher.update(
            block_on(volume.read(at, size))
                .unwrap_or_else(|error| panic!("{}: {error}", entry.name)),
        );
        at += size as u64;
    }
    assert_eq!(hex(&hasher.finalize()), wanted, "{}", entry.name);
}

pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `name=0xhex` lines of one file; only what getfattr shows by default, the user namespace.
fn xattrs(zpl: &Zpl, object: u64) -> Vec<String> {
    let all = block_on(zpl.xattrs(object)).expect("extended attributes");
    let user = all
        .iter()
        .filter(|attribute| attribute.name.starts_with(b"user."));
    let mut lines: Vec<String> = user
        .map(|attribute| {
            format!(
                "{}=0x{}",
                String::from_utf8_lossy(&attribute.name),
                hex(&attribute.value)
            )
        })
        .collect();
    lines.sort();
    lines
}

fn wanted_xattrs(text: &str) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for block in text.split("\n\n") {
        let mut lines = block.lines();
        let Some(path) = lines.next().and_then(|line| line.strip_prefix("# file: ")) else {
            continue;
        };
        let mut list: Vec<String> = lines
            .filter(|line| line.starts_with("user."))
            .map(String::from)
            .collect();
        list.sort();
        if !list.is_empty() {
            all.insert(unescape(path), list);
        }
    }
    all
}

/// getfattr writes unusual bytes of names as octal escapes.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let digits = after
            .get(..3)
            .filter(|_| first == b'\\')
            .and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[3..];
            }
            None => {
                bytes.push(first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
