//! Changes of files as POSIX has them, read back after import and checked by zdb; and what becomes known of lost blocks.

use pool::block_device::Access;
use pool::error::{Bookmark, Error};
use pool::future::block_on;
use pool::zil::AttributeChanges;
use pool::zpl::{ExtendedAttribute, FileType, Name, Zpl};

use crate::support::making::{
    MADE, devices, disks, head, new_file, pool_on, put, random_from, text,
};
use crate::support::{open_devices, zdb};

/// Bytes before a device's data area.
const DATA_AT: u64 = 4 << 20;

fn name(directory: u64, name: &str) -> Name<'_> {
    Name {
        directory,
        name: name.as_bytes(),
    }
}

async fn make(zpl: &Zpl, directory: u64, name: &str, file_type: FileType) -> u64 {
    let new = new_file(file_type, 0o755);
    zpl.create(directory, name.as_bytes(), &new, 7, &[])
        .await
        .expect(name)
}

#[test]
fn renaming_replaces_what_may_be_replaced() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(21));
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let root = zpl.root();
        let now = [MADE, 0];
        let [one, two] =
            ["one", "two"].map(|dir| block_on(make(&zpl, root, dir, FileType::Directory)));
        let inner = make(&zpl, one, "inner", FileType::Directory).await;
        let file = make(&zpl, one, "file", FileType::Regular).await;
        make(&zpl, two, "old", FileType::Regular).await;
        let rename = async |from: Name<'_>, to: Name<'_>| zpl.rename(from, to, now).await;
        assert_eq!(
            rename(name(root, "one"), name(inner, "below")).await,
            Err(Error::InvalidArgument)
        );
        assert_eq!(
            rename(name(one, "file"), name(root, "two")).await,
            Err(Error::IsDirectory)
        );
        assert_eq!(
            rename(name(root, "two"), name(one, "file")).await,
            Err(Error::NotDirectory)
        );
        assert_eq!(
            rename(name(one, "inner"), name(root, "two")).await,
            Err(Error::NotEmpty)
        );
        assert_eq!(
            rename(name(one, "none"), name(two, "x")).await,
            Err(Error::NotFound)
        );
        rename(name(one, "file"), name(two, "old")).await.unwrap();
        zpl.unlink(two, b"old", now).await.unwrap();
        rename(name(one, "inner"), name(root, "two")).await.unwrap();
        assert_eq!(zpl.resolve(b"two").await, Ok(inner));
        assert_eq!(zpl.znode(file).await.err(), Some(Error::NotFound));
        let links = [root, one].map(|object| block_on(zpl.znode(object)).unwrap().links);
        assert_eq!(links, [4, 2], "subdirectories are links");
        let sizes = [root, one].map(|object| block_on(zpl.znode(object)).unwrap().size);
        assert_eq!(sizes, [4, 2], "entries are counted");
        zpl.exchange(name(root, "one"), name(root, "two"), now)
            .await
            .unwrap();
        assert_eq!(zpl.resolve(b"two").await, Ok(one));
        spa.sync(MADE).await.unwrap();
    });
    zdb::check("tank", &disks);
}

#[test]
fn extended_attributes_are_kept_whatever_their_size() {
    let disks = disks(1);
    let mut wanted: Vec<ExtendedAttribute> = [
        ("user.a", 5),
        ("user.b", 200),
        ("user.c", 9_000),
        ("user.d", 100_000),
    ]
    .map(|(name, size)| ExtendedAttribute {
        name: name.into(),
        value: text(size, size as u64),
    })
    .into();
    let spa = pool_on(&disks[0], &mut random_from(22));
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let object = make(&zpl, zpl.root(), "file", FileType::Regular).await;
        for attribute in &wanted {
            zpl.set_xattr(
                object,
                &attribute.name,
                Some(&attribute.value),
                9,
                [MADE, 0],
            )
            .await
            .unwrap();
        }
        spa.sync(MADE).await.unwrap();
        assert_eq!(zpl.xattrs(object).await.unwrap(), wanted);
        wanted[1].value = text(30_000, 5);
        zpl.set_xattr(object, b"user.b", Some(&wanted[1].value), 9, [MADE, 0])
            .await
            .unwrap();
        zpl.set_xattr(object, b"user.c", None, 9, [MADE, 0])
            .await
            .unwrap();
        assert_eq!(
            zpl.set_xattr(object, b"user.c", None, 9, [MADE, 0]).await,
            Err(Error::NotFound)
        );
        wanted.remove(2);
        zpl.write(object, 0, b"contents", [MADE, 1]).await.unwrap();
        let gone = make(&zpl, zpl.root(), "gone", FileType::Regular).await;
        zpl.set_xattr(gone, b"user.x", Some(&text(70_000, 1)), 9, [MADE, 0])
            .await
            .unwrap();
        spa.sync(MADE).await.unwrap();
        zpl.unlink(zpl.root(), b"gone", [MADE, 2]).await.unwrap();
        spa.sync(MADE).await.unwrap();
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadWrite);
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let object = zpl.resolve(b"file").await.unwrap();
        assert_eq!(zpl.xattrs(object).await.unwrap(), wanted);
        assert_eq!(zpl.read(object, 0, 100).await.unwrap(), b"contents");
        for attribute in &wanted {
            zpl.set_xattr(object, &attribute.name, None, 9, [MADE, 0])
                .await
                .unwrap();
        }
        assert_eq!(zpl.xattrs(object).await.unwrap(), []);
        spa.sync(MADE).await.unwrap();
    });
    zdb::check("tank", &disks);
}

