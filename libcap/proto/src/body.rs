//! The bytes of a message's body.
//!
//! Most messages are a few words long and are moved several times between a client's call and a
//! server's future. So a short body is stored in place, and only a long one has room for
//! everything that a message can carry.

use alloc::vec::Vec;

use postcard::ser_flavors::Flavor;

use crate::message::{BODY_BYTES_MAX, Malformed};

/// Bytes that are stored in place: eight words, which is as much as most operations have.
const SHORT_BYTES: usize = 64;

/// Up to [`BODY_BYTES_MAX`] bytes.
#[derive(Clone)]
pub(crate) enum Body {
    /// The first `length` of these bytes.
    Short {
        length: usize,
        bytes: [u8; SHORT_BYTES],
    },
    /// All of these.
    Long(Vec<u8>),
}

impl Body {
    /// No bytes.
    pub(crate) const EMPTY: Self = Self::Short {
        length: 0,
        bytes: [0; SHORT_BYTES],
    };

    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Self::Short { length, bytes } => &bytes[..*length],
            Self::Long(bytes) => bytes,
        }
    }

    /// Adds bytes at the end.
    ///
    /// # Errors
    /// They do not fit; nothing was added.
    pub(crate) fn extend(&mut self, more: &[u8]) -> Result<(), Malformed> {
        match self {
            Self::Short { length, bytes } => match bytes.get_mut(*length..*length + more.len()) {
                Some(room) => {
                    room.copy_from_slice(more);
                    *length += more.len();
                    Ok(())
                }
                None => {
                    let mut long = Vec::with_capacity(BODY_BYTES_MAX);
                    long.extend_from_slice(&bytes[..*length]);
                    *self = Self::Long(long);
                    self.extend(more)
                }
            },
            Self::Long(bytes) if more.len() > BODY_BYTES_MAX - bytes.len() => Err(Malformed),
            Self::Long(bytes) => {
                bytes.extend_from_slice(more);
                Ok(())
            }
        }
    }
}

/// Lets postcard write into a body.
impl Flavor for &mut Body {
    type Output = ();

    fn try_extend(&mut self, data: &[u8]) -> postcard::Result<()> {
        self.extend(data)
            .map_err(|Malformed| postcard::Error::SerializeBufferFull)
    }

    fn try_push(&mut self, data: u8) -> postcard::Result<()> {
        self.try_extend(&[data])
    }

    fn finalize(self) -> postcard::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pieces_make_up_the_whole_until_it_is_full(
            pieces in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..12)
        ) {
            let (mut body, mut expected) = (Body::EMPTY, Vec::new());
            for piece in pieces {
                let fits = expected.len() + piece.len() <= BODY_BYTES_MAX;
                prop_assert_eq!(body.extend(&piece).is_ok(), fits);
                if fits { expected.extend(piece); }
                prop_assert_eq!(body.as_slice(), &expected[..]);
            }
        }
    }
}
