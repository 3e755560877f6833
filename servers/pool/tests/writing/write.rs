//! Pools that are made and written here: read back after import, and checked by zdb.

use std::rc::Rc;

use crate::support::{open_devices, zdb};
use pool::block_device::{Access, BlockDevice, MemoryDevice};
use pool::error::Error;
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, Spa};
use pool::zpl::{FileType, NewFile, Owner, Zpl};

const NOW: u64 = 1_700_000_000;

/// Random numbers that are the same in every run.
fn random() -> impl FnMut() -> u64 {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

fn disks(count: usize) -> Vec<Rc<MemoryDevice>> {
    (0..count)
        .map(|_| Rc::new(MemoryDevice::new(128 << 20)))
        .collect()
}

fn devices(disks: &[Rc<MemoryDevice>]) -> Vec<Rc<dyn BlockDevice>> {
    disks
        .iter()
        .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
        .collect()
}

fn leaves(disks: &[Rc<MemoryDevice>]) -> Vec<NewVdev> {
    let leaves = disks.iter().enumerate();
    leaves
        .map(|(index, disk)| NewVdev::Disk(format!("/disks/d{index}"), disk.clone()))
        .collect()
}

fn new_pool(vdevs: Vec<NewVdev>, ashift: u32) -> NewPool {
    NewPool {
        name: "tank".into(),
        vdevs,
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift,
        now: NOW,
        arc_limit: 16 << 20,
    }
}

fn regular(random: &mut dyn FnMut() -> u64) -> NewFile {
    NewFile {
        file_type: FileType::Regular,
        mode: 0o644,
        owner: Owner {
            uid: 1000,
            gid: 1000,
        },
        now: [NOW, 5],
        rdev: 0,
        salt: random(),
    }
}

/// Words that compress about two to one.
fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut random = random();
    let mut state = seed;
    let mut data = Vec::with_capacity(length);
    while data.len() < length {
        state = state.wrapping_add(random());
        data.extend(format!("word{} ", state % 5000).bytes());
    }
    data.truncate(length);
    data
}

async fn open(spa: &Spa, name: &str) -> Zpl {
    Zpl::open(spa.open_head(name).await.unwrap()).await.unwrap()
}

#[test]
fn an_empty_pool_pleases_zdb() {
    let disks = disks(1);
    let spa = block_on(create(new_pool(leaves(&disks), 12), &mut random())).unwrap();
    drop(spa);
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    let names: Vec<String> = block_on(spa.list_datasets("tank"))
        .unwrap()
        .into_iter()
        .map(|entry| entry.name)
        .collect();
    assert_eq!(names, ["tank"]);
}

/// Sizes around blocks and records, and one that needs an indirect block.
const SIZES: [usize; 8] = [0, 1, 511, 512, 513, 131_072, 131_073, 1_500_001];

async fn fill(spa: &Spa, name: &str) {
    let mut random = random();
    let zpl = open(spa, name).await;
    let txg = spa.open_txg();
    for size in SIZES {
        let file = format!("file{size}");
        let object = zpl
            .create(zpl.root(), file.as_bytes(), &regular(&mut random), txg, &[])
            .await
            .unwrap();
        zpl.write(object, 0, &text(size, size as u64), [NOW, 0])
            .await
            .unwrap();
    }
    let link = NewFile {
        file_type: FileType::Symlink,
        mode: 0o777,
        ..regular(&mut random)
    };
    zpl.create(zpl.root(), b"link", &link, txg, b"file512")
        .await
        .unwrap();
    let directory = NewFile {
        file_type: FileType::Directory,
        mode: 0o755,
        ..regular(&mut random)
    };
    let directory = zpl
        .create(zpl.root(), b"dir", &directory, txg, &[])
        .await
        .unwrap();
    for index in 0..300 {
        let name = format!("entry-{index:04}");
        zpl.create(directory, name.as_bytes(), &regular(&mut random), txg, &[])
            .await
            .unwrap();
    }
}

