//! Golden pools with damage. Plain damage is for the checksums to find. The greater part is pools whose checksums are right and
//! whose content is not: what an attacker who can write to the devices, or a bug in another
//! implementation, would leave. The answer may be an error or nonsense of the same size, but never a panic, an endless loop or an
//! allocation without bounds.
//!
//! A case is a number: it chooses the blocks that change and how. `TESSERA_HOSTILE_CASE=17` replays one for all
//! pools. A program of its own, because it watches the memory of its process.

mod damage;
mod device;
mod exercise;
mod mutation;
mod reseal;
#[path = "../support/mod.rs"]
mod support;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use device::Overlay;
use mutation::{Random, mutate};
use pool::block_device::{Access, BlockDevice};
use pool::error::Bookmark;
use pool::layout::put_u64;
use pool::partition::Partition;
use pool::spa::Spa;
use pool::uberblock::Uberblock;
use reseal::{Sealer, Site};
use serde_json::Value;
use support::Golden;

const POOLS: [&str; 23] = [
    "p01-single-default",
    "p02-ashift9-compat21-off",
    "p03-nofeatures-v5000",
    "p04-compression",
    "p05-checksums",
    "p06-recordsize-dnodesize",
    "p07-manyfiles-dirs",
    "p08-mirror2",
    "p09-raidz1-3",
    "p10-raidz2-5",
    "p11-snapclone",
    "p12-zvol",
    "p13-streams",
    "p14-zil-pending",
    "p15-zil-slog",
    "p16-damaged-mirror",
    "p17-damaged-unrecoverable",
    "p18-gpt-grub2",
    "p19-gang",
    "p20-removed-vdev-special",
    "p21-dedup-brt",
    "p22-encrypted",
    "p23-raidz3-6",
];
/// Cases of each pool in the short run.
const SHORT: u64 = 5;
/// Cases of each pool in the long run.
const LONG: u64 = 110;
/// Requests to devices in one case: golden pools need a few thousand.
const REQUESTS: u64 = 60_000;
/// A case takes well under a second; the rest is for a machine that does other things.
const SLOWEST: Duration = Duration::from_secs(40);
/// A case that takes longer will not end.
const ENDLESS: Duration = Duration::from_secs(200);
/// What a case may add to the address space: a few blocks of the largest size, and the cache.
const HUNGRIEST: u64 = 512 << 20;
/// Where the partition of the pool with a partition table is.
const PARTITION: (u64, u64) = (1 << 20, 0);

/// A golden pool that is changed again and again.
struct Target {
    requests_left: Rc<Cell<u64>>,
    disks: Vec<Rc<Overlay>>,
    spa: Spa,
    sites: Vec<Site>,
    manifest: Value,
    /// Sites by type, and by whether they are indirect.
    kinds: Vec<Vec<usize>>,
}

impl Target {
    fn load(name: &str) -> Target {
        let golden = Golden::load(name);
        let requests_left = Rc::new(Cell::new(u64::MAX));
        let disk = |device: Rc<dyn BlockDevice>| {
            let whole = name.starts_with("p18").then(|| {
                let length = device.length() - PARTITION.0 - (1 << 20);
                let partition = Partition::new(device.clone(), PARTITION.0, length);
                Rc::new(partition.expect("a partition")) as Rc<dyn BlockDevice>
            });
            Rc::new(Overlay::new(whole.unwrap_or(device), &requests_left))
        };
        let disks: Vec<Rc<Overlay>> = golden.devices().into_iter().map(disk).collect();
        let spa = exercise::open(&devices(&disks), Access::ReadOnly).expect("a golden pool opens");
        let sites = reseal::sites(&spa);
        let mut kinds: BTreeMap<(u8, bool), Vec<usize>> = BTreeMap::new();
        for (index, site) in sites.iter().enumerate() {
            let pointer = &site.pointer;
            let kind = (pointer.object_type(), pointer.level() > 0);
            kinds.entry(kind).or_default().push(index);
        }
        Target {
            requests_left,
            disks,
            spa,
            sites,
            manifest: golden.manifest,
            kinds: kinds.into_values().collect(),
        }
    }

    /// Changes the pool as the case says; gives the blocks that changed.
    fn change(&self, random: &mut Random) -> Vec<Bookmark> {
        let mut sealer = Sealer::new(&self.spa, &self.disks, &self.sites);
        match random.below(16) {
            0 => sealer.reseal_labels(&mut label_change(random)),
            1 => {
                let mut bytes = self.spa.uberblock().encode();
                mutate(&mut bytes[8..], random);
                if let Ok(uberblock) = Uberblock::decode(&bytes) {
                    sealer.seal_uberblock(uberblock);
                }
            }
            2 | 3 => {
                let start = random.below(self.sites.len());
                let order = (start..self.sites.len()).chain(0..start);
                let mut sealed = order.map(|index| &self.sites[index]).filter(|site| {
                    let steps = random.below(4);
                    let is_objset = site.pointer.object_type() == reseal::OBJSET;
                    is_objset && sealer.reseal_log(site, steps, &mut |data| mutate(data, random))
                        || sealer.reseal_gang(site, &mut |data| mutate(data, random))
                });
                if sealed.next().is_none() {
                    return self.change_blocks(&mut sealer, random);
                }
            }
            _ => return self.change_blocks(&mut sealer, random),
        }
        Vec::new()
    }

