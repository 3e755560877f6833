//! The description of several data sets at the start of a compound stream.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::CORRUPT;
use crate::dsl::NewValue;
use crate::error::Error;
use crate::nvlist::{Nvlist, Value};

/// Properties with their values.
pub type PropertyList = Vec<(String, NewValue)>;

/// One data set of a compound stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PlannedDataset {
    /// Its name where it is sent from.
    pub name: String,
    /// Properties that are set there.
    pub properties: PropertyList,
    /// Guids of its snapshots, by name.
    pub snapshots: BTreeMap<String, u64>,
    /// Properties of its snapshots, by name.
    pub snapshot_properties: BTreeMap<String, PropertyList>,
    /// Guid of the snapshot before its first one; 0 without one.
    pub parent_from: u64,
    /// Guid of the snapshot it is a clone of.
    pub origin: Option<u64>,
}

/// Whether a stream is of one data set or of all below it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recursion {
    /// One.
    #[default]
    Single,
    /// All.
    Recursive,
}

/// What a compound stream is made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Name of the snapshot from which it starts.
    pub from_snapshot: Option<String>,
    /// Name of the snapshot at which it ends.
    pub to_snapshot: Option<String>,
    /// Whether all data sets below belong to it.
    pub recursion: Recursion,
    /// The data sets, by the guids of their heads.
    pub datasets: BTreeMap<u64, PlannedDataset>,
}

impl Plan {
    /// Reads the payload of the first BEGIN; an empty one plans nothing.
    ///
    /// # Errors
    /// `Corrupt`.
    pub fn decode(payload: &[u8]) -> Result<Plan, Error> {
        if payload.is_empty() {
            return Ok(Plan::default());
        }
        let list = Nvlist::decode(payload).map_err(|_| CORRUPT)?;
        let mut plan = Plan {
            from_snapshot: list.string("fromsnap").map(String::from),
            to_snapshot: list.string("tosnap").map(String::from),
            recursion: match list.get("not_recursive") {
                Some(_) => Recursion::Single,
                None => Recursion::Recursive,
            },
            datasets: BTreeMap::new(),
        };
        for (guid, value) in list.list("fss").into_iter().flat_map(Nvlist::iter) {
            let Value::List(dataset) = value else {
                return Err(CORRUPT);
            };
            let guid = guid.trim_start_matches("0x");
            let guid = u64::from_str_radix(guid, 16).map_err(|_| CORRUPT)?;
            plan.datasets.insert(guid, decode_dataset(dataset)?);
        }
        Ok(plan)
    }

    /// The data set that a snapshot belongs to.
    pub fn of_snapshot(&self, guid: u64) -> Option<&PlannedDataset> {
        self.datasets
            .values()
            .find(|dataset| dataset.snapshots.values().any(|known| *known == guid))
    }

    /// The payload again.
    pub fn encode(&self) -> Vec<u8> {
        let mut list = Nvlist::new();
        for (name, value) in [
            ("fromsnap", &self.from_snapshot),
            ("tosnap", &self.to_snapshot),
        ] {
            if let Some(value) = value {
                list.set_string(name, value);
            }
        }
        if self.recursion == Recursion::Single {
            list.set("not_recursive", Value::Boolean);
        }
        let mut all = Nvlist::new();
        for (guid, dataset) in &self.datasets {
            all.set(
                &alloc::format!("0x{guid:x}"),
                Value::List(encode_dataset(dataset)),
            );
        }
        list.set("fss", Value::List(all));
        list.encode()
    }
}

fn decode_dataset(list: &Nvlist) -> Result<PlannedDataset, Error> {
    let nested = |name: &str| list.list(name).into_iter().flat_map(Nvlist::iter);
    let mut dataset = PlannedDataset {
        name: list.string("name").ok_or(CORRUPT)?.into(),
        properties: list.list("props").map(properties).unwrap_or_default(),
        parent_from: list.u64("parentfromsnap").unwrap_or(0),
        origin: list.u64("origin"),
        ..PlannedDataset::default()
    };
    for (name, value) in nested("snaps") {
        let Value::Uint64(guid) = value else {
            return Err(CORRUPT);
        };
        dataset.snapshots.insert(name.into(), *guid);
    }
    for (name, value) in nested("snapprops") {
        if let Value::List(list) = value {
            dataset
                .snapshot_properties
                .insert(name.into(), properties(list));
        }
    }
    Ok(dataset)
}

fn properties(list: &Nvlist) -> PropertyList {
    let values = list.iter().filter_map(|(name, value)| {
        let value = match value {
            Value::Uint64(number) => NewValue::Number(*number),
            Value::String(text) => NewValue::Text(text.clone()),
            _ => return None,
        };
        Some((name.to_string(), value))
    });
    values.collect()
}

fn encode_dataset(dataset: &PlannedDataset) -> Nvlist {
    let mut list = Nvlist::new();
    list.set_string("name", &dataset.name);
    list.set_u64("parentfromsnap", dataset.parent_from);
    if let Some(origin) = dataset.origin {
        list.set_u64("origin", origin);
    }
    list.set("props", Value::List(encode_properties(&dataset.properties)));
    let mut snapshots = Nvlist::new();
    for (name, guid) in &dataset.snapshots {
        snapshots.set_u64(name, *guid);
    }
    list.set("snaps", Value::List(snapshots));
    let mut all = Nvlist::new();
    for (name, properties) in &dataset.snapshot_properties {
        all.set(name, Value::List(encode_properties(properties)));
    }
    list.set("snapprops", Value::List(all));
    list
}

fn encode_properties(properties: &PropertyList) -> Nvlist {
    let mut list = Nvlist::new();
    for (name, value) in properties {
        match value {
            NewValue::Number(number) => list.set_u64(name, *number),
            NewValue::Text(text) => list.set_string(name, text),
        }
    }
    list
}
