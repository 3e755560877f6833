//! Golden streams are received to exactly the content of their manifest.

use std::rc::Rc;

use crate::support::compare::{ControlDirectory, filesystem, volume};
use crate::support::making::{MADE, check_sums, contents, disks, pool_on, put, random_from};
use crate::support::{golden, unpack, zdb};
use pool::block_device::MemoryDevice;
use pool::error::{Error, Unsupported};
use pool::future::block_on;
use pool::send::{
    CutOff, InTheWay, Naming, ReceiveError, ReceiveOptions, StreamReader, receive, token,
};
use pool::spa::Spa;
use proptest::prelude::*;
use serde_json::Value;

pub fn options(target: &str) -> ReceiveOptions<'_> {
    ReceiveOptions {
        target,
        naming: Naming::Exact,
        in_the_way: InTheWay::Kept,
        cut_off: CutOff::Dropped,
        set: Vec::new(),
        excluded: Vec::new(),
        origin: None,
        now: MADE + 100,
    }
}

pub fn take(spa: &Spa, bytes: &[u8], options: &ReceiveOptions<'_>) -> Result<(), ReceiveError> {
    let mut reader = bytes;
    let reader: &mut dyn StreamReader = &mut reader;
    block_on(receive(
        spa,
        reader,
        options,
        &mut random_from(5),
        &mut |_| {},
    ))
}

fn stream(name: &str) -> Vec<u8> {
    unpack(&format!("p13-streams.{name}.zsend.zst"))
}

pub fn manifest() -> Value {
    let bytes = std::fs::read(golden("p13-streams.json")).expect("a manifest");
    serde_json::from_slice(&bytes).expect("a manifest in JSON")
}

/// An empty pool and its disk.
pub fn lab() -> (Spa, Vec<Rc<MemoryDevice>>) {
    let disks = disks(1);
    let spa = pool_on(&disks[0], &mut random_from(1));
    (spa, disks)
}

/// A data set or snapshot here has what the manifest says of one there.
pub fn check(spa: &Spa, manifest: &Value, here: &str, there: &str) {
    let entry = block_on(spa.find_dataset(here)).unwrap_or_else(|error| panic!("{here}: {error}"));
    let wanted = &manifest["filesystems"][there];
    filesystem(spa, &entry, None, wanted, ControlDirectory::Hidden);
}

fn received(spa: &Spa, stream_name: &str, target: &str) {
    take(spa, &stream(stream_name), &options(target))
        .unwrap_or_else(|error| panic!("{stream_name}: {error:?}"));
}

#[test]
fn full_and_incremental_streams_give_their_snapshots() {
    let (spa, disks) = lab();
    let manifest = manifest();
    received(&spa, "full", "tank/x");
    check(&spa, &manifest, "tank/x@a", "p13/src@a");
    received(&spa, "inc", "tank/x");
    check(&spa, &manifest, "tank/x@a", "p13/src@a");
    check(&spa, &manifest, "tank/x@b", "p13/src@b");
    check(&spa, &manifest, "tank/x", "p13/src@b");
    received(&spa, "clone", "tank/cl");
    check(&spa, &manifest, "tank/cl@c1", "p13/cl@c1");
    block_on(check_sums(&spa));
    zdb::check("tank", &disks);
}

#[test]
fn large_compressed_and_embedded_blocks_are_received() {
    let (spa, disks) = lab();
    let manifest = manifest();
    received(&spa, "full-cLe", "tank/x");
    check(&spa, &manifest, "tank/x@b", "p13/src@b");
    received(&spa, "zvol-c", "tank/v");
    let entry = block_on(spa.find_dataset("tank/v@v")).unwrap();
    volume(
        &spa,
        &entry,
        manifest["volumes"]["p13/vol"].as_str().unwrap(),
    );
    received(&spa, "enc-plain", "tank/e");
    check(&spa, &manifest, "tank/e@e1", "p13/enc@e1");
    block_on(check_sums(&spa));
    zdb::check("tank", &disks);
}

