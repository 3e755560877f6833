//! Sizes and durations as people write them: a whole number, a space, a unit.

/// Units of memory and their bytes.
const SIZES: [(&str, u64); 4] = [
    ("B", 1),
    ("KiB", 1 << 10),
    ("MiB", 1 << 20),
    ("GiB", 1 << 30),
];
/// Units of time and their microseconds.
const TIMES: [(&str, u64); 3] = [("us", 1), ("ms", 1_000), ("s", 1_000_000)];

/// Bytes of `text`, as `4 MiB`.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    scaled(text, &SIZES)
}

/// Microseconds of `text`, as `10 ms`.
#[must_use]
pub fn time_us(text: &str) -> Option<u64> {
    scaled(text, &TIMES)
}

/// `bytes` in the largest unit that leaves a whole number.
#[must_use]
pub fn show_size(bytes: u64) -> String {
    let fits = |(_, scale): &&(&str, u64)| bytes.is_multiple_of(*scale);
    let (unit, scale) = SIZES.iter().rev().find(fits).unwrap_or(&SIZES[0]);
    format!("{} {unit}", bytes / scale)
}

fn scaled(text: &str, units: &[(&str, u64)]) -> Option<u64> {
    let (number, unit) = text.split_once(' ')?;
    let (_, scale) = units.iter().find(|(name, _)| *name == unit)?;
    number.parse::<u64>().ok()?.checked_mul(*scale)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_scale() {
        assert_eq!(size("4 MiB"), Some(4 << 20));
        assert_eq!(time_us("10 ms"), Some(10_000));
    }

    #[test]
    fn nonsense_and_overflow_are_none() {
        for text in [
            "4MiB",
            "4 MB",
            "-1 MiB",
            "",
            "99999999999999 GiB",
            "1.5 MiB",
        ] {
            assert_eq!(size(text), None, "{text}");
        }
    }

    #[test]
    fn sizes_show_in_their_largest_whole_unit() {
        assert_eq!(show_size(3 << 30), "3 GiB");
        assert_eq!(show_size((1 << 20) + 4096), "1028 KiB");
    }
}
