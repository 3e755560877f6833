//! Splits the bytes that are written to a terminal into characters and control functions.
//!
//! The grammar is that of ECMA-48 with the private CSI parameters of DEC terminals, and UTF-8. The
//! parser has no effect and no error: whatever does not parse is skipped to where the next thing can
//! begin. [`crate::grid`] gives the functions their meaning.

/// Parameters kept of one control sequence; xterm keeps about as many, and no sequence that
/// [`crate::grid`] knows has more.
pub const MAX_PARAMETERS: usize = 16;

/// One thing that was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// A printable character.
    Print(char),
    /// A C0 control byte, such as carriage return.
    Control(u8),
    /// An escape sequence of two bytes: ESC and this one.
    Escape(u8),
    /// A control sequence.
    Sequence(Sequence),
}

/// `CSI parameters final`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// The byte that names the function.
    pub name: u8,
    /// The private marker (`?`, `>`, `<`, `=`) before the parameters, or 0.
    pub marker: u8,
    parameters: [u16; MAX_PARAMETERS],
    count: usize,
}

impl Sequence {
    /// The parameters that were given; an omitted one is 0.
    pub fn parameters(&self) -> &[u16] {
        &self.parameters[..self.count]
    }

    /// Parameter `index` as a count or position, where 0 and absence mean 1.
    pub fn count(&self, index: usize) -> usize {
        self.parameters()
            .get(index)
            .map_or(1, |&value| usize::from(value).max(1))
    }

    /// Parameter `index` as a selector, where absence means 0.
    pub fn selector(&self, index: usize) -> u16 {
        self.parameters().get(index).copied().unwrap_or(0)
    }
}

const EMPTY: Sequence = Sequence {
    name: 0,
    marker: 0,
    parameters: [0; MAX_PARAMETERS],
    count: 0,
};

const ESCAPE: u8 = 0x1b;
const CANCEL: u8 = 0x18;
const SUBSTITUTE: u8 = 0x1a;
const BELL: u8 = 0x07;
const DELETE: u8 = 0x7f;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Ground,
    /// After ESC.
    Escape,
    /// After ESC and an intermediate byte (a character set designation): one more to skip.
    Intermediate,
    Sequence,
    /// A sequence with an intermediate byte: nothing of those is known, so it is skipped.
    Ignore,
    /// An operating system command or another string: skipped up to BEL or ST.
    Text,
}

/// The state between two bytes.
#[derive(Debug)]
pub struct Parser {
    state: State,
    sequence: Sequence,
    /// The code point so far and the bytes that are still to come.
    character: (u32, u8),
    /// The least code point that the character's length may encode.
    least: u32,
}

impl Default for Parser {
    fn default() -> Self {
        Self {
            state: State::Ground,
            sequence: EMPTY,
            character: (0, 0),
            least: 0,
        }
    }
}

impl Parser {
    /// Takes one byte and hands on what it completed. A byte that breaks a character off completes two
    /// things: the replacement character and itself.
    pub fn push(&mut self, byte: u8, mut action: impl FnMut(Action)) {
        if self.character.1 > 0 && byte & 0xc0 != 0x80 {
            self.character.1 = 0;
            action(Action::Print(char::REPLACEMENT_CHARACTER));
        }
        match byte {
            ESCAPE => self.state = State::Escape,
            CANCEL | SUBSTITUTE => self.state = State::Ground,
            BELL if self.state == State::Text => self.state = State::Ground,
            _ if self.state == State::Text => {}
            0..0x20 => action(Action::Control(byte)),
            DELETE => {}
            _ => match self.state {
                State::Escape => self.escape(byte, action),
                State::Intermediate => self.state = State::Ground,
                State::Sequence | State::Ignore => self.sequence(byte, action),
                State::Ground | State::Text => self.text(byte, action),
            },
        }
    }

    fn escape(&mut self, byte: u8, mut action: impl FnMut(Action)) {
        self.state = State::Ground;
        match byte {
            b'[' => {
                self.state = State::Sequence;
                self.sequence = EMPTY;
            }
            b']' | b'P' | b'X' | b'^' | b'_' => self.state = State::Text,
            0x20..0x30 => self.state = State::Intermediate,
            // The end of a string that was being skipped.
            b'\\' => {}
            _ if byte.is_ascii() => action(Action::Escape(byte)),
            _ => {}
        }
    }

