//! Measures the pool on an image file: `pool_bench IMAGE [MIB]`. The image is made, used and removed.
//!
//! Wall time depends on the machine and its load; CPU time, of this process only, is what to compare.

#[path = "../src/device.rs"]
#[expect(dead_code, reason = "the measurements open one file by its path")]
mod device;
#[path = "../src/failure.rs"]
#[expect(dead_code, reason = "the measurements open one file by its path")]
mod failure;

use std::rc::Rc;
use std::time::Instant;

use device::FileDevice;
use pool::block_device::{Access, BlockDevice};
use pool::dsl::Deferral;
use pool::future::block_on;
use pool::spa::create::{NewPool, NewVdev, create};
use pool::spa::{CompatibilitySet, ImportOptions, Spa, import, scan};
use pool::zpl::{FileType, NewFile, Owner, Zpl};

type Failure = Box<dyn std::error::Error>;

const NOW: u64 = 1_700_000_000;
const MIB: usize = 1 << 20;
const RECORD: usize = 128 << 10;
const PAGE: usize = 4 << 10;
const ARC_LIMIT: usize = 256 << 20;
/// Data that is in memory before a transaction group writes it.
const GROUP: usize = 64 * MIB;
const SMALL_FILES: usize = 10_000;
const SYNC_WRITES: usize = 2_000;
const RANDOM_READS: usize = 20_000;

/// Nanoseconds that this process ran.
fn cpu_ns() -> u64 {
    let text = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    text.split(' ')
        .next()
        .and_then(|word| word.parse().ok())
        .unwrap_or(0)
}

/// Runs something and prints what each of `count` operations cost.
async fn measure<T>(
    what: &str,
    count: usize,
    work: impl Future<Output = Result<T, pool::error::Error>>,
) -> Result<T, Failure> {
    let (start, cpu) = (Instant::now(), cpu_ns());
    let done = work.await?;
    let (wall, cpu) = (start.elapsed().as_secs_f64(), (cpu_ns() - cpu) as f64 / 1e9);
    let each = |seconds: f64| seconds * 1e6 / count as f64;
    println!(
        "{what:40} {:10.1} per second {:10.1} µs CPU each",
        count as f64 / wall,
        each(cpu)
    );
    Ok(done)
}

fn random_from(seed: u64) -> impl FnMut() -> u64 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

/// Words that compress about two to one.
fn text(length: usize) -> Vec<u8> {
    let mut random = random_from(7);
    let mut data = Vec::with_capacity(length + 16);
    while data.len() < length {
        data.extend(format!("word{} ", random() % 5000).bytes());
    }
    data.truncate(length);
    data
}

fn regular(salt: u64) -> NewFile {
    NewFile {
        file_type: FileType::Regular,
        mode: 0o644,
        owner: Owner { uid: 0, gid: 0 },
        now: [NOW, 0],
        rdev: 0,
        salt,
    }
}

async fn make_pool(image: &str, mib: usize) -> Result<Spa, Failure> {
    std::fs::File::create(image)?.set_len(((4 * mib).max(1024) * MIB) as u64)?;
    let device: Rc<dyn BlockDevice> = Rc::new(FileDevice::open(image, Access::ReadWrite)?);
    let new = NewPool {
        name: "bench".into(),
        vdevs: vec![NewVdev::Disk(image.into(), device)],
        logs: Vec::new(),
        features: CompatibilitySet::default(),
        ashift: 12,
        now: NOW,
        arc_limit: ARC_LIMIT,
    };
    Ok(create(new, &mut random_from(1)).await?)
}

async fn import_again(image: &str) -> Result<Spa, Failure> {
    let device: Rc<dyn BlockDevice> = Rc::new(FileDevice::open(image, Access::ReadWrite)?);
    let pools = scan(vec![device]).await;
    let options = ImportOptions {
        access: Access::ReadWrite,
        arc_limit: ARC_LIMIT,
        now: NOW,
    };
    Ok(import(pools.first().ok_or("no pool")?, options).await?)
}

async fn open(spa: &Spa, name: &str) -> Result<Zpl, pool::error::Error> {
    Zpl::open(spa.open_head(name).await?).await
}

