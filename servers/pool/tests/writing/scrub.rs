//! Scrubs find what is bad in any copy, repair it, and remember how far they came.

use std::rc::Rc;

use crate::support::making::{MADE, contents, devices, disks, put, random_from, text};
use crate::support::{open_devices, zdb};
use pool::block_device::{Access, BlockDevice, MemoryDevice};
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};

use pool::spa::{CompatibilitySet, Scan, ScanState, Spa};

const STEP: u64 = 1 << 20;

/// A pool of disks `/disks/d0` and so on: a mirror without parity, a lone disk with none.
pub fn pool(disks: &[Rc<MemoryDevice>], parity: Option<usize>) -> Spa {
    let leaves = disks.iter().enumerate();
    let leaves =
        leaves.map(|(index, disk)| NewVdev::Disk(format!("/disks/d{index}"), disk.clone()));
    let leaves: Vec<NewVdev> = leaves.collect();
    let new = NewPool {
        name: "tank".into(),
        vdevs: match parity {
            Some(0) => leaves,
            Some(parity) => vec![NewVdev::Raidz(parity, leaves)],
            None => vec![NewVdev::Mirror(leaves)],
        },
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift: 12,
        now: MADE,
        arc_limit: 1 << 20,
    };
    block_on(create(new, &mut random_from(3))).expect("a pool")
}

async fn fill(spa: &Spa) {
    put(spa, "tank", "a", &text(2_000_000, 1)).await;
    spa.snapshot("tank@s", MADE, &mut random_from(4))
        .await
        .unwrap();
    put(spa, "tank", "a", &text(1_500_000, 2)).await;
    put(spa, "tank", "b", &text(700_000, 3)).await;
    spa.sync(MADE).await.unwrap();
}

/// Overwrites everything between the labels of a disk.
pub fn wipe(disk: &MemoryDevice) {
    let noise = vec![0x5a; 1 << 20];
    for megabyte in 4..disk.length() / (1 << 20) - 1 {
        disk.poke(megabyte << 20, &noise).unwrap();
    }
}

fn run(spa: &Spa) -> Scan {
    block_on(spa.start_scrub(MADE)).unwrap();
    loop {
        let scan = block_on(spa.scrub_some(STEP, MADE + 5)).unwrap();
        if !scan.is_under_way() {
            return scan;
        }
    }
}

fn repairs(count: usize, parity: Option<usize>, bad: usize) {
    let disks = disks(count);
    let wanted = {
        let spa = pool(&disks, parity);
        block_on(fill(&spa));
        block_on(contents(&spa, "tank@s"))
    };
    wipe(&disks[bad]);
    let spa = open_devices(devices(&disks), Access::ReadWrite);
    let scan = run(&spa);
    assert_eq!((scan.state, scan.errors), (ScanState::Finished, 0));
    assert!(scan.repaired > 500_000, "{scan:?}");
    drop(spa);
    zdb::check_data("tank", &disks);
    // What was repaired is enough without another disk.
    wipe(&disks[(bad + 1) % count]);
    let spa = open_devices(devices(&disks), Access::ReadOnly);
    assert_eq!(block_on(contents(&spa, "tank@s")), wanted);
}

#[test]
fn a_mirror_is_repaired_from_its_other_side() {
    repairs(2, None, 1);
}

#[test]
fn raidz_is_repaired_from_its_parity() {
    repairs(4, Some(1), 2);
}

#[test]
fn a_scrub_rests_goes_on_after_an_import_and_can_be_stopped() {
    let disks = disks(2);
    let spa = pool(&disks, None);
    block_on(async {
        fill(&spa).await;
        assert_eq!(spa.scan().await, Ok(None));
        spa.start_scrub(MADE).await.unwrap();
        assert!(spa.start_scrub(MADE).await.is_err(), "one is under way");
        let scan = spa.scrub_some(1, MADE).await.unwrap();
        assert!(scan.is_under_way() && scan.examined > 0);
        spa.pause_scrub(MADE).await.unwrap();
        let rests = spa.scrub_some(STEP, MADE).await.unwrap();
        assert_eq!(rests.examined, scan.examined);
    });
    drop(spa);
    zdb::check("tank", &disks);
    let spa = open_devices(devices(&disks), Access::ReadWrite);
    let scan = run(&spa);
    assert_eq!(
        (scan.state, scan.errors, scan.repaired),
        (ScanState::Finished, 0, 0)
    );
    assert!(scan.examined > 1_500_000, "{scan:?}");
    block_on(spa.start_scrub(MADE)).unwrap();
    block_on(spa.stop_scrub(MADE)).unwrap();
    assert_eq!(
        block_on(spa.scan()).unwrap().unwrap().state,
        ScanState::Canceled
    );
    zdb::check("tank", &disks);
}