    fn change_blocks(&self, sealer: &mut Sealer<'_>, random: &mut Random) -> Vec<Bookmark> {
        let mut changed = BTreeMap::new();
        let mut focus = Vec::new();
        for _ in 0..=random.below(3) {
            let kind = &self.kinds[random.below(self.kinds.len())];
            let index = *random.choose(kind);
            if let Some(data) = reseal::read(&self.spa, &self.sites[index]) {
                let mut data = data.to_vec();
                mutate(&mut data, random);
                changed.insert(index, data);
                focus.push(self.sites[index].bookmark);
            }
        }
        sealer.replace(changed);
        focus
    }

    fn run(&self, case: u64) {
        let mut random = Random::new(case);
        for disk in &self.disks {
            disk.reset();
        }
        self.requests_left.set(u64::MAX);
        let focus = self.change(&mut random);
        self.requests_left.set(REQUESTS);
        let devices = devices(&self.disks);
        exercise::read_all(&devices, &focus, &mut random);
        if case.is_multiple_of(2) {
            self.requests_left.set(REQUESTS);
            exercise::write_all(&devices, &focus, &mut random);
            // What was written must not have made it worse.
            self.requests_left.set(REQUESTS);
            exercise::read_all(&devices, &focus, &mut random);
        }
    }
}

fn devices(disks: &[Rc<Overlay>]) -> Vec<Rc<dyn BlockDevice>> {
    disks
        .iter()
        .map(|disk| disk.clone() as Rc<dyn BlockDevice>)
        .collect()
}

/// The same change for each label, although each is a little different.
fn label_change(random: &mut Random) -> impl FnMut(&mut [u8]) {
    let seed = random.next();
    move |area| {
        let used = area.iter().rposition(|&byte| byte != 0).unwrap_or(0);
        // The checksum at the end is not part of it.
        let used = used.min(area.len() - 40);
        let packed = area[..used]
            .iter()
            .rposition(|&byte| byte != 0)
            .unwrap_or(0);
        mutate(&mut area[..=packed], &mut Random::new(seed));
        if seed.is_multiple_of(8) {
            put_u64(area, 4, seed);
        }
    }
}

/// Bytes of address space that the process had at most.
fn address_space() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmPeak:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kib.unwrap_or(0) << 10
}

/// Ends the process when a case does not end, which nothing else could.
fn watch(under_way: &std::path::Path) -> mpsc::Sender<()> {
    let (alive, ticks) = mpsc::channel();
    let under_way = under_way.to_path_buf();
    std::thread::spawn(move || {
        loop {
            match ticks.recv_timeout(ENDLESS) {
                Ok(()) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
                Err(mpsc::RecvTimeoutError::Timeout) => break,
            }
        }
        let case = std::fs::read_to_string(under_way).unwrap_or_default();
        // Past the capture of the test's output, which is lost when a process ends like this.
        let _ = writeln!(std::io::stderr(), "this case does not end: {case}");
        std::process::abort();
    });
    alive
}

/// The memory of the process is that of one case at a time.
static ALONE: Mutex<()> = Mutex::new(());

/// Runs cases of all pools; a failure names the pool and the case.
fn run(cases: std::ops::Range<u64>, each: &dyn Fn(&Target, &str, u64)) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let only = std::env::var("TESSERA_HOSTILE_POOL").ok();
    let replayed = std::env::var("TESSERA_HOSTILE_CASE").ok();
    let replayed = replayed.map(|case| case.parse::<u64>().expect("the number of a case"));
    // An allocation that fails ends the process without a word of the case; this file has it.
    let under_way = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("hostile-case");
    let alive = watch(&under_way);
    let mut failures = Vec::new();
    for (number, name) in POOLS.into_iter().enumerate() {
        if only.as_ref().is_some_and(|only| !name.starts_with(only)) {
            continue;
        }
        let target = Target::load(name);
        let first = number as u64 * 1_000_000;
        for case in cases.clone().map(|case| first + case) {
            if replayed.is_some_and(|replayed| replayed != case) {
                continue;
            }
            let _ = alive.send(());
            let _ = std::fs::write(&under_way, format!("{name} {case}\n"));
            let (before, started) = (address_space(), Instant::now());
            let done = catch_unwind(AssertUnwindSafe(|| each(&target, name, case)));
            if done.is_err() {
                failures.push(format!("{name}: case {case} panicked"));
            }
            let grown = address_space() - before;
            if grown > HUNGRIEST {
                failures.push(format!("{name}: case {case} took {} MiB", grown >> 20));
            }
            if started.elapsed() > SLOWEST {
                failures.push(format!("{name}: case {case} took {:?}", started.elapsed()));
            }
        }
    }
    assert!(
        failures.is_empty(),
        "TESSERA_HOSTILE_CASE replays:\n{}",
        failures.join("\n")
    );
}

fn hostile(target: &Target, _name: &str, case: u64) {
    target.run(case);
}

fn damaged(target: &Target, name: &str, case: u64) {
    target.damage(name, &target.manifest, case);
}

#[test]
fn content_with_right_checksums_and_wrong_sense_does_no_harm() {
    run(0..SHORT, &hostile);
}

#[test]
fn damaged_devices_give_errors_or_right_data() {
    run(0..SHORT, &damaged);
}

#[test]
#[ignore = "takes minutes"]
fn much_content_with_right_checksums_and_wrong_sense_does_no_harm() {
    run(SHORT..LONG, &hostile);
}

#[test]
#[ignore = "takes minutes"]
fn much_damage_of_devices_gives_errors_or_right_data() {
    run(SHORT..LONG, &damaged);
}
