//! Values of properties: from words to what is stored.

use alloc::string::String;

use super::prop_table::{self, Form};
use crate::error::Error;
use crate::zap::ZapValue;

/// Bits of a stored compression that are the algorithm; a level follows.
pub(super) const ALGORITHM_BITS: u32 = 7;
/// Bounds of `recordsize`; beyond the old limit a pool needs the feature for it.
const RECORD_SIZES: core::ops::RangeInclusive<u64> = 512..=1 << 20;
/// Longest user property, name and value.
const MAX_USER_NAME: usize = 255;
const MAX_USER_VALUE: usize = 8191;

/// Why a property cannot be set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PropertyError {
    /// No property has this name.
    Unknown,
    /// It says what is, or is fixed when the data set is made.
    ReadOnly,
    /// The value is none of those it can have.
    InvalidValue,
    /// A data set of this kind does not have it.
    WrongKind,
    /// A limit is below what is used already.
    BelowUse,
    /// Setting it failed.
    Pool(Error),
}

impl From<Error> for PropertyError {
    fn from(error: Error) -> Self {
        PropertyError::Pool(error)
    }
}

/// A value in the form in which it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewValue {
    /// A number, or the number of a word.
    Number(u64),
    /// Text.
    Text(String),
}

impl NewValue {
    pub(super) fn stored(&self) -> ZapValue {
        match self {
            NewValue::Number(number) => ZapValue::from_u64(*number),
            NewValue::Text(text) => ZapValue {
                integer_size: 1,
                bytes: text.bytes().chain([0]).collect(),
            },
        }
    }
}

/// A size such as `10M` or `1.5G` in bytes; `none` is 0.
pub fn parse_size(text: &str) -> Option<u64> {
    if text == "none" {
        return Some(0);
    }
    let digits = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let unit = text[digits.len()..].to_ascii_uppercase();
    let unit = unit
        .strip_suffix("IB")
        .or(unit.strip_suffix('B'))
        .unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        one => 10 * (1 + "KMGTPE".find(one).filter(|_| one.len() == 1)?) as u32,
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.parse::<u64>().ok()?.checked_mul(1 << shift)?;
    if fraction.is_empty() {
        return Some(whole);
    }
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let part = (u128::from(fraction.parse::<u64>().ok()?) << shift) / scale;
    whole.checked_add(u64::try_from(part).ok()?)
}

/// The stored value that a word of the property `name` means.
///
/// # Errors
/// `Unknown`, `ReadOnly`, `InvalidValue`.
pub fn parse(name: &str, text: &str) -> Result<NewValue, PropertyError> {
    if name.contains(':') {
        let fits = name.len() <= MAX_USER_NAME && text.len() <= MAX_USER_VALUE;
        return if fits {
            Ok(NewValue::Text(text.into()))
        } else {
            Err(PropertyError::InvalidValue)
        };
    }
    let property = prop_table::find(name).ok_or(PropertyError::Unknown)?;
    let invalid = PropertyError::InvalidValue;
    match property.form {
        _ if matches!(name, "utf8only" | "normalization" | "casesensitivity") => {
            Err(PropertyError::ReadOnly)
        }
        Form::Computed if !matches!(name, "volsize" | "mountpoint") => Err(PropertyError::ReadOnly),
        Form::Computed if name == "mountpoint" => {
            let valid = text.starts_with('/') || matches!(text, "none" | "legacy");
            if valid {
                Ok(NewValue::Text(text.into()))
            } else {
                Err(invalid)
            }
        }
        Form::Computed => parse_size(text).map(NewValue::Number).ok_or(invalid),
        Form::Number(_) => number(name, text).map(NewValue::Number).ok_or(invalid),
        Form::Words(words, _) => {
            if name == "compression"
                && let Some(value) = compression_value(text)
            {
                return Ok(NewValue::Number(value));
            }
            let found = words.iter().find(|(word, _)| *word == text);
            found
                .map(|(_, value)| NewValue::Number(*value))
                .ok_or(invalid)
        }
        Form::Text(_) => Ok(NewValue::Text(text.into())),
    }
}

fn number(name: &str, text: &str) -> Option<u64> {
    if name.ends_with("_limit") && text == "none" {
        return Some(u64::MAX);
    }
    let value = parse_size(text)?;
    match name {
        "recordsize" => RECORD_SIZES.contains(&value) && value.is_power_of_two(),
        "copies" => (1..=3).contains(&value),
        _ => true,
    }
    .then_some(value)
}

/// `gzip-6` and zstd levels, which the table of words does not have.
fn compression_value(text: &str) -> Option<u64> {
    const ZSTD: u64 = 16;
    const GZIP_6: u64 = 10;
    if text == "gzip-6" {
        return Some(GZIP_6);
    }
    let level = text.strip_prefix("zstd-")?.parse::<u64>().ok()?;
    (1..=19)
        .contains(&level)
        .then_some(ZSTD | level << ALGORITHM_BITS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units_and_fractions() {
        assert_eq!(parse_size("10M"), Some(10 << 20));
        assert_eq!(parse_size("1.5G"), Some(3 << 29));
        assert_eq!(parse_size("512"), Some(512));
        assert_eq!(parse_size("2KiB"), Some(2048));
        assert_eq!(parse_size("none"), Some(0));
        assert_eq!(parse_size("1X"), None);
        assert_eq!(parse_size("99999999999E"), None);
    }

    #[test]
    fn words_are_checked() {
        assert_eq!(
            parse("compression", "zstd-7"),
            Ok(NewValue::Number(16 | 7 << 7))
        );
        assert_eq!(
            parse("compression", "best"),
            Err(PropertyError::InvalidValue)
        );
        assert_eq!(parse("recordsize", "3K"), Err(PropertyError::InvalidValue));
        assert_eq!(parse("used", "3K"), Err(PropertyError::ReadOnly));
        assert_eq!(parse("colour", "red"), Err(PropertyError::Unknown));
        assert_eq!(parse("my:colour", "red"), Ok(NewValue::Text("red".into())));
    }
}
