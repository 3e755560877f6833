//! What is sent: the golden pool's streams as OpenZFS made them, and round trips through pools made here.

use std::process::{Command, Stdio};

use crate::receive::{check, lab, manifest, options, take};
use crate::support::making::{MADE, check_sums, contents, put, random_from, text};
use crate::support::{Golden, unpack, zdb};
use pool::dsl::BlockForms;
use pool::error::Error;
use pool::future::block_on;
use pool::send::{
    CutOff, ReceiveError, ReceiveOptions, SendFrom, SendRequest, SendScope, StreamWriter,
    plan_resume, plan_send, send, token,
};
use pool::spa::Spa;

/// Where Debian puts it.
const ZSTREAM: &str = "/usr/sbin/zstream";

pub const PLAIN: BlockForms = BlockForms {
    large: false,
    embedded: false,
    compressed: false,
};
pub const ALL_FORMS: BlockForms = BlockForms {
    large: true,
    embedded: true,
    compressed: true,
};

pub fn request<'a>(snapshot: &'a str, from: SendFrom<'a>, forms: BlockForms) -> SendRequest<'a> {
    SendRequest {
        snapshot,
        from,
        scope: SendScope::Snapshot,
        forms,
        key: None,
    }
}

pub fn sent(spa: &Spa, request: &SendRequest<'_>) -> Vec<u8> {
    block_on(async {
        let plan = plan_send(spa, request).await.expect(request.snapshot);
        let mut bytes: Vec<u8> = Vec::new();
        let writer: &mut dyn StreamWriter = &mut bytes;
        send(spa, &plan, request.snapshot, writer, &mut |_| {})
            .await
            .expect(request.snapshot);
        bytes
    })
}

/// `zstream dump` reads the stream to its end, where it is installed.
fn zstream_accepts(stream: &[u8]) {
    if !std::path::Path::new(ZSTREAM).exists() {
        eprintln!("zstream is not installed: the stream is not checked with it");
        return;
    }
    let mut child = Command::new(ZSTREAM)
        .arg("dump")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("zstream runs");
    let mut input = child.stdin.take().expect("a pipe");
    let bytes = stream.to_vec();
    let writing = std::thread::spawn(move || std::io::Write::write_all(&mut input, &bytes));
    let output = child.wait_with_output().expect("zstream ends");
    writing
        .join()
        .expect("a writer")
        .expect("zstream reads all");
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    let length = format!("Total stream length = {} ", stream.len());
    assert!(output.status.success() && text.contains(&length), "{text}");
    assert!(
        !text.contains("ncorrect") && !text.contains("nvalid"),
        "{text}"
    );
}

#[track_caller]
fn same(found: &[u8], name: &str) {
    let wanted = unpack(&format!("p13-streams.{name}.zsend.zst"));
    let first = found.iter().zip(&wanted).position(|(a, b)| a != b);
    assert_eq!((first, found.len()), (None, wanted.len()), "{name}");
}

#[test]
fn the_golden_pool_is_sent_byte_for_byte_as_openzfs_sends_it() {
    let golden = Golden::load("p13-streams");
    let spa = golden.open();
    let from_a = SendFrom::One("p13/src@a");
    for (name, snapshot, from, forms) in [
        ("full", "p13/src@a", SendFrom::Nothing, PLAIN),
        ("inc", "p13/src@b", from_a, PLAIN),
        (
            "frombookmark",
            "p13/src@b",
            SendFrom::One("p13/src#ba"),
            PLAIN,
        ),
        ("clone", "p13/cl@c1", SendFrom::One("p13/src@b"), PLAIN),
        ("incI", "p13/src@c", SendFrom::All("p13/src@a"), PLAIN),
        (
            "zvol-c",
            "p13/vol@v",
            SendFrom::Nothing,
            BlockForms {
                compressed: true,
                ..PLAIN
            },
        ),
    ] {
        let stream = sent(&spa, &request(snapshot, from, forms));
        zstream_accepts(&stream);
        same(&stream, name);
    }
    for (name, snapshot, scope) in [
        ("props", "p13/src@a", SendScope::WithProperties),
        ("repl", "p13/src@c", SendScope::Replicate),
    ] {
        let stream = sent(
            &spa,
            &SendRequest {
                scope,
                ..request(snapshot, SendFrom::Nothing, PLAIN)
            },
        );
        same(&stream, name);
    }
}

#[test]
fn replication_of_the_golden_pool_is_received_to_its_manifest() {
    let golden = Golden::load("p13-streams");
    let source = golden.open();
    let whole = SendRequest {
        scope: SendScope::Replicate,
        ..request("p13/src@c", SendFrom::Nothing, ALL_FORMS)
    };
    let stream = sent(&source, &whole);
    zstream_accepts(&stream);
    let (spa, disks) = lab();
    take(&spa, &stream, &options("tank/r")).unwrap();
    let manifest = manifest();
    for snapshot in ["a", "b", "c"] {
        let there = format!("p13/src@{snapshot}");
        check(&spa, &manifest, &format!("tank/r@{snapshot}"), &there);
    }
    check(&spa, &manifest, "tank/r/kid@c", "p13/src/kid@c");
    let entry = block_on(spa.find_dataset("tank/r")).unwrap();
    let stored = block_on(spa.stored_properties(&entry)).unwrap();
    assert_eq!(stored["recordsize"].1.text(), "received");
    let refused = plan_of(&source, "p13/enc@e1").unwrap_err();
    assert_eq!(refused, Error::KeyUnavailable);
    zdb::check("tank", &disks);
}

