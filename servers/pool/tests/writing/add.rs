//! Top-level vdevs that join a pool later.

use std::rc::Rc;

use crate::scrub::pool;
use crate::support::making::{MADE, contents, devices, disks, put, random_from, text};
use crate::support::{open_devices, zdb};
use pool::block_device::{Access, MemoryDevice};
use pool::future::block_on;
use pool::spa::create::NewVdev;
use pool::spa::{Spa, TopologyError};
use pool::vdev::config::Purpose;

fn leaf(disk: &Rc<MemoryDevice>, number: usize) -> NewVdev {
    NewVdev::Disk(format!("/disks/d{number}"), disk.clone())
}

async fn add(spa: Spa, new: Vec<(NewVdev, Purpose)>, seed: u64) -> Spa {
    let plan = spa.plan_add(&new, &mut random_from(seed)).await.unwrap();
    spa.adopt(plan, MADE).await.unwrap()
}

async fn write(spa: &Spa, name: &str, seed: u64) {
    put(spa, "tank", name, &text(900_000, seed)).await;
    spa.sync(MADE).await.unwrap();
}

#[test]
fn a_pool_grows_by_a_mirror_raidz_and_a_log() {
    let all = disks(7);
    let spa = pool(&all[..1], Some(0));
    let wanted = block_on(async {
        write(&spa, "a", 1).await;
        let before = spa.size().await.unwrap();
        let mirror = NewVdev::Mirror(vec![leaf(&all[1], 1), leaf(&all[2], 2)]);
        let spa = add(spa, vec![(mirror, Purpose::Normal)], 77).await;
        let larger = spa.size().await.unwrap();
        assert!(larger > before, "{larger} after {before}");
        write(&spa, "b", 2).await;
        zdb::check_data("tank", &all[..3]);
        let spa = open_devices(devices(&all), Access::ReadWrite);
        let raidz = NewVdev::Raidz(1, (3..6).map(|number| leaf(&all[number], number)).collect());
        let new = vec![(raidz, Purpose::Normal), (leaf(&all[6], 6), Purpose::Log)];
        let spa = add(spa, new, 78).await;
        for seed in 3..9 {
            write(&spa, &format!("c{seed}"), seed).await;
        }
        contents(&spa, "tank").await
    });
    zdb::check_data("tank", &all);
    let spa = open_devices(devices(&all), Access::ReadOnly);
    let tops = spa.zio().vdevs().tops();
    assert_eq!(tops.len(), 4);
    assert_eq!(tops[3].config.purpose, Purpose::Log);
    assert_eq!(block_on(contents(&spa, "tank")), wanted);
    for gone in [1, 4] {
        let mut some = all.clone();
        some.remove(gone);
        let spa = open_devices(devices(&some), Access::ReadOnly);
        assert_eq!(block_on(contents(&spa, "tank")), wanted, "without d{gone}");
    }
}

#[test]
fn what_is_too_small_does_not_join() {
    let all = disks(1);
    let spa = pool(&all, Some(0));
    let small = Rc::new(MemoryDevice::new(8 << 20));
    let new = [(leaf(&small, 1), Purpose::Normal)];
    let mut random = random_from(5);
    let plan = spa.plan_add(&new, &mut random);
    assert_eq!(block_on(plan).err(), Some(TopologyError::TooSmall));
}

#[test]
fn trim_discards_what_is_free_and_nothing_else() {
    let all = disks(3);
    for parity in [Some(1), None] {
        let mut spa = pool(&all, parity);
        let wanted = block_on(async {
            write(&spa, "a", 1).await;
            write(&spa, "a", 2).await;
            for _ in 0..4 {
                spa.sync(MADE).await.unwrap();
            }
            assert!(spa.trim().await.unwrap() > 300 << 20);
            write(&spa, "b", 3).await;
            contents(&spa, "tank").await
        });
        zdb::check_data("tank", &all);
        let spa = open_devices(devices(&all), Access::ReadOnly);
        assert_eq!(block_on(contents(&spa, "tank")), wanted);
    }
}

#[test]
fn cleared_counters_are_zero() {
    let all = disks(2);
    let spa = pool(&all, None);
    let leaves = spa.zio().vdevs().leaves();
    for leaf in &leaves {
        leaf.statistics.checksum_errors.set(7);
    }
    spa.clear_errors(Some("/disks/d1")).unwrap();
    let counts = || {
        leaves
            .iter()
            .map(|leaf| leaf.statistics.checksum_errors.get())
    };
    assert_eq!(counts().collect::<Vec<_>>(), [7, 0]);
    spa.clear_errors(None).unwrap();
    assert_eq!(counts().sum::<u64>(), 0);
    let unknown = spa.clear_errors(Some("/disks/d9"));
    assert_eq!(unknown, Err(TopologyError::NoSuchDevice));
}
