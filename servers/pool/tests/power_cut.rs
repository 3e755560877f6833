//! Power cuts: at any write, what was not flushed is kept, dropped or torn at random. What was committed is there after.

mod support;

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::rc::Rc;

use pool::block_device::{Access, BlockDevice, DeviceFuture, MemoryDevice};
use pool::error::DeviceError;
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::zpl::{FileType, NewFile, Owner, Zpl};
use proptest::prelude::*;
use support::open_devices;

const NOW: u64 = 1_700_000_000;
const SECTOR: usize = 512;

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A device with a volatile cache that loses power after a number of writes.
struct FragileDevice {
    durable: MemoryDevice,
    /// What the device would answer reads with: everything written.
    current: MemoryDevice,
    cache: RefCell<Vec<(u64, Vec<u8>)>>,
    writes_left: Cell<usize>,
}

impl FragileDevice {
    fn new(length: u64) -> Self {
        FragileDevice {
            durable: MemoryDevice::new(length),
            current: MemoryDevice::new(length),
            cache: RefCell::default(),
            writes_left: Cell::new(usize::MAX),
        }
    }

    fn record(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), DeviceError> {
        let left = self
            .writes_left
            .get()
            .checked_sub(1)
            .ok_or(DeviceError::Gone)?;
        self.writes_left.set(left);
        for part in parts {
            self.current.poke(offset, part)?;
            self.cache.borrow_mut().push((offset, part.to_vec()));
            offset += part.len() as u64;
        }
        Ok(())
    }

    fn settle(&self) -> Result<(), DeviceError> {
        if self.writes_left.get() == 0 {
            return Err(DeviceError::Gone);
        }
        for (offset, bytes) in self.cache.take() {
            self.durable.poke(offset, &bytes)?;
        }
        Ok(())
    }

    /// The power goes: each sector of the cache reaches the medium or does not, in any order.
    fn lose_power(&self, seed: u64) {
        let mut state = seed | 1;
        let mut cache = self.cache.take();
        for index in (1..cache.len()).rev() {
            cache.swap(index, xorshift(&mut state) as usize % (index + 1));
        }
        for (offset, bytes) in cache {
            let fate = xorshift(&mut state) % 3;
            for (index, sector) in bytes.chunks(SECTOR).enumerate() {
                let kept = fate == 0 || fate == 1 && xorshift(&mut state).is_multiple_of(2);
                if kept {
                    self.durable
                        .poke(offset + (index * SECTOR) as u64, sector)
                        .unwrap();
                }
            }
        }
    }
}

impl BlockDevice for FragileDevice {
    fn length(&self) -> u64 {
        self.current.length()
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        self.current.read(offset, buffer)
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        Box::pin(ready(self.record(offset, parts)))
    }

    fn flush(&self) -> DeviceFuture<'_> {
        Box::pin(ready(self.settle()))
    }

    fn discard(&self, _offset: u64, _length: u64) -> DeviceFuture<'_> {
        Box::pin(ready(Ok(())))
    }
}

/// The contents of the one file in a round: different in every block.
fn contents(round: u64) -> Vec<u8> {
    let mut state = round * 2 + 1;
    (0..5000)
        .flat_map(|_| xorshift(&mut state).to_le_bytes())
        .collect()
}

/// Writes rounds until the power goes; gives how many were committed.
async fn write_rounds(device: &Rc<FragileDevice>, cut_after: usize) -> u64 {
    let mut state = 77;
    let mut random = move || xorshift(&mut state);
    let leaf = NewVdev::Disk("/disks/d0".into(), device.clone());
    let new = NewPool {
        name: "tank".into(),
        vdevs: vec![leaf],
        ashift: 12,
        now: NOW,
        arc_limit: 4 << 20,
    };
    let spa = create(new, &mut random).await.unwrap();
    let zpl = Zpl::open(spa.open_head("tank").await.unwrap())
        .await
        .unwrap();
    let new = NewFile {
        file_type: FileType::Regular,
        mode: 0o644,
        owner: Owner { uid: 0, gid: 0 },
        now: [NOW, 0],
        salt: 1,
    };
    let object = zpl
        .create(zpl.root(), b"file", &new, spa.open_txg(), &[])
        .await
        .unwrap();
    zpl.write(object, 0, &contents(0), [NOW, 0]).await.unwrap();
    spa.sync(NOW).await.unwrap();
    device.writes_left.set(cut_after);
    let mut committed = 0;
    loop {
        let round = committed + 1;
        let wrote = zpl.write(object, 0, &contents(round), [NOW, 0]).await;
        let synced = match round % 3 {
            0 => {
                spa.snapshot(&format!("tank@s{round}"), NOW, &mut random)
                    .await
            }
            _ => spa.sync(NOW + round).await,
        };
        if wrote.is_err() || synced.is_err() {
            return committed;
        }
        committed = round;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn a_power_cut_loses_nothing_that_was_committed(cut_after in 1usize..120, seed: u64) {
        let device = Rc::new(FragileDevice::new(64 << 20));
        let committed = block_on(write_rounds(&device, cut_after));
        device.lose_power(seed);
        let device = Rc::into_inner(device).expect("nobody else has the device");
        let spa = open_devices(vec![Rc::new(device.durable)], Access::ReadOnly);
        block_on(async {
            let zpl = Zpl::open(spa.open_head("tank").await.unwrap()).await.unwrap();
            let object = zpl.resolve(b"file").await.unwrap();
            let found = zpl.read(object, 0, 1 << 20).await.unwrap();
            // The group in which the power went may have made it, whole.
            assert!(found == contents(committed) || found == contents(committed + 1), "round {committed}");
            for entry in spa.list_datasets("tank").await.unwrap() {
                if let Some(round) = entry.name.strip_prefix("tank@s") {
                    let round: u64 = round.parse().unwrap();
                    let zpl = Zpl::open(spa.open_objset(&entry.dataset, None).await.unwrap()).await.unwrap();
                    let object = zpl.resolve(b"file").await.unwrap();
                    assert_eq!(zpl.read(object, 0, 1 << 20).await.unwrap(), contents(round), "{}", entry.name);
                }
            }
        });
    }
}
