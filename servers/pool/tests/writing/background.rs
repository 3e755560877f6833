//! What goes on after a call returned: destroyed file systems are freed over several groups, unlinked files when they are closed.

use crate::support::making::{devices, disks, head, new_file, pool_on, put, random_from, text};
use crate::support::{open_devices, zdb};
use pool::block_device::Access;
use pool::dsl::{Deferral, PropertyError};
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zil::AttributeChanges;
use pool::zpl::FileType;

const NOW: u64 = 1_700_000_100;

/// A file system with files of many sizes, holes, and attributes in spill blocks.
async fn fill(spa: &Spa, name: &str) {
    for (index, size) in [0, 100, 5000, 131_072, 400_000, 1_500_000]
        .into_iter()
        .enumerate()
    {
        put(
            spa,
            name,
            &format!("file{index}"),
            &text(size, index as u64),
        )
        .await;
    }
    let zpl = head(spa, name).await;
    let sparse = name.replace('/', " ");
    let sparse = zpl
        .create(
            zpl.root(),
            sparse.as_bytes(),
            &new_file(FileType::Regular, 0o600),
            spa.open_txg(),
            &[],
        )
        .await
        .unwrap();
    zpl.write(sparse, 300 << 20, b"far away", [NOW, 0])
        .await
        .unwrap();
    zpl.set_xattr(
        sparse,
        b"user.long",
        Some(&[7; 3000]),
        spa.open_txg(),
        [NOW, 0],
    )
    .await
    .unwrap();
    for index in 0..70 {
        put(spa, name, &format!("small{index}"), &text(3000, index)).await;
    }
    spa.sync(NOW).await.unwrap();
}

#[test]
fn a_destroyed_file_system_is_freed_over_many_groups() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(3));
    block_on(async {
        let mut random = random_from(4);
        spa.create_filesystem("tank/old", NOW, &mut random)
            .await
            .unwrap();
        fill(&spa, "tank/old").await;
        spa.snapshot("tank/old@kept", NOW, &mut random)
            .await
            .unwrap();
        spa.clone_snapshot("tank/old@kept", "tank/clone", NOW, &mut random)
            .await
            .unwrap();
        fill(&spa, "tank/clone").await;
        spa.set_free_limit(7);
        spa.destroy("tank/clone", Deferral::Refused, NOW)
            .await
            .unwrap();
        assert_eq!(
            spa.find_dataset("tank/clone").await.err(),
            Some(Error::NotFound)
        );
    });
    let mut spa = spa;
    let mut groups = 0;
    while block_on(spa.freeing()).unwrap() > 0 {
        // The walk stops in data, indirect blocks, spill blocks and dnodes, and zdb goes on from there too.
        if groups % 3 == 0 && groups < 30 {
            zdb::check("tank", &disks);
        }
        if groups % 5 == 1 {
            drop(spa);
            spa = open_devices(devices(&disks), Access::ReadWrite);
            spa.set_free_limit(7);
        }
        let before = block_on(spa.freeing()).unwrap();
        block_on(spa.sync(NOW + groups)).unwrap();
        assert!(block_on(spa.freeing()).unwrap() < before);
        groups += 1;
    }
    assert!(groups > 10, "{groups} groups");
    zdb::check_data("tank", &disks);
    block_on(async {
        for name in ["tank/old@kept", "tank/old"] {
            spa.destroy(name, Deferral::Refused, NOW).await.unwrap();
        }
        spa.set_free_limit(usize::MAX);
        spa.sync(NOW).await.unwrap();
        assert_eq!(spa.freeing().await, Ok(0));
    });
    zdb::check("tank", &disks);
}

#[test]
fn an_open_file_outlives_its_name_until_it_is_closed_or_the_pool_imported() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(3));
    block_on(async {
        for name in ["closed", "crashed"] {
            put(&spa, "tank", name, &text(300_000, 1)).await;
        }
        let zpl = head(&spa, "tank").await;
        let [closed, crashed] = [
            zpl.resolve(b"closed").await.unwrap(),
            zpl.resolve(b"crashed").await.unwrap(),
        ];
        for (object, name) in [(closed, &b"closed"[..]), (crashed, b"crashed")] {
            zpl.hold(object);
            zpl.hold(object);
            zpl.unlink(zpl.root(), name, [NOW, 0]).await.unwrap();
            assert_eq!(zpl.resolve(name).await, Err(Error::NotFound));
        }
        zpl.release(closed).await.unwrap();
        spa.sync(NOW).await.unwrap();
        assert_eq!(
            zpl.read(closed, 0, 300_000).await.unwrap(),
            text(300_000, 1)
        );
        zpl.release(closed).await.unwrap();
        assert_eq!(zpl.znode(closed).await.err(), Some(Error::NotFound));
        assert_eq!(zpl.znode(crashed).await.unwrap().links, 0);
        spa.sync(NOW).await.unwrap();
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadWrite);
    block_on(async {
        let zpl = head(&spa, "tank").await;
        let mut objects = Vec::new();
        let mut at = 0;
        while let Some(number) = zpl.objset().next_object(at).await.unwrap() {
            at = number;
            objects.push(number);
        }
        spa.sync(NOW).await.unwrap();
        let mut left = 0;
        for object in objects {
            let found = zpl.znode(object).await;
            left += u32::from(found.is_ok_and(|znode| znode.file_type == FileType::Regular));
        }
        assert_eq!(left, 0);
    });
    zdb::check_data("tank", &disks);
}

