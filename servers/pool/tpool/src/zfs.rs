//! `zfs` commands.

use pool::dsl::{DatasetEntry, DatasetKind, PropertyValue};
use pool::future::block_on;
use pool::spa::Spa;

use crate::arguments::Options;
use crate::failure::{About, Failure};
use crate::table::{self, Align, Numbers, Style};

/// Properties that are bytes, which are shown with a unit unless asked otherwise.
const BYTES: [&str; 18] = [
    "used",
    "available",
    "referenced",
    "quota",
    "reservation",
    "volsize",
    "volblocksize",
    "recordsize",
    "refquota",
    "refreservation",
    "usedbysnapshots",
    "usedbydataset",
    "usedbychildren",
    "usedbyrefreservation",
    "written",
    "logicalused",
    "logicalreferenced",
    "special_small_blocks",
];

/// Runs a `zfs` command on the imported pool.
pub fn run(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let (command, rest) = words
        .split_first()
        .ok_or_else(|| Failure::Usage("zfs needs a command".into()))?;
    match *command {
        "list" => list(spa, rest),
        "get" => get(spa, rest),
        "holds" => holds(spa, rest),
        other => Err(Failure::Usage(format!(
            "no zfs command is called '{other}'"
        ))),
    }
}

/// A data set with its properties.
struct Row {
    name: String,
    kind: DatasetKind,
    properties: Vec<PropertyValue>,
}

/// Which of the data sets below the named ones are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Below {
    /// None.
    Nothing,
    /// All of them.
    Everything,
}

fn rows(spa: &Spa, names: &[&str], types: &str, below: Below) -> Result<Vec<Row>, Failure> {
    let mut entries: Vec<DatasetEntry> = Vec::new();
    if names.is_empty() {
        entries = block_on(spa.list_datasets(spa.name())).about(spa.name())?;
    }
    for name in names {
        if below == Below::Everything && !name.contains('@') {
            entries.extend(block_on(spa.list_datasets(name)).about(name)?);
        } else {
            entries.push(block_on(spa.find_dataset(name)).about(name)?);
        }
    }
    let mut rows = Vec::new();
    for entry in entries {
        let kind = block_on(spa.dataset_kind(&entry.dataset)).about(&entry.name)?;
        let wanted = types
            .split(',')
            .any(|word| word == "all" || word == kind.name() || word == short(kind));
        if wanted || names.contains(&entry.name.as_str()) {
            let properties = block_on(spa.properties(&entry)).about(&entry.name)?;
            rows.push(Row {
                name: entry.name,
                kind,
                properties,
            });
        }
    }
    Ok(rows)
}

fn short(kind: DatasetKind) -> &'static str {
    match kind {
        DatasetKind::Filesystem => "fs",
        DatasetKind::Volume => "vol",
        DatasetKind::Snapshot => "snap",
    }
}

fn shown(property: &PropertyValue, numbers: Numbers) -> String {
    if numbers == Numbers::Exact {
        return property.value.clone();
    }
    match property.value.parse::<u64>() {
        Ok(0) if property.name.ends_with("quota") || property.name.ends_with("reservation") => {
            "none".into()
        }
        Ok(value) if BYTES.contains(&property.name.as_str()) => table::bytes(value, numbers),
        _ if property.name.ends_with("ratio") => format!("{}x", property.value),
        _ => property.value.clone(),
    }
}

fn column(row: &Row, name: &str, numbers: Numbers) -> String {
    let name = match name {
        "name" => return row.name.clone(),
        "type" => return row.kind.name().into(),
        "avail" => "available",
        "refer" => "referenced",
        "usedsnap" => "usedbysnapshots",
        "usedds" => "usedbydataset",
        "usedchild" => "usedbychildren",
        other => other,
    };
    row.properties
        .iter()
        .find(|property| property.name == name)
        .map_or("-".into(), |property| shown(property, numbers))
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
    let options = Options::parse(words, "Hpr", "ot")?;
    let (style, numbers) = style(&options);
    let columns: Vec<&str> = options
        .value('o')
        .unwrap_or("name,used,avail,refer,mountpoint")
        .split(',')
        .collect();
    let below = if options.has('r') {
        Below::Everything
    } else {
        Below::Nothing
    };
    let types = options.value('t').unwrap_or("filesystem,volume");
    let rows = rows(spa, &options.rest, types, below)?;
    let cells: Vec<Vec<String>> = rows
        .iter()
        .map(|row| {
            columns
                .iter()
                .map(|name| column(row, name, numbers))
                .collect()
        })
        .collect();
    let header: Vec<(String, Align)> = columns
        .iter()
        .map(|name| {
            let text = matches!(*name, "name" | "type" | "mountpoint" | "origin");
            (
                name.to_uppercase(),
                if text { Align::Left } else { Align::Right },
            )
        })
        .collect();
    table::print(&header, &cells, style)
}

/// `zfs holds`.
fn holds(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "Hrp", "")?;
    let (style, numbers) = style(&options);
    let mut rows = Vec::new();
    for name in &options.rest {
        let (path, own) = name
            .split_once('@')
            .ok_or_else(|| Failure::Usage(format!("'{name}' is not a snapshot")))?;
        let all = block_on(spa.list_datasets(path)).about(name)?;
        let wanted = |found: &str| {
            found == *name || options.has('r') && found.split('@').nth(1) == Some(own)
        };
        for entry in all.into_iter().filter(|entry| wanted(&entry.name)) {
            for (tag, time) in block_on(spa.holds(&entry.dataset)).about(&entry.name)? {
                let time = match numbers {
                    Numbers::Exact => time.to_string(),
                    Numbers::Short => table::date(time),
                };
                rows.push(vec![entry.name.clone(), tag, time]);
            }
        }
    }
    let header = ["NAME", "TAG", "TIMESTAMP"].map(|title| (title.to_string(), Align::Left));
    table::print(&header, &rows, style)
}

fn get(spa: &Spa, words: &[&str]) -> Result<(), Failure> {
    let options = Options::parse(words, "Hpr", "ot")?;
    let (style, numbers) = style(&options);
    let (names, datasets) = options
        .rest
        .split_first()
        .ok_or_else(|| Failure::Usage("zfs get needs a property".into()))?;
    let fields: Vec<&str> = options
        .value('o')
        .unwrap_or("name,property,value,source")
        .split(',')
        .collect();
    let below = if options.has('r') {
        Below::Everything
    } else {
        Below::Nothing
    };
    let rows = rows(spa, datasets, options.value('t').unwrap_or("all"), below)?;
    let mut cells = Vec::new();
    for row in &rows {
        let wanted: Vec<&PropertyValue> = row
            .properties
            .iter()
            .filter(|property| {
                names
                    .split(',')
                    .any(|name| name == "all" || name == property.name)
            })
            .collect();
        for property in wanted {
            let cell = |field: &&str| match *field {
                "name" => Ok(row.name.clone()),
                "property" => Ok(property.name.clone()),
                "value" => Ok(shown(property, numbers)),
                "source" => Ok(property.source.text()),
                other => Err(Failure::Usage(format!("zfs get has no field '{other}'"))),
            };
            cells.push(fields.iter().map(cell).collect::<Result<Vec<_>, _>>()?);
        }
    }
    let header: Vec<(String, Align)> = fields
        .iter()
        .map(|field| (field.to_uppercase(), Align::Left))
        .collect();
    table::print(&header, &cells, style)
}
