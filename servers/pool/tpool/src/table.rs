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

/// `Mon Nov 23 00:58:14 2026`, in universal time.
pub fn day_and_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let text = date(seconds);
    let day = DAYS[(seconds / 86_400 % 7) as usize];
    let month = text.get(5..7).and_then(|month| month.parse::<usize>().ok());
    let month = MONTHS[month.unwrap_or(1).clamp(1, 12) - 1];
    let (year, of_month, time) = (&text[..4], &text[8..10], &text[11..]);
    format!(
        "{day} {month} {:>2} {time} {year}",
        of_month.trim_start_matches('0')
    )
}

/// `2026-11-23.00:58:14`, in universal time.
pub fn date(seconds: u64) -> String {
    const DAY: u64 = 86_400;
    /// Days from March of year 0, from which a year's leap day is its last, to 1970.
    const EPOCH: u64 = 719_468;
    const ERA: u64 = 146_097;
    let days = seconds / DAY + EPOCH;
    let (era, day) = (days / ERA, days % ERA);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let of_year = day - (365 * year + year / 4 - year / 100);
    let month = (5 * of_year + 2) / 153;
    let of_month = of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    let (hour, minute, second) = (seconds % DAY / 3600, seconds % 3600 / 60, seconds % 60);
    format!("{year:04}-{month:02}-{of_month:02}.{hour:02}:{minute:02}:{second:02}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_civil() {
        assert_eq!(date(0), "1970-01-01.00:00:00");
        assert_eq!(date(951_782_399), "2000-02-28.23:59:59");
        assert_eq!(date(951_868_800), "2000-03-01.00:00:00");
        assert_eq!(date(1_795_395_494), "2026-11-23.00:58:14");
        assert_eq!(day_and_date(1_795_395_494), "Mon Nov 23 00:58:14 2026");
    }

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