#[test]
fn a_read_only_file_system_refuses_every_change() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(3));
    block_on(async {
        put(&spa, "tank", "file", b"before").await;
        let mut random = random_from(1);
        spa.set_property("tank", "readonly", "on", NOW, &mut random)
            .await
            .unwrap();
        let zpl = head(&spa, "tank").await;
        let file = zpl.resolve(b"file").await.unwrap();
        let time = [NOW, 0];
        let changes = AttributeChanges::default();
        let new = new_file(FileType::Regular, 0o644);
        let refused = [
            zpl.write(file, 0, b"after", time).await,
            zpl.truncate(file, 1, time).await,
            zpl.unlink(zpl.root(), b"file", time).await,
            zpl.link(file, zpl.root(), b"link", time).await,
            zpl.set_attributes(file, &changes, time).await,
            zpl.set_xattr(file, b"user.a", Some(b"b"), 5, time).await,
            zpl.create(zpl.root(), b"new", &new, 5, &[])
                .await
                .map(|_| ()),
        ];
        assert_eq!(refused, [Err(Error::ReadOnly); 7]);
        zpl.accessed(file, [NOW + 1_000_000, 0]).await.unwrap();
        assert!(!zpl.objset().is_dirty());
        spa.set_property("tank", "readonly", "off", NOW, &mut random)
            .await
            .unwrap();
        zpl.write(file, 0, b"after", time).await.unwrap();
    });
}

#[test]
fn access_times_and_attributes_follow_their_properties() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(3));
    block_on(async {
        put(&spa, "tank", "file", b"text").await;
        let mut random = random_from(1);
        let zpl = head(&spa, "tank").await;
        let file = zpl.resolve(b"file").await.unwrap();
        let later = [NOW + 10, 0];
        for (settings, read_at, wanted) in [
            (&[("atime", "off")][..], [NOW + 9, 0], [1_700_000_000, 5]),
            (&[("atime", "on"), ("relatime", "on")], later, later),
            (&[], [NOW + 20, 0], later),
            (&[("relatime", "off")], [NOW + 30, 0], [NOW + 30, 0]),
        ] {
            for (name, value) in settings {
                spa.set_property("tank", name, value, NOW, &mut random)
                    .await
                    .unwrap();
            }
            zpl.accessed(file, read_at).await.unwrap();
            assert_eq!(zpl.znode(file).await.unwrap().atime, wanted, "{settings:?}");
        }
        for (place, in_directory) in [("sa", false), ("dir", true)] {
            spa.set_property("tank", "xattr", place, NOW, &mut random)
                .await
                .unwrap();
            let name = format!("user.{place}");
            zpl.set_xattr(file, name.as_bytes(), Some(b"value"), spa.open_txg(), later)
                .await
                .unwrap();
            assert_eq!(zpl.znode(file).await.unwrap().xattr_dir != 0, in_directory);
        }
        spa.set_property("tank", "xattr", "off", NOW, &mut random)
            .await
            .unwrap();
        assert!(
            zpl.set_xattr(file, b"user.off", Some(b"x"), 5, later)
                .await
                .is_err()
        );
        spa.sync(NOW).await.unwrap();
    });
    zdb::check("tank", &disks);
}

#[test]
fn quotas_of_owners_end_writing_and_creating() {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(3));
    block_on(async {
        let mut random = random_from(1);
        put(&spa, "tank", "file", &text(300_000, 1)).await;
        let mut set = async |name: &str, value: &str| {
            spa.set_property("tank", name, value, NOW, &mut random)
                .await
        };
        set("userquota@1000", "100K").await.unwrap();
        set("groupobjquota@100", "2").await.unwrap();
        assert_eq!(set("userquota@", "1").await, Err(PropertyError::Unknown));
        let zpl = head(&spa, "tank").await;
        let file = zpl.resolve(b"file").await.unwrap();
        let refused = zpl.write(file, 0, b"more", [NOW, 0]).await;
        assert_eq!(refused, Err(Error::QuotaExceeded));
        let new = new_file(FileType::Regular, 0o644);
        let second = zpl.create(zpl.root(), b"second", &new, 5, &[]).await;
        assert!(second.is_ok());
        spa.sync(NOW).await.unwrap();
        let third = zpl.create(zpl.root(), b"third", &new, 5, &[]).await;
        assert_eq!(third, Err(Error::QuotaExceeded));
        set("userquota@1000", "none").await.unwrap();
        set("groupobjquota@100", "3").await.unwrap();
        let zpl = head(&spa, "tank").await;
        zpl.write(file, 0, b"more", [NOW, 0]).await.unwrap();
        zpl.create(zpl.root(), b"third", &new, 5, &[])
            .await
            .unwrap();
        spa.sync(NOW).await.unwrap();
    });
    zdb::check("tank", &disks);
}
