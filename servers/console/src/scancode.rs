//! From scan codes to the bytes that a terminal would send, with the US layout.
//!
//! A PC keyboard speaks set 2 and its controller translates to set 1; [`Decoder`] reads set 1, and
//! [`SetTwo`] does the controller's translation where a controller does not. Knows nothing about ports:
//! [`crate::keyboard`] owns those.

/// What a key stroke means to the terminal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Typed {
    /// One byte of input.
    Byte(u8),
    /// Alt and function key `n` (1..=12): show the `n`th virtual console on this screen.
    Console(u8),
}

const EXTENDED: u8 = 0xe0;
const PAUSE: u8 = 0xe1;
const RELEASED: u8 = 0x80;

const LEFT_CONTROL: u8 = 0x1d;
const LEFT_SHIFT: u8 = 0x2a;
const RIGHT_SHIFT: u8 = 0x36;
const ALT: u8 = 0x38;
const CAPS_LOCK: u8 = 0x3a;
const NUM_LOCK: u8 = 0x45;
/// Codes of the pause key that follow [`PAUSE`].
const PAUSE_REST: u8 = 2;

/// Set 1 codes 0x00..0x3a without shift; 0 where there is no character.
const PLAIN: &[u8; 0x3a] =
    b"\0\x1b1234567890-=\x7f\tqwertyuiop[]\r\0asdfghjkl;'`\0\\zxcvbnm,./\0*\0 ";
/// The same keys with shift.
const SHIFTED: &[u8; 0x3a] =
    b"\0\x1b!@#$%^&*()_+\x7f\tQWERTYUIOP{}\r\0ASDFGHJKL:\"~\0|ZXCVBNM<>?\0*\0 ";
/// The keypad, codes 0x47..=0x53, with Num Lock.
const KEYPAD: &[u8; 13] = b"789-456+1230.";

/// Follows the modifiers and gives the bytes of each stroke.
#[derive(Debug)]
pub struct Decoder {
    extended: bool,
    skip: u8,
    shift: [bool; 2],
    control: [bool; 2],
    alt: [bool; 2],
    caps_lock: bool,
    num_lock: bool,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            extended: false,
            skip: 0,
            shift: [false; 2],
            control: [false; 2],
            alt: [false; 2],
            caps_lock: false,
            // As PC firmware leaves it.
            num_lock: true,
        }
    }
}

impl Decoder {
    /// Takes one byte of set 1; what was typed with it goes to `typed`, in order.
    pub fn push(&mut self, code: u8, mut typed: impl FnMut(Typed)) {
        if self.skip > 0 {
            self.skip -= 1;
            return;
        }
        match code {
            EXTENDED => self.extended = true,
            PAUSE => self.skip = PAUSE_REST,
            _ => {
                let extended = core::mem::take(&mut self.extended);
                let key = code & !RELEASED;
                let pressed = code & RELEASED == 0;
                if !self.modifier(key, extended, pressed) && pressed {
                    self.stroke(key, extended, &mut typed);
                }
            }
        }
    }

    /// Whether the key is a modifier; notes its state if so.
    fn modifier(&mut self, key: u8, extended: bool, pressed: bool) -> bool {
        let side = usize::from(extended);
        match (key, extended) {
            // An extended shift is part of other keys' codes and means nothing.
            (LEFT_SHIFT | RIGHT_SHIFT, true) => {}
            (LEFT_SHIFT, false) => self.shift[0] = pressed,
            (RIGHT_SHIFT, false) => self.shift[1] = pressed,
            (LEFT_CONTROL, _) => self.control[side] = pressed,
            (ALT, _) => self.alt[side] = pressed,
            (CAPS_LOCK, false) => self.caps_lock ^= pressed,
            (NUM_LOCK, false) => self.num_lock ^= pressed,
            _ => return false,
        }
        true
    }

    fn stroke(&self, key: u8, extended: bool, typed: &mut impl FnMut(Typed)) {
        let alt = self.alt[0] || self.alt[1];
        if let Some(number) = function_key(key, extended) {
            if alt {
                typed(Typed::Console(number));
            } else {
                send(function_sequence(number), typed);
            }
            return;
        }
        let digits = self.num_lock && !extended;
        match key {
            0x35 if extended => send(b"/", typed),
            0x1c if extended => send(b"\r", typed),
            0x4a | 0x4e => send(&KEYPAD[usize::from(key - 0x47)..][..1], typed),
            0x47..=0x53 if digits => send(&KEYPAD[usize::from(key - 0x47)..][..1], typed),
            0x47..=0x53 => send(navigation(key), typed),
            0x56 => send(if self.shifted() { b"|" } else { b"\\" }, typed),
            _ if !extended => {
                if let Some(byte) = self.character(key) {
                    if alt {
                        typed(Typed::Byte(0x1b));
                    }
                    typed(Typed::Byte(byte));
                }
            }
            _ => {}
        }
    }

