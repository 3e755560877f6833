//! Making pools in memory and filling them, the same in every run.

use std::rc::Rc;

use pool::block_device::{BlockDevice, MemoryDevice};
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, Spa};
use pool::zpl::{FileType, NewFile, Owner, Zpl};

/// When pools are made and files change, in seconds since 1970.
pub const MADE: u64 = 1_700_000_000;
const DISK: u64 = 128 << 20;
const ARC_LIMIT: usize = 16 << 20;

/// Random numbers that are the same in every run.
pub fn random_from(seed: u64) -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ seed;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

pub fn disks(count: usize) -> Vec<Rc<MemoryDevice>> {
    (0..count)
        .map(|_| Rc::new(MemoryDevice::new(DISK)))
        .collect()
}

pub fn devices(disks: &[Rc<MemoryDevice>]) -> Vec<Rc<dyn BlockDevice>> {
    disks
        .iter()
        .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
        .collect()
}

/// A pool `tank` on one disk.
pub fn pool_on(disk: &Rc<MemoryDevice>, random: &mut dyn FnMut() -> u64) -> Spa {
    let new = NewPool {
        name: "tank".into(),
        vdevs: vec![NewVdev::Disk("/disks/d0".into(), disk.clone())],
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift: 12,
        now: MADE,
        arc_limit: ARC_LIMIT,
    };
    block_on(create(new, random)).expect("a pool")
}

pub fn new_file(file_type: FileType, mode: u64) -> NewFile {
    NewFile {
        file_type,
        mode,
        owner: Owner {
            uid: 1000,
            gid: 100,
        },
        now: [MADE, 5],
        rdev: 0,
        salt: 0x1234_5678_9abc_def1,
    }
}

/// Words that compress about two to one.
pub fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut random = random_from(seed << 20);
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        data.extend(format!("word{} ", random() % 5000).bytes());
    }
    data.truncate(length);
    data
}

pub async fn head(spa: &Spa, name: &str) -> Zpl {
    Zpl::open(spa.open_head(name).await.expect(name))
        .await
        .expect(name)
}

/// Writes a file of a head, new or in place of its contents.
pub async fn put(spa: &Spa, dataset: &str, name: &str, data: &[u8]) {
    let zpl = head(spa, dataset).await;
    let object = match zpl.resolve(name.as_bytes()).await {
        Ok(object) => object,
        Err(_) => {
            let new = new_file(FileType::Regular, 0o644);
            zpl.create(zpl.root(), name.as_bytes(), &new, spa.open_txg(), &[])
                .await
                .expect(name)
        }
    };
    zpl.truncate(object, data.len() as u64, [MADE, 6])
        .await
        .expect(name);
    zpl.write(object, 0, data, [MADE, 6]).await.expect(name);
}

/// The contents of all files in the root of a data set or snapshot, in the order of their names.
pub async fn contents(spa: &Spa, name: &str) -> Vec<(String, Vec<u8>)> {
    let entry = spa.find_dataset(name).await.expect(name);
    let zpl = Zpl::open(spa.open_objset(&entry.dataset, None).await.expect(name))
        .await
        .expect(name);
    let mut all = Vec::new();
    for entry in zpl.readdir(zpl.root()).await.expect(name) {
        let size = zpl.znode(entry.object).await.expect(name).size;
        let data = zpl.read(entry.object, 0, size as usize).await.expect(name);
        all.push((String::from_utf8(entry.name).expect("a name"), data));
    }
    all.sort();
    all
}

/// The parts of what a directory uses are the whole, and its children are as they say.
pub async fn check_sums(spa: &Spa) {
    for entry in spa.list_datasets("tank").await.unwrap() {
        let phys = &entry.dir.phys;
        let used = phys.used;
        let parts = used.head
            + used.snapshots
            + used.children
            + used.child_reservations
            + used.reference_reservation;
        assert_eq!(parts, phys.used_bytes, "{}: {used:?}", entry.name);
    }
}
