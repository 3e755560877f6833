//! Power cuts: at any write, what was not flushed is kept, dropped or torn at random. What was committed is there after.

use std::cell::{Cell, RefCell};
use std::future::ready;
use std::rc::Rc;

use crate::support::making::{self, check_sums, new_file};
use crate::support::{open_devices, zdb};
use pool::block_device::{Access, BlockDevice, DeviceFuture, MemoryDevice};
use pool::dsl::Deferral;
use pool::error::{DeviceError, Error};
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, Spa};
use pool::zpl::{FileType, Name, NewFile, Owner, Zpl};
use proptest::prelude::*;

const NOW: u64 = 1_700_000_000;
const SECTOR: usize = 512;

fn xorshift(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// A device with a volatile cache that loses power after a number of writes.
pub(super) struct FragileDevice {
    pub(super) durable: MemoryDevice,
    /// What the device would answer reads with: everything written.
    current: MemoryDevice,
    cache: RefCell<Vec<(u64, Vec<u8>)>>,
    /// Writes until the power goes, shared by all devices.
    writes_left: Rc<Cell<usize>>,
}

impl FragileDevice {
    pub(super) fn new(length: u64, writes_left: &Rc<Cell<usize>>) -> Self {
        FragileDevice {
            durable: MemoryDevice::new(length),
            current: MemoryDevice::new(length),
            cache: RefCell::default(),
            writes_left: writes_left.clone(),
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
    pub(super) fn lose_power(&self, seed: u64) {
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

/// What is cut in a test: the devices of a pool, and when.
struct Machine {
    devices: Vec<Rc<FragileDevice>>,
    writes_left: Rc<Cell<usize>>,
}

impl Machine {
    /// A machine with a data device and, with `logs`, devices for the intent log.
    fn new(logs: usize) -> Machine {
        let writes_left = Rc::new(Cell::new(usize::MAX));
        let devices = (0..=logs).map(|_| Rc::new(FragileDevice::new(64 << 20, &writes_left)));
        Machine {
            devices: devices.collect(),
            writes_left,
        }
    }

    async fn create_pool(&self, random: &mut dyn FnMut() -> u64) -> Spa {
        let leaf = |(index, device): (usize, &Rc<FragileDevice>)| {
            NewVdev::Disk(format!("/disks/d{index}"), device.clone())
        };
        let mut vdevs: Vec<NewVdev> = self.devices.iter().enumerate().map(leaf).collect();
        let logs = vdevs.split_off(1);
        let new = NewPool {
            name: "tank".into(),
            vdevs,
            logs,
            features: CompatibilitySet::default(),
            ashift: 12,
            now: NOW,
            arc_limit: 4 << 20,
        };
        create(new, random).await.unwrap()
    }

    /// Cuts the power and gives what is on the media.
    fn lose_power(self, seed: u64) -> Vec<Rc<MemoryDevice>> {
        let devices = self.devices.into_iter();
        devices
            .map(|device| {
                device.lose_power(seed);
                Rc::new(
                    Rc::into_inner(device)
                        .expect("nobody else has the device")
                        .durable,
                )
            })
            .collect()
    }
}

/// How a round is made durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Durability {
    /// Groups and snapshots.
    Groups,
    /// Commits of the intent log, with a group or a snapshot now and then.
    Log,
}

/// Writes rounds until the power goes; gives how many were committed.
async fn write_rounds(machine: &Machine, cut_after: usize, durability: Durability) -> u64 {
    let mut state = 77;
    let mut random = move || xorshift(&mut state);
    let spa = machine.create_pool(&mut random).await;
    let objset = spa.open_head("tank").await.unwrap();
    let zpl = Zpl::open(objset.clone()).await.unwrap();
    let new = NewFile {
        file_type: FileType::Regular,
        mode: 0o644,
        owner: Owner { uid: 0, gid: 0 },
        now: [NOW, 0],
        rdev: 0,
        salt: 1,
    };
    let object = zpl
        .create(zpl.root(), b"file", &new, spa.open_txg(), &[])
        .await
        .unwrap();
    zpl.write(object, 0, &contents(0), [NOW, 0]).await.unwrap();
    spa.sync(NOW).await.unwrap();
    machine.writes_left.set(cut_after);
    let mut committed = 0;
    loop {
        let round = committed + 1;
        let mut done = zpl.write(object, 0, &contents(round), [NOW, 0]).await;
        if durability == Durability::Log && done.is_ok() {
            // A name that goes from round to round, so that the order of records matters.
            let names = [round - 1, round].map(|round| format!("name{round}"));
            done = match round {
                1 => {
                    zpl.link(object, zpl.root(), names[1].as_bytes(), [NOW, 0])
                        .await
                }
                _ => {
                    let [from, to] = names.each_ref().map(|name| Name {
                        directory: zpl.root(),
                        name: name.as_bytes(),
                    });
                    zpl.rename(from, to, [NOW, 0]).await
                }
            };
        }
        let synced = match (durability, round % 12) {
            (Durability::Log, 5) => spa.sync(NOW + round).await,
            (_, 0 | 3 | 6 | 9) if durability == Durability::Groups || round.is_multiple_of(6) => {
                spa.snapshot(&format!("tank@s{round}"), NOW, &mut random)
                    .await
            }
            (Durability::Log, _) => spa.commit_log(&objset, NOW + round).await,
            (Durability::Groups, _) => spa.sync(NOW + round).await,
        };
        if done.is_err() || synced.is_err() {
            assert!(
                spa.sync(NOW).await.is_err(),
                "a pool that failed half-way writes nothing more"
            );
            return committed;
        }
        committed = round;
    }
}

/// What was committed is there: the file, its name of the round, and every snapshot.
async fn check(spa: &Spa, committed: u64, durability: Durability) {
    let zpl = Zpl::open(spa.open_head("tank").await.unwrap())
        .await
        .unwrap();
    let object = zpl.resolve(b"file").await.unwrap();
    let found = zpl.read(object, 0, 1 << 20).await.unwrap();
    // What was under way when the power went may have made it, whole with a group.
    let next = found == contents(committed + 1);
    if durability == Durability::Groups {
        assert!(next || found == contents(committed), "round {committed}");
    } else {
        // A log may end between the records of the next round, and so within what it wrote.
        let (old, new) = (contents(committed), contents(committed + 1));
        let written = found
            .iter()
            .zip(&new)
            .take_while(|(found, new)| found == new)
            .count();
        assert!(
            found.len() == old.len() && found[written..] == old[written..],
            "round {committed}"
        );
        let names = [committed, committed + 1].map(|round| format!("name{round}"));
        let there = |name: &String| block_on(zpl.resolve(name.as_bytes())) == Ok(object);
        assert!(
            committed == 0 || names.iter().filter(|name| there(name)).count() == 1,
            "names of round {committed}"
        );
    }
    for entry in spa.list_datasets("tank").await.unwrap() {
        if let Some(round) = entry.name.strip_prefix("tank@s") {
            let round: u64 = round.parse().unwrap();
            let zpl = Zpl::open(spa.open_objset(&entry.dataset, None).await.unwrap())
                .await
                .unwrap();
            let object = zpl.resolve(b"file").await.unwrap();
            assert_eq!(
                zpl.read(object, 0, 1 << 20).await.unwrap(),
                contents(round),
                "{}",
                entry.name
            );
        }
    }
}

pub(super) fn devices(disks: &[Rc<MemoryDevice>]) -> Vec<Rc<dyn BlockDevice>> {
    disks
        .iter()
        .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
        .collect()
}

fn cut(logs: usize, cut_after: usize, seed: u64, durability: Durability) -> Vec<Rc<MemoryDevice>> {
    let machine = Machine::new(logs);
    let committed = block_on(write_rounds(&machine, cut_after, durability));
    let disks = machine.lose_power(seed);
    // Read-only, the log is replayed in memory; for writing, on disk; and then there is nothing to replay any more.
    for access in [Access::ReadOnly, Access::ReadWrite, Access::ReadOnly] {
        let spa = open_devices(devices(&disks), access);
        block_on(check(&spa, committed, durability));
    }
    disks
}

/// Operations on data sets, one group each, in an order that needs all before; the names that there are after each.
const STEPS: [(&str, &[&str]); 12] = [
    ("create tank/a", &["tank", "tank/a"]),
    ("write tank/a", &["tank", "tank/a"]),
    ("snapshot tank/a@s", &["tank", "tank/a", "tank/a@s"]),
    ("write tank/a", &["tank", "tank/a", "tank/a@s"]),
    (
        "clone tank/a@s tank/c",
        &["tank", "tank/a", "tank/a@s", "tank/c"],
    ),
    ("write tank/c", &["tank", "tank/a", "tank/a@s", "tank/c"]),
    ("promote tank/c", &["tank", "tank/a", "tank/c", "tank/c@s"]),
    ("destroy tank/a", &["tank", "tank/c", "tank/c@s"]),
    ("rename tank/c tank/d", &["tank", "tank/d", "tank/d@s"]),
    ("rollback tank/d@s", &["tank", "tank/d", "tank/d@s"]),
    ("destroy tank/d@s", &["tank", "tank/d"]),
    ("destroy tank/d", &["tank"]),
];

async fn operate(spa: &Spa, step: &str, random: &mut dyn FnMut() -> u64) -> Result<(), Error> {
    let words: Vec<&str> = step.split(' ').collect();
    match words[..] {
        ["create", name] => spa.create_filesystem(name, NOW, random).await,
        ["snapshot", name] => spa.snapshot(name, NOW, random).await,
        ["clone", from, to] => spa.clone_snapshot(from, to, NOW, random).await,
        ["promote", name] => spa.promote(name, NOW, random).await,
        ["rename", from, to] => spa.rename(from, to, NOW).await,
        ["rollback", name] => spa.rollback(name, NOW, random).await,
        ["destroy", name] => spa.destroy(name, Deferral::Refused, NOW).await,
        ["write", name] => {
            let zpl = Zpl::open(spa.open_head(name).await?).await?;
            let new = new_file(FileType::Regular, 0o644);
            let name = format!("file{}", random());
            let file = zpl
                .create(zpl.root(), name.as_bytes(), &new, spa.open_txg(), &[])
                .await?;
            zpl.write(file, 0, &contents(random() % 1000), [NOW, 0])
                .await?;
            spa.sync(NOW).await
        }
        _ => panic!("no such step: {step}"),
    }
}

/// Runs through the steps until the power goes; gives the names that were there after the last that was acknowledged, and after
/// the one that was under way.
async fn run_steps(machine: &Machine, cut_after: usize) -> [&'static [&'static str]; 2] {
    let mut state = 99;
    let mut random = move || xorshift(&mut state);
    let spa = machine.create_pool(&mut random).await;
    machine.writes_left.set(cut_after);
    let mut names = STEPS[STEPS.len() - 1].1;
    for (step, after) in STEPS.into_iter().cycle() {
        match operate(&spa, step, &mut random).await {
            Ok(()) => names = after,
            Err(Error::Device(_)) => return [names, after],
            Err(error) => panic!("{step}: {error}"),
        }
    }
    unreachable!("a cycle does not end")
}

fn cut_steps(cut_after: usize, seed: u64) -> Vec<Rc<MemoryDevice>> {
    let machine = Machine::new(0);
    let possible = block_on(run_steps(&machine, cut_after));
    let disks = machine.lose_power(seed);
    let spa = open_devices(devices(&disks), Access::ReadWrite);
    block_on(async {
        let found: Vec<String> = spa
            .list_datasets("tank")
            .await
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        assert!(
            possible.iter().any(|names| found == *names),
            "{found:?} is neither of {possible:?}"
        );
        check_sums(&spa).await;
        for name in &found {
            making::contents(&spa, name).await;
        }
        // The pool goes on as if nothing had been.
        spa.snapshot("tank@after", NOW, &mut || 5).await.unwrap();
    });
    disks
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn a_power_cut_loses_nothing_that_was_committed(cut_after in 1usize..120, seed: u64) {
        cut(0, cut_after, seed, Durability::Groups);
    }

    #[test]
    fn a_power_cut_loses_no_synchronous_write(cut_after in 1usize..60, seed: u64, logs in 0usize..2) {
        cut(logs, cut_after, seed, Durability::Log);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn a_power_cut_leaves_operations_on_data_sets_done_or_undone(cut_after in 1usize..160, seed: u64) {
        cut_steps(cut_after, seed);
    }
}

#[test]
fn pools_cut_in_operations_on_data_sets_please_zdb() {
    for cut_after in [30, 61, 75, 90, 110] {
        zdb::check("tank", &cut_steps(cut_after, 1234));
    }
}

#[test]
fn pools_whose_log_was_replayed_please_zdb() {
    for (cut_after, logs) in [(20, 0), (33, 1), (47, 0)] {
        let disks = cut(logs, cut_after, 4711, Durability::Log);
        zdb::check("tank", &disks);
    }
}
