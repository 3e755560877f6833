//! Power cuts in random operations of every kind, on pools of every shape, against a model of what must be there.
//!
//! The model keeps, for every file system and volume, the states that it went through since the last one that was acknowledged as
//! durable. After the cut each must be in one of them, every snapshot as it was made, and the names as before or after the operation
//! that was under way.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;

use crate::support::making::{self, MADE, check_sums, new_file, random_from};
use crate::support::{open_devices, zdb};
use pool::block_device::{Access, MemoryDevice};
use pool::dsl::{Deferral, NewVolume, VolumeReservation};
use pool::error::Error;
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, Spa};
use pool::zpl::{FileType, Name, Zpl};
use pool::zvol::Zvol;

use super::power_cut::{FragileDevice, devices};

/// Cuts of the short run and of the long one.
const SHORT: u64 = 200;
const LONG: u64 = 10_000;
/// A cut comes after at most so many writes.
const LAST_WRITE: u64 = 500;
const DISK: u64 = 64 << 20;
const NOW: [u64; 2] = [MADE, 9];
/// Names of files and blocks of volumes in use: few, so that they are met again.
const NAMES: u64 = 5;
const VOLUME_BLOCK: usize = 8 << 10;
/// The longest write: it is one record of the log, so that a log that ends within an operation ends before or after it.
const LONGEST: u64 = 4000;

/// The files of a file system or the blocks of a volume.
type State = BTreeMap<String, Vec<u8>>;

/// What may be found of the heads, and what must be of the snapshots.
struct Model {
    /// States of each head since the last durable one, which is the first.
    heads: BTreeMap<String, Vec<State>>,
    snapshots: BTreeMap<String, State>,
    /// The names that the operation under way makes, and those that it removes.
    coming: Vec<String>,
    going: Vec<String>,
}

impl Model {
    fn state(&self, head: &str) -> State {
        self.heads[head].last().expect("a state").clone()
    }

    fn change(&mut self, head: &str, change: impl FnOnce(&mut State)) {
        let mut state = self.state(head);
        change(&mut state);
        self.heads.get_mut(head).expect("a head").push(state);
    }

    /// The last state of a head is on stable storage.
    fn settle(&mut self, head: &str) {
        let states = self.heads.get_mut(head).expect("a head");
        states.drain(..states.len() - 1);
    }

    fn settle_all(&mut self) {
        for states in self.heads.values_mut() {
            states.drain(..states.len() - 1);
        }
    }
}

/// Makes a pool whose shape the number says.
async fn pool_of_shape(
    shape: u64,
    writes_left: &Rc<Cell<usize>>,
    random: &mut dyn FnMut() -> u64,
) -> (Vec<Rc<FragileDevice>>, Spa) {
    let disks: Vec<Rc<FragileDevice>> = (0..[1, 2, 3, 2][shape as usize % 4])
        .map(|_| Rc::new(FragileDevice::new(DISK, writes_left)))
        .collect();
    let leaf = |(index, disk): (usize, &Rc<FragileDevice>)| {
        NewVdev::Disk(format!("/disks/d{index}"), disk.clone())
    };
    let mut leaves: Vec<NewVdev> = disks.iter().enumerate().map(leaf).collect();
    let (vdevs, logs) = match shape % 4 {
        0 => (leaves, Vec::new()),
        1 => (vec![NewVdev::Mirror(leaves)], Vec::new()),
        2 => (vec![NewVdev::Raidz(1, leaves)], Vec::new()),
        _ => {
            let log = leaves.split_off(1);
            (leaves, log)
        }
    };
    let new = NewPool {
        name: "tank".into(),
        vdevs,
        logs,
        features: CompatibilitySet::ALL[(shape / 4 % 2) as usize],
        ashift: if (shape / 8).is_multiple_of(2) { 12 } else { 9 },
        now: MADE,
        arc_limit: 4 << 20,
    };
    (disks, create(new, random).await.expect("a pool"))
}

/// A machine that works until its power is cut.
struct Worker<'a> {
    spa: &'a Spa,
    model: &'a mut Model,
    random: &'a mut dyn FnMut() -> u64,
}

