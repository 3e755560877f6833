//! `zfs send`: a stream on standard output, with the words of zfs(8).

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use pool::dsl::BlockForms;
use pool::error::{DeviceError, Error};
use pool::future::block_on;
use pool::send::{
    SendFrom, SendPart, SendPlan, SendRequest, SendScope, StreamFuture, StreamWriter, plan_resume,
    plan_send, send, token,
};
use pool::spa::Spa;

use crate::arguments::Options;
use crate::failure::Failure;
use crate::files::{self, Keys};
use crate::table::{self, Numbers};

/// Options with a long form, as letters.
const LONG: [(&str, &str); 8] = [
    ("--replicate", "-R"),
    ("--props", "-p"),
    ("--large-block", "-L"),
    ("--embed", "-e"),
    ("--compressed", "-c"),
    ("--dryrun", "-n"),
    ("--verbose", "-v"),
    ("--parsable", "-P"),
];
/// How often `-v` says how far it is.
const REPORT: Duration = Duration::from_secs(1);

/// Runs `zfs send`.
pub fn run(spa: &Spa, keys: &Keys, words: &[&str]) -> Result<(), Failure> {
    let words: Vec<&str> = words
        .iter()
        .map(|word| {
            LONG.iter()
                .find(|(long, _)| long == word)
                .map_or(*word, |(_, short)| *short)
        })
        .collect();
    let options = Options::parse(&words, "RpLecnvPDwbhVs", "iIt")?;
    if options.has('w') {
        return Err(Failure::Told("raw streams are not sent yet".into()));
    }
    let (plan, name) = match options.value('t') {
        Some(word) => resumed(spa, keys, word)?,
        None => planned(spa, keys, &options)?,
    };
    for left_out in &plan.left_out {
        eprintln!("WARNING: could not send {left_out}: does not exist");
    }
    if options.has('v') || options.has('P') {
        let text = describe(&plan, options.has('P'));
        if options.has('n') {
            std::io::stdout().write_all(text.as_bytes())?;
        } else {
            eprint!("{text}");
        }
    }
    if options.has('n') {
        return Ok(());
    }
    let output = std::io::stdout();
    if output.is_terminal() {
        return Err(Failure::Told(
            "Error: Stream can not be written to a terminal.\nYou must redirect standard output."
                .into(),
        ));
    }
    let mut writer = Output {
        output: output.lock(),
        failure: None,
        report: options.has('v').then(|| Report::new(options.has('P'))),
        part: std::rc::Rc::default(),
    };
    let current = writer.part.clone();
    let starts = |part: &SendPart| current.replace(part.snapshot.clone());
    let done = block_on(send(spa, &plan, &name, &mut writer, &mut |part| {
        starts(part);
    }));
    match (done, writer.failure) {
        (_, Some(error)) => Err(Failure::Output(error)),
        (Err(error), None) => Err(cannot(&name, error)),
        (Ok(_), None) => Ok(writer.output.flush()?),
    }
}

fn cannot(name: &str, error: Error) -> Failure {
    let why = match error {
        Error::NotFound => {
            return Failure::Told(format!("cannot open '{name}': dataset does not exist"));
        }
        Error::KeyUnavailable => "dataset key must be loaded".into(),
        Error::InvalidArgument => "not an earlier snapshot from the same fs".into(),
        other => other.to_string(),
    };
    Failure::Told(format!("cannot send '{name}': {why}"))
}

fn planned(spa: &Spa, keys: &Keys, options: &Options<'_>) -> Result<(SendPlan, String), Failure> {
    let [snapshot] = options.rest[..] else {
        return Err(Failure::Usage("zfs send needs one snapshot".into()));
    };
    let Some((path, _)) = snapshot.split_once('@') else {
        return Err(Failure::Usage(format!("'{snapshot}' is not a snapshot")));
    };
    let entry = block_on(spa.find_dataset(snapshot)).map_err(|error| cannot(snapshot, error))?;
    let full = |from: &str| match from.starts_with(['@', '#']) {
        true => format!("{path}{from}"),
        false if from.contains(['@', '#']) => from.into(),
        false => format!("{path}@{from}"),
    };
    let one = options.value('i').map(full);
    let all = options.value('I').map(full);
    let from = match (&one, &all) {
        (None, None) => SendFrom::Nothing,
        (Some(from), None) => SendFrom::One(from),
        (None, Some(from)) => SendFrom::All(from),
        (Some(_), Some(_)) => return Err(Failure::Usage("-i and -I exclude each other".into())),
    };
    if let Some(from) = one.iter().chain(&all).find(|from| from.contains('@'))
        && block_on(spa.find_dataset(from)).is_err()
    {
        return Err(Failure::Told(format!(
            "cannot send '{snapshot}': incremental source ({from}) does not exist"
        )));
    }
    let scope = match (options.has('R'), options.has('p')) {
        (true, _) => SendScope::Replicate,
        (false, true) => SendScope::WithProperties,
        (false, false) => SendScope::Snapshot,
    };
    let request = SendRequest {
        snapshot,
        from,
        scope,
        forms: BlockForms {
            large: options.has('L'),
            embedded: options.has('e'),
            compressed: options.has('c'),
        },
        key: files::key(spa, keys, &entry)?,
    };
    let plan = block_on(plan_send(spa, &request)).map_err(|error| match error {
        Error::NotFound if from != SendFrom::Nothing => Failure::Told(format!(
            "cannot send '{snapshot}': incremental source does not exist"
        )),
        error => cannot(snapshot, error),
    })?;
    Ok((plan, snapshot.into()))
}