async fn check(spa: &Spa, name: &str) {
    let entry = spa.find_dataset(name).await.unwrap();
    let zpl = Zpl::open(spa.open_objset(&entry.dataset, None).await.unwrap())
        .await
        .unwrap();
    for size in SIZES {
        let object = zpl.resolve(format!("file{size}").as_bytes()).await.unwrap();
        assert_eq!(
            zpl.read(object, 0, size + 10).await.unwrap(),
            text(size, size as u64),
            "file{size}"
        );
    }
    let link = zpl.resolve(b"link").await.unwrap();
    assert_eq!(zpl.readlink(link).await.unwrap(), b"file512");
    let directory = zpl.resolve(b"dir").await.unwrap();
    assert_eq!(zpl.readdir(directory).await.unwrap().len(), 300);
    assert_eq!(zpl.znode(directory).await.unwrap().size, 302);
}

fn files_survive(disks: Vec<Rc<MemoryDevice>>, vdevs: Vec<NewVdev>, ashift: u32) {
    files_survive_in(disks, new_pool(vdevs, ashift));
}

fn files_survive_in(disks: Vec<Rc<MemoryDevice>>, new: NewPool) {
    block_on(async {
        let spa = create(new, &mut random()).await.unwrap();
        spa.create_filesystem("tank/home", NOW, &mut random())
            .await
            .unwrap();
        fill(&spa, "tank/home").await;
        spa.sync(NOW + 1).await.unwrap();
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(check(&spa, "tank/home"));
}

#[test]
fn files_survive_on_a_single_disk() {
    let disks = disks(1);
    let vdevs = leaves(&disks);
    files_survive(disks, vdevs, 12);
}

#[test]
fn files_survive_on_two_vdevs_with_small_sectors() {
    let disks = disks(2);
    let vdevs = leaves(&disks);
    files_survive(disks, vdevs, 9);
}

#[test]
fn files_survive_without_logs_of_space_maps() {
    let disks = disks(1);
    let new = NewPool {
        features: CompatibilitySet::ZfsOnLinux065,
        ..new_pool(leaves(&disks), 12)
    };
    files_survive_in(disks, new);
}

#[test]
fn files_survive_on_a_mirror() {
    let disks = disks(2);
    let vdevs = vec![NewVdev::Mirror(leaves(&disks))];
    files_survive(disks, vdevs, 12);
}

#[test]
fn files_survive_on_raidz() {
    for (count, parity) in [(3, 1), (5, 2), (6, 3)] {
        let disks = disks(count);
        let vdevs = vec![NewVdev::Raidz(parity, leaves(&disks))];
        files_survive(disks, vdevs, 9);
    }
}

#[test]
fn a_snapshot_keeps_what_the_head_changes() {
    let disks = disks(1);
    block_on(async {
        let spa = create(new_pool(leaves(&disks), 12), &mut random())
            .await
            .unwrap();
        fill(&spa, "tank").await;
        spa.snapshot("tank@before", NOW + 1, &mut random())
            .await
            .unwrap();
        let zpl = open(&spa, "tank").await;
        for size in SIZES {
            zpl.unlink(zpl.root(), format!("file{size}").as_bytes(), [NOW + 2, 0])
                .await
                .unwrap();
        }
        spa.sync(NOW + 2).await.unwrap();
        let object = zpl
            .create(
                zpl.root(),
                b"new",
                &regular(&mut random()),
                spa.open_txg(),
                &[],
            )
            .await
            .unwrap();
        zpl.write(object, 1 << 20, b"beyond a hole", [NOW + 3, 0])
            .await
            .unwrap();
        spa.snapshot("tank@after", NOW + 3, &mut random())
            .await
            .unwrap();
        assert_eq!(
            spa.snapshot("tank@after", NOW, &mut random()).await,
            Err(Error::AlreadyExists)
        );
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(check(&spa, "tank@before"));
    block_on(async {
        let entry = spa.find_dataset("tank@after").await.unwrap();
        let zpl = Zpl::open(spa.open_objset(&entry.dataset, None).await.unwrap())
            .await
            .unwrap();
        assert_eq!(zpl.resolve(b"file512").await, Err(Error::NotFound));
        let object = zpl.resolve(b"new").await.unwrap();
        assert_eq!(
            zpl.read(object, (1 << 20) - 2, 100).await.unwrap(),
            b"\0\0beyond a hole"
        );
    });
}

#[test]
fn an_imported_pool_is_written_on() {
    let disks = disks(1);
    drop(block_on(create(new_pool(leaves(&disks), 12), &mut random())).unwrap());
    for round in 0..5u64 {
        let spa = open_devices(devices(&disks), Access::ReadWrite);
        block_on(async {
            let zpl = open(&spa, "tank").await;
            let name = format!("round{round}");
            let object = zpl
                .create(
                    zpl.root(),
                    name.as_bytes(),
                    &regular(&mut random()),
                    spa.open_txg(),
                    &[],
                )
                .await
                .unwrap();
            zpl.write(object, 0, &text(300_000, round), [NOW, 0])
                .await
                .unwrap();
            if round > 1 {
                let old = format!("round{}", round - 2);
                zpl.unlink(zpl.root(), old.as_bytes(), [NOW, 0])
                    .await
                    .unwrap();
            }
            spa.sync(NOW + round).await.unwrap();
        });
    }
    zdb::check_data("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(async {
        let zpl = open(&spa, "tank").await;
        let mut names: Vec<Vec<u8>> = zpl
            .readdir(zpl.root())
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort();
        assert_eq!(names, [b"round3", b"round4"]);
        let object = zpl.resolve(b"round4").await.unwrap();
        assert_eq!(
            zpl.read(object, 0, 300_000).await.unwrap(),
            text(300_000, 4)
        );
        assert_eq!(spa.sync(NOW).await, Err(Error::ReadOnly));
    });
}

#[test]
fn a_directory_of_thousands_of_names_becomes_a_hash_of_leaves() {
    let disks = disks(1);
    block_on(async {
        let spa = create(new_pool(leaves(&disks), 12), &mut random())
            .await
            .unwrap();
        let zpl = open(&spa, "tank").await;
        let mut random = random();
        for index in 0..4000 {
            let name =
                format!("a-name-that-is-longer-than-a-micro-table-takes-in-one-entry-{index}");
            zpl.create(
                zpl.root(),
                name.as_bytes(),
                &regular(&mut random),
                spa.open_txg(),
                &[],
            )
            .await
            .unwrap();
        }
        for index in (0..4000).step_by(3) {
            let name =
                format!("a-name-that-is-longer-than-a-micro-table-takes-in-one-entry-{index}");
            zpl.unlink(zpl.root(), name.as_bytes(), [NOW, 0])
                .await
                .unwrap();
        }
        spa.sync(NOW).await.unwrap();
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(async {
        let zpl = open(&spa, "tank").await;
        assert_eq!(
            zpl.readdir(zpl.root()).await.unwrap().len(),
            4000 - 4000usize.div_ceil(3)
        );
        for index in 0..4000 {
            let name =
                format!("a-name-that-is-longer-than-a-micro-table-takes-in-one-entry-{index}");
            assert_eq!(
                zpl.lookup(zpl.root(), name.as_bytes()).await.is_ok(),
                index % 3 != 0,
                "{name}"
            );
        }
    });
}

#[test]
fn a_large_new_pool_whose_metaslabs_are_nearly_all_unused_is_imported_again() {
    // Three blocks of the array of maps, of which only the first is there.
    let disk = Rc::new(MemoryDevice::new(3 << 30));
    let new = NewPool {
        name: "tank".into(),
        vdevs: vec![NewVdev::Disk("/disks/d0".into(), disk.clone())],
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift: 12,
        now: NOW,
        arc_limit: 16 << 20,
    };
    let spa = block_on(create(new, &mut random())).expect("a pool");
    drop(spa);
    let spa = open_devices(vec![disk], Access::ReadWrite);
    assert!(block_on(spa.allocated()).expect("a sum") > 0);
    assert_eq!(block_on(spa.sync(NOW)), Ok(()));
}