    fn shifted(&self) -> bool {
        self.shift[0] || self.shift[1]
    }

    fn character(&self, key: u8) -> Option<u8> {
        let plain = *PLAIN.get(usize::from(key))?;
        let shift = self.shifted() ^ (self.caps_lock && plain.is_ascii_lowercase());
        let byte = if shift {
            SHIFTED[usize::from(key)]
        } else {
            plain
        };
        if byte == 0 {
            return None;
        }
        if !(self.control[0] || self.control[1]) {
            return Some(byte);
        }
        match byte {
            b' ' | b'2' => Some(0),
            b'@'..=b'_' | b'a'..=b'z' => Some(byte & 0x1f),
            b'?' | b'/' => Some(0x1f),
            _ => Some(byte),
        }
    }
}

fn send(bytes: &[u8], typed: &mut impl FnMut(Typed)) {
    for &byte in bytes {
        typed(Typed::Byte(byte));
    }
}

fn function_key(key: u8, extended: bool) -> Option<u8> {
    match key {
        _ if extended => None,
        0x3b..=0x44 => Some(key - 0x3b + 1),
        0x57 | 0x58 => Some(key - 0x57 + 11),
        _ => None,
    }
}

/// The sequences of a VT220 with xterm's first four.
fn function_sequence(number: u8) -> &'static [u8] {
    match number {
        1 => b"\x1bOP",
        2 => b"\x1bOQ",
        3 => b"\x1bOR",
        4 => b"\x1bOS",
        5 => b"\x1b[15~",
        6 => b"\x1b[17~",
        7 => b"\x1b[18~",
        8 => b"\x1b[19~",
        9 => b"\x1b[20~",
        10 => b"\x1b[21~",
        11 => b"\x1b[23~",
        _ => b"\x1b[24~",
    }
}

fn navigation(key: u8) -> &'static [u8] {
    match key {
        0x47 => b"\x1b[H",
        0x48 => b"\x1b[A",
        0x49 => b"\x1b[5~",
        0x4b => b"\x1b[D",
        0x4d => b"\x1b[C",
        0x4f => b"\x1b[F",
        0x50 => b"\x1b[B",
        0x51 => b"\x1b[6~",
        0x52 => b"\x1b[2~",
        0x53 => b"\x1b[3~",
        _ => b"",
    }
}

/// Set 2 codes 0x00..0x80 as set 1 codes: the translation of the PC AT's keyboard controller.
const SET_TWO: [u8; 0x80] = [
    0xff, 0x43, 0x41, 0x3f, 0x3d, 0x3b, 0x3c, 0x58, 0x64, 0x44, 0x42, 0x40, 0x3e, 0x0f, 0x29, 0x59,
    0x65, 0x38, 0x2a, 0x70, 0x1d, 0x10, 0x02, 0x5a, 0x66, 0x71, 0x2c, 0x1f, 0x1e, 0x11, 0x03, 0x5b,
    0x67, 0x2e, 0x2d, 0x20, 0x12, 0x05, 0x04, 0x5c, 0x68, 0x39, 0x2f, 0x21, 0x14, 0x13, 0x06, 0x5d,
    0x69, 0x31, 0x30, 0x23, 0x22, 0x15, 0x07, 0x5e, 0x6a, 0x72, 0x32, 0x24, 0x16, 0x08, 0x09, 0x5f,
    0x6b, 0x33, 0x25, 0x17, 0x18, 0x0b, 0x0a, 0x60, 0x6c, 0x34, 0x35, 0x26, 0x27, 0x19, 0x0c, 0x61,
    0x6d, 0x73, 0x28, 0x74, 0x1a, 0x0d, 0x62, 0x6e, 0x3a, 0x36, 0x1c, 0x1b, 0x75, 0x2b, 0x63, 0x76,
    0x55, 0x56, 0x77, 0x78, 0x79, 0x7a, 0x0e, 0x7b, 0x7c, 0x4f, 0x7d, 0x4b, 0x47, 0x7e, 0x7f, 0x6f,
    0x52, 0x53, 0x50, 0x4c, 0x4d, 0x48, 0x01, 0x45, 0x57, 0x4e, 0x51, 0x4a, 0x37, 0x49, 0x46, 0x54,
];
/// F7 is the one key whose set 2 code lies beyond the table.
const SET_TWO_F7: u8 = 0x83;
const SET_TWO_RELEASE: u8 = 0xf0;