fn resumed(spa: &Spa, keys: &Keys, word: &str) -> Result<(SendPlan, String), Failure> {
    let state = token::decode(word)
        .map_err(|_| Failure::Told("cannot resume send: resume token is corrupt".into()))?;
    let path = state.to_name.split('@').next().unwrap_or_default();
    let key = match block_on(spa.find_dataset(path)) {
        Ok(entry) => files::key(spa, keys, &entry)?,
        Err(_) => None,
    };
    let plan = block_on(plan_resume(spa, &state, key)).map_err(|error| match error {
        Error::NotFound => Failure::Told(format!(
            "cannot resume send: '{}' is no longer the same snapshot used in the initial send",
            state.to_name
        )),
        error => cannot(&state.to_name, error),
    })?;
    Ok((plan, state.to_name))
}

/// What `-v` and `-P` say of a stream before it starts.
fn describe(plan: &SendPlan, parsable: bool) -> String {
    let mut text = String::new();
    let mut total = 0;
    for part in &plan.parts {
        total += part.estimate;
        let path = part.snapshot.split('@').next().unwrap_or_default();
        let from = part
            .from
            .as_deref()
            .map(|from| from.strip_prefix(path).unwrap_or(from));
        let (to, size) = (&part.snapshot, part.estimate);
        let short = table::bytes(size, Numbers::Short);
        text += &match (from, parsable) {
            (None, true) => format!("full\t{to}\t{size}\n"),
            (Some(from), true) => format!("incremental\t{from}\t{to}\t{size}\n"),
            (None, false) => format!("full send of {to} estimated size is {short}\n"),
            (Some(from), false) => format!("send from {from} to {to} estimated size is {short}\n"),
        };
    }
    text + &match parsable {
        true => format!("size\t{total}\n"),
        false => format!(
            "total estimated size is {}\n",
            table::bytes(total, Numbers::Short)
        ),
    }
}

/// What `-v` says every second.
struct Report {
    next: Instant,
    sent: u64,
    numbers: Numbers,
}

impl Report {
    fn new(parsable: bool) -> Report {
        if !parsable {
            eprintln!("TIME        SENT   SNAPSHOT");
        }
        Report {
            next: Instant::now() + REPORT,
            sent: 0,
            numbers: if parsable {
                Numbers::Exact
            } else {
                Numbers::Short
            },
        }
    }

    fn add(&mut self, bytes: usize, part: &str) {
        self.sent += bytes as u64;
        if Instant::now() < self.next {
            return;
        }
        self.next += REPORT;
        let date = table::date(crate::change::now()[0]);
        let time = date.split('.').next_back().unwrap_or_default();
        eprintln!(
            "{time}   {:>5}   {part}",
            table::bytes(self.sent, self.numbers)
        );
    }
}

/// Standard output as the other side of a stream.
struct Output<'a> {
    output: std::io::StdoutLock<'a>,
    failure: Option<std::io::Error>,
    report: Option<Report>,
    /// The snapshot that is being sent.
    part: std::rc::Rc<std::cell::RefCell<String>>,
}

impl StreamWriter for Output<'_> {
    fn write<'a>(&'a mut self, bytes: &'a [u8]) -> StreamFuture<'a, ()> {
        let written = self.output.write_all(bytes).map_err(|error| {
            self.failure = Some(error);
            DeviceError::Failed
        });
        if let Some(report) = &mut self.report {
            report.add(bytes.len(), &self.part.borrow());
        }
        Box::pin(std::future::ready(written))
    }
}
