//! Shows one line with its prompt on a terminal and keeps it up to date with few bytes.
//!
//! The line never wraps: a long one scrolls sideways in its row. So only the column of the cursor must
//! be known, and a terminal that is wider than it says still looks right.

use alloc::format;
use alloc::vec::Vec;

/// Narrowest row that is used; a terminal that claims less gets this.
const MIN_COLUMNS: usize = 20;
/// Up to this many columns a backspace each is shorter than a sequence.
const MAX_BACKSPACES: usize = 4;

/// What is on the row now.
#[derive(Debug, Default)]
pub struct Display {
    shown: Vec<char>,
    column: usize,
    /// The first character of the line that is visible.
    offset: usize,
}

impl Display {
    /// Appends to `out` what brings the row from what it shows to this prompt, line and cursor.
    pub fn update(
        &mut self,
        prompt: &str,
        line: &[char],
        cursor: usize,
        columns: usize,
        out: &mut Vec<u8>,
    ) {
        // The last column stays free: writing it makes some terminals wrap.
        let columns = columns.max(MIN_COLUMNS) - 1;
        let mut wanted: Vec<char> = prompt.chars().take(columns / 2).collect();
        let width = columns - wanted.len();
        self.scroll(line.len(), cursor, width);
        let target = wanted.len() + cursor - self.offset;
        let end = line.len().min(self.offset + width);
        let visible = wanted.len();
        wanted.extend_from_slice(&line[self.offset..end]);
        if self.offset > 0 && target > visible {
            wanted[visible] = '<';
        }
        if end < line.len() && target + 1 < wanted.len() {
            *wanted.last_mut().unwrap_or(&mut ' ') = '>';
        }
        self.replace(wanted, out);
        self.move_to(target, out);
    }

    /// Chooses the first visible character so that the cursor is visible.
    fn scroll(&mut self, length: usize, cursor: usize, width: usize) {
        if length < width {
            self.offset = 0;
        } else if cursor <= self.offset || cursor >= self.offset + width {
            // Some context on the left, so that not every key scrolls.
            self.offset = cursor.saturating_sub(width * 2 / 3);
        }
    }

    fn replace(&mut self, wanted: Vec<char>, out: &mut Vec<u8>) {
        let same = self
            .shown
            .iter()
            .zip(&wanted)
            .take_while(|(shown, wanted)| shown == wanted)
            .count();
        if same < self.shown.len() || same < wanted.len() {
            self.move_to(same, out);
            let mut buffer = [0; 4];
            for character in &wanted[same..] {
                out.extend_from_slice(character.encode_utf8(&mut buffer).as_bytes());
            }
            if wanted.len() < self.shown.len() {
                out.extend_from_slice(b"\x1b[K");
            }
            self.column = wanted.len();
            self.shown = wanted;
        }
    }

    fn move_to(&mut self, column: usize, out: &mut Vec<u8>) {
        if column < self.column {
            let back = self.column - column;
            if column == 0 {
                out.push(b'\r');
            } else if back <= MAX_BACKSPACES {
                out.extend(core::iter::repeat_n(0x08, back));
            } else {
                out.extend_from_slice(format!("\x1b[{back}D").as_bytes());
            }
        } else if column > self.column {
            out.extend_from_slice(format!("\x1b[{}C", column - self.column).as_bytes());
        }
        self.column = column;
    }

    /// Clears the row, so that something else can be written there; the line will be scrolled as it
    /// was.
    pub fn erase(&mut self, out: &mut Vec<u8>) {
        if !self.shown.is_empty() {
            out.extend_from_slice(b"\r\x1b[K");
        }
        self.shown.clear();
        self.column = 0;
    }

    /// Leaves the row as it is and goes to the next.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n");
        self.forget();
    }

    /// Takes the row as empty, whatever is on it.
    pub fn forget(&mut self) {
        *self = Self::default();
    }
}
