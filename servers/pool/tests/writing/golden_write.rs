//! Golden pools, imported for writing: OpenZFS made them with its default features, so all of its structures must be kept up.

use std::collections::BTreeMap;

use crate::support::making::{devices, head, put, random_from, text};
use crate::support::{Golden, check_contents, open_devices, zdb};
use pool::block_device::Access;
use pool::dnode::ObjectType;
use pool::dsl::Deferral;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zpl::{AccountingKind, FileType, Zpl};

const NOW: u64 = 1_900_000_000;
/// Enough groups that metaslabs are flushed and logs go.
const GROUPS: u64 = 40;
const SIZE: usize = 70_000;

/// What a new file system beside the old ones holds after all groups.
async fn write_beside(spa: &Spa, pool: &str) {
    let mut random = random_from(1);
    let name = format!("{pool}/written");
    spa.create_filesystem(&name, NOW, &mut random)
        .await
        .expect("a file system");
    for group in 0..GROUPS {
        put(
            spa,
            &name,
            &format!("file{}", group % 7),
            &text(SIZE, group),
        )
        .await;
        if group % 10 == 4 {
            spa.snapshot(&format!("{name}@{group}"), NOW, &mut random)
                .await
                .expect("a snapshot");
        }
        spa.sync(NOW + group).await.expect("a group");
    }
    spa.destroy(&format!("{name}@14"), Deferral::Refused, NOW)
        .await
        .expect("the snapshot goes");
}

async fn check_beside(spa: &Spa, pool: &str) {
    let name = format!("{pool}/written");
    let zpl = head(spa, &name).await;
    for group in GROUPS - 7..GROUPS {
        let object = zpl
            .resolve(format!("file{}", group % 7).as_bytes())
            .await
            .expect("a file");
        let data = zpl.read(object, 0, SIZE + 1).await.expect("its data");
        assert!(data == text(SIZE, group), "{name} of group {group}");
    }
}

/// Removes a third of the files in the roots of all file systems, and changes another third.
async fn change_old(spa: &Spa, pool: &str) {
    for entry in spa.list_datasets(pool).await.expect("data sets") {
        let encrypted = entry.dataset.phys.pointer.is_encrypted();
        if entry.dataset.is_snapshot() || encrypted {
            continue;
        }
        let objset = spa.open_head(&entry.name).await.expect("a head");
        if objset.kind() != pool::dmu::ObjsetType::Filesystem {
            continue;
        }
        let zpl = Zpl::open(objset).await.expect("a file system");
        for (index, found) in zpl
            .readdir(zpl.root())
            .await
            .expect("names")
            .iter()
            .enumerate()
        {
            let znode = zpl.znode(found.object).await.expect("a file");
            if znode.file_type != FileType::Regular {
                continue;
            }
            match index % 3 {
                0 => zpl
                    .unlink(zpl.root(), &found.name, [NOW, 0])
                    .await
                    .expect("gone"),
                1 => zpl
                    .write(found.object, znode.size / 2, &text(5000, 3), [NOW, 0])
                    .await
                    .expect("written"),
                _ => {}
            }
        }
        spa.sync(NOW).await.expect("a group");
        check_use(&zpl, &entry.name).await;
    }
}

/// What a file system says that owners use is what its objects say.
async fn check_use(zpl: &Zpl, name: &str) {
    let mut counted: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
    let mut at = 0;
    while let Some(number) = zpl.objset().next_object(at).await.expect("objects") {
        at = number;
        let dnode = zpl.objset().dnode(number).await.expect("an object");
        if dnode.phys.bonus_type == ObjectType::SYSTEM_ATTRIBUTES {
            let owner = zpl.znode(number).await.expect("a file").uid;
            let (used, objects) = counted.entry(owner).or_default();
            *used += dnode.phys.used_bytes() + 512;
            *objects += 1;
        }
    }
    let said = zpl.space_use(AccountingKind::User).await.expect("use");
    let said = said.iter().filter(|said| said.used != 0);
    let said: BTreeMap<u64, (u64, u64)> = said
        .map(|said| (said.id, (said.used, said.objects)))
        .collect();
    if said.values().all(|(_, objects)| *objects == 0) {
        // Without the feature only bytes are counted.
        counted.values_mut().for_each(|(_, objects)| *objects = 0);
    }
    assert_eq!(said, counted, "{name}");
}

/// The old contents are as the manifest says after new ones were written beside them; zdb is content with that, and
/// with changes to the old ones.
fn is_written(name: &str, secrets: &[(&str, &[u8])], check: impl Fn(&str, &Golden)) {
    let golden = Golden::load(name);
    let pool = name.split('-').next().expect("a pool's name");
    let spa = open_devices(golden.devices(), Access::ReadWrite);
    block_on(async {
        spa.check_writable()
            .await
            .expect("a pool that can be written");
        write_beside(&spa, pool).await;
        spa.export(NOW + GROUPS).await.expect("an export");
    });
    check(pool, &golden);
    let spa = open_devices(devices(&golden.disks), Access::ReadWrite);
    check_contents(&spa, &golden.manifest, secrets);
    block_on(async {
        check_beside(&spa, pool).await;
        change_old(&spa, pool).await;
        spa.export(NOW + GROUPS).await.expect("an export");
    });
    check(pool, &golden);
}

fn is_content(pool: &str, golden: &Golden) {
    zdb::check(pool, &golden.disks);
}

macro_rules! written {
    ($($test:ident $name:literal,)*) => {$(
        #[test]
        fn $test() {
            is_written($name, &[], is_content);
        }
    )*};
}

written! {
    a_default_pool "p01-single-default",
    a_pool_without_features "p03-nofeatures-v5000",
    a_pool_of_openzfs_2_1 "p02-ashift9-compat21-off",
    compression "p04-compression",
    checksums "p05-checksums",
    sizes_of_records_and_dnodes "p06-recordsize-dnodesize",
    many_files_and_names "p07-manyfiles-dirs",
    a_mirror "p08-mirror2",
    raidz1 "p09-raidz1-3",
    raidz2 "p10-raidz2-5",
    raidz3 "p23-raidz3-6",
    volumes "p12-zvol",
    gang_blocks "p19-gang",
    a_pending_log "p14-zil-pending",
    a_pending_log_on_its_own_device "p15-zil-slog",
}

#[test]
fn snapshots_clones_and_bookmarks() {
    is_written("p11-snapclone", &[], |pool, golden| {
        zdb::check_data_but_for(pool, &golden.disks, "DSL permissions");
    });
}

#[test]
fn large_blocks_bookmarks_and_an_encrypted_file_system() {
    let secrets: [(&str, &[u8]); 1] = [("p13/enc", b"correct horse")];
    is_written("p13-streams", &secrets, is_content);
}

#[test]
fn encrypted_file_systems_beside() {
    let secrets: [(&str, &[u8]); 2] = [("p22/g", &[b'A'; 32]), ("p22/c", b"open sesame")];
    is_written("p22-encrypted", &secrets, is_content);
}
