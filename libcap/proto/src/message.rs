//! One message between programs: a label, the exact bytes of its body, and at most one capability.
//!
//! Owns how bytes lie in message registers: MR0 is their number, the bytes follow little-endian
//! from MR1 on, the last word filled up with zeros. `libcap` moves the words through the kernel,
//! [`crate::host`] moves whole messages inside one process; neither knows what is in them.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::body::Body;
use crate::passing::Attached;

/// Words of an IPC message.
const IPC_WORDS: usize = 120;
/// Most body bytes of a message: what one IPC carries behind the length word.
pub const BODY_BYTES_MAX: usize = (IPC_WORDS - 1) * WORD_BYTES;
/// Bytes of a message register.
const WORD_BYTES: usize = 8;

/// Labels of a reply.
pub mod reply_label {
    /// The body is the operation's reply.
    pub const OK: u64 = 0;
    /// The body is the server's error.
    pub const SERVER_ERROR: u64 = 1;
    /// The server could not read the request; no body.
    pub const MALFORMED: u64 = 2;
    /// Written by root into a caller whose server died before it replied; no body.
    pub const PEER_DIED: u64 = 0x7dead;
}

/// Bytes that are not what the protocol says, or a value that does not fit a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Malformed;

/// A label, up to [`BODY_BYTES_MAX`] bytes, and at most one capability.
#[derive(Clone)]
pub struct Message {
    label: u64,
    body: Body,
    cap: Option<Attached>,
}

impl Message {
    /// A message without a body.
    #[must_use]
    pub const fn empty(label: u64) -> Self {
        Self {
            label,
            body: Body::EMPTY,
            cap: None,
        }
    }

    /// A message whose body is `value`.
    ///
    /// # Errors
    /// The value has more than [`BODY_BYTES_MAX`] bytes.
    pub fn encode<T: Serialize + ?Sized>(label: u64, value: &T) -> Result<Self, Malformed> {
        let mut message = Self::empty(label);
        postcard::serialize_with_flavor(value, &mut message.body).map_err(|_| Malformed)?;
        Ok(message)
    }

    /// The message as a value and nothing else.
    ///
    /// # Errors
    /// The body is not exactly one such value, or there is a capability.
    pub fn decode<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        match self.cap {
            None => self.decode_body(),
            Some(_) => Err(Malformed),
        }
    }

    /// The body as a value; the capability is the caller's to check.
    ///
    /// # Errors
    /// The body is not exactly one such value.
    pub fn decode_body<T: DeserializeOwned>(&self) -> Result<T, Malformed> {
        match postcard::take_from_bytes(self.body()) {
            Ok((value, [])) => Ok(value),
            Ok(_) | Err(_) => Err(Malformed),
        }
    }

    /// The message with a capability, in place of the one that it had.
    #[must_use]
    pub fn with_cap(self, cap: Attached) -> Self {
        Self {
            cap: Some(cap),
            ..self
        }
    }

    /// The capability.
    #[must_use]
    pub const fn cap(&self) -> Option<&Attached> {
        self.cap.as_ref()
    }

    /// A message with these bytes as its body.
    ///
    /// # Errors
    /// More than [`BODY_BYTES_MAX`].
    pub fn from_body(label: u64, body: &[u8]) -> Result<Self, Malformed> {
        let mut message = Self::empty(label);
        message.body.extend(body)?;
        Ok(message)
    }

    /// Reads a message from registers: `words` of them, each fetched by its index.
    ///
    /// # Errors
    /// The number of words does not fit the length in MR0, or the filling is not zero.
    pub fn from_words(
        label: u64,
        words: usize,
        mut word: impl FnMut(usize) -> u64,
    ) -> Result<Self, Malformed> {
        if words == 0 || words > IPC_WORDS {
            return Err(Malformed);
        }
        let length = usize::try_from(word(0)).map_err(|_| Malformed)?;
        if length > BODY_BYTES_MAX || words != 1 + length.div_ceil(WORD_BYTES) {
            return Err(Malformed);
        }
        let mut message = Self::empty(label);
        for index in 1..words {
            let bytes = word(index).to_le_bytes();
            let rest = length - (index - 1) * WORD_BYTES;
            let (taken, filling) = bytes.split_at(rest.min(WORD_BYTES));
            if filling.iter().any(|&byte| byte != 0) {
                return Err(Malformed);
            }
            message.body.extend(taken)?;
        }
        Ok(message)
    }

    /// The message as registers, MR0 first.
    pub fn words(&self) -> impl Iterator<Item = u64> {
        let body = self.body().chunks(WORD_BYTES).map(|chunk| {
            let mut word = [0; WORD_BYTES];
            word[..chunk.len()].copy_from_slice(chunk);
            u64::from_le_bytes(word)
        });
        core::iter::once(self.body().len() as u64).chain(body)
    }

    /// How many registers it takes.
    #[must_use]
    pub fn word_count(&self) -> usize {
        1 + self.body().len().div_ceil(WORD_BYTES)
    }

    /// The label.
    #[must_use]
    pub const fn label(&self) -> u64 {
        self.label
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.body.as_slice()
    }
}

