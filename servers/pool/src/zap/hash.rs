//! The hash of names: CRC-64, reflected, with the table's salt as start.

use alloc::borrow::Cow;

use crate::error::{Error, Unsupported};

/// Names are hashed in upper case.
const UPPER: u64 = 2;
/// Names are hashed in lower case.
const LOWER: u64 = 4;

const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;

const TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        let mut value = index as u64;
        let mut bit = 0;
        while bit < 8 {
            value = (value >> 1) ^ if value & 1 == 1 { POLYNOMIAL } else { 0 };
            bit += 1;
        }
        table[index] = value;
        index += 1;
    }
    table
};

/// The hash of bytes, all 64 bits; tables use only the top ones.
pub fn crc64(salt: u64, bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes.into_iter().fold(salt, |hash, byte| {
        (hash >> 8) ^ TABLE[usize::from(hash as u8 ^ byte)]
    })
}

/// A name as it is hashed, by the flags of its table.
///
/// # Errors
/// `Unsupported` for names that are not ASCII: the forms of others depend on the version of Unicode, and an entry
/// with another hash than OpenZFS computes would not be found by it.
pub fn normal_form(name: &[u8], normalization: u64) -> Result<Cow<'_, [u8]>, Error> {
    if normalization == 0 {
        return Ok(Cow::Borrowed(name));
    }
    if !name.is_ascii() {
        return Err(Error::Unsupported(Unsupported::NormalizedZapWrite));
    }
    Ok(match normalization {
        flags if flags & UPPER != 0 => Cow::Owned(name.to_ascii_uppercase()),
        flags if flags & LOWER != 0 => Cow::Owned(name.to_ascii_lowercase()),
        _ => Cow::Borrowed(name),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_a_table_without_case_are_hashed_in_upper_case() {
        assert_eq!(&*normal_form(b"five@5", UPPER | 0x10).unwrap(), b"FIVE@5");
        assert_eq!(&*normal_form(b"Five", 0x10).unwrap(), b"Five");
        assert_eq!(
            &*normal_form("fünf".as_bytes(), 0).unwrap(),
            "fünf".as_bytes()
        );
        assert!(normal_form("fünf".as_bytes(), UPPER).is_err());
    }
}
