//! Universally unique identifiers (RFC 9562), in their 36-character form.

use alloc::format;
use alloc::string::String;
use core::fmt;

use serde::{Serialize, Serializer};

/// Characters of the text form.
pub const TEXT_LENGTH: usize = 36;
/// Where the text form has dashes.
const DASHES: [usize; 4] = [8, 13, 18, 23];

/// An identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Uuid(u128);

/// Text that is no identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotUuid;

impl Uuid {
    /// The identifier with all bits zero: nobody.
    pub const NIL: Self = Self(0);

    /// A random identifier (version 4) from 128 random bits.
    pub fn random(bits: u128) -> Self {
        let version = bits & !(0xf << 76) | 4 << 76;
        Self(version & !(0b11 << 62) | 0b10 << 62)
    }

    /// Reads the text form, in capitals or small letters.
    ///
    /// # Errors
    /// [`NotUuid`].
    pub fn parse(text: &str) -> Result<Self, NotUuid> {
        if text.len() != TEXT_LENGTH {
            return Err(NotUuid);
        }
        let mut value = 0;
        for (index, character) in text.char_indices() {
            if DASHES.contains(&index) {
                if character != '-' {
                    return Err(NotUuid);
                }
            } else {
                let digit = character.to_digit(16).ok_or(NotUuid)?;
                value = value << 4 | u128::from(digit);
            }
        }
        Ok(Self(value))
    }

    /// The identifier as a number.
    pub fn bits(self) -> u128 {
        self.0
    }

    /// The identifier of a number.
    pub fn from_bits(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = format!("{:032x}", self.0);
        write!(
            formatter,
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        )
    }
}

impl Serialize for Uuid {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_random_identifier_says_that_it_is_one() {
        assert_eq!(
            Uuid::random(u128::MAX).to_string(),
            "ffffffff-ffff-4fff-bfff-ffffffffffff"
        );
        assert_eq!(
            Uuid::random(0).to_string(),
            "00000000-0000-4000-8000-000000000000"
        );
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "debian",
            "54f1cc77-68f1-42ab-acac-5c4f64f5d6e",
            "54f1cc77-68f1-42ab-acac-5c4f64f5d6e12",
            "54f1cc77x68f1-42ab-acac-5c4f64f5d6e1",
            "54f1cc77-68f1-42ab-acac-5c4f64f5d6eg",
            "54f1cc77-68f1-42ab-acac-5c4f64f5d6é",
        ] {
            assert_eq!(Uuid::parse(text), Err(NotUuid), "{text}");
        }
    }

    proptest! {
        #[test]
        fn the_text_form_is_read_back(bits in any::<u128>()) {
            let uuid = Uuid(bits);
            prop_assert_eq!(Uuid::parse(&uuid.to_string()), Ok(uuid));
            prop_assert_eq!(Uuid::parse(&uuid.to_string().to_uppercase()), Ok(uuid));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "\\PC{0,40}") {
            let _ = Uuid::parse(&text);
        }
    }
}
