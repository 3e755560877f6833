//! `zpool` commands.

use std::io::Write;

use pool::error::Bookmark;
use pool::future::block_on;
use pool::spa::feature::{FEATURES, READ_ONLY_FEATURES};
use pool::spa::{Candidate, PoolState, Scan, ScanState, Spa};
use pool::vdev::config::Purpose;
use pool::vdev::{Vdev, VdevState, VdevType};
use pool::zpl::Zpl;

use crate::arguments::Options;
use crate::failure::{About, Failure};
use crate::table::{self, Align, Numbers, Style};

/// Runs a `zpool` command on the imported pool.
pub fn run(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let (command, rest) = words
        .split_first()
        .ok_or_else(|| Failure::Usage("zpool needs a command".into()))?;
    match *command {
        "status" => status(spa, rest),
        "history" => history(spa, rest),
        "list" => list(spa, rest),
        "get" => get(spa, rest),
        other => Err(Failure::Usage(format!(
            "no zpool command is called '{other}'"
        ))),
    }
}

/// `zpool import` without a name: what pools are there.
pub fn import(pools: &[Candidate]) -> Result<(), Failure> {
    if pools.is_empty() {
        return Err(Failure::Told("no pools available to import".into()));
    }
    let mut out = std::io::stdout().lock();
    for pool in pools {
        let state = match pool.state {
            PoolState::Active => "ACTIVE",
            PoolState::Exported => "EXPORTED",
            PoolState::Destroyed => "DESTROYED",
        };
        writeln!(
            out,
            "   pool: {}\n     id: {}\n  state: {state}",
            pool.name, pool.guid
        )?;
        if let Some(host) = &pool.hostname {
            writeln!(out, "   host: {host}")?;
        }
    }
    Ok(())
}

/// The worst state of the top-level vdevs.
fn health(spa: &Spa) -> VdevState {
    let states = spa.zio().vdevs().tops().iter().map(Vdev::state);
    states.fold(VdevState::Online, |worst, state| {
        if state == VdevState::Online {
            worst
        } else {
            state
        }
    })
}

fn display_name(vdev: &Vdev) -> String {
    match vdev.config.kind {
        VdevType::Disk | VdevType::File => vdev
            .config
            .path
            .clone()
            .unwrap_or_else(|| vdev.config.guid.to_string()),
        VdevType::Raidz => format!("raidz{}-{}", vdev.config.parity, vdev.config.id),
        kind => format!("{}-{}", kind.name(), vdev.config.id),
    }
}

struct StatusRow {
    name: String,
    columns: Option<[String; 4]>,
}

fn status_rows(vdev: &Vdev, depth: usize, rows: &mut Vec<StatusRow>) {
    let counters = &vdev.statistics;
    rows.push(StatusRow {
        name: format!("{}{}", "  ".repeat(depth), display_name(vdev)),
        columns: Some([
            vdev.state().name().into(),
            counters.read_errors.get().to_string(),
            counters.write_errors.get().to_string(),
            counters.checksum_errors.get().to_string(),
        ]),
    });
    for child in &vdev.children {
        status_rows(child, depth + 1, rows);
    }
}

/// The class of a top-level vdev that `zpool status` shows under a heading of its own.
fn class(vdev: &Vdev) -> &'static str {
    match vdev.config.purpose {
        Purpose::Log => "logs",
        Purpose::Normal => match vdev.config.nvlist.string("alloc_bias") {
            Some("special") => "special",
            Some("dedup") => "dedup",
            _ => "",
        },
    }
}

/// Files and other things that lost blocks belong to, as `zpool status -v` names them.
fn lost_names(spa: &Spa) -> Result<Vec<String>, Failure> {
    let lost = block_on(spa.lost_blocks()).about(spa.name())?;
    let mut names = std::collections::BTreeSet::new();
    for bookmark in lost {
        names.insert(block_on(lost_name(spa, &bookmark)));
    }
    Ok(names.into_iter().collect())
}

/// The data set and the path of what a lost block belongs to; numbers where names are lost too.
async fn lost_name(spa: &Spa, bookmark: &Bookmark) -> String {
    let numbers = format!("<0x{:x}>:<0x{:x}>", bookmark.objset, bookmark.object);
    if bookmark.objset == 0 {
        return format!("<metadata>:<0x{:x}>", bookmark.object);
    }
    let Ok(dataset) = spa.dsl_dataset(bookmark.objset).await else {
        return numbers;
    };
    let Ok(name) = spa.dataset_name(&dataset).await else {
        return numbers;
    };
    let path = async {
        let zpl = Zpl::open(spa.open_objset(&dataset, None).await?).await?;
        zpl.path_of(bookmark.object).await
    };
    match path.await {
        Ok(path) => format!("{name}:/{}", String::from_utf8_lossy(&path)),
        Err(_) => format!("{name}:<0x{:x}>", bookmark.object),
    }
}

