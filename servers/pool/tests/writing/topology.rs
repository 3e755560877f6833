//! Devices that come, go, rest and take the place of others, with resilvers that give them what they lack.

use std::rc::Rc;

use crate::scrub::{pool, wipe};
use crate::support::making::{MADE, contents, devices, disks, put, random_from, text};
use crate::support::{open_devices, zdb};
use pool::block_device::{Access, MemoryDevice};
use pool::future::block_on;
use pool::spa::{Join, NewLeaf, ScanState, Spa, TopologyError};

const STEP: u64 = 1 << 20;

fn new_leaf(disk: &Rc<MemoryDevice>, path: &str) -> NewLeaf {
    NewLeaf {
        path: path.into(),
        device: disk.clone(),
    }
}

async fn resilver(spa: &Spa) {
    spa.start_resilver(MADE).await.unwrap();
    loop {
        let scan = spa.scrub_some(STEP, MADE).await.unwrap();
        if !scan.is_under_way() {
            assert_eq!((scan.state, scan.errors), (ScanState::Finished, 0));
            return;
        }
    }
}

async fn write(spa: &Spa, name: &str, seed: u64) {
    put(spa, "tank", name, &text(600_000, seed)).await;
    spa.sync(MADE).await.unwrap();
}

#[test]
fn a_disk_becomes_a_mirror_and_its_first_side_leaves() {
    let all = disks(2);
    let spa = pool(&all[..1], Some(0));
    let wanted = block_on(async {
        write(&spa, "a", 1).await;
        let mut random = random_from(8);
        let plan = spa.plan_attach(
            "/disks/d0",
            new_leaf(&all[1], "/disks/new"),
            Join::Mirror,
            &mut random,
        );
        let plan = plan.await.unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        assert_eq!(
            spa.plan_detach("/disks/d0").await.err(),
            Some(TopologyError::NoReplicas)
        );
        write(&spa, "b", 2).await;
        resilver(&spa).await;
        let wanted = contents(&spa, "tank").await;
        let spa = open_devices(devices(&all), Access::ReadWrite);
        zdb::check_data("tank", &all);
        let plan = spa.plan_detach("/disks/d0").await.unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        write(&spa, "c", 3).await;
        wanted
    });
    zdb::check_data("tank", &all[1..]);
    let spa = open_devices(devices(&all), Access::ReadOnly);
    let found = block_on(contents(&spa, "tank"));
    assert_eq!(found[..2], wanted[..]);
}

#[test]
fn a_device_that_rested_gets_what_it_missed() {
    let all = disks(2);
    let spa = pool(&all, None);
    let wanted = block_on(async {
        write(&spa, "a", 1).await;
        let plan = spa.plan_offline("/disks/d1").unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        assert_eq!(
            spa.plan_offline("/disks/d0").err(),
            Some(TopologyError::NoReplicas)
        );
        write(&spa, "b", 2).await;
        zdb::check("tank", &all);
        let spa = open_devices(devices(&all), Access::ReadWrite);
        let plan = spa.plan_online("/disks/d1").unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        assert_eq!(
            spa.plan_offline("/disks/d0").err(),
            Some(TopologyError::NoReplicas)
        );
        resilver(&spa).await;
        contents(&spa, "tank").await
    });
    zdb::check_data("tank", &all);
    wipe(&all[0]);
    let spa = open_devices(devices(&all), Access::ReadOnly);
    assert_eq!(block_on(contents(&spa, "tank")), wanted);
}

#[test]
fn a_disk_of_raidz_is_replaced() {
    let all = disks(4);
    let spa = pool(&all[..3], Some(1));
    let wanted = block_on(async {
        write(&spa, "a", 1).await;
        let mut random = random_from(8);
        let refused = spa.plan_attach(
            "/disks/d1",
            new_leaf(&all[3], "/disks/new"),
            Join::Mirror,
            &mut random,
        );
        assert_eq!(refused.await.err(), Some(TopologyError::NotMirror));
        let plan = spa.plan_attach(
            "/disks/d1",
            new_leaf(&all[3], "/disks/new"),
            Join::Replacing,
            &mut random,
        );
        let plan = plan.await.unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        resilver(&spa).await;
        let spa = open_devices(devices(&all), Access::ReadWrite);
        let plan = spa.plan_detach("/disks/d1").await.unwrap();
        let spa = spa.adopt(plan, MADE).await.unwrap();
        write(&spa, "b", 2).await;
        contents(&spa, "tank").await
    });
    let now = [all[0].clone(), all[3].clone(), all[2].clone()];
    zdb::check_data("tank", &now);
    wipe(&all[0]);
    let spa = open_devices(devices(&now), Access::ReadOnly);
    assert_eq!(block_on(contents(&spa, "tank")), wanted);
}