#[test]
fn compound_streams_bring_all_snapshots_children_and_properties() {
    let (spa, disks) = lab();
    let manifest = manifest();
    received(&spa, "repl", "tank/r");
    for (here, there) in [
        ("tank/r@a", "p13/src@a"),
        ("tank/r@b", "p13/src@b"),
        ("tank/r@c", "p13/src@c"),
        ("tank/r/kid@c", "p13/src/kid@c"),
    ] {
        check(&spa, &manifest, here, there);
    }
    received(&spa, "props", "tank/p");
    received(&spa, "incI", "tank/p");
    check(&spa, &manifest, "tank/p@b", "p13/src@b");
    check(&spa, &manifest, "tank/p@c", "p13/src@c");
    let entry = block_on(spa.find_dataset("tank/r")).unwrap();
    let stored = block_on(spa.stored_properties(&entry)).unwrap();
    let (size, source) = &stored["recordsize"];
    assert_eq!(
        (size.u64(), source.text()),
        (Some(1 << 20), "received".into())
    );
    assert_eq!(stored["com.x:y"].0.string().as_deref(), Some("1"));
    block_on(check_sums(&spa));
    zdb::check("tank", &disks);
}

#[test]
fn streams_from_bookmarks_and_with_large_blocks_continue_what_fits_them() {
    let (spa, disks) = lab();
    let manifest = manifest();
    received(&spa, "full", "tank/x");
    received(&spa, "frombookmark", "tank/x");
    check(&spa, &manifest, "tank/x@b", "p13/src@b");
    received(&spa, "full-cLe", "tank/y");
    received(&spa, "full-cLe", "tank/z");
    let refused = take(&spa, &stream("incI"), &options("tank/z"));
    assert_eq!(
        refused,
        Err(ReceiveError::LargeBlocks("tank/z".into())),
        "{refused:?}"
    );
    zdb::check("tank", &disks);
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let (spa, disks) = lab();
    let full = stream("full");
    let refuse = |bytes: &[u8], target: &str| take(&spa, bytes, &options(target)).unwrap_err();
    assert_eq!(
        refuse(&stream("inc"), "tank/x"),
        ReceiveError::Missing("tank/x".into())
    );
    assert_eq!(
        refuse(&full, "tank/q/x"),
        ReceiveError::ParentMissing("tank/q".into())
    );
    assert_eq!(refuse(&full, "tank"), ReceiveError::Exists("tank".into()));
    assert_eq!(
        refuse(&stream("clone"), "tank/c"),
        ReceiveError::OriginMissing("tank/c".into())
    );
    let raw = ReceiveError::Pool(Error::Unsupported(Unsupported::RawStream));
    assert_eq!(refuse(&stream("raw"), "tank/e"), raw);
    received(&spa, "full", "tank/x");
    assert_eq!(
        refuse(&full, "tank/x"),
        ReceiveError::SnapshotExists("tank/x@a".into())
    );
    block_on(async {
        put(&spa, "tank/x", "new", b"changed").await;
        spa.sync(MADE).await.unwrap();
    });
    let inc = stream("inc");
    assert_eq!(
        refuse(&inc, "tank/x"),
        ReceiveError::Modified("tank/x".into())
    );
    let force = ReceiveOptions {
        in_the_way: InTheWay::Dropped,
        ..options("tank/x")
    };
    take(&spa, &inc, &force).unwrap();
    check(&spa, &manifest(), "tank/x", "p13/src@b");
    zdb::check("tank", &disks);
}

#[test]
fn a_forced_full_stream_takes_the_place_of_a_data_set() {
    let (spa, disks) = lab();
    block_on(put(&spa, "tank", "old", &[7; 500_000]));
    block_on(spa.sync(MADE)).unwrap();
    let force = ReceiveOptions {
        in_the_way: InTheWay::Dropped,
        ..options("tank")
    };
    take(&spa, &stream("full"), &force).unwrap();
    check(&spa, &manifest(), "tank", "p13/src@a");
    zdb::check("tank", &disks);
}

#[test]
fn a_stream_that_breaks_off_leaves_nothing() {
    let (spa, disks) = lab();
    let full = stream("full");
    for cut in [0, 100, 312, 5000, full.len() / 2, full.len() - 1] {
        assert!(take(&spa, &full[..cut], &options("tank/x")).is_err());
        assert_eq!(
            block_on(spa.find_dataset("tank/x")).unwrap_err(),
            Error::NotFound
        );
    }
    received(&spa, "full", "tank/x");
    let inc = stream("inc");
    assert!(take(&spa, &inc[..inc.len() / 2], &options("tank/x")).is_err());
    check(&spa, &manifest(), "tank/x", "p13/src@a");
    received(&spa, "inc", "tank/x");
    zdb::check("tank", &disks);
}

