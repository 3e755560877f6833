//! Using a pool in every way, whatever it answers: only panics, hangs and hunger count.

use std::rc::Rc;

use pool::block_device::{Access, BlockDevice};
use pool::dsl::{BlockForms, DatasetEntry, Deferral};
use pool::error::{Bookmark, DeviceError, Error};
use pool::future::block_on;
use pool::send::{SendFrom, SendRequest, SendScope, StreamFuture, StreamWriter, plan_send, send};
use pool::spa::{ImportOptions, Spa, import, scan};
use pool::space_map;
use pool::zpl::{AccountingKind, FileType, NewFile, Owner, Zpl};
use pool::zvol::Zvol;

use crate::mutation::Random;

const NOW: u64 = 1_900_000_000;
/// Files of a data set that are read.
const FILES: usize = 12;
/// Bytes of a file or volume that are read at a time.
const PIECE: usize = 128 << 10;
/// Bytes of a stream that are taken before its reader goes away.
const STREAM_MAX: usize = 4 << 20;
const ARC_LIMIT: usize = 4 << 20;

/// Takes part of a stream.
struct Short(usize);

impl StreamWriter for Short {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> StreamFuture<'a, ()> {
        let left = self.0.checked_sub(bytes.len());
        self.0 = left.unwrap_or(0);
        Box::pin(std::future::ready(
            left.map(|_| ()).ok_or(DeviceError::Gone),
        ))
    }
}

pub fn open(devices: &[Rc<dyn BlockDevice>], access: Access) -> Option<Spa> {
    block_on(async {
        let pools = scan(devices.to_vec()).await;
        let options = ImportOptions {
            access,
            arc_limit: ARC_LIMIT,
            now: NOW,
        };
        import(pools.first()?, options).await.ok()
    })
}

/// Opens and reads; `focus` are the blocks that were changed, whose objects are read in any case.
pub fn read_all(devices: &[Rc<dyn BlockDevice>], focus: &[Bookmark], random: &mut Random) {
    let Some(spa) = open(devices, Access::ReadOnly) else {
        return;
    };
    block_on(async {
        read_pool(&spa).await;
        let datasets = spa.list_datasets(spa.name()).await.unwrap_or_default();
        for entry in datasets.iter().take(24) {
            read_dataset(&spa, entry, focus, random).await;
        }
        if let Some(snapshot) = datasets.iter().find(|entry| entry.dataset.is_snapshot()) {
            send_part(&spa, &snapshot.name, random).await;
        }
    });
}

async fn read_pool(spa: &Spa) {
    let _ = spa.history().await;
    let _ = spa.lost_blocks().await;
    let _ = spa.scan().await;
    let _ = spa.size().await;
    let _ = spa.allocated().await;
    let _ = spa.comment().await;
    let _ = spa.feature_counts().await;
    let _ = spa.checkpoint_space().await;
    let _ = space_map::LogEntries::load(spa).await;
    for top in spa.zio().vdevs().tops() {
        for map in spa.metaslab_maps(top).await.unwrap_or_default() {
            let _ = space_map::load(spa.mos(), map).await;
        }
    }
}

async fn read_dataset(spa: &Spa, entry: &DatasetEntry, focus: &[Bookmark], random: &mut Random) {
    let _ = spa.properties(entry).await;
    let _ = spa.bookmarks(&entry.dataset).await;
    let _ = spa.holds(&entry.dataset).await;
    let _ = spa.receive_state(&entry.name).await;
    let _ = spa.wrapped_keys(&entry.dir).await;
    let _ = spa.dataset_name(&entry.dataset).await;
    let Ok(objset) = spa.open_objset(&entry.dataset, None).await else {
        return;
    };
    if let Ok(zpl) = Zpl::open(objset).await {
        return read_files(&zpl, focus, random).await;
    }
    let Ok(objset) = spa.open_objset(&entry.dataset, None).await else {
        return;
    };
    if let Ok(volume) = Zvol::open(objset).await {
        for at in [
            0,
            volume.size() / 2,
            volume.size().saturating_sub(PIECE as u64),
        ] {
            let _ = volume.read(at, PIECE).await;
        }
    }
}

async fn read_files(zpl: &Zpl, focus: &[Bookmark], random: &mut Random) {
    for kind in [
        AccountingKind::User,
        AccountingKind::Group,
        AccountingKind::Project,
    ] {
        let _ = zpl.space_use(kind).await;
    }
    let walked = zpl.walk(zpl.root()).await.unwrap_or_default();
    let mut objects: Vec<u64> = focus.iter().map(|bookmark| bookmark.object).collect();
    objects.push(zpl.root());
    if !walked.is_empty() {
        objects.extend((0..FILES).map(|_| random.choose(&walked).1.object));
    }
    for object in objects {
        read_file(zpl, object).await;
    }
}

