//! Tables as the system's commands print them: aligned for people, `:`-separated for programs.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

/// What stands for a value that is not there.
pub const MISSING: &str = "-";
/// Blanks between columns.
const GAP: usize = 2;

/// On which side of its column a value stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Column {
    /// Its name: what `-o` calls it; the title is the same in capitals.
    pub name: String,
    /// Least width; a longer value moves the rest of its row.
    pub width: usize,
    /// Where values stand.
    pub align: Align,
}

impl Column {
    /// A column of text.
    pub fn text(name: &str, width: usize) -> Self {
        Self {
            name: name.into(),
            width,
            align: Align::Left,
        }
    }

    /// A column of numbers.
    pub fn number(name: &str, width: usize) -> Self {
        Self {
            align: Align::Right,
            ..Self::text(name, width)
        }
    }
}

/// How a table is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// With a line of titles.
    Titled,
    /// Aligned, without titles (`-H`).
    Untitled,
    /// For programs (`-p`).
    Parsable,
}

/// The lines of a table, each with its end. A row has one value per column; an empty value is shown as
/// missing.
pub fn render(columns: &[Column], rows: &[Vec<String>], form: Form) -> String {
    let mut out = String::new();
    if form == Form::Titled {
        let titles: Vec<String> = columns
            .iter()
            .map(|column| column.name.to_uppercase())
            .collect();
        render_row(columns, &titles, form, &mut out);
    }
    for row in rows {
        render_row(columns, row, form, &mut out);
    }
    out
}

fn render_row(columns: &[Column], row: &[String], form: Form, out: &mut String) {
    let last = columns.len().saturating_sub(1);
    for (index, (column, value)) in columns.iter().zip(row).enumerate() {
        let value = if value.is_empty() { MISSING } else { value };
        if form == Form::Parsable {
            out.push_str(value);
            if index < last {
                out.push(':');
            }
            continue;
        }
        let width = column.width;
        match column.align {
            Align::Left if index == last => out.push_str(value),
            Align::Left => out.push_str(&format!("{value:<width$}")),
            Align::Right => out.push_str(&format!("{value:>width$}")),
        }
        if index < last {
            out.push_str(&" ".repeat(GAP));
        }
    }
    out.push('\n');
}

/// Chooses the columns that `-o` names.
///
/// # Errors
/// A name that is no column's.
pub fn select(
    all: &[Column],
    rows: Vec<Vec<String>>,
    wanted: &str,
) -> Result<(Vec<Column>, Vec<Vec<String>>), String> {
    let mut chosen = Vec::new();
    for name in wanted.split(',') {
        let index = all.iter().position(|column| column.name == name);
        chosen.push(index.ok_or_else(|| format!("no such column: {name}"))?);
    }
    let columns = chosen.iter().map(|&index| all[index].clone()).collect();
    let rows = rows
        .into_iter()
        .map(|row| chosen.iter().map(|&index| row[index].clone()).collect())
        .collect();
    Ok((columns, rows))
}

/// Bytes as people read them, with three digits: `512 B`, `1.97 GiB`, `13.8 MiB`, `128 MiB`.
pub fn human_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let exponent = bytes.ilog2() / 10;
    let unit = UNITS[exponent as usize - 1];
    // Hundredths of the unit, to the nearest.
    let scale = 1u128 << (10 * exponent);
    let hundredths = (u128::from(bytes) * 100 + scale / 2) / scale;
    let digits = match hundredths {
        0..1000 => 2,
        1000..10_000 => 1,
        _ => 0,
    };
    let value = format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let value = &value[..value.len() - (2 - digits)];
    let value = if value.contains('.') {
        value.trim_end_matches('0').trim_end_matches('.')
    } else {
        value
    };
    format!("{value} {unit}")
}

/// A time span as `d:hh:mm:ss` without leading parts that are nothing: `0:07`, `1:02:03`, `3d 04:05:06`.
pub fn human_time(us: u64) -> String {
    let seconds = us / 1_000_000;
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let (minutes, seconds) = (seconds / 60 % 60, seconds % 60);
    match (days, hours) {
        (0, 0) => format!("{minutes}:{seconds:02}"),
        (0, _) => format!("{hours}:{minutes:02}:{seconds:02}"),
        _ => format!("{days}d {hours:02}:{minutes:02}:{seconds:02}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Vec<Column>, Vec<Vec<String>>) {
        let columns = vec![
            Column::text("name", 6),
            Column::number("size", 5),
            Column::text("note", 4),
        ];
        let rows = vec![
            vec!["a".into(), "12".into(), "first".into()],
            vec!["toolong".into(), "3".into(), String::new()],
        ];
        (columns, rows)
    }

    #[test]
    fn rows_are_aligned_under_their_titles() {
        let (columns, rows) = sample();
        assert_eq!(
            render(&columns, &rows, Form::Titled),
            "NAME     SIZE  NOTE\n\
             a          12  first\n\
             toolong      3  -\n"
        );
        assert!(render(&columns, &rows, Form::Untitled).starts_with("a  "));
    }

    #[test]
    fn programs_get_colons_and_no_titles() {
        let (columns, rows) = sample();
        assert_eq!(
            render(&columns, &rows, Form::Parsable),
            "a:12:first\ntoolong:3:-\n"
        );
    }

    #[test]
    fn columns_are_chosen_by_name() {
        let (columns, rows) = sample();
        let (columns, rows) = select(&columns, rows, "size,name").unwrap();
        assert_eq!(render(&columns, &rows, Form::Parsable), "12:a\n3:toolong\n");
        let (columns, rows) = sample();
        assert_eq!(
            select(&columns, rows, "size,x"),
            Err("no such column: x".into())
        );
    }

    #[test]
    fn sizes_and_times_are_short() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1 KiB"),
            (1536, "1.5 KiB"),
            (1025, "1 KiB"),
            (2021 << 20, "1.97 GiB"),
            (14_470_000, "13.8 MiB"),
            (1000 << 10, "1000 KiB"),
            (128 << 20, "128 MiB"),
            (100 << 20, "100 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(human_bytes(bytes), text);
        }
        for (seconds, text) in [(7, "0:07"), (3723, "1:02:03"), (273_906, "3d 04:05:06")] {
            assert_eq!(human_time(seconds * 1_000_000), text);
        }
    }
}