#[test]
fn modes_owners_times_and_holes_are_set() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(23));
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let object = make(&zpl, zpl.root(), "file", FileType::Regular).await;
        let device = make(&zpl, zpl.root(), "device", FileType::Character).await;
        assert_eq!(zpl.znode(device).await.unwrap().rdev, 0);
        zpl.write(object, 0, &text(400_000, 1), [MADE, 0])
            .await
            .unwrap();
        let changes = AttributeChanges {
            mode: Some(0o4711),
            uid: Some(12),
            gid: Some(34),
            size: Some(300_000),
            atime: Some([1, 2]),
            mtime: Some([3, 4]),
        };
        zpl.set_attributes(object, &changes, [MADE, 9])
            .await
            .unwrap();
        zpl.punch_hole(object, 1_000, 250_000, [MADE, 10])
            .await
            .unwrap();
        zpl.set_attributes(
            object,
            &AttributeChanges {
                mtime: Some([3, 4]),
                ..AttributeChanges::default()
            },
            [MADE, 11],
        )
        .await
        .unwrap();
        spa.sync(MADE).await.unwrap();
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let object = zpl.resolve(b"file").await.unwrap();
        let znode = zpl.znode(object).await.unwrap();
        assert_eq!(
            (znode.mode, znode.uid, znode.gid, znode.size),
            (0o104711, 12, 34, 300_000)
        );
        assert_eq!(
            (znode.atime, znode.mtime, znode.ctime),
            ([1, 2], [3, 4], [MADE, 11])
        );
        let mut wanted = text(400_000, 1);
        wanted.truncate(300_000);
        wanted[1_000..251_000].fill(0);
        assert!(
            zpl.read(object, 0, 1 << 20).await.unwrap() == wanted,
            "the contents"
        );
        assert_eq!(
            zpl.next_data(object, 140_000).await,
            Ok(Some(140_000)),
            "the second block keeps its end"
        );
        assert_eq!(zpl.next_data(object, 1 << 30).await, Ok(None));
    });
}

#[test]
fn a_commit_of_the_log_needs_no_group_and_is_replayed_on_volumes_too() {
    let disks = disks(1);
    let mut random = random_from(24);
    let spa = pool_on(&disks[0], &mut random);
    let new = pool::dsl::NewVolume {
        size: 4 << 20,
        block_size: 8192,
        reservation: pool::dsl::VolumeReservation::None,
    };
    let data = text(300_000, 8);
    block_on(async {
        spa.create_volume("tank/v", new, MADE, &mut random)
            .await
            .unwrap();
        let objset = spa.open_head("tank/v").await.unwrap();
        let volume = pool::zvol::Zvol::open(objset.clone()).await.unwrap();
        volume.write(0, b"first").await.unwrap();
        spa.commit_log(&objset, MADE).await.unwrap();
        let txg = spa.open_txg();
        volume.write(1000, &data).await.unwrap();
        volume.discard(200_000, 20_000).await.unwrap();
        spa.commit_log(&objset, MADE).await.unwrap();
        assert_eq!(spa.open_txg(), txg, "the log is enough");
    });
    drop(spa);
    let mut wanted = data;
    wanted[199_000..219_000].fill(0);
    for access in [Access::ReadOnly, Access::ReadWrite, Access::ReadOnly] {
        let spa = open_devices(devices(&disks), access);
        block_on(async {
            let volume = pool::zvol::Zvol::open(spa.open_head("tank/v").await.unwrap())
                .await
                .unwrap();
            assert!(
                volume.read(1000, 300_000).await.unwrap() == wanted,
                "{access:?}"
            );
        });
    }
    zdb::check("tank", &disks);
}

