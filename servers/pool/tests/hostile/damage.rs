//! Random bytes on the devices of every golden pool, with nothing made right again: an error or a repair, never wrong data.

use std::rc::Rc;

use pool::block_device::{Access, BlockDevice};
use pool::dsl::DatasetEntry;
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zpl::{FileType, Zpl};
use serde_json::Value;

use crate::mutation::Random;
use crate::support::compare::hash_file;
use crate::{Target, devices, exercise};

/// The only data set of the golden pools whose blocks have no checksums.
const UNCHECKED: &str = "p05/off";
/// Pools with logs that were not replayed: a damaged log block is the end of its log, as a block that was never written is.
const LOGGED: [&str; 2] = ["p14", "p15"];
/// Pools of which one device may be lost wholly.
const REDUNDANT: [&str; 4] = ["p08", "p09", "p10", "p23"];
/// Files of a data set that are compared.
const FILES: usize = 10;
/// Sparse files of terabytes are not worth reading.
const LARGEST: u64 = 8 << 20;
/// Where the data of a device starts.
const DATA_AT: u64 = 4 << 20;

/// What a damaged pool owes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Promise {
    /// What it gives is right.
    NothingWrong,
    /// It gives everything.
    AllThere,
}

impl Target {
    /// Damages the devices as the case says, and compares what can be read with the manifest.
    pub fn damage(&self, name: &str, manifest: &Value, case: u64) {
        let mut random = Random::new(case);
        for disk in &self.disks {
            disk.reset();
        }
        self.requests_left.set(u64::MAX);
        let redundant = REDUNDANT.iter().any(|prefix| name.starts_with(prefix));
        let promise = match redundant && case.is_multiple_of(2) {
            true => Promise::AllThere,
            false => Promise::NothingWrong,
        };
        for _ in 0..1 + random.below(60) {
            let disk = match promise {
                Promise::AllThere => &self.disks[0],
                Promise::NothingWrong => random.choose(&self.disks),
            };
            let at = match random.below(8) {
                0 => random.next() % disk.length(),
                // Labels are where the pool begins, so that they are not hit too often.
                1 => random.next() % (512 << 10),
                _ => {
                    let site = random.choose(&self.sites);
                    let offset = site.pointer.dvas().next().map_or(0, |dva| dva.offset);
                    DATA_AT + (offset + random.next() % 4096) % (disk.length() - DATA_AT)
                }
            };
            let bytes: Vec<u8> = (0..1 + random.below(600))
                .map(|_| random.next() as u8)
                .collect();
            let length = bytes.len().min((disk.length() - at) as usize);
            disk.poke(at, &bytes[..length]).expect("it is inside");
        }
        let devices = devices(&self.disks);
        compare(&devices, manifest, promise, &mut random);
        if case.is_multiple_of(3) {
            // Repairs must not make it worse.
            drop(exercise::open(&devices, Access::ReadWrite));
            compare(&devices, manifest, promise, &mut random);
        }
    }
}

fn compare(
    devices: &[Rc<dyn BlockDevice>],
    manifest: &Value,
    promise: Promise,
    random: &mut Random,
) {
    let Some(spa) = exercise::open(devices, Access::ReadOnly) else {
        assert!(promise == Promise::NothingWrong, "a redundant pool opens");
        return;
    };
    let datasets = match block_on(spa.list_datasets(spa.name())) {
        Ok(datasets) => datasets,
        Err(error) => {
            assert!(promise == Promise::NothingWrong, "data sets: {error}");
            return;
        }
    };
    for entry in &datasets {
        if LOGGED.contains(&spa.name()) {
            continue;
        }
        let hashes = &manifest["filesystems"][&entry.name]["sha256"];
        if entry.name.split('@').next() == Some(UNCHECKED) || hashes.is_null() {
            continue;
        }
        let compared = compare_files(&spa, entry, hashes, promise, random);
        if let Err(error) = compared {
            assert!(promise == Promise::NothingWrong, "{}: {error}", entry.name);
        }
    }
}

fn compare_files(
    spa: &Spa,
    entry: &DatasetEntry,
    hashes: &Value,
    promise: Promise,
    random: &mut Random,
) -> Result<(), Error> {
    let zpl = block_on(async { Zpl::open(spa.open_objset(&entry.dataset, None).await?).await })?;
    let walked = block_on(zpl.walk(zpl.root()))?;
    for _ in 0..FILES.min(walked.len()) {
        let (path, found) = random.choose(&walked);
        let path = String::from_utf8_lossy(path);
        // The manifests were made line by line.
        let wanted = hashes[path.lines().next().unwrap_or_default()].as_str();
        if found.kind != FileType::Regular || wanted.is_none() {
            continue;
        }
        let znode = match block_on(zpl.znode(found.object)) {
            Err(_) if promise == Promise::NothingWrong => continue,
            znode => znode?,
        };
        if znode.size > LARGEST {
            continue;
        }
        match hash_file(&zpl, &znode) {
            Err(_) if promise == Promise::NothingWrong => {}
            hash => assert_eq!(Some(hash?.as_str()), wanted, "{}:{path}", entry.name),
        }
    }
    Ok(())
}
