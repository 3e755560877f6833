//! Damage anywhere in a golden pool ends as an error or is repaired: never as a panic, a hang or wrong data.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::support::{Golden, compare};
use pool::block_device::{Access, BlockDevice};
use pool::future::block_on;
use pool::spa::{ImportOptions, Spa, import, scan};
use pool::zpl::{FileType, Zpl};
use proptest::prelude::*;

/// Reads everything that can be read; hashes by name.
fn read_everything(spa: &Spa) -> BTreeMap<String, String> {
    let mut hashes = BTreeMap::new();
    for entry in block_on(spa.list_datasets(spa.name())).unwrap_or_default() {
        let _ = block_on(spa.properties(&entry));
        let Ok(objset) = block_on(spa.open_objset(&entry.dataset, None)) else {
            continue;
        };
        let Ok(zpl) = block_on(Zpl::open(objset)) else {
            continue;
        };
        for (path, found) in block_on(zpl.walk(zpl.root())).unwrap_or_default() {
            if found.kind != FileType::Regular {
                continue;
            }
            let Ok(znode) = block_on(zpl.znode(found.object)) else {
                continue;
            };
            // Sparse files of terabytes and sizes that damage made absurd are not worth reading.
            if znode.size < 8 << 20
                && let Ok(hash) = compare::hash_file(&zpl, &znode)
            {
                hashes.insert(
                    format!("{}:{}", entry.name, String::from_utf8_lossy(&path)),
                    hash,
                );
            }
        }
    }
    hashes
}

fn open(golden: &Golden) -> Option<Spa> {
    block_on(async {
        let devices = golden
            .disks
            .iter()
            .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
            .collect();
        let pools = scan(devices).await;
        let options = ImportOptions {
            access: Access::ReadOnly,
            arc_limit: 4 << 20,
            now: 0,
        };
        import(pools.first()?, options).await.ok()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn damaged_sectors_never_give_wrong_data(
        seeds in proptest::collection::vec((any::<u64>(), any::<u8>()), 1..300),
    ) {
        let golden = Golden::load("p03-nofeatures-v5000");
        let right = read_everything(&open(&golden).unwrap());
        let disk = &golden.disks[0];
        for (seed, byte) in seeds {
            let at = seed % (disk.length() / 512) * 512;
            disk.poke(at, &[byte; 512]).unwrap();
        }
        if let Some(spa) = open(&golden) {
            for (name, hash) in read_everything(&spa) {
                prop_assert_eq!(right.get(&name), Some(&hash), "{}", name);
            }
        }
    }
}
