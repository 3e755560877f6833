//! What the tests on golden pools share: loading images, reading manifests, comparing file systems.
#![allow(dead_code, reason = "each test program uses its own part")]

pub mod compare;
pub mod making;
pub mod zdb;

use std::io::Read;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use pool::block_device::{Access, BlockDevice, MemoryDevice};
use pool::crypt::DatasetKey;
use pool::dsl::DatasetEntry;
use pool::future::block_on;
use pool::spa::{ImportOptions, Spa, import, scan};
use serde_json::Value;

/// Images were packed with a window of 128 MiB.
const WINDOW_LOG: u32 = 27;

pub fn golden(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/golden")
        .join(file)
}

/// The unpacked bytes of a small golden file.
pub fn unpack(file: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    decoder(file)
        .read_to_end(&mut bytes)
        .expect("a golden file unpacks");
    bytes
}

fn decoder(file: &str) -> impl Read {
    let packed =
        std::fs::File::open(golden(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut decoder = zstd::Decoder::new(packed).expect("a zstd decoder");
    decoder.window_log_max(WINDOW_LOG).expect("a valid window");
    decoder
}

/// A golden image as a device; zeros take no memory.
pub fn image(file: &str, length: u64) -> MemoryDevice {
    let device = MemoryDevice::new(length);
    let mut source = decoder(file);
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    loop {
        let count = source.read(&mut buffer).expect("a golden image unpacks");
        if count == 0 {
            assert_eq!(at, length, "{file} has another size than its manifest says");
            return device;
        }
        device.poke(at, &buffer[..count]).expect("the image fits");
        at += count as u64;
    }
}

/// A golden pool: its manifest and its disks.
pub struct Golden {
    pub manifest: Value,
    pub disks: Vec<Rc<MemoryDevice>>,
}

impl Golden {
    pub fn load(name: &str) -> Golden {
        let manifest = std::fs::read(golden(&format!("{name}.json"))).expect("a manifest");
        let manifest: Value = serde_json::from_slice(&manifest).expect("a manifest in JSON");
        let disks = manifest["disks"].as_array().expect("disks").iter();
        let disks = disks.map(|disk| {
            let file = disk["file"].as_str().expect("a file name");
            Rc::new(image(file, disk["bytes"].as_u64().expect("a size")))
        });
        let disks = disks.collect();
        Golden { manifest, disks }
    }

    pub fn devices(&self) -> Vec<Rc<dyn BlockDevice>> {
        self.disks
            .iter()
            .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
            .collect()
    }

    pub fn open(&self) -> Spa {
        open_devices(self.devices(), Access::ReadOnly)
    }

    /// Compares every file system and volume of the manifest, with all disks.
    pub fn check(&self, secrets: &[(&str, &[u8])]) {
        check_contents(&self.open(), &self.manifest, secrets);
    }
}

/// When tests import, in seconds since 1970: replayed changes without a time of their own get this one.
pub const NOW: u64 = 1_900_000_000;
/// Bytes of cache in tests: small, so that eviction happens.
const ARC_LIMIT: usize = 4 << 20;

pub fn open_devices(devices: Vec<Rc<dyn BlockDevice>>, access: Access) -> Spa {
    block_on(async {
        let pools = scan(devices).await;
        assert_eq!(pools.len(), 1, "one pool on the devices");
        let options = ImportOptions {
            access,
            arc_limit: ARC_LIMIT,
            now: NOW,
        };
        import(&pools[0], options).await.expect("the pool imports")
    })
}

/// Compares every file system and volume of a manifest.
pub fn check_contents(spa: &Spa, manifest: &Value, secrets: &[(&str, &[u8])]) {
    let filesystems = manifest["filesystems"].as_object().expect("file systems");
    for (name, wanted) in filesystems {
        let entry =
            block_on(spa.find_dataset(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        let key = key_for(spa, &entry, secrets);
        compare::filesystem(spa, &entry, key, wanted, control_directory(manifest, name));
    }
    if let Some(volumes) = manifest["volumes"].as_object() {
        for (name, wanted) in volumes {
            let entry =
                block_on(spa.find_dataset(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
            compare::volume(spa, &entry, wanted.as_str().expect("a hash"));
        }
    }
    assert!(!filesystems.is_empty(), "a manifest with file systems");
}

/// `snapdir=visible`, which snapshots inherit.
fn control_directory(manifest: &Value, name: &str) -> compare::ControlDirectory {
    let head = name.split('@').next();
    let mut rows = manifest["pools"]
        .as_object()
        .into_iter()
        .flat_map(|pools| pools.values())
        .flat_map(|pool| pool["zfs_get"].as_array().into_iter().flatten());
    let visible =
        rows.any(|row| row[0].as_str() == head && row[1] == "snapdir" && row[2] == "visible");
    if visible && !name.contains('@') {
        compare::ControlDirectory::Visible
    } else {
        compare::ControlDirectory::Hidden
    }
}

fn key_for(spa: &Spa, entry: &DatasetEntry, secrets: &[(&str, &[u8])]) -> Option<Rc<DatasetKey>> {
    let (_, secret) = secrets.iter().find(|(prefix, _)| {
        let rest = entry.name.strip_prefix(prefix);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', '@']))
    })?;
    Some(block_on(spa.unlock(&entry.dir, secret)).expect("the key fits"))
}