impl Worker<'_> {
    fn pick(&mut self, names: Vec<String>) -> Option<String> {
        let number = (self.random)() as usize;
        (!names.is_empty()).then(|| names[number % names.len()].clone())
    }

    fn filesystem(&mut self) -> String {
        let heads = self.model.heads.keys();
        let names = heads.filter(|name| !name.contains("vol")).cloned();
        let names = names.collect();
        self.pick(names).expect("the first file system stays")
    }

    async fn step(&mut self) -> Result<(), Error> {
        match (self.random)() % 24 {
            0..7 => self.write_file().await,
            7 => self.unlink().await,
            8 | 9 => self.rename().await,
            10..13 => self.write_volume().await,
            13..17 => self.fsync().await,
            17 | 18 => {
                self.spa.sync(MADE).await?;
                self.model.settle_all();
                Ok(())
            }
            19 => self.snapshot().await,
            20 => self.create().await,
            21 => self.destroy().await,
            22 => self.clone_snapshot().await,
            _ => self.scrub().await,
        }
    }

    async fn write_file(&mut self) -> Result<(), Error> {
        let head = self.filesystem();
        let name = format!("file{}", (self.random)() % NAMES);
        let data = making::text(
            (1 + (self.random)() % LONGEST) as usize,
            (self.random)() % 99,
        );
        let zpl = Zpl::open(self.spa.open_head(&head).await?).await?;
        let object = match self.model.state(&head).contains_key(&name) {
            true => zpl.resolve(name.as_bytes()).await?,
            false => {
                self.model.change(&head, |state| {
                    state.insert(name.clone(), Vec::new());
                });
                let new = new_file(FileType::Regular, 0o644);
                let txg = self.spa.open_txg();
                zpl.create(zpl.root(), name.as_bytes(), &new, txg, &[])
                    .await?
            }
        };
        self.model.change(&head, |state| {
            let file = state.get_mut(&name).expect("it is there");
            let length = file.len().max(data.len());
            file.resize(length, 0);
            file[..data.len()].copy_from_slice(&data);
        });
        zpl.write(object, 0, &data, NOW).await
    }

    async fn unlink(&mut self) -> Result<(), Error> {
        let head = self.filesystem();
        let names = self.model.state(&head).into_keys().collect();
        let Some(name) = self.pick(names) else {
            return Ok(());
        };
        let zpl = Zpl::open(self.spa.open_head(&head).await?).await?;
        self.model.change(&head, |state| {
            state.remove(&name);
        });
        zpl.unlink(zpl.root(), name.as_bytes(), NOW).await
    }

    async fn rename(&mut self) -> Result<(), Error> {
        let head = self.filesystem();
        let names = self.model.state(&head).into_keys().collect();
        let Some(from) = self.pick(names) else {
            return Ok(());
        };
        let to = format!("file{}", (self.random)() % NAMES);
        if from == to {
            return Ok(());
        }
        let zpl = Zpl::open(self.spa.open_head(&head).await?).await?;
        self.model.change(&head, |state| {
            let file = state.remove(&from).expect("it is there");
            state.insert(to.clone(), file);
        });
        let place = |name| Name {
            directory: zpl.root(),
            name,
        };
        zpl.rename(place(from.as_bytes()), place(to.as_bytes()), NOW)
            .await
    }

    async fn write_volume(&mut self) -> Result<(), Error> {
        let volumes = self.model.heads.keys().filter(|name| name.contains("vol"));
        let volumes = volumes.cloned().collect();
        let Some(head) = self.pick(volumes) else {
            return Ok(());
        };
        let block = (self.random)() % NAMES;
        let data = making::text(VOLUME_BLOCK, (self.random)() % 99);
        let volume = Zvol::open(self.spa.open_head(&head).await?).await?;
        self.model.change(&head, |state| {
            state.insert(block.to_string(), data.clone());
        });
        volume.write(block * VOLUME_BLOCK as u64, &data).await
    }

    async fn fsync(&mut self) -> Result<(), Error> {
        let heads = self.model.heads.keys().cloned().collect();
        let head = self.pick(heads).expect("the first file system stays");
        let objset = self.spa.open_head(&head).await?;
        self.spa.commit_log(&objset, MADE).await?;
        self.model.settle(&head);
        Ok(())
    }

    async fn snapshot(&mut self) -> Result<(), Error> {
        let heads = self.model.heads.keys().cloned().collect();
        let head = self.pick(heads).expect("the first file system stays");
        let name = format!("{head}@s{}", (self.random)() % 1000);
        if self.model.snapshots.contains_key(&name) {
            return Ok(());
        }
        let state = self.model.state(&head);
        self.model.coming = vec![name.clone()];
        self.model.snapshots.insert(name.clone(), state);
        self.spa.snapshot(&name, MADE, self.random).await?;
        self.model.settle_all();
        Ok(())
    }

    async fn create(&mut self) -> Result<(), Error> {
        let number = (self.random)() % 6;
        let name = match number {
            0 | 1 => format!("tank/vol{number}"),
            _ => format!("tank/fs{number}"),
        };
        if self.model.heads.contains_key(&name) {
            return Ok(());
        }
        self.model.coming = vec![name.clone()];
        self.model.heads.insert(name.clone(), vec![State::new()]);
        if number < 2 {
            let volume = NewVolume {
                size: NAMES * VOLUME_BLOCK as u64,
                block_size: VOLUME_BLOCK,
                reservation: VolumeReservation::None,
            };
            self.spa
                .create_volume(&name, volume, MADE, self.random)
                .await?;
        } else {
            self.spa.create_filesystem(&name, MADE, self.random).await?;
        }
        self.model.settle_all();
        Ok(())
    }

    async fn destroy(&mut self) -> Result<(), Error> {
        let heads = self.model.heads.keys().filter(|name| *name != "tank");
        let all = heads.chain(self.model.snapshots.keys()).cloned().collect();
        let Some(name) = self.pick(all) else {
            return Ok(());
        };
        self.model.going = vec![name.clone()];
        match self.spa.destroy(&name, Deferral::Refused, MADE).await {
            Ok(()) => {
                self.model.heads.remove(&name);
                self.model.snapshots.remove(&name);
                self.model.settle_all();
                Ok(())
            }
            // It has snapshots or clones.
            Err(Error::Busy | Error::NotEmpty) => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn clone_snapshot(&mut self) -> Result<(), Error> {
        let origins = self.model.snapshots.keys().cloned().collect();
        let Some(origin) = self.pick(origins) else {
            return Ok(());
        };
        let kind = if origin.contains("vol") { "vol" } else { "fs" };
        let name = format!("tank/{kind}{}", 6 + (self.random)() % 3);
        if self.model.heads.contains_key(&name) {
            return Ok(());
        }
        let state = self.model.snapshots[&origin].clone();
        self.model.coming = vec![name.clone()];
        self.model.heads.insert(name.clone(), vec![state]);
        self.spa
            .clone_snapshot(&origin, &name, MADE, self.random)
            .await?;
        self.model.settle_all();
        Ok(())
    }

    async fn scrub(&mut self) -> Result<(), Error> {
        let scan = self.spa.scan().await?;
        if scan.is_none_or(|scan| !scan.is_under_way()) {
            self.spa.start_scrub(MADE).await?;
            self.model.settle_all();
        }
        self.spa.scrub_some(1 << 20, MADE).await?;
        Ok(())
    }
}

/// Works until the power goes.
async fn work(spa: &Spa, model: &mut Model, random: &mut dyn FnMut() -> u64) {
    loop {
        model.coming.clear();
        model.going.clear();
        let mut worker = Worker { spa, model, random };
        match worker.step().await {
            Ok(()) => {}
            Err(Error::Device(_) | Error::Suspended | Error::Unreadable(_)) => return,
            Err(error) => panic!("the power is on, and yet: {error}"),
        }
    }
}

async fn found(spa: &Spa, name: &str) -> State {
    if !name.contains("vol") {
        return making::contents(spa, name).await.into_iter().collect();
    }
    let entry = spa.find_dataset(name).await.expect(name);
    let objset = spa.open_objset(&entry.dataset, None).await.expect(name);
    let volume = Zvol::open(objset).await.expect(name);
    let mut state = State::new();
    for block in 0..NAMES {
        let at = block * VOLUME_BLOCK as u64;
        let data = volume.read(at, VOLUME_BLOCK).await.expect(name);
        if data.iter().any(|&byte| byte != 0) {
            state.insert(block.to_string(), data);
        }
    }
    state
}

async fn check(spa: &Spa, model: &Model) {
    let listed = spa.list_datasets("tank").await.expect("data sets");
    let names: Vec<String> = listed.into_iter().map(|entry| entry.name).collect();
    for name in model.heads.keys().chain(model.snapshots.keys()) {
        let open = model.coming.contains(name) || model.going.contains(name);
        assert!(open || names.contains(name), "{name} is lost");
    }
    for name in &names {
        let state = found(spa, name).await;
        if let Some(states) = model.heads.get(name) {
            let place = states.iter().position(|wanted| *wanted == state);
            assert!(
                place.is_some(),
                "{name} is in none of {} states",
                states.len()
            );
        } else {
            let wanted = model.snapshots.get(name);
            assert!(wanted == Some(&state), "{name} is not as it was made");
        }
    }
    check_sums(spa).await;
}

/// One cut; everything follows from the seed.
fn cut(seed: u64) -> Vec<Rc<MemoryDevice>> {
    let mut random = random_from(seed * 7919 + 1);
    for _ in 0..8 {
        random();
    }
    let writes_left = Rc::new(Cell::new(usize::MAX));
    let mut model = Model {
        heads: BTreeMap::from([("tank".into(), vec![State::new()])]),
        snapshots: BTreeMap::new(),
        coming: Vec::new(),
        going: Vec::new(),
    };
    let (shape, cut_after) = (random(), 1 + random() % LAST_WRITE);
    let fragile = block_on(async {
        let (disks, spa) = pool_of_shape(shape, &writes_left, &mut random).await;
        writes_left.set(cut_after as usize);
        work(&spa, &mut model, &mut random).await;
        disks
    });
    let durable = fragile.into_iter().enumerate().map(|(index, disk)| {
        disk.lose_power(seed + index as u64);
        Rc::new(Rc::into_inner(disk).expect("nobody else has it").durable)
    });
    let disks: Vec<Rc<MemoryDevice>> = durable.collect();
    for access in [Access::ReadOnly, Access::ReadWrite, Access::ReadOnly] {
        let spa = open_devices(devices(&disks), access);
        block_on(check(&spa, &model));
    }
    disks
}

/// Makes cuts; a failure says its seed, which `TESSERA_POWER_CUT` replays.
fn cuts(seeds: std::ops::Range<u64>) {
    let replayed = std::env::var("TESSERA_POWER_CUT").ok();
    let replayed = replayed.map(|seed| seed.parse::<u64>().expect("a seed"));
    let seeds = replayed.map_or(seeds, |seed| seed..seed + 1);
    let failed: Vec<u64> = seeds
        .filter(|&seed| std::panic::catch_unwind(|| cut(seed)).is_err())
        .collect();
    assert!(failed.is_empty(), "TESSERA_POWER_CUT replays {failed:?}");
}

#[test]
fn a_power_cut_in_random_operations_leaves_every_head_in_a_state_that_it_had() {
    cuts(0..SHORT);
}

// Two halves, for two processors.

#[test]
#[ignore = "takes minutes"]
fn the_first_half_of_ten_thousand_power_cuts_loses_nothing() {
    cuts(SHORT..SHORT + LONG / 2);
}

#[test]
#[ignore = "takes minutes"]
fn the_second_half_of_ten_thousand_power_cuts_loses_nothing() {
    cuts(SHORT + LONG / 2..SHORT + LONG);
}

#[test]
fn pools_cut_in_random_operations_please_zdb() {
    for seed in [3, 14, 15, 92, 65, 35] {
        zdb::check("tank", &cut(seed));
    }
}
