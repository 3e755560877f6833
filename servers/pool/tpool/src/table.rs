//! Tables as zpool(8) and zfs(8) print them, and numbers as they write them.

use std::io::Write;

use crate::failure::Failure;

/// How a column is aligned.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Align {
    /// Text.
    Left,
    /// Numbers.
    Right,
}

/// How a table is printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Style {
    /// Aligned, with a header.
    Human,
    /// Tabs between fields, no header: `-H`.
    Script,
}

/// How numbers are printed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// With a unit.
    Short,
    /// Exact: `-p`.
    Exact,
}

/// Prints rows under a header.
pub fn print(
    header: &[(String, Align)],
    rows: &[Vec<String>],
    style: Style,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    if style == Style::Script {
        for row in rows {
            writeln!(out, "{}", row.join("\t"))?;
        }
        return Ok(());
    }
    let widths: Vec<usize> = header
        .iter()
        .enumerate()
        .map(|(column, (title, _))| {
            let cells = rows.iter().map(|row| row[column].chars().count());
            cells.chain([title.chars().count()]).max().unwrap_or(0)
        })
        .collect();
    let titles: Vec<String> = header.iter().map(|(title, _)| title.clone()).collect();
    for row in std::iter::once(&titles).chain(rows) {
        let last = row.len() - 1;
        let mut line = String::new();
        for (column, cell) in row.iter().enumerate() {
            match header[column].1 {
                Align::Right => line.push_str(&format!("{cell:>width$}", width = widths[column])),
                Align::Left if column == last => line.push_str(cell),
                Align::Left => line.push_str(&format!("{cell:<width$}", width = widths[column])),
            }
            if column != last {
                line.push_str("  ");
            }
        }
        writeln!(out, "{line}")?;
    }
    Ok(())
}

/// A number of bytes as `zfs list` shows it: at most four digits and a unit.
pub fn bytes(value: u64, numbers: Numbers) -> String {
    if numbers == Numbers::Exact || value < 1024 {
        return if numbers == Numbers::Exact {
            value.to_string()
        } else {
            format!("{value}B")
        };
    }
    let unit = (value.ilog2() / 10).min(6);
    let letter = b"BKMGTPE"[unit as usize] as char;
    let base = 1u64 << (10 * unit);
    if value.is_multiple_of(base) {
        return format!("{}{letter}", value / base);
    }
    let scaled = value as f64 / base as f64;
    // The first precision whose text fits five characters with the unit.
    for digits in [2, 1, 0] {
        let text = format!("{scaled:.digits$}{letter}");
        if text.len() <= 5 {
            return text;
        }
    }
    format!("{scaled:.0}{letter}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_to_five_characters() {
        let shown = [
            0,
            512,
            1024,
            1536,
            112 << 10,
            1_234_567,
            79_376_384,
            5 << 40,
        ];
        let wanted = ["0B", "512B", "1K", "1.50K", "112K", "1.18M", "75.7M", "5T"];
        assert_eq!(shown.map(|value| bytes(value, Numbers::Short)), wanted);
        assert_eq!(bytes(1536, Numbers::Exact), "1536");
    }
}