async fn read_file(zpl: &Zpl, object: u64) {
    let _ = zpl.path_of(object).await;
    let _ = zpl.xattrs(object).await;
    let _ = zpl.readdir(object).await;
    let _ = zpl.readlink(object).await;
    let size = zpl.znode(object).await.map_or(0, |znode| znode.size);
    for at in [0, size / 2, size.saturating_sub(PIECE as u64)] {
        let _ = zpl.read(object, at, PIECE).await;
        let _ = zpl.next_data(object, at).await;
    }
}

async fn send_part(spa: &Spa, snapshot: &str, random: &mut Random) {
    let request = SendRequest {
        snapshot,
        from: SendFrom::Nothing,
        scope: *random.choose(&[SendScope::Snapshot, SendScope::Replicate]),
        forms: BlockForms {
            large: true,
            embedded: true,
            compressed: true,
        },
        key: None,
    };
    if let Ok(plan) = plan_send(spa, &request).await {
        let _ = send(spa, &plan, snapshot, &mut Short(STREAM_MAX), &mut |_| {}).await;
    }
}

/// Opens for writing and changes things of every kind.
pub fn write_all(devices: &[Rc<dyn BlockDevice>], focus: &[Bookmark], random: &mut Random) {
    let Some(spa) = open(devices, Access::ReadWrite) else {
        return;
    };
    block_on(async {
        let datasets = spa.list_datasets(spa.name()).await.unwrap_or_default();
        for entry in datasets.iter().take(6) {
            let _ = change_files(&spa, entry, focus, random).await;
        }
        let _ = spa.sync(NOW).await;
        if !datasets.is_empty() {
            for _ in 0..4 {
                let entry = random.choose(&datasets);
                change_dataset(&spa, &entry.name, random).await;
            }
        }
        let _ = spa.start_scrub(NOW).await;
        for _ in 0..3 {
            let _ = spa.scrub_some(4 << 20, NOW).await;
        }
        let _ = spa.sync(NOW + 1).await;
        let _ = spa.export(NOW + 2).await;
    });
}

async fn change_dataset(spa: &Spa, name: &str, random: &mut Random) {
    let kind = random.below(6);
    let mut numbers = || random.next();
    let _ = match kind {
        0 => {
            let snapshot = format!("{name}@hostile");
            spa.snapshot(&snapshot, NOW, &mut numbers).await
        }
        1 | 2 => spa.destroy(name, Deferral::Refused, NOW).await,
        3 => spa.promote(name, NOW, &mut numbers).await,
        4 => spa.rollback(name, NOW, &mut numbers).await,
        _ => spa.rename(name, &format!("{name}x"), NOW).await,
    };
    for _ in 0..2 {
        let _ = spa.sync(NOW).await;
    }
}

async fn change_files(
    spa: &Spa,
    entry: &DatasetEntry,
    focus: &[Bookmark],
    random: &mut Random,
) -> Result<(), Error> {
    let objset = spa.open_head(&entry.name).await?;
    let zpl = Zpl::open(objset.clone()).await?;
    let now = [NOW, 0];
    let new = NewFile {
        file_type: FileType::Regular,
        mode: 0o644,
        owner: Owner { uid: 7, gid: 7 },
        now,
        rdev: 0,
        salt: random.next(),
    };
    let made = zpl
        .create(zpl.root(), b"hostile", &new, spa.open_txg(), &[])
        .await;
    if let Ok(file) = made {
        let _ = zpl.write(file, 1000, &[7; 5000], now).await;
    }
    let _ = spa.commit_log(&objset, NOW).await;
    let entries = zpl.readdir(zpl.root()).await.unwrap_or_default();
    let objects = focus.iter().map(|bookmark| bookmark.object);
    let some = entries.iter().take(3).map(|entry| entry.object);
    for object in objects.chain(some) {
        let _ = zpl
            .set_xattr(object, b"user.hostile", Some(&[1; 300]), 5, now)
            .await;
        let _ = zpl.write(object, 500, &[9; 3000], now).await;
        let _ = zpl.truncate(object, 700, now).await;
    }
    for entry in entries.iter().take(3) {
        let _ = zpl.unlink(zpl.root(), &entry.name, now).await;
        let _ = zpl.rmdir(zpl.root(), &entry.name, now).await;
    }
    Ok(())
}