/// Writes `mib` MiB to a new file, a group at a time.
async fn write_file(spa: &Spa, name: &str, mib: usize) -> Result<(), pool::error::Error> {
    let zpl = open(spa, name).await?;
    let file = zpl
        .create(zpl.root(), b"large", &regular(1), spa.open_txg(), &[])
        .await?;
    let data = text(MIB);
    for at in 0..mib {
        zpl.write(file, (at * MIB) as u64, &data, [NOW, 0]).await?;
        if ((at + 1) * MIB).is_multiple_of(GROUP) {
            spa.sync(NOW).await?;
        }
    }
    spa.sync(NOW).await
}

async fn run(image: &str, mib: usize) -> Result<(), Failure> {
    let spa = make_pool(image, mib).await?;
    let mut random = random_from(5);
    spa.create_filesystem("bench/data", NOW, &mut random)
        .await?;
    let records = mib * MIB / RECORD;
    measure(
        "write 128 KiB, lz4",
        records,
        write_file(&spa, "bench/data", mib),
    )
    .await?;
    drop(spa);
    let spa = import_again(image).await?;
    let zpl = open(&spa, "bench/data").await?;
    let file = zpl.resolve(b"large").await?;
    measure("read 128 KiB, cold", records, async {
        for at in 0..records {
            zpl.read(file, (at * RECORD) as u64, RECORD).await?;
        }
        Ok(())
    })
    .await?;
    measure("read 4 KiB at random", RANDOM_READS, async {
        for _ in 0..RANDOM_READS {
            let at = random() % (mib * MIB / PAGE) as u64;
            zpl.read(file, at * PAGE as u64, PAGE).await?;
        }
        Ok(())
    })
    .await?;
    let page = text(PAGE);
    let small = zpl
        .create(zpl.root(), b"synced", &regular(2), spa.open_txg(), &[])
        .await?;
    measure("write 4 KiB and fsync", SYNC_WRITES, async {
        for at in 0..SYNC_WRITES {
            zpl.write(small, (at * PAGE) as u64, &page, [NOW, 0])
                .await?;
            spa.commit_log(zpl.objset(), NOW).await?;
        }
        Ok(())
    })
    .await?;
    measure("create a file of 1 KiB", SMALL_FILES, async {
        for index in 0..SMALL_FILES {
            let name = format!("small-{index}");
            let file = zpl
                .create(
                    zpl.root(),
                    name.as_bytes(),
                    &regular(3),
                    spa.open_txg(),
                    &[],
                )
                .await?;
            zpl.write(file, 0, &page[..1024], [NOW, 0]).await?;
        }
        spa.sync(NOW).await
    })
    .await?;
    measure_snapshots(&spa, mib).await
}

/// Snapshots of file systems of growing sizes: the cost must stay the same.
async fn measure_snapshots(spa: &Spa, mib: usize) -> Result<(), Failure> {
    let mut random = random_from(9);
    let mut size = 1;
    while size <= mib {
        let name = format!("bench/of-{size}");
        spa.create_filesystem(&name, NOW, &mut random).await?;
        write_file(spa, &name, size).await?;
        let snapshot = format!("{name}@now");
        let what = |operation: &str| format!("{operation}, {size} MiB");
        measure(
            &what("snapshot"),
            1,
            spa.snapshot(&snapshot, NOW, &mut random),
        )
        .await?;
        let clone = format!("bench/clone-{size}");
        let cloning = spa.clone_snapshot(&snapshot, &clone, NOW, &mut random);
        measure(&what("clone"), 1, cloning).await?;
        for gone in [&clone, &snapshot] {
            let destroying = spa.destroy(gone, Deferral::Refused, NOW);
            measure(&what("destroy of what is shared"), 1, destroying).await?;
        }
        measure(
            &what("destroy"),
            1,
            spa.destroy(&name, Deferral::Refused, NOW),
        )
        .await?;
        size *= 16;
    }
    Ok(())
}

fn main() -> Result<(), Failure> {
    let mut words = std::env::args().skip(1);
    let image = words.next().ok_or("usage: pool_bench IMAGE [MIB]")?;
    let mib = words.next().map_or(Ok(256), |word| word.parse())?;
    let done = block_on(run(&image, mib));
    std::fs::remove_file(&image)?;
    done
}
