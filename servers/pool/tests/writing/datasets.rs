//! Operations on data sets, checked by reading back after import and by zdb: no block is lost, none is freed twice.

use crate::support::making::{
    MADE, check_sums, contents, devices, disks, head, pool_on, put, random_from, text,
};
use crate::support::{open_devices, zdb};
use pool::block_device::Access;
use pool::dsl::{Deferral, DslDirPhys, NewVolume, PropertyError, Source, VolumeReservation};
use pool::error::Error;
use pool::future::block_on;
use pool::spa::Spa;
use pool::zil::AttributeChanges;
use pool::zpl::AccountingKind;
use pool::zvol::Zvol;

async fn property(spa: &Spa, dataset: &str, name: &str) -> (String, Source) {
    let entry = spa.find_dataset(dataset).await.unwrap();
    let all = spa.properties(&entry).await.unwrap();
    let found = all
        .into_iter()
        .find(|property| property.name == name)
        .expect(name);
    (found.value, found.source)
}

async fn dir(spa: &Spa, name: &str) -> DslDirPhys {
    spa.find_dataset(name).await.unwrap().dir.phys
}

#[test]
fn a_deferred_snapshot_goes_with_its_last_clone_and_hold() {
    let disks = disks(1);
    let mut random = random_from(9);
    let spa = pool_on(&disks[0], &mut random);
    block_on(async {
        put(&spa, "tank", "file", &text(50_000, 1)).await;
        spa.snapshot("tank@s", MADE, &mut random).await.unwrap();
        put(&spa, "tank", "file", &text(50_000, 2)).await;
        spa.hold("keep", "tank@s", MADE + 1, &mut random)
            .await
            .unwrap();
        assert_eq!(
            spa.hold("keep", "tank@s", MADE, &mut random).await,
            Err(Error::AlreadyExists)
        );
        assert_eq!(
            spa.destroy("tank@s", Deferral::Refused, MADE).await,
            Err(Error::Busy)
        );
        spa.clone_snapshot("tank@s", "tank/c", MADE, &mut random)
            .await
            .unwrap();
        spa.bookmark("tank@s", "tank#mark", MADE, &mut random)
            .await
            .unwrap();
        spa.destroy("tank@s", Deferral::Deferred, MADE)
            .await
            .unwrap();
        spa.release("keep", "tank@s", MADE).await.unwrap();
        assert!(
            spa.find_dataset("tank@s").await.is_ok(),
            "the clone still needs it"
        );
        spa.destroy("tank/c", Deferral::Refused, MADE)
            .await
            .unwrap();
        assert_eq!(
            spa.find_dataset("tank@s").await.err(),
            Some(Error::NotFound)
        );
        let head = spa.find_dataset("tank").await.unwrap().dataset;
        assert_eq!(spa.bookmarks(&head).await.unwrap()[0].name, "mark");
        check_sums(&spa).await;
    });
    zdb::check("tank", &disks);
    block_on(spa.destroy_bookmark("tank#mark", MADE)).unwrap();
    zdb::check("tank", &disks);
}

#[test]
fn blocks_are_stored_as_the_properties_say() {
    let disks = disks(1);
    let mut random = random_from(11);
    let spa = pool_on(&disks[0], &mut random);
    let data = text(300_000, 3);
    let settings = [
        ("compression", "off"),
        ("compression", "zle"),
        ("compression", "lzjb"),
        ("compression", "gzip-1"),
        ("compression", "zstd-3"),
        ("checksum", "off"),
        ("checksum", "fletcher2"),
        ("checksum", "sha256"),
        ("checksum", "sha512"),
        ("checksum", "skein"),
        ("checksum", "edonr"),
        ("recordsize", "4K"),
        ("recordsize", "1M"),
        ("copies", "3"),
    ];
    block_on(async {
        for (index, (name, value)) in settings.into_iter().enumerate() {
            let dataset = format!("tank/d{index}");
            spa.create_filesystem(&dataset, MADE, &mut random)
                .await
                .unwrap();
            spa.set_property(&dataset, name, value, MADE, &mut random)
                .await
                .unwrap();
            put(&spa, &dataset, "file", &data).await;
            assert_eq!(property(&spa, &dataset, name).await.1, Source::Local);
        }
        spa.snapshot("tank/d9@s", MADE, &mut random).await.unwrap();
        spa.clone_snapshot("tank/d9@s", "tank/clone", MADE, &mut random)
            .await
            .unwrap();
        spa.sync(MADE).await.unwrap();
        let used = |name: &'static str| {
            let spa = &spa;
            async move { dir(spa, name).await.used_bytes }
        };
        assert!(
            used("tank/d0").await > used("tank/d3").await * 3 / 2,
            "compression saves space"
        );
        assert!(
            used("tank/d13").await > used("tank/d5").await * 2,
            "copies take space"
        );
        spa.inherit_property("tank/d0", "compression", MADE, &mut random)
            .await
            .unwrap();
        assert_eq!(
            property(&spa, "tank/d0", "compression").await,
            ("on".to_string(), Source::Default)
        );
    });
    zdb::check_data("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    for (index, setting) in settings.into_iter().enumerate() {
        let found = block_on(contents(&spa, &format!("tank/d{index}")));
        assert!(
            found == [("file".to_string(), data.clone())],
            "{:?}",
            setting
        );
    }
}