#[test]
fn zdb_reads_the_records_of_the_log() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(26));
    block_on(async {
        let objset = spa.open_head("tank").await.unwrap();
        let zpl = Zpl::open(objset.clone()).await.unwrap();
        let root = zpl.root();
        make(&zpl, root, "before", FileType::Regular).await;
        spa.commit_log(&objset, MADE).await.unwrap();
        let now = [MADE, 3];
        let file = make(&zpl, root, "file", FileType::Regular).await;
        zpl.write(file, 0, &text(200_000, 4), now).await.unwrap();
        zpl.truncate(file, 150_000, now).await.unwrap();
        let changes = AttributeChanges {
            mode: Some(0o640),
            uid: Some(5),
            ..AttributeChanges::default()
        };
        zpl.set_attributes(file, &changes, now).await.unwrap();
        zpl.set_xattr(file, b"user.note", Some(b"value"), 9, now)
            .await
            .unwrap();
        zpl.link(file, root, b"hard", now).await.unwrap();
        make(&zpl, root, "dir", FileType::Directory).await;
        zpl.rename(name(root, "hard"), name(root, "moved"), now)
            .await
            .unwrap();
        zpl.create(
            root,
            b"sym",
            &new_file(FileType::Symlink, 0o777),
            9,
            b"target",
        )
        .await
        .unwrap();
        zpl.unlink(root, b"before", now).await.unwrap();
        zpl.rmdir(root, b"dir", now).await.unwrap();
        spa.commit_log(&objset, MADE).await.unwrap();
    });
    drop(spa);
    // The log is not replayed yet: its blocks are none that the space maps know.
    zdb::check("tank", &disks);
    let Some(found) = zdb::logs("tank", &disks) else {
        return;
    };
    let counts = [
        ("TX_CREATE", 1),
        ("TX_MKDIR", 1),
        ("TX_SYMLINK", 1),
        ("TX_REMOVE", 1),
        ("TX_RMDIR", 1),
        ("TX_LINK", 1),
        ("TX_RENAME", 1),
        ("TX_TRUNCATE", 1),
        ("TX_SETATTR", 1),
        ("TX_SETSAXATTR", 1),
    ];
    for (kind, count) in counts {
        let total = |line: &&str| line.split_whitespace().eq([kind, &count.to_string()]);
        assert_eq!(found.lines().filter(total).count(), 1, "{kind}:\n{found}");
    }
    for words in [
        "name hard",
        "src hard tgt moved",
        "sym -> target",
        "XAT_NAME  user.note",
        "mode 100755",
        "AT_MODE  100640",
    ] {
        assert!(found.contains(words), "{words}:\n{found}");
    }
}

#[test]
fn a_lost_block_is_remembered_with_the_file_it_belongs_to() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(25));
    let (object, place) = block_on(async {
        put(&spa, "tank", "victim", &text(100_000, 3)).await;
        spa.sync(MADE).await.unwrap();
        let zpl = head(&spa, "tank").await;
        let object = zpl.resolve(b"victim").await.unwrap();
        let dnode = zpl.objset().dnode(object).await.unwrap();
        let pointer = zpl.objset().stored_pointer(&dnode, 0, 0).await.unwrap();
        assert!(spa.lost_blocks().await.unwrap().is_empty());
        (object, pointer.dvas().next().unwrap().offset)
    });
    drop(spa);
    disks[0].poke(DATA_AT + place, &[0x5a; 4096]).unwrap();
    for access in [Access::ReadWrite, Access::ReadOnly] {
        let spa = open_devices(devices(&disks), access);
        block_on(async {
            let zpl = head(&spa, "tank").await;
            if access == Access::ReadWrite {
                assert!(matches!(
                    zpl.read(object, 0, 100).await,
                    Err(Error::Unreadable(_))
                ));
                spa.sync(MADE).await.unwrap();
            }
            let lost: Vec<Bookmark> = spa.lost_blocks().await.unwrap().into_iter().collect();
            let [lost] = lost[..] else { panic!("{lost:?}") };
            assert_eq!((lost.object, lost.level, lost.block), (object, 0, 0));
            assert_eq!(zpl.path_of(lost.object).await.unwrap(), b"victim");
        });
    }
}
