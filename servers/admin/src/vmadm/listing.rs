//! `vmadm list` and `vmadm lookup`: choosing VMs and showing them.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde_json::{Map, Value};

use super::lifecycle::refresh;
use super::object::VmObject;
use super::properties;
use super::selection::{Condition, SortKey, check_key, compare, values};
use super::store::VmStore;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::options::Options;
use crate::stream::Stream;
use crate::table::{Column, Form, MISSING, render};

/// Columns unless `-o` names others: vmadm's.
const DEFAULT_COLUMNS: &str = "uuid,type,ram,state,alias";
/// Order unless `-s` gives another: vmadm's.
const DEFAULT_ORDER: &str = "ram,uuid";
/// Width of the column of a nested key, whose length is not known.
const NESTED_WIDTH: usize = 20;

/// `list [-p] [-H] [-o fields] [-s fields] [k=v ...]`.
///
/// # Errors
/// Wrong arguments; root is gone.
pub fn list<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = parse(arguments, "pH", "os")?;
    let names: Vec<&str> = options
        .value('o')
        .unwrap_or(DEFAULT_COLUMNS)
        .split(',')
        .collect();
    let columns = names
        .iter()
        .map(|name| column(name))
        .collect::<Result<Vec<Column>, Failure>>()?;
    let order = SortKey::parse_list(options.value('s').unwrap_or(DEFAULT_ORDER))?;
    let mut objects = selected(stream, options.operands())?;
    objects.sort_by(|left, right| compare(left, right, &order));
    let rows: Vec<Vec<String>> = objects
        .iter()
        .map(|object| {
            names
                .iter()
                .map(|name| values(object, name).join(","))
                .collect()
        })
        .collect();
    let form = if options.has('p') {
        Form::Parsable
    } else if options.has('H') {
        Form::Untitled
    } else {
        Form::Titled
    };
    stream.print(&render(&columns, &rows, form));
    Ok(())
}

/// `lookup [-j|-1] [-o fields] [k=v ...]`.
///
/// # Errors
/// Wrong arguments; `-1` and not exactly one VM; root is gone.
pub fn lookup<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = parse(arguments, "j1", "o")?;
    let fields: Option<Vec<&str>> = options.value('o').map(|names| names.split(',').collect());
    for name in fields.iter().flatten() {
        check_key(name)?;
    }
    if fields.is_some() && !options.has('j') {
        return Err(Failure::Usage("-o needs -j".into()));
    }
    let objects = selected(stream, options.operands())?;
    if options.has('1') && objects.len() != 1 {
        let count = objects.len();
        return Err(Failure::Failed(format!(
            "Requested unique lookup but found {count} results."
        )));
    }
    if options.has('j') {
        let objects = objects
            .into_iter()
            .map(|object| match &fields {
                Some(fields) => only(&object, fields),
                None => object,
            })
            .collect();
        let text = serde_json::to_string_pretty(&Value::Array(objects)).unwrap_or_default();
        stream.print(&format!("{text}\n"));
    } else {
        for object in &objects {
            stream.print(&format!("{}\n", values(object, "uuid").concat()));
        }
    }
    Ok(())
}

fn parse(arguments: &[String], flags: &str, valued: &str) -> Result<Options, Failure> {
    Options::parse(arguments, flags, valued).map_err(|error| Failure::Usage(error.to_string()))
}

fn column(name: &str) -> Result<Column, Failure> {
    check_key(name)?;
    let width = properties::find(name).map_or(NESTED_WIDTH, |property| property.width);
    Ok(Column::text(name, width))
}

/// The VMs for which every condition holds, in the order in which they were created.
fn selected<M: Machine>(
    stream: &mut Stream<M>,
    conditions: &[String],
) -> Result<Vec<Value>, Failure> {
    let conditions = conditions
        .iter()
        .map(|text| Condition::parse(text))
        .collect::<Result<Vec<_>, _>>()?;
    let machine = stream.machine();
    refresh(machine)?;
    let objects = machine
        .vms()
        .all()
        .iter()
        .map(|vm| VmObject::new(vm).to_value());
    Ok(objects
        .filter(|object| conditions.iter().all(|condition| condition.holds(object)))
        .collect())
}

/// An object with the named properties alone.
fn only(object: &Value, names: &[&str]) -> Value {
    let mut chosen = Map::new();
    for name in names {
        let value = match object.get(*name) {
            Some(value) => value.clone(),
            None => Value::String(match values(object, name).as_slice() {
                [] => MISSING.into(),
                found => found.join(","),
            }),
        };
        chosen.insert((*name).into(), value);
    }
    Value::Object(chosen)
}