/// Translates set 2 to set 1.
#[derive(Debug, Default)]
pub struct SetTwo {
    release: bool,
}

impl SetTwo {
    /// Takes one byte of set 2; the byte of set 1 that it makes, if it makes one.
    pub fn push(&mut self, code: u8) -> Option<u8> {
        if code == SET_TWO_RELEASE {
            self.release = true;
            return None;
        }
        if matches!(code, EXTENDED | PAUSE) {
            return Some(code);
        }
        let release = core::mem::take(&mut self.release);
        let key = match code {
            SET_TWO_F7 => 0x41,
            _ => *SET_TWO.get(usize::from(code))?,
        };
        Some(if release { key | RELEASED } else { key })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn typed(codes: &[u8]) -> Vec<Typed> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for &code in codes {
            decoder.push(code, |typed| out.push(typed));
        }
        out
    }

    fn text(codes: &[u8]) -> Vec<u8> {
        typed(codes)
            .into_iter()
            .map(|typed| match typed {
                Typed::Byte(byte) => byte,
                Typed::Console(number) => panic!("switch to console {number}"),
            })
            .collect()
    }

    #[test]
    fn letters_follow_shift_and_caps_lock() {
        assert_eq!(text(&[0x1e, 0x9e, 0x2a, 0x1e, 0x9e, 0xaa, 0x1e]), b"aAa");
        assert_eq!(text(&[0x3a, 0xba, 0x1e, 0x02, 0x36, 0x1e]), b"A1a");
    }

    #[test]
    fn control_gives_control_bytes() {
        assert_eq!(text(&[0x1d, 0x2e, 0x1b, 0x9d, 0x2e]), b"\x03\x1dc");
        assert_eq!(text(&[0xe0, 0x1d, 0x2e, 0xe0, 0x9d, 0x2e]), b"\x03c");
    }

    #[test]
    fn arrows_send_their_sequences_whatever_num_lock_is() {
        assert_eq!(text(&[0xe0, 0x48, 0xe0, 0xc8]), b"\x1b[A");
        assert_eq!(text(&[0x48]), b"8");
        assert_eq!(text(&[0x45, 0xc5, 0x48]), b"\x1b[A");
        assert_eq!(text(&[0xe0, 0x53]), b"\x1b[3~");
    }

    #[test]
    fn alt_and_a_function_key_switch_the_console() {
        assert_eq!(text(&[0x3b]), b"\x1bOP");
        assert_eq!(
            typed(&[0x38, 0x3c, 0xbc, 0x57]),
            [Typed::Console(2), Typed::Console(11)]
        );
        assert_eq!(text(&[0x38, 0x21, 0xa1, 0xb8, 0x21]), b"\x1bff");
    }

    #[test]
    fn the_pause_key_types_nothing() {
        assert_eq!(text(&[0xe1, 0x1d, 0x45, 0xe1, 0x9d, 0xc5, 0x1e]), b"a");
    }

    #[test]
    fn set_two_says_the_same_as_set_one() {
        // Shift down, a, shift up, arrow up, F7, a.
        let set_two = [
            0x12, 0x1c, 0xf0, 0x1c, 0xf0, 0x12, 0xe0, 0x75, 0xe0, 0xf0, 0x75, 0x83, 0x1c,
        ];
        let mut translation = SetTwo::default();
        let set_one: Vec<u8> = set_two
            .iter()
            .filter_map(|&code| translation.push(code))
            .collect();
        assert_eq!(text(&set_one), b"A\x1b[A\x1b[18~a");
    }

    proptest! {
        #[test]
        fn any_codes_are_taken(codes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let mut translation = SetTwo::default();
            let mut decoder = Decoder::default();
            let mut count = 0;
            for &code in &codes {
                decoder.push(code, |_| count += 1);
                if let Some(code) = translation.push(code) {
                    decoder.push(code, |_| count += 1);
                }
            }
            prop_assert!(count <= codes.len() * 2 * 5);
        }
    }
}
