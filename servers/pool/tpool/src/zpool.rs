//! `zpool` commands.

use std::io::Write;

use pool::future::block_on;
use pool::spa::feature::{FEATURES, READ_ONLY_FEATURES};
use pool::spa::{Candidate, PoolState, Spa};
use pool::vdev::config::Purpose;
use pool::vdev::{Vdev, VdevState, VdevType};

use crate::arguments::Options;
use crate::failure::{About, Failure};
use crate::table::{self, Align, Numbers, Style};

/// Runs a `zpool` command on the imported pool.
pub fn run(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let (command, rest) = words
        .split_first()
        .ok_or_else(|| Failure::Usage("zpool needs a command".into()))?;
    match *command {
        "status" => status(spa),
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

fn status(spa: &Spa) -> Result<(), Failure> {
    let state = health(spa).name();
    let mut rows = vec![StatusRow {
        name: spa.name().into(),
        columns: Some([state.into(), "0".into(), "0".into(), "0".into()]),
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
    let width = rows
        .iter()
        .map(|row| row.name.chars().count())
        .max()
        .unwrap_or(0);
    let mut out = std::io::stdout().lock();
    writeln!(out, "  pool: {}\n state: {state}\nconfig:\n", spa.name())?;
    writeln!(out, "\t{:<width$}  STATE     READ WRITE CKSUM", "NAME")?;
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
    writeln!(out, "\nerrors: No known data errors")?;
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
    let mut all = vec![
        computed("size", table::bytes(size, numbers)),
        computed("allocated", table::bytes(allocated, numbers)),
        computed("free", table::bytes(size - allocated.min(size), numbers)),
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
