//! The golden send streams are read record by record, and damage in them is found.

use crate::support::unpack;
use pool::send::{HEADER_SIZE, Record, StreamDecoder};
use proptest::prelude::*;

const STREAMS: [&str; 13] = [
    "full",
    "full-cLe",
    "inc",
    "inc-cLe",
    "incI",
    "props",
    "repl",
    "replI-cLe",
    "clone",
    "frombookmark",
    "raw",
    "rawinc",
    "zvol-c",
];

/// What a stream is made of.
#[derive(Debug, Default, PartialEq, Eq)]
struct Summary {
    begins: usize,
    objects: usize,
    writes: usize,
    ends: usize,
    names: Vec<String>,
}

fn read(mut bytes: &[u8]) -> Result<Summary, pool::error::Error> {
    let truncated = pool::error::Error::Corrupt(pool::error::Structure::Stream);
    let mut decoder = StreamDecoder::new();
    let mut summary = Summary::default();
    while !bytes.is_empty() {
        let (header, rest) = bytes.split_first_chunk::<HEADER_SIZE>().ok_or(truncated)?;
        match decoder.header(header)? {
            Record::Begin(begin) => {
                summary.begins += 1;
                summary.names.push(begin.to_name);
            }
            Record::Object(_) => summary.objects += 1,
            Record::Write(_) | Record::WriteEmbedded { .. } => summary.writes += 1,
            Record::End { .. } => summary.ends += 1,
            _ => {}
        }
        let (payload, rest) = rest
            .split_at_checked(decoder.payload_length())
            .ok_or(truncated)?;
        if !payload.is_empty() {
            decoder.payload(payload)?;
        }
        bytes = rest;
    }
    Ok(summary)
}

#[test]
fn every_golden_stream_is_whole() {
    for name in STREAMS {
        let summary = read(&unpack(&format!("p13-streams.{name}.zsend.zst")));
        let summary = summary.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(
            summary.begins > 0 && summary.ends >= summary.begins,
            "{name}: {summary:?}"
        );
        assert!(summary.objects > 0, "{name}: {summary:?}");
    }
}

#[test]
fn a_replication_stream_holds_all_its_data_sets() {
    let summary = read(&unpack("p13-streams.repl.zsend.zst")).unwrap();
    assert_eq!(summary.ends, summary.begins + 1, "one END closes the whole");
    assert!(
        summary.names.iter().any(|name| name == "p13/src/kid@c"),
        "{:?}",
        summary.names
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn one_changed_byte_is_found(at: prop::sample::Index, change in 1u8..) {
        let mut bytes = unpack("p13-streams.inc.zsend.zst");
        let at = at.index(bytes.len());
        let before = read(&bytes).unwrap();
        bytes[at] ^= change;
        // The part of an END after its checksum is covered by nothing.
        if let Ok(after) = read(&bytes) {
            prop_assert!(at >= bytes.len() - HEADER_SIZE);
            prop_assert_eq!(after, before);
        }
    }
}
