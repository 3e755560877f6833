//! `zfs receive`: a stream from standard input, with the words and refusals of zfs(8).

use std::io::{Read, Write};
use std::time::Instant;

use pool::dsl::parse;
use pool::error::{DeviceError, Error, Structure};
use pool::future::block_on;
use pool::send::{
    CutOff, InTheWay, Naming, Progress, ReceiveError, ReceiveOptions, Record, RecordReader,
    StreamFuture, StreamReader, receive,
};
use pool::spa::Spa;

use crate::arguments::Options;
use crate::failure::Failure;
use crate::table::{self, Numbers};
use crate::zfs_change::Context;

/// Runs `zfs receive`.
pub fn run(spa: &Spa, words: &[&str], context: &mut Context<'_>) -> Result<(), Failure> {
    let options = Options::parse(words, "AFMdehnsuv", "ox")?;
    let [target] = options.rest[..] else {
        return Err(Failure::Usage("zfs receive needs one name".into()));
    };
    if options.has('A') {
        return abandon(spa, target, context.now);
    }
    let mut input = Input(std::io::stdin().lock());
    if options.has('n') {
        return pretend(target, &mut input);
    }
    let mut set = Vec::new();
    let mut origin = None;
    for word in options.values('o') {
        let (property, value) = word
            .split_once('=')
            .ok_or_else(|| Failure::Usage(format!("missing '=' in '{word}'")))?;
        if property == "origin" {
            origin = Some(value);
            continue;
        }
        let value = parse(property, value)
            .map_err(|_| Failure::Told(format!("cannot receive: invalid property '{word}'")))?;
        set.push((property.to_string(), value));
    }
    let receive_options = ReceiveOptions {
        target,
        naming: match (options.has('d'), options.has('e')) {
            (true, true) => return Err(Failure::Usage("-d and -e exclude each other".into())),
            (true, false) => Naming::WithoutPool,
            (false, true) => Naming::LastPart,
            (false, false) => Naming::Exact,
        },
        in_the_way: match options.has('F') {
            true => InTheWay::Dropped,
            false => InTheWay::Kept,
        },
        cut_off: match options.has('s') {
            true => CutOff::Kept,
            false => CutOff::Dropped,
        },
        set,
        excluded: options.values('x').map(String::from).collect(),
        origin,
        now: context.now,
    };
    let mut tell = Tell {
        verbose: options.has('v'),
        started: Instant::now(),
        incremental: false,
    };
    let done = block_on(receive(
        spa,
        &mut input,
        &receive_options,
        context.random,
        &mut |progress| tell.say(progress),
    ));
    done.map_err(|error| Failure::Told(refusal(error, tell.incremental)))
}

/// `-A`: drops what an interrupted receive left.
fn abandon(spa: &Spa, target: &str, now: u64) -> Result<(), Failure> {
    block_on(spa.abandon_receive(target, now)).map_err(|error| {
        Failure::Told(match error {
            Error::NotFound => {
                format!("'{target}' does not have any resumable receive state to abort")
            }
            error => format!("cannot abort the receive of '{target}': {error}"),
        })
    })
}

/// `-n`: says what the stream would become.
fn pretend(target: &str, input: &mut Input<'_>) -> Result<(), Failure> {
    let mut reader = RecordReader::new(input);
    let mut out = std::io::stdout().lock();
    loop {
        let next =
            block_on(reader.next()).map_err(|error| Failure::Told(refusal(error.into(), false)))?;
        match next {
            Some((Record::Begin(begin), _)) if begin.to_guid != 0 => {
                let kind = if begin.from_guid == 0 {
                    "full"
                } else {
                    "incremental"
                };
                writeln!(
                    out,
                    "would receive {kind} stream of {} into {target}",
                    begin.to_name
                )?;
            }
            Some(_) => {}
            None => return Ok(()),
        }
    }
}

/// What `-v` says.
struct Tell {
    verbose: bool,
    started: Instant,
    incremental: bool,
}

impl Tell {
    fn say(&mut self, progress: Progress) {
        let text = match progress {
            Progress::Started {
                incremental,
                source,
                target,
            } => {
                (self.started, self.incremental) = (Instant::now(), incremental);
                let kind = if incremental { "incremental" } else { "full" };
                format!("receiving {kind} stream of {source} into {target}")
            }
            Progress::Finished { bytes } => {
                let seconds = self.started.elapsed().as_secs_f64().max(0.01);
                let rate = (bytes as f64 / seconds) as u64;
                format!(
                    "received {} stream in {seconds:.2} seconds ({}/sec)",
                    table::bytes(bytes, Numbers::Short),
                    table::bytes(rate, Numbers::Short)
                )
            }
            Progress::Skipped { target } => {
                format!("snap {target} already exists; ignoring")
            }
        };
        if self.verbose {
            println!("{text}");
        }
    }
}

/// The words of zfs(8) for a stream that was not received.
fn refusal(error: ReceiveError, incremental: bool) -> String {
    const NEW: &str = "cannot receive new filesystem stream";
    const INCREMENTAL: &str = "cannot receive incremental stream";
    match error {
        ReceiveError::Exists(name) => {
            format!("{NEW}: destination '{name}' exists\nmust specify -F to overwrite it")
        }
        ReceiveError::HasSnapshots(name) => {
            format!("{NEW}: destination '{name}' has snapshots\nmust destroy them to overwrite it")
        }
        ReceiveError::Missing(name) => {
            format!("{INCREMENTAL}: destination '{name}' does not exist")
        }
        ReceiveError::ParentMissing(name) => format!(
            "cannot open '{name}': dataset does not exist\n{NEW}: unable to restore to destination"
        ),
        ReceiveError::NotLatest(name) => format!(
            "{INCREMENTAL}: most recent snapshot of {name} does not\nmatch incremental source"
        ),
        ReceiveError::Modified(name) => format!(
            "{INCREMENTAL}: destination {name} has been modified\nsince most recent snapshot"
        ),
        ReceiveError::SnapshotExists(name) => {
            format!("cannot restore to {name}: destination already exists")
        }
        ReceiveError::OriginMissing(name) => {
            format!("cannot receive: local origin for clone {name} does not exist")
        }
        ReceiveError::LargeBlocks(name) => format!(
            "{INCREMENTAL}: the blocks of {name} are of another size: send it with or without -L (--large-block), as in the previous receive"
        ),
        ReceiveError::PartThere(name) => format!(
            "{NEW}: destination {name} contains partially-complete state from \"zfs receive -s\"."
        ),
        ReceiveError::NothingToResume(name) => format!(
            "cannot receive resume stream: destination {name} has no partially-complete state of this stream"
        ),
        ReceiveError::CutOff(_, token) => format!(
            "{}: checksum mismatch or incomplete stream.\nPartially received snapshot is saved.\nA resuming stream can be generated on the sending system by running:\n    zfs send -t {token}",
            if incremental { INCREMENTAL } else { NEW }
        ),
        ReceiveError::Pool(Error::Corrupt(Structure::Stream)) => {
            "cannot receive: invalid stream (checksum mismatch or incomplete stream)".into()
        }
        ReceiveError::Pool(error) => format!("cannot receive: {error}"),
    }
}

/// Standard input as the other side of a stream.
struct Input<'a>(std::io::StdinLock<'a>);

impl StreamReader for Input<'_> {
    fn read<'a>(&'a mut self, buffer: &'a mut [u8]) -> StreamFuture<'a, usize> {
        let count = self.0.read(buffer).map_err(|_| DeviceError::Failed);
        Box::pin(std::future::ready(count))
    }
}