/// What `zpool status` says of errors, before the table of vdevs.
fn advice(state: VdevState, lost: &[String], counted: bool) -> Option<[&'static str; 2]> {
    if !lost.is_empty() {
        return Some([
            "One or more devices has experienced an error resulting in data\n\tcorruption.  Applications may be affected.",
            "Restore the file in question if possible.  Otherwise restore the\n\tentire pool from backup.",
        ]);
    }
    if state != VdevState::Online {
        return Some([
            "One or more devices could not be used because the label is missing or\n\tinvalid.  Sufficient replicas exist for the pool to continue\n\tfunctioning in a degraded state.",
            "Replace the device using 'zpool replace'.",
        ]);
    }
    counted.then_some([
        "One or more devices has experienced an unrecoverable error.  An\n\tattempt was made to correct the error.  Applications are unaffected.",
        "Determine if the device needs to be replaced, and clear the errors\n\tusing 'zpool clear' or replace the device with 'zpool replace'.",
    ])
}

fn status(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "vPL", "")?;
    let lost = lost_names(spa)?;
    let rows = all_status_rows(spa);
    let counted = rows
        .iter()
        .filter_map(|row| row.columns.as_ref())
        .any(|[_, errors @ ..]| errors.iter().any(|count| count != "0"));
    let state = health(spa);
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = std::io::stdout().lock();
    writeln!(out, "  pool: {}\n state: {}", spa.name(), state.name())?;
    if let Some([what, action]) = advice(state, &lost, counted) {
        writeln!(out, "status: {what}\naction: {action}")?;
    }
    if let Some(scan) = block_on(spa.scan()).about(spa.name())? {
        writeln!(out, "  scan: {}", scan_text(&scan))?;
    }
    writeln!(
        out,
        "config:\n\n\t{:<width$}  STATE     READ WRITE CKSUM",
        "NAME"
    )?;
    for row in rows {
        match row.columns {
            Some([state, read, write, checksum]) => {
                writeln!(
                    out,
                    "\t{:<width$}  {state:<8} {read:>5} {write:>5} {checksum:>5}",
                    row.name
                )?;
            }
            None => writeln!(out, "\t{}\t", row.name)?,
        }
    }
    match lost.len() {
        0 => writeln!(out, "\nerrors: No known data errors")?,
        count if !options.has('v') => {
            writeln!(out, "\nerrors: {count} data errors, use '-v' for a list")?
        }
        _ => {
            writeln!(
                out,
                "\nerrors: Permanent errors have been detected in the following files:\n"
            )?;
            for name in lost {
                writeln!(out, "        {name}")?;
            }
        }
    }
    Ok(())
}

/// What the latest scrub or resilver did.
fn scan_text(scan: &Scan) -> String {
    let (name, done) = match scan.function {
        2 => ("resilver", "resilvered"),
        _ => ("scrub", "scrub repaired"),
    };
    let repaired = table::bytes(scan.repaired, Numbers::Short);
    match scan.state {
        ScanState::Finished => {
            let seconds = scan.end_time.saturating_sub(scan.start_time);
            let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
            let on = table::day_and_date(scan.end_time);
            let joint = if scan.function == 2 { "" } else { "in " };
            format!(
                "{done} {repaired} {joint}{hours:02}:{minutes:02}:{rest:02} with {} errors on {on}",
                scan.errors
            )
        }
        ScanState::Canceled => {
            format!("{name} canceled on {}", table::day_and_date(scan.end_time))
        }
        _ if scan.is_paused() => format!(
            "{name} paused since {}\n\t{name} started on {}",
            table::day_and_date(scan.start_time),
            table::day_and_date(scan.start_time)
        ),
        _ => {
            let percent = (scan.examined * 100).checked_div(scan.to_examine);
            format!(
                "{name} in progress since {}\n\t{} / {} scanned\n\t{repaired} repaired, {}% done",
                table::day_and_date(scan.start_time),
                table::bytes(scan.examined, Numbers::Short),
                table::bytes(scan.to_examine, Numbers::Short),
                percent.unwrap_or(100).min(100)
            )
        }
    }
}