#[test]
fn what_cannot_be_set_is_refused() {
    let disks = disks(1);
    let mut random = random_from(12);
    let spa = pool_on(&disks[0], &mut random);
    let mut set = |name: &str, value: &str| {
        block_on(spa.set_property("tank", name, value, MADE, &mut random))
    };
    assert_eq!(set("nothing", "x"), Err(PropertyError::Unknown));
    assert_eq!(set("used", "5"), Err(PropertyError::ReadOnly));
    assert_eq!(set("recordsize", "3000"), Err(PropertyError::InvalidValue));
    assert_eq!(set("volsize", "1M"), Err(PropertyError::WrongKind));
    assert_eq!(set("quota", "1K"), Err(PropertyError::BelowUse));
    assert_eq!(
        set("dedup", "on"),
        Err(PropertyError::Pool(Error::FeatureDisabled))
    );
    assert_eq!(set("my:note", "any text"), Ok(()));
}

#[test]
fn reservations_count_in_the_parent_until_they_are_used() {
    let disks = disks(1);
    let mut random = random_from(13);
    let spa = pool_on(&disks[0], &mut random);
    block_on(async {
        for name in ["tank/a", "tank/a/b"] {
            spa.create_filesystem(name, MADE, &mut random)
                .await
                .unwrap();
        }
        spa.set_property("tank/a", "reservation", "20M", MADE, &mut random)
            .await
            .unwrap();
        spa.set_property("tank/a/b", "refreservation", "5M", MADE, &mut random)
            .await
            .unwrap();
        assert!(dir(&spa, "tank").await.used_bytes >= 20 << 20);
        put(&spa, "tank/a/b", "file", &text(3_000_000, 4)).await;
        spa.snapshot("tank/a/b@s", MADE, &mut random).await.unwrap();
        put(&spa, "tank/a/b", "file", &text(3_000_000, 5)).await;
        spa.sync(MADE).await.unwrap();
        check_sums(&spa).await;
        let b = dir(&spa, "tank/a/b").await;
        assert_eq!(
            b.used.snapshots + b.used.head + b.used.reference_reservation,
            b.used_bytes
        );
        spa.rename("tank/a/b", "tank/b", MADE).await.unwrap();
        check_sums(&spa).await;
        for (name, value) in [("tank/a", "reservation"), ("tank/b", "refreservation")] {
            spa.set_property(name, value, "none", MADE, &mut random)
                .await
                .unwrap();
        }
        check_sums(&spa).await;
        spa.destroy("tank/b@s", Deferral::Refused, MADE)
            .await
            .unwrap();
        for name in ["tank/b", "tank/a"] {
            spa.destroy(name, Deferral::Refused, MADE).await.unwrap();
        }
        check_sums(&spa).await;
        assert_eq!(
            dir(&spa, "tank").await.used.children,
            internal_children(&spa).await
        );
    });
    zdb::check("tank", &disks);
}

