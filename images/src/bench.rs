//! `make bench`: measures the kernel and virtual machines and sets the figures beside those of
//! others.
//!
//! Everything runs under QEMU, where one instruction takes one tick. The root task
//! `tests/programs/bench` counts what the kernel needs, the guest `tests/programs/guest-bench` what
//! a virtual machine does ([`virtual_machine`]). What they print is read here, compared with
//! [`rows::ROWS`], printed as a table and written to `out/bench.json`. What others measured stands
//! here, not in the programs.

mod guest_kernel;
mod rows;
mod virtual_machine;

use crate::lab::{LabError, Medium, Qemu};
use rows::{ROWS, Row};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

pub use virtual_machine::guest_files;

/// What a program prints before each line, and what the root task prints last.
const MARK: &str = "bench: ";
const LAST: &str = "bench: done";
/// How long the root task may take: seconds when the host is idle.
const LIMIT: Duration = Duration::from_secs(300);
/// Memory of its machine, in MiB: the program needs a few.
const MEMORY_MIB: u32 = 512;

/// What is measured, and where the figures go.
#[derive(Debug)]
pub struct Subjects<'a> {
    /// The kernel.
    pub kernel: &'a Path,
    /// The root task that measures it.
    pub program: &'a Path,
    /// The image of the whole system with [`guest_files`].
    pub system: &'a Path,
    /// The file to write.
    pub json: &'a Path,
}

/// A row with its value, if everything that it consists of was measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Measured {
    row: Row,
    value: Option<u64>,
}

/// Measures everything, prints the table and writes the file.
///
/// # Errors
/// When a machine does not end as it should, or the file cannot be written.
pub fn run(subjects: &Subjects<'_>) -> Result<(), String> {
    println!("images: counting the kernel's instructions in QEMU");
    let mut printed = measure_kernel(subjects).map_err(|error| error.to_string())?;
    println!("images: counting what virtual machines need (some minutes)");
    let machines = virtual_machine::measure(subjects.system);
    printed += &machines.map_err(|error| error.to_string())?;
    let measured = join(&printed)?;
    print!("{}", table(&measured));
    let json = subjects.json;
    std::fs::write(json, to_json(&measured))
        .map_err(|error| format!("{}: {error}", json.display()))?;
    println!("images: {}", json.display());
    Ok(())
}

/// Boots the kernel with its root task; what that printed.
fn measure_kernel(subjects: &Subjects<'_>) -> Result<String, LabError> {
    let medium = Medium::Kernel {
        kernel: subjects.kernel.to_owned(),
        module: Some(subjects.program.to_owned()),
    };
    let machine = Qemu::new(medium)
        .cpus(1)
        .memory_mib(MEMORY_MIB)
        .counting_instructions();
    machine.start()?.wait_for(LAST, LIMIT)
}

/// The lines `bench: NAME = VALUE ...` of what the machine printed.
fn figures(printed: &str) -> impl Iterator<Item = (&str, u64)> {
    printed.lines().filter_map(|line| {
        let (name, rest) = line.trim_end().strip_prefix(MARK)?.split_once(" = ")?;
        let value = rest.split(' ').next()?.parse().ok()?;
        Some((name, value))
    })
}

/// Every row with its value, in the order of the table.
///
/// # Errors
/// For a figure that no row shows.
fn join(printed: &str) -> Result<Vec<Measured>, String> {
    let is_shown = |name| ROWS.iter().any(|row| row.figures.contains(&name));
    if let Some((name, _)) = figures(printed).find(|(name, _)| !is_shown(name)) {
        return Err(format!("no row of the table shows the figure `{name}`"));
    }
    let find = |wanted: &&str| figures(printed).find(|(name, _)| name == wanted);
    let value = |row: &Row| {
        row.figures
            .iter()
            .map(|name| find(name).map(|(_, value)| value))
            .sum()
    };
    let measured = ROWS.iter().map(|row| Measured {
        row: *row,
        value: value(row),
    });
    Ok(measured.collect())
}

/// The table as text.
fn table(measured: &[Measured]) -> String {
    let shown = |value: Option<u64>| value.map_or("-".to_owned(), |value| value.to_string());
    let mut text = format!("{:<44} {:>10} {:>10}\n", "instructions", "Tessera", "peer");
    for Measured { row, value } in measured {
        let (own, other) = (shown(*value), shown(row.peer.map(|peer| peer.value)));
        let peer = row.peer.map_or("", |peer| peer.name);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<44} {own:>10} {other:>10} {peer}", row.name);
    }
    text
}

/// The table as JSON: a list of {name, value, unit, peer, peer_value}; what is not known is null.
fn to_json(measured: &[Measured]) -> String {
    let number = |value: Option<u64>| value.map_or("null".to_owned(), |value| value.to_string());
    let rows = measured.iter().map(|Measured { row, value }| {
        let peer = row.peer.map_or("null".to_owned(), |peer| format!("\"{}\"", peer.name));
        format!(
            "  {{\"name\": \"{}\", \"value\": {}, \"unit\": \"instructions\", \"peer\": {peer}, \"peer_value\": {}}}",
            row.name,
            number(*value),
            number(row.peer.map(|peer| peer.value)),
        )
    });
    format!("[\n{}\n]\n", rows.collect::<Vec<_>>().join(",\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "kernel: 1 CPUs\r\nbench: begins\r\n\
        bench: Call 0 words = 190 (190..201)\r\nbench: ReplyRecv 0 words = 210 (210..210)\r\n\
        bench: done";

    fn value(measured: &[Measured], name: &str) -> Option<u64> {
        let row = measured.iter().find(|measured| measured.row.name == name);
        row.expect("a row").value
    }

    #[test]
    fn a_row_has_the_sum_of_its_figures_or_nothing() {
        let measured = join(PRINTED).expect("known figures");
        assert_eq!(value(&measured, "Call 0 words"), Some(190));
        assert_eq!(value(&measured, "Call and ReplyRecv 0 words"), Some(400));
        assert_eq!(value(&measured, "Send"), None);
    }

    #[test]
    fn a_figure_without_a_row_is_refused_by_name() {
        let refused = join("bench: Tea = 1 (1..1)").expect_err("no such row");
        assert!(refused.contains("`Tea`"), "{refused}");
    }

    #[test]
    fn the_file_has_a_row_on_each_line_and_null_for_what_is_not_known() {
        let json = to_json(&join(PRINTED).expect("known figures"));
        assert_eq!(json.lines().count(), ROWS.len() + 2);
        assert!(json.contains(
            r#"{"name": "Call 0 words", "value": 190, "unit": "instructions", "peer": "seL4", "peer_value": 227}"#
        ));
        assert!(json.contains(r#""value": null"#) && json.contains(r#""peer": null"#));
    }
}
