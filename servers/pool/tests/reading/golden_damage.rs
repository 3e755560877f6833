//! Golden pools with disks missing or damaged: repaired where redundancy allows, refused by name where not.

use std::collections::BTreeSet;
use std::rc::Rc;

use crate::support::{Golden, check_contents, compare, open_devices};
use pool::block_device::{Access, BlockDevice};
use pool::error::{Bookmark, Error};
use pool::future::block_on;
use pool::partition::partitions;
use pool::spa::{ImportError, ImportOptions, import, scan};
use pool::zpl::FileType;

/// Every way to leave `missing` of `count` disks out.
fn leave_out(count: usize, missing: usize) -> Vec<Vec<usize>> {
    (0..1usize << count)
        .filter(|mask| mask.count_ones() as usize == missing)
        .map(|mask| (0..count).filter(|disk| mask >> disk & 1 == 0).collect())
        .collect()
}

fn reads_without(pool: &str, missing: usize) {
    let golden = Golden::load(pool);
    let devices = golden.devices();
    for kept in leave_out(devices.len(), missing) {
        let part = kept.iter().map(|&disk| devices[disk].clone()).collect();
        check_contents(&open_devices(part, Access::ReadOnly), &golden.manifest, &[]);
    }
}

fn refuses_without(pool: &str, missing: usize) {
    let devices = Golden::load(pool).devices();
    let kept = devices[missing..].to_vec();
    let pools = block_on(scan(kept));
    let options = ImportOptions {
        access: Access::ReadOnly,
        arc_limit: 1 << 20,
        now: 0,
    };
    let refused = block_on(import(&pools[0], options)).err();
    assert_eq!(refused, Some(ImportError::MissingVdevs(vec![0])));
}

#[test]
fn either_side_of_a_mirror_is_enough() {
    reads_without("p08-mirror2", 1);
}

#[test]
fn raidz1_reads_without_any_one_disk() {
    reads_without("p09-raidz1-3", 1);
}

#[test]
fn raidz2_reads_without_any_two_disks() {
    reads_without("p10-raidz2-5", 2);
}

#[test]
fn raidz3_reads_without_any_three_disks() {
    reads_without("p23-raidz3-6", 3);
}

#[test]
fn one_disk_too_few_is_refused_by_its_vdev() {
    refuses_without("p09-raidz1-3", 2);
    refuses_without("p10-raidz2-5", 3);
    refuses_without("p23-raidz3-6", 4);
}

#[test]
fn a_pool_in_a_partition_is_found_through_the_table() {
    let golden = Golden::load("p18-gpt-grub2");
    let disk: Rc<dyn BlockDevice> = golden.disks[0].clone();
    let found = block_on(partitions(&disk));
    let devices = found
        .into_iter()
        .map(|part| Rc::new(part) as Rc<dyn BlockDevice>)
        .collect();
    check_contents(
        &open_devices(devices, Access::ReadOnly),
        &golden.manifest,
        &[],
    );
}

/// Reads every file and says which cannot be read.
fn unreadable_files(golden: &Golden, dataset: &str) -> BTreeSet<String> {
    let spa = golden.open();
    let entry = block_on(spa.find_dataset(dataset)).unwrap();
    let zpl = compare::open(&spa, &entry, None);
    let mut bad = BTreeSet::new();
    for (path, found) in block_on(zpl.walk(zpl.root())).unwrap() {
        if found.kind != FileType::Regular {
            continue;
        }
        let znode = block_on(zpl.znode(found.object)).unwrap();
        match compare::hash_file(&zpl, &znode) {
            Ok(_) => {}
            Err(Error::Unreadable(Bookmark { object, .. })) => {
                assert_eq!(
                    block_on(zpl.path_of(object)).unwrap(),
                    path,
                    "the error leads to the file"
                );
                bad.insert(String::from_utf8(path).unwrap());
            }
            Err(other) => panic!("{other}"),
        }
    }
    bad
}

#[test]
fn exactly_the_damaged_files_cannot_be_read() {
    let golden = Golden::load("p17-damaged-unrecoverable");
    let status = golden.manifest["extra"]["status-after-scrub.txt"]
        .as_str()
        .unwrap();
    let listed = status
        .split("/mnt/p/")
        .skip(1)
        .map(|rest| rest.lines().next().unwrap().to_string());
    let listed: BTreeSet<String> = listed.collect();
    assert_eq!(listed.len(), 4, "{status}");
    assert_eq!(unreadable_files(&golden, "p17"), listed);
}

#[test]
fn reading_repairs_the_bad_side_of_a_mirror() {
    let golden = Golden::load("p16-damaged-mirror");
    let spa = open_devices(golden.devices(), Access::ReadWrite);
    check_contents(&spa, &golden.manifest, &[]);
    let leaves = spa.zio().vdevs().leaves();
    let errors: Vec<u64> = leaves
        .iter()
        .map(|leaf| leaf.statistics.checksum_errors.get())
        .collect();
    assert_eq!(errors[0], 0);
    assert!(errors[1] > 0, "the bad side was read");
    drop(spa);
    let spa = open_devices(golden.devices(), Access::ReadWrite);
    check_contents(&spa, &golden.manifest, &[]);
    let again: u64 = spa
        .zio()
        .vdevs()
        .leaves()
        .iter()
        .map(|leaf| leaf.statistics.checksum_errors.get())
        .sum();
    assert_eq!(again, 0, "what was read is repaired");
}

#[test]
fn a_pool_with_newer_write_features_is_offered_read_only() {
    let golden = Golden::load("p21-dedup-brt");
    let pools = block_on(scan(golden.devices()));
    let options = ImportOptions {
        access: Access::ReadWrite,
        arc_limit: 1 << 20,
        now: 0,
    };
    match block_on(import(&pools[0], options)).err() {
        Some(ImportError::ReadOnlyFeatures(guids)) => {
            assert!(
                guids
                    .iter()
                    .any(|guid| guid == "com.fudosecurity:block_cloning"),
                "{guids:?}"
            );
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn devices_without_labels_hold_no_pool() {
    let empty: Rc<dyn BlockDevice> = Rc::new(pool::block_device::MemoryDevice::new(64 << 20));
    let tiny: Rc<dyn BlockDevice> = Rc::new(pool::block_device::MemoryDevice::new(4096));
    assert!(block_on(scan(vec![empty, tiny])).is_empty());
}