    fn sequence(&mut self, byte: u8, mut action: impl FnMut(Action)) {
        match byte {
            b'0'..=b'9' => {
                let sequence = &mut self.sequence;
                sequence.count = sequence.count.max(1);
                if let Some(value) = sequence.parameters.get_mut(sequence.count - 1) {
                    *value = value
                        .saturating_mul(10)
                        .saturating_add(u16::from(byte - b'0'));
                }
            }
            b';' | b':' => {
                let count = self.sequence.count.max(1);
                if count == MAX_PARAMETERS {
                    self.state = State::Ignore;
                } else {
                    self.sequence.count = count + 1;
                }
            }
            b'<'..=b'?' => self.sequence.marker = byte,
            0x20..0x30 => self.state = State::Ignore,
            0x40..0x7f => {
                if self.state == State::Sequence {
                    self.sequence.name = byte;
                    action(Action::Sequence(self.sequence));
                }
                self.state = State::Ground;
            }
            _ => self.state = State::Ground,
        }
    }

    fn text(&mut self, byte: u8, mut action: impl FnMut(Action)) {
        match byte {
            0..0x80 => action(Action::Print(char::from(byte))),
            0x80..0xc0 if self.character.1 > 0 => {
                let (value, left) = self.character;
                let value = value << 6 | u32::from(byte & 0x3f);
                self.character = (value, left - 1);
                if left == 1 {
                    let valid = char::from_u32(value).filter(|_| value >= self.least);
                    action(Action::Print(valid.unwrap_or(char::REPLACEMENT_CHARACTER)));
                }
            }
            0xc2..0xe0 => self.begin(byte & 0x1f, 1, 0x80),
            0xe0..0xf0 => self.begin(byte & 0x0f, 2, 0x800),
            0xf0..0xf5 => self.begin(byte & 0x07, 3, 0x1_0000),
            _ => action(Action::Print(char::REPLACEMENT_CHARACTER)),
        }
    }

    fn begin(&mut self, bits: u8, left: u8, least: u32) {
        self.character = (u32::from(bits), left);
        self.least = least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn actions(bytes: &[u8]) -> Vec<Action> {
        let mut parser = Parser::default();
        let mut actions = Vec::new();
        for &byte in bytes {
            parser.push(byte, |action| actions.push(action));
        }
        actions
    }

    fn printed(bytes: &[u8]) -> String {
        actions(bytes)
            .into_iter()
            .filter_map(|action| match action {
                Action::Print(character) => Some(character),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn characters_controls_and_sequences_are_told_apart() {
        let actions = actions(b"a\r\x1b[2;30Hb\x1bM");
        assert_eq!(actions[0], Action::Print('a'));
        assert_eq!(actions[1], Action::Control(b'\r'));
        let Action::Sequence(sequence) = actions[2] else {
            panic!("{:?}", actions[2]);
        };
        assert_eq!((sequence.name, sequence.parameters()), (b'H', &[2, 30][..]));
        assert_eq!(actions[3], Action::Print('b'));
        assert_eq!(actions[4], Action::Escape(b'M'));
    }

    #[test]
    fn omitted_parameters_have_their_defaults() {
        let Action::Sequence(sequence) = actions(b"\x1b[;5H")[0] else {
            panic!();
        };
        assert_eq!(
            (sequence.count(0), sequence.count(1), sequence.count(2)),
            (1, 5, 1)
        );
        let Action::Sequence(sequence) = actions(b"\x1b[?25l")[0] else {
            panic!();
        };
        assert_eq!((sequence.marker, sequence.selector(0)), (b'?', 25));
    }

    #[test]
    fn window_titles_and_character_sets_are_skipped() {
        assert_eq!(
            printed(b"\x1b]0;title\x07a\x1b]0;t\x1b\\b\x1b(Bc\x1b[1 qd"),
            "abcd"
        );
    }

    #[test]
    fn utf8_is_decoded_and_nonsense_replaced() {
        assert_eq!(printed("é€𝄞".as_bytes()), "é€𝄞");
        assert_eq!(printed(b"\xc3a\x80\xff"), "\u{fffd}a\u{fffd}\u{fffd}");
        assert_eq!(printed(b"\xe0\x80\x80\xed\xa0\x80"), "\u{fffd}\u{fffd}");
    }

    proptest! {
        #[test]
        fn text_after_any_bytes_is_understood_again(
            bytes in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let mut all = bytes;
            all.extend_from_slice(b"\x18ok");
            prop_assert!(printed(&all).ends_with("ok"));
        }

        #[test]
        fn any_valid_text_is_printed_as_it_is(text in "[^\\p{Cc}]{0,60}") {
            prop_assert_eq!(printed(text.as_bytes()), text);
        }
    }
}