fn plan_of(spa: &Spa, snapshot: &str) -> Result<u64, Error> {
    block_on(async {
        let plan = plan_send(spa, &request(snapshot, SendFrom::Nothing, PLAIN)).await?;
        let mut bytes: Vec<u8> = Vec::new();
        let writer: &mut dyn StreamWriter = &mut bytes;
        send(spa, &plan, snapshot, writer, &mut |_| {}).await
    })
}

/// A file system with three snapshots of changing contents, a child and a clone.
async fn fill(spa: &Spa) {
    let mut random = random_from(9);
    spa.create_filesystem("tank/s", MADE, &mut random)
        .await
        .unwrap();
    spa.set_property("tank/s", "recordsize", "1M", MADE, &mut random)
        .await
        .unwrap();
    put(spa, "tank/s", "large", &text(3_500_000, 1)).await;
    put(spa, "tank/s", "small", b"little").await;
    spa.snapshot("tank/s@one", MADE, &mut random).await.unwrap();
    put(spa, "tank/s", "large", &text(1_200_000, 2)).await;
    put(spa, "tank/s", "more", &text(300_000, 3)).await;
    spa.snapshot("tank/s@two", MADE, &mut random).await.unwrap();
    spa.create_filesystem("tank/s/kid", MADE, &mut random)
        .await
        .unwrap();
    put(spa, "tank/s/kid", "k", &text(9000, 4)).await;
    spa.clone_snapshot("tank/s@two", "tank/s/twin", MADE, &mut random)
        .await
        .unwrap();
    put(spa, "tank/s/twin", "t", &text(9000, 5)).await;
    put(spa, "tank/s", "small", &text(70_000, 6)).await;
    for name in ["tank/s@three", "tank/s/kid@three", "tank/s/twin@three"] {
        spa.snapshot(name, MADE, &mut random).await.unwrap();
    }
}

#[test]
fn what_is_sent_here_is_received_here() {
    let (spa, disks) = lab();
    block_on(fill(&spa));
    for (target, forms) in [("tank/plain", PLAIN), ("tank/all", ALL_FORMS)] {
        let full = sent(&spa, &request("tank/s@one", SendFrom::Nothing, forms));
        zstream_accepts(&full);
        take(&spa, &full, &options(target)).unwrap();
        let rest = sent(
            &spa,
            &request("tank/s@three", SendFrom::All("tank/s@one"), forms),
        );
        zstream_accepts(&rest);
        take(&spa, &rest, &options(target)).unwrap();
        for snapshot in ["one", "two", "three"] {
            let here = block_on(contents(&spa, &format!("{target}@{snapshot}")));
            assert_eq!(
                here,
                block_on(contents(&spa, &format!("tank/s@{snapshot}")))
            );
        }
    }
    block_on(check_sums(&spa));
    zdb::check("tank", &disks);
}

#[test]
fn replication_brings_children_and_clones() {
    let (spa, disks) = lab();
    block_on(fill(&spa));
    let whole = SendRequest {
        scope: SendScope::Replicate,
        ..request("tank/s@three", SendFrom::Nothing, PLAIN)
    };
    let stream = sent(&spa, &whole);
    zstream_accepts(&stream);
    let (other, other_disks) = lab();
    take(&other, &stream, &options("tank/copy")).unwrap();
    for name in ["", "/kid", "/twin"] {
        let here = block_on(contents(&other, &format!("tank/copy{name}@three")));
        assert_eq!(
            here,
            block_on(contents(&spa, &format!("tank/s{name}@three")))
        );
    }
    let twin = block_on(other.find_dataset("tank/copy/twin")).unwrap();
    let origin = block_on(other.dsl_dataset(twin.dir.phys.origin)).unwrap();
    assert_eq!(
        block_on(other.dataset_name(&origin)),
        Ok("tank/copy@two".into())
    );
    block_on(check_sums(&other));
    zdb::check("tank", &other_disks);
    zdb::check("tank", &disks);
}

#[test]
fn a_stream_that_broke_off_goes_on_with_its_token() {
    let (spa, disks) = lab();
    block_on(fill(&spa));
    let full = sent(&spa, &request("tank/s@one", SendFrom::Nothing, ALL_FORMS));
    let keep = |target| ReceiveOptions {
        cut_off: CutOff::Kept,
        ..options(target)
    };
    let cut = take(&spa, &full[..full.len() * 2 / 3], &keep("tank/x")).unwrap_err();
    let ReceiveError::CutOff(_, word) = cut else {
        panic!("{cut:?}");
    };
    let state = token::decode(&word).unwrap();
    assert_eq!(
        Some(state.clone()),
        block_on(spa.receive_state("tank/x")).unwrap()
    );
    let rest = block_on(async {
        let plan = plan_resume(&spa, &state, None).await.unwrap();
        let mut bytes: Vec<u8> = Vec::new();
        let writer: &mut dyn StreamWriter = &mut bytes;
        send(&spa, &plan, "tank/s@one", writer, &mut |_| {})
            .await
            .unwrap();
        bytes
    });
    assert!(rest.len() < full.len(), "{} of {}", rest.len(), full.len());
    zstream_accepts(&rest);
    let wrong = take(&spa, &rest, &options("tank/y"));
    assert_eq!(wrong, Err(ReceiveError::NothingToResume("tank/y".into())));
    take(&spa, &rest, &keep("tank/x")).unwrap();
    let here = block_on(contents(&spa, "tank/x@one"));
    assert_eq!(here, block_on(contents(&spa, "tank/s@one")));
    assert_eq!(block_on(spa.receive_state("tank/x")), Ok(None));
    block_on(check_sums(&spa));
    zdb::check("tank", &disks);
}