#[test]
fn a_part_that_is_kept_has_a_token_and_can_be_dropped() {
    let (spa, disks) = lab();
    let keep = ReceiveOptions {
        cut_off: CutOff::Kept,
        ..options("tank/x")
    };
    let full = stream("full");
    let cut = take(&spa, &full[..full.len() / 2], &keep).unwrap_err();
    let ReceiveError::CutOff(name, word) = cut else {
        panic!("{cut:?}");
    };
    let state = token::decode(&word).unwrap();
    assert_eq!(
        (name.as_str(), state.to_name.as_str()),
        ("tank/x", "p13/src@a")
    );
    assert!(state.object > 1 && state.bytes > 0, "{state:?}");
    let visible = block_on(spa.list_datasets("tank")).unwrap();
    assert_eq!(visible.len(), 1, "a part is not listed");
    assert_eq!(
        take(&spa, &full, &keep),
        Err(ReceiveError::PartThere("tank/x".into()))
    );
    zdb::check("tank", &disks);
    block_on(spa.abandon_receive("tank/x", MADE)).unwrap();
    received(&spa, "full", "tank/x");
    zdb::check("tank", &disks);
}

/// Puts right checksums into a stream whose records were changed.
fn seal(bytes: &mut [u8]) {
    use pool::checksum::Fletcher4;
    use pool::send::{HEADER_SIZE, Record};
    let (mut at, mut sum) = (0, Fletcher4::default());
    while let Some(header) = bytes.get(at..at + HEADER_SIZE) {
        let header: [u8; HEADER_SIZE] = header.try_into().expect("a header");
        let Ok(record) = Record::decode(&header) else {
            return;
        };
        let before = |sum: &Fletcher4| -> Vec<u8> {
            sum.value()
                .iter()
                .flat_map(|word| word.to_le_bytes())
                .collect()
        };
        match record {
            Record::Begin(_) => {
                sum = Fletcher4::default();
                sum.update(&header);
            }
            ref record => {
                if matches!(record, Record::End { .. }) {
                    bytes[at + 8..at + 40].copy_from_slice(&before(&sum));
                }
                let end = at + HEADER_SIZE - 32;
                sum.update(&bytes[at..end]);
                let words = before(&sum);
                bytes[end..end + 32].copy_from_slice(&words);
                sum.update(&words);
            }
        }
        at += HEADER_SIZE;
        let length = record.payload_size(&header);
        let Some(payload) = bytes.get(at..at + length) else {
            return;
        };
        sum.update(payload);
        at += length;
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Bytes of headers change and the checksums are made right again: there is an error or a snapshot, and the pool is whole.
    #[test]
    fn mutated_streams_never_panic_or_harm_the_pool(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), 0usize..56, any::<u8>()), 1..6),
        name in prop::sample::select(vec!["inc", "clone", "rawinc", "full-cLe"]),
    ) {
        let (spa, disks) = lab();
        received(&spa, "full", "tank/x");
        if name == "clone" {
            received(&spa, "inc", "tank/x");
        }
        let mut bytes = stream(name);
        let heads = headers(&bytes);
        for (head, field, value) in changes {
            let at = heads[head.index(heads.len())];
            // A few types and sizes are worth more tries than all others.
            bytes[at + field] = value;
        }
        seal(&mut bytes);
        let target = if name == "inc" { "tank/x" } else { "tank/z" };
        let _ = take(&spa, &bytes, &options(target));
        block_on(spa.sync(MADE)).unwrap();
        prop_assert!(block_on(spa.find_dataset("tank/x@a")).is_ok());
        block_on(contents(&spa, "tank/x@a"));
        block_on(check_sums(&spa));
        zdb::blocks("tank", &disks);
    }
}

/// Where the records of a stream start.
fn headers(bytes: &[u8]) -> Vec<usize> {
    use pool::send::{HEADER_SIZE, Record};
    let (mut at, mut all) = (0, Vec::new());
    while let Some(header) = bytes.get(at..at + HEADER_SIZE) {
        let header: [u8; HEADER_SIZE] = header.try_into().expect("a header");
        all.push(at);
        at += HEADER_SIZE
            + Record::decode(&header)
                .expect("a record")
                .payload_size(&header);
    }
    all
}
