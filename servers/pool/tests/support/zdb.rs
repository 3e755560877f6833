//! Checking pools that the tests wrote with the real zdb, where it is installed.

use std::path::PathBuf;
use std::process::Command;
use std::rc::Rc;
use std::sync::atomic::{AtomicU32, Ordering};

use pool::block_device::{BlockDevice, MemoryDevice};

/// Where Debian puts it, which is not on every path.
const ZDB: &str = "/usr/sbin/zdb";

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A directory of device images that goes away with the test.
struct Images(PathBuf);

impl Images {
    fn write(disks: &[Rc<MemoryDevice>]) -> Images {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("pool-zdb-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).expect("a directory for images");
        for (index, disk) in disks.iter().enumerate() {
            let mut bytes = vec![0; disk.length() as usize];
            disk.peek(0, &mut bytes).expect("the whole device");
            std::fs::write(path.join(format!("d{index}")), bytes).expect("an image");
        }
        Images(path)
    }
}

impl Drop for Images {
    fn drop(&mut self) {
        // A directory that stays behind harms nothing.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Runs zdb over a pool; it must be content. Without zdb nothing is checked, and that is said.
pub fn check(pool: &str, disks: &[Rc<MemoryDevice>]) {
    run(pool, disks, "-bcdmmCu");
}

/// [`check`] with the checksums of data too, over which zdb takes five seconds longer.
pub fn check_data(pool: &str, disks: &[Rc<MemoryDevice>]) {
    run(pool, disks, "-bccdmmCu");
}

/// The blocks alone: sums, leaks and checksums of metadata. What data sets hold may be nonsense.
pub fn blocks(pool: &str, disks: &[Rc<MemoryDevice>]) {
    run(pool, disks, "-bc");
}

/// [`check_data`] of a pool of which zdb misses the users of objects of one kind, as it does right after OpenZFS made it.
pub fn check_data_but_for(pool: &str, disks: &[Rc<MemoryDevice>], kind: &str) {
    // With its complaint zdb leaves it at that, so the blocks are checked in a run of their own.
    run(pool, disks, "-bccmmCu");
    let Some((_, text)) = output(pool, disks, "-d") else {
        return;
    };
    let (missed, others): (Vec<&str>, Vec<&str>) = text
        .lines()
        .partition(|line| line.starts_with("MOS object") && line.contains(kind));
    assert!(
        !missed.is_empty(),
        "zdb {pool} has no complaint about {kind}"
    );
    assert_eq!(complaint(&others.join("\n")), None, "zdb {pool}:\n{text}");
}

/// What zdb says of the intent logs of a pool; nothing without zdb.
pub fn logs(pool: &str, disks: &[Rc<MemoryDevice>]) -> Option<String> {
    if !std::path::Path::new(ZDB).exists() {
        eprintln!("zdb is not installed: the logs of {pool} are not checked with it");
        return None;
    }
    let images = Images::write(disks);
    let output = Command::new(ZDB)
        .args(["-e", "-p"])
        .arg(&images.0)
        .args(["-ivvv", pool])
        .output()
        .expect("zdb runs");
    assert!(output.status.success(), "zdb -i {pool}: {}", output.status);
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn run(pool: &str, disks: &[Rc<MemoryDevice>], options: &str) {
    if let Some((success, text)) = output(pool, disks, options) {
        assert!(success, "zdb {pool} failed\n{text}");
        check_text(pool, &text);
    }
}

/// Whether zdb was successful, and what it says; nothing without zdb.
fn output(pool: &str, disks: &[Rc<MemoryDevice>], options: &str) -> Option<(bool, String)> {
    if !std::path::Path::new(ZDB).exists() {
        eprintln!("zdb is not installed: {pool} is not checked with it");
        return None;
    }
    let images = Images::write(disks);
    // All blocks with their checksums and leaks, data sets, metaslabs, configuration and uberblock in one run.
    let output = Command::new(ZDB)
        .args(["-e", "-p"])
        .arg(&images.0)
        .args([options, pool])
        .output()
        .expect("zdb runs");
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Some((output.status.success(), text))
}

fn check_text(pool: &str, text: &str) {
    assert_eq!(complaint(text), None, "zdb {pool}:\n{text}");
    assert!(text.contains("No leaks"), "zdb {pool}:\n{text}");
}

/// The first line with one of the words that zdb complains in.
fn complaint(text: &str) -> Option<&str> {
    let words = [
        "leaked space",
        ") leaked",
        "mismatch",
        "Got error",
        "ASSERT",
        "unable to",
    ];
    text.lines()
        .find(|line| words.iter().any(|word| line.contains(word)))
}