#[test]
fn quotas_end_writing_and_owners_are_counted() {
    let disks = disks(1);
    let mut random = random_from(15);
    let spa = pool_on(&disks[0], &mut random);
    block_on(async {
        spa.create_filesystem("tank/q", MADE, &mut random)
            .await
            .unwrap();
        spa.set_property("tank/q", "compression", "off", MADE, &mut random)
            .await
            .unwrap();
        put(&spa, "tank/q", "file", &text(1_000_000, 1)).await;
        spa.sync(MADE).await.unwrap();
        spa.set_property("tank/q", "quota", "3M", MADE, &mut random)
            .await
            .unwrap();
        let zpl = head(&spa, "tank/q").await;
        let file = zpl.resolve(b"file").await.unwrap();
        let refused = zpl
            .write(file, 1_000_000, &text(4_000_000, 2), [MADE, 0])
            .await;
        assert_eq!(refused, Err(Error::QuotaExceeded));
        let used = |kind| {
            let zpl = &zpl;
            async move {
                zpl.space_use(kind)
                    .await
                    .unwrap()
                    .into_iter()
                    .map(|owner| (owner.id, owner.used))
                    .collect::<Vec<_>>()
            }
        };
        let dnode = zpl.objset().dnode(file).await.unwrap();
        let size = dnode.phys.used_bytes() + 512;
        assert_eq!(used(AccountingKind::User).await.last(), Some(&(1000, size)));
        let changes = AttributeChanges {
            uid: Some(7),
            ..AttributeChanges::default()
        };
        zpl.set_attributes(file, &changes, [MADE, 1]).await.unwrap();
        spa.sync(MADE).await.unwrap();
        let users = used(AccountingKind::User).await;
        assert!(
            users.contains(&(7, size)) && users.iter().all(|(id, _)| *id != 1000),
            "{users:?}"
        );
        assert_eq!(used(AccountingKind::Group).await.last(), Some(&(100, size)));
    });
    zdb::check("tank", &disks);
}

/// What the pool's own directories below the root count.
async fn internal_children(spa: &Spa) -> u64 {
    let root = dir(spa, "tank").await;
    let mut used = 0;
    for (_, object) in pool::zap::Zap::open(spa.mos(), root.child_dirs)
        .await
        .unwrap()
        .numbers()
        .await
        .unwrap()
    {
        used += spa.dsl_dir(object).await.unwrap().phys.used_bytes;
    }
    used
}

#[test]
fn volumes_are_written_discarded_and_resized() {
    let disks = disks(1);
    let mut random = random_from(14);
    let spa = pool_on(&disks[0], &mut random);
    let new = |size| NewVolume {
        size,
        block_size: 8192,
        reservation: VolumeReservation::Full,
    };
    block_on(async {
        assert_eq!(
            spa.create_volume("tank/v", new(1 << 40), MADE, &mut random)
                .await,
            Err(Error::NoSpace)
        );
        spa.create_volume("tank/v", new(16 << 20), MADE, &mut random)
            .await
            .unwrap();
        let volume = Zvol::open(spa.open_head("tank/v").await.unwrap())
            .await
            .unwrap();
        let data = text(100_000, 6);
        volume.write(5000, &data).await.unwrap();
        assert_eq!(
            volume.write((16 << 20) - 5, b"beyond").await,
            Err(Error::OutOfRange)
        );
        spa.sync(MADE).await.unwrap();
        spa.snapshot("tank/v@full", MADE, &mut random)
            .await
            .unwrap();
        volume.discard(10_000, 60_000).await.unwrap();
        spa.set_property("tank/v", "volsize", "32M", MADE, &mut random)
            .await
            .unwrap();
        check_sums(&spa).await;
    });
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    block_on(async {
        let data = text(100_000, 6);
        let entry = spa.find_dataset("tank/v").await.unwrap();
        let volume = Zvol::open(spa.open_objset(&entry.dataset, None).await.unwrap())
            .await
            .unwrap();
        assert_eq!(volume.size(), 32 << 20);
        let found = volume.read(5000, 100_000).await.unwrap();
        let mut wanted = data.clone();
        wanted[5000..65_000].fill(0);
        assert!(found == wanted, "what was discarded is zero");
        let entry = spa.find_dataset("tank/v@full").await.unwrap();
        let volume = Zvol::open(spa.open_objset(&entry.dataset, None).await.unwrap())
            .await
            .unwrap();
        assert!(
            volume.read(5000, 100_000).await.unwrap() == data,
            "the snapshot has it"
        );
    });
}
