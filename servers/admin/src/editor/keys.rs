//! From the bytes of a terminal to keys.
//!
//! Knows the sequences that VT220s, xterm, the Linux console and the console server's own keyboard
//! send. A sequence may come in pieces; bytes that are no sequence are dropped, never typed.

/// One key, in terms of what the editor does with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// A printable character.
    Character(char),
    /// A control character, named by its letter in lower case or its symbol.
    Control(char),
    /// A key with Meta: ESC and then the key.
    Meta(char),
    /// Carriage return or line feed.
    Enter,
    /// Tab.
    Tab,
    /// Backspace (DEL or BS).
    Backspace,
    /// Meta and backspace.
    MetaBackspace,
    /// The delete key.
    Delete,
    /// Arrow keys.
    Up,
    /// See [`Key::Up`].
    Down,
    /// See [`Key::Up`].
    Left,
    /// See [`Key::Up`].
    Right,
    /// Control and arrow: a word to the left.
    WordLeft,
    /// Control and arrow: a word to the right.
    WordRight,
    /// Home.
    Home,
    /// End.
    End,
}

const ESCAPE: u8 = 0x1b;
/// Parameter bytes kept of a sequence; what is known has at most three.
const MAX_SEQUENCE_BYTES: usize = 8;

#[derive(Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    Escape,
    /// After `ESC [`: the bytes so far.
    Sequence,
    /// After `ESC O`.
    Application,
    /// In a character of several bytes: how many are still to come.
    Character(u8),
}

/// Collects bytes into keys.
#[derive(Debug, Default)]
pub struct KeyDecoder {
    state: State,
    bytes: [u8; MAX_SEQUENCE_BYTES],
    length: usize,
}

impl KeyDecoder {
    /// Takes one byte; the key that it completes, if it completes one.
    pub fn push(&mut self, byte: u8) -> Option<Key> {
        match core::mem::take(&mut self.state) {
            State::Ground => self.ground(byte),
            State::Escape => self.escape(byte),
            State::Sequence => self.sequence(byte),
            State::Application => application(byte),
            State::Character(left) => self.character(byte, left),
        }
    }

    fn ground(&mut self, byte: u8) -> Option<Key> {
        self.length = 0;
        match byte {
            ESCAPE => {
                self.state = State::Escape;
                None
            }
            b'\r' | b'\n' => Some(Key::Enter),
            b'\t' => Some(Key::Tab),
            0x08 | 0x7f => Some(Key::Backspace),
            0 => Some(Key::Control('@')),
            0x01..=0x1a => Some(Key::Control(char::from(byte + 0x60))),
            0x1c..=0x1f => Some(Key::Control(char::from(byte + 0x40))),
            0x20..=0x7e => Some(Key::Character(char::from(byte))),
            0xc2..=0xdf => self.begin(byte, 1),
            0xe0..=0xef => self.begin(byte, 2),
            0xf0..=0xf4 => self.begin(byte, 3),
            _ => None,
        }
    }

    fn begin(&mut self, byte: u8, left: u8) -> Option<Key> {
        self.keep(byte);
        self.state = State::Character(left);
        None
    }

    fn character(&mut self, byte: u8, left: u8) -> Option<Key> {
        if byte & 0xc0 != 0x80 {
            return self.ground(byte);
        }
        self.keep(byte);
        if left > 1 {
            self.state = State::Character(left - 1);
            return None;
        }
        let text = core::str::from_utf8(&self.bytes[..self.length]).ok()?;
        let character = text.chars().next()?;
        (!character.is_control()).then_some(Key::Character(character))
    }

    fn escape(&mut self, byte: u8) -> Option<Key> {
        match byte {
            b'[' => self.state = State::Sequence,
            b'O' => self.state = State::Application,
            ESCAPE => self.state = State::Escape,
            0x08 | 0x7f => return Some(Key::MetaBackspace),
            0x20..=0x7e => return Some(Key::Meta(char::from(byte))),
            _ => return self.ground(byte),
        }
        None
    }

    fn sequence(&mut self, byte: u8) -> Option<Key> {
        match byte {
            0x20..=0x3f => {
                self.keep(byte);
                self.state = State::Sequence;
                None
            }
            0x40..=0x7e => named(&self.bytes[..self.length], byte),
            _ => self.ground(byte),
        }
    }

    /// Keeps a byte; what is too long is no sequence that is known, so its end may be lost.
    fn keep(&mut self, byte: u8) {
        if let Some(place) = self.bytes.get_mut(self.length) {
            *place = byte;
            self.length += 1;
        }
    }
}

fn application(byte: u8) -> Option<Key> {
    match byte {
        b'A'..=b'D' | b'F' | b'H' => named(b"", byte),
        b'M' => Some(Key::Enter),
        _ => None,
    }
}

fn named(parameters: &[u8], name: u8) -> Option<Key> {
    // 3 Alt, 5 Control: both move by words.
    let by_word = matches!(parameters, b"1;5" | b"1;3" | b"5" | b"3");
    match (name, parameters) {
        (b'A', _) => Some(Key::Up),
        (b'B', _) => Some(Key::Down),
        (b'C', _) if by_word => Some(Key::WordRight),
        (b'C', _) => Some(Key::Right),
        (b'D', _) if by_word => Some(Key::WordLeft),
        (b'D', _) => Some(Key::Left),
        (b'F', _) | (b'~', b"4" | b"8") => Some(Key::End),
        (b'H', _) | (b'~', b"1" | b"7") => Some(Key::Home),
        (b'~', b"3") => Some(Key::Delete),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = KeyDecoder::default();
        bytes
            .iter()
            .filter_map(|&byte| decoder.push(byte))
            .collect()
    }

    #[test]
    fn characters_controls_and_sequences_are_keys() {
        assert_eq!(
            keys("a\x01é\r\t\x7f".as_bytes()),
            [
                Key::Character('a'),
                Key::Control('a'),
                Key::Character('é'),
                Key::Enter,
                Key::Tab,
                Key::Backspace
            ]
        );
        assert_eq!(
            keys(b"\x1b[A\x1bOB\x1b[1;5C\x1b[3~\x1b[1~\x1bOF\x1bf\x1b\x7f"),
            [
                Key::Up,
                Key::Down,
                Key::WordRight,
                Key::Delete,
                Key::Home,
                Key::End,
                Key::Meta('f'),
                Key::MetaBackspace
            ]
        );
    }

    #[test]
    fn unknown_sequences_type_nothing() {
        assert_eq!(keys(b"\x1b[99;99;99;99x\x1b[5~a"), [Key::Character('a')]);
        assert_eq!(keys(b"\xc3\x28\xff\x80"), [Key::Character('(')]);
        assert_eq!(keys(b"\x1b[12\rx"), [Key::Enter, Key::Character('x')]);
    }

    proptest! {
        #[test]
        fn an_enter_after_any_bytes_is_seen(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = bytes;
            // The first may end a sequence of two bytes.
            bytes.extend_from_slice(b"\r\r");
            prop_assert_eq!(keys(&bytes).pop(), Some(Key::Enter));
        }

        #[test]
        fn typed_text_comes_through(text in "[^\\p{Cc}]{0,40}") {
            let typed: String = keys(text.as_bytes())
                .into_iter()
                .map(|key| match key {
                    Key::Character(character) => character,
                    other => panic!("{other:?}"),
                })
                .collect();
            prop_assert_eq!(typed, text);
        }
    }
}