impl core::fmt::Debug for Message {
    fn fmt(&self, formatter: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        formatter
            .debug_struct("Message")
            .field("label", &self.label)
            .field("body", &self.body())
            .field("cap", &self.cap)
            .finish()
    }
}

impl PartialEq for Message {
    fn eq(&self, other: &Self) -> bool {
        self.label == other.label && self.body() == other.body() && self.cap == other.cap
    }
}

impl Eq for Message {}

const _: () = assert!(BODY_BYTES_MAX == 952);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn through_words(message: &Message) -> Result<Message, Malformed> {
        let words: Vec<u64> = message.words().collect();
        assert_eq!(words.len(), message.word_count());
        Message::from_words(message.label(), words.len(), |index| words[index])
    }

    proptest! {
        #[test]
        fn a_body_survives_the_registers(body in prop::collection::vec(any::<u8>(), 0..=952)) {
            let message = Message::from_body(7, &body).unwrap();
            prop_assert_eq!(through_words(&message), Ok(message));
        }

        #[test]
        fn any_registers_are_read_or_refused(words in prop::collection::vec(any::<u64>(), 0..130),
                                             length in 0_u64..1000) {
            let mut words = words;
            if let Some(first) = words.first_mut() { *first = length; }
            if let Ok(message) = Message::from_words(1, words.len(), |index| words[index]) {
                prop_assert!(message.words().eq(words));
            }
        }
    }

    #[test]
    fn a_length_that_does_not_fit_the_word_count_is_refused() {
        for (words, length) in [(1, 1), (2, 0), (2, 9), (3, 8), (120, 953), (2, u64::MAX)] {
            let read = Message::from_words(1, words, |index| if index == 0 { length } else { 0 });
            assert_eq!(read, Err(Malformed), "{words} words, length {length}");
        }
        assert_eq!(Message::from_words(1, 0, |_| 0), Err(Malformed));
    }

    #[test]
    fn filling_that_is_not_zero_is_refused() {
        let read = Message::from_words(1, 2, |index| [1, 0x0100][index]);
        assert_eq!(read, Err(Malformed));
    }

    #[test]
    fn a_value_is_refused_with_trailing_or_missing_bytes() {
        let message = Message::encode(1, &(5_u32, "text")).unwrap();
        assert_eq!(message.decode::<(u32, String)>(), Ok((5, "text".into())));
        let mut longer = message.body().to_vec();
        longer.push(0);
        let longer = Message::from_body(1, &longer).unwrap();
        assert_eq!(longer.decode::<(u32, String)>(), Err(Malformed));
        let shorter = Message::from_body(1, &message.body()[..5]).unwrap();
        assert_eq!(shorter.decode::<(u32, String)>(), Err(Malformed));
    }

    #[test]
    fn a_value_that_does_not_fit_is_refused() {
        assert!(Message::encode(1, &[0_u8; 950][..].to_vec()).is_ok());
        assert_eq!(
            Message::encode(1, &[0_u8; 951][..].to_vec()),
            Err(Malformed)
        );
        assert_eq!(Message::from_body(1, &[0; 953]), Err(Malformed));
    }
}
