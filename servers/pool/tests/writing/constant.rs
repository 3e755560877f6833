//! What must not grow with a file system: the cost of a snapshot, a clone, and of going back.

use std::cell::Cell;
use std::rc::Rc;

use crate::support::making::{MADE, put, random_from, text};
use pool::block_device::{BlockDevice, DeviceFuture, MemoryDevice};
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, Spa};

/// A device that counts what is asked of it.
struct CountingDevice {
    inner: MemoryDevice,
    requests: Cell<u64>,
    bytes: Cell<u64>,
}

impl CountingDevice {
    fn count(&self, bytes: usize) {
        self.requests.set(self.requests.get() + 1);
        self.bytes.set(self.bytes.get() + bytes as u64);
    }
}

impl BlockDevice for CountingDevice {
    fn length(&self) -> u64 {
        self.inner.length()
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        self.count(buffer.len());
        self.inner.read(offset, buffer)
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        self.count(parts.iter().map(|part| part.len()).sum());
        self.inner.write(offset, parts)
    }

    fn flush(&self) -> DeviceFuture<'_> {
        self.inner.flush()
    }

    fn discard(&self, offset: u64, length: u64) -> DeviceFuture<'_> {
        self.inner.discard(offset, length)
    }
}

const MIB: usize = 1 << 20;

/// Requests and bytes of a snapshot, a clone, and going back to the snapshot, of a file system with so many MiB.
fn costs(size: usize) -> [(u64, u64); 3] {
    let device = Rc::new(CountingDevice {
        inner: MemoryDevice::new(1 << 30),
        requests: Cell::new(0),
        bytes: Cell::new(0),
    });
    let new = NewPool {
        name: "tank".into(),
        vdevs: vec![NewVdev::Disk("/disks/d0".into(), device.clone())],
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift: 12,
        now: MADE,
        arc_limit: 8 << 20,
    };
    let mut random = random_from(1);
    block_on(async {
        let spa: Spa = create(new, &mut random).await.unwrap();
        spa.create_filesystem("tank/data", MADE, &mut random)
            .await
            .unwrap();
        for index in 0..size {
            put(
                &spa,
                "tank/data",
                &format!("{index}"),
                &text(MIB, index as u64),
            )
            .await;
        }
        spa.sync(MADE).await.unwrap();
        let measure = || (device.requests.take(), device.bytes.take());
        measure();
        spa.snapshot("tank/data@now", MADE, &mut random)
            .await
            .unwrap();
        let snapshot = measure();
        spa.clone_snapshot("tank/data@now", "tank/clone", MADE, &mut random)
            .await
            .unwrap();
        let clone = measure();
        put(&spa, "tank/data", "0", b"changed").await;
        spa.sync(MADE).await.unwrap();
        measure();
        spa.rollback("tank/data@now", MADE, &mut random)
            .await
            .unwrap();
        [snapshot, clone, measure()]
    })
}

#[test]
fn snapshot_clone_and_rollback_cost_the_same_whatever_the_size() {
    let small = costs(1);
    let large = costs(96);
    for ((small, large), what) in small
        .iter()
        .zip(&large)
        .zip(["snapshot", "clone", "rollback"])
    {
        println!("{what}: {small:?} at 1 MiB, {large:?} at 96 MiB (requests, bytes)");
        // Which metaslabs are flushed, and so how much is written, differs a little from group to group.
        assert!(
            large.0 <= small.0 + 20,
            "{what} at 1 and 96 MiB: {small:?} {large:?}"
        );
        assert!(
            large.1 <= small.1 + 300_000,
            "{what} at 1 and 96 MiB: {small:?} {large:?}"
        );
    }
}