/// The pool, and its vdevs under the headings of their classes.
fn all_status_rows(spa: &Spa) -> Vec<StatusRow> {
    let mut rows = vec![StatusRow {
        name: spa.name().into(),
        columns: Some([
            health(spa).name().into(),
            "0".into(),
            "0".into(),
            "0".into(),
        ]),
    }];
    for heading in ["", "dedup", "special", "logs"] {
        let tops = spa.zio().vdevs().tops().iter();
        let tops: Vec<&Vdev> = tops
            .filter(|top| {
                !matches!(top.config.kind, VdevType::Hole | VdevType::Indirect)
                    && class(top) == heading
            })
            .collect();
        if !tops.is_empty() && !heading.is_empty() {
            rows.push(StatusRow {
                name: heading.into(),
                columns: None,
            });
        }
        for top in tops {
            status_rows(top, 1, &mut rows);
        }
    }
    rows
}

/// `zpool history`.
fn history(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    Options::parse(words, "il", "")?;
    let records = block_on(spa.history()).about(spa.name())?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "History for '{}':", spa.name())?;
    for record in records {
        if let Some(command) = record.command {
            writeln!(out, "{} {command}", table::date(record.time))?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn style(options: &Options<'_>) -> (Style, Numbers) {
    (
        if options.has('H') {
            Style::Script
        } else {
            Style::Human
        },
        if options.has('p') {
            Numbers::Exact
        } else {
            Numbers::Short
        },
    )
}

fn list(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "Hp", "")?;
    let (style, numbers) = style(&options);
    let size = block_on(spa.size()).about(spa.name())?;
    let allocated = block_on(spa.allocated()).about(spa.name())?;
    let percent = (allocated * 100).checked_div(size).unwrap_or(0);
    let capacity = if numbers == Numbers::Exact {
        percent.to_string()
    } else {
        format!("{percent}%")
    };
    let columns = [
        ("NAME", Align::Left, spa.name().to_string()),
        ("SIZE", Align::Right, table::bytes(size, numbers)),
        ("ALLOC", Align::Right, table::bytes(allocated, numbers)),
        (
            "FREE",
            Align::Right,
            table::bytes(size - allocated.min(size), numbers),
        ),
        ("CAP", Align::Right, capacity),
        ("HEALTH", Align::Right, health(spa).name().into()),
    ];
    let header: Vec<(String, Align)> = columns
        .iter()
        .map(|(title, align, _)| ((*title).into(), *align))
        .collect();
    table::print(
        &header,
        &[columns.map(|(_, _, value)| value).to_vec()],
        style,
    )
}

fn properties(spa: &Spa, numbers: Numbers) -> Result<Vec<[String; 3]>, Failure> {
    let size = block_on(spa.size()).about(spa.name())?;
    let allocated = block_on(spa.allocated()).about(spa.name())?;
    let computed = |name: &str, value: String| [name.to_string(), value, "-".to_string()];
    let freeing = block_on(spa.freeing()).about(spa.name())?;
    let mut all = vec![
        computed("size", table::bytes(size, numbers)),
        computed("allocated", table::bytes(allocated, numbers)),
        computed("free", table::bytes(size - allocated.min(size), numbers)),
        computed("freeing", table::bytes(freeing, numbers)),
        computed("health", health(spa).name().into()),
        computed("guid", spa.guid().to_string()),
    ];
    let counts = block_on(spa.feature_counts()).about(spa.name())?;
    for feature in FEATURES.iter().chain(&READ_ONLY_FEATURES) {
        let state = match counts.get(feature.guid) {
            None => "disabled",
            Some(0) => "enabled",
            Some(_) => "active",
        };
        all.push([
            format!("feature@{}", feature.name),
            state.into(),
            "local".into(),
        ]);
    }
    Ok(all)
}

fn get(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "Hp", "")?;
    let (style, numbers) = style(&options);
    let names = options
        .rest
        .first()
        .ok_or_else(|| Failure::Usage("zpool get needs a property".into()))?;
    let all = properties(spa, numbers)?;
    let mut rows = Vec::new();
    for name in names.split(',') {
        let found: Vec<&[String; 3]> = all
            .iter()
            .filter(|row| name == "all" || row[0] == name)
            .collect();
        if found.is_empty() {
            return Err(Failure::Usage(format!(
                "no pool property is called '{name}'"
            )));
        }
        rows.extend(found.into_iter().map(|[name, value, source]| {
            vec![
                spa.name().to_string(),
                name.clone(),
                value.clone(),
                source.clone(),
            ]
        }));
    }
    let header =
        ["NAME", "PROPERTY", "VALUE", "SOURCE"].map(|title| (title.to_string(), Align::Left));
    table::print(&header, &rows, style)
}
