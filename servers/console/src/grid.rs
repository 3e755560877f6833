//! What a text terminal shows: a grid of cells, a cursor, and the functions that change them.
//!
//! Gives meaning to the actions of [`crate::ansi`]: the part of a VT220 with colours that shells,
//! editors and boot messages use. Pixels are [`crate::screen`]'s; it asks which rows changed.

use alloc::vec;
use alloc::vec::Vec;

use crate::ansi::{Action, Parser, Sequence};

/// Columns between tab stops.
const TAB_COLUMNS: usize = 8;
/// Colour of text unless one is set: light grey.
pub const DEFAULT_FOREGROUND: u8 = 7;
/// Colour behind text unless one is set: black.
pub const DEFAULT_BACKGROUND: u8 = 0;

/// One character and its colours, as indices into the palette of sixteen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell {
    /// The character; a space where nothing was written.
    pub character: char,
    /// Colour of the character.
    pub foreground: u8,
    /// Colour behind it.
    pub background: u8,
}

const BLANK: Cell = Cell {
    character: ' ',
    foreground: DEFAULT_FOREGROUND,
    background: DEFAULT_BACKGROUND,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Pen {
    foreground: u8,
    background: u8,
    bright: bool,
    reverse: bool,
}

const PLAIN: Pen = Pen {
    foreground: DEFAULT_FOREGROUND,
    background: DEFAULT_BACKGROUND,
    bright: false,
    reverse: false,
};

impl Pen {
    fn cell(self, character: char) -> Cell {
        let bright = self.bright && self.foreground < 8;
        let foreground = self.foreground + if bright { 8 } else { 0 };
        let (foreground, background) = if self.reverse {
            (self.background, foreground)
        } else {
            (foreground, self.background)
        };
        Cell {
            character,
            foreground,
            background,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Position {
    row: usize,
    column: usize,
}

/// A terminal's picture.
#[derive(Debug)]
pub struct Grid {
    columns: usize,
    rows: usize,
    cells: Vec<Cell>,
    changed: Vec<bool>,
    cursor: Position,
    saved: (Position, Pen),
    /// The last column was written: the next character begins a new line.
    wrap: bool,
    cursor_visible: bool,
    pen: Pen,
    /// The first row that scrolls and the one after the last.
    region: (usize, usize),
    parser: Parser,
}

impl Grid {
    /// A blank grid of at least one cell.
    pub fn new(columns: usize, rows: usize) -> Self {
        let (columns, rows) = (columns.max(1), rows.max(1));
        Self {
            columns,
            rows,
            cells: vec![BLANK; columns * rows],
            changed: vec![true; rows],
            cursor: Position::default(),
            saved: (Position::default(), PLAIN),
            wrap: false,
            cursor_visible: true,
            pen: PLAIN,
            region: (0, rows),
            parser: Parser::default(),
        }
    }

    /// Columns and rows.
    pub fn size(&self) -> (usize, usize) {
        (self.columns, self.rows)
    }

    /// The cells of `row`; empty beyond the last.
    pub fn row(&self, row: usize) -> &[Cell] {
        self.cells
            .chunks_exact(self.columns)
            .nth(row)
            .unwrap_or_default()
    }

    /// Row and column of the cursor, if it is visible.
    pub fn cursor(&self) -> Option<(usize, usize)> {
        self.cursor_visible
            .then_some((self.cursor.row, self.cursor.column))
    }

    /// Whether `row` changed since this was last asked of it.
    pub fn take_changed(&mut self, row: usize) -> bool {
        self.changed.get_mut(row).is_some_and(core::mem::take)
    }

    /// Forgets everything, as a new grid of the same size.
    pub fn reset(&mut self) {
        *self = Self::new(self.columns, self.rows);
    }

    /// Shows `bytes` as a terminal does.
    pub fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let mut actions = [None; 2];
            let mut count = 0;
            self.parser.push(byte, |action| {
                actions[count] = Some(action);
                count += 1;
            });
            for action in actions.into_iter().flatten() {
                self.changed[self.cursor.row] = true;
                self.perform(action);
                self.changed[self.cursor.row] = true;
            }
        }
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Print(character) => self.print(character),
            Action::Control(byte) => self.control(byte),
            Action::Escape(b'7') => self.saved = (self.cursor, self.pen),
            Action::Escape(b'8') => self.restore(),
            Action::Escape(b'D') => self.line_feed(),
            Action::Escape(b'E') => {
                self.cursor.column = 0;
                self.line_feed();
            }
            Action::Escape(b'M') => self.reverse_line_feed(),
            Action::Escape(b'c') => self.reset(),
            Action::Escape(_) => {}
            Action::Sequence(sequence) if sequence.marker == b'?' => self.mode(&sequence),
            Action::Sequence(sequence) if sequence.marker == 0 => self.sequence(&sequence),
            Action::Sequence(_) => {}
        }
    }

    fn print(&mut self, character: char) {
        if self.wrap {
            self.cursor.column = 0;
            self.line_feed();
        }
        let at = self.index(self.cursor.row, self.cursor.column);
        self.cells[at] = self.pen.cell(character);
        if self.cursor.column + 1 == self.columns {
            self.wrap = true;
        } else {
            self.cursor.column += 1;
        }
    }

    fn control(&mut self, byte: u8) {
        match byte {
            b'\r' => self.move_to(self.cursor.row, 0),
            b'\n' | 0x0b | 0x0c => self.line_feed(),
            0x08 => self.move_to(self.cursor.row, self.cursor.column.saturating_sub(1)),
            b'\t' => {
                let stop = (self.cursor.column / TAB_COLUMNS + 1) * TAB_COLUMNS;
                self.move_to(self.cursor.row, stop);
            }
            _ => {}
        }
    }

    fn mode(&mut self, sequence: &Sequence) {
        let on = match sequence.name {
            b'h' => true,
            b'l' => false,
            _ => return,
        };
        for &mode in sequence.parameters() {
            match mode {
                25 => self.cursor_visible = on,
                // The alternate screen: there is none, but what asks for it expects a blank one.
                47 | 1047 | 1049 => {
                    self.erase(0, self.cells.len());
                    self.move_to(0, 0);
                }
                _ => {}
            }
        }
    }

    fn sequence(&mut self, sequence: &Sequence) {
        let count = sequence.count(0);
        let Position { row, column } = self.cursor;
        match sequence.name {
            b'A' => self.move_to(row.saturating_sub(count), column),
            b'B' | b'e' => self.move_to(row + count, column),
            b'C' | b'a' => self.move_to(row, column + count),
            b'D' => self.move_to(row, column.saturating_sub(count)),
            b'E' => self.move_to(row + count, 0),
            b'F' => self.move_to(row.saturating_sub(count), 0),
            b'G' | b'`' => self.move_to(row, count - 1),
            b'd' => self.move_to(count - 1, column),
            b'H' | b'f' => self.move_to(count - 1, sequence.count(1) - 1),
            b'J' => self.erase_display(sequence.selector(0)),
            b'K' => self.erase_line(sequence.selector(0)),
            b'L' if self.in_region() => self.scroll(row, self.region.1, Scroll::Down, count),
            b'M' if self.in_region() => self.scroll(row, self.region.1, Scroll::Up, count),
            b'S' => self.scroll(self.region.0, self.region.1, Scroll::Up, count),
            b'T' => self.scroll(self.region.0, self.region.1, Scroll::Down, count),
            b'P' | b'@' => self.shift_line(sequence.name, count),
            b'X' => {
                let end = (column + count).min(self.columns);
                self.erase(self.index(row, column), self.index(row, 0) + end);
            }
            b'm' => self.colours(sequence.parameters()),
            b'r' => self.set_region(sequence),
            b's' => self.saved = (self.cursor, self.pen),
            b'u' => self.restore(),
            _ => {}
        }
    }

    fn move_to(&mut self, row: usize, column: usize) {
        self.changed[self.cursor.row] = true;
        self.cursor.row = row.min(self.rows - 1);
        self.cursor.column = column.min(self.columns - 1);
        self.wrap = false;
    }

    fn restore(&mut self) {
        let (position, pen) = self.saved;
        self.pen = pen;
        self.move_to(position.row, position.column);
    }

    fn line_feed(&mut self) {
        self.wrap = false;
        if self.cursor.row + 1 == self.region.1 {
            self.scroll(self.region.0, self.region.1, Scroll::Up, 1);
        } else {
            self.move_to(self.cursor.row + 1, self.cursor.column);
        }
    }

    fn reverse_line_feed(&mut self) {
        if self.cursor.row == self.region.0 {
            self.scroll(self.region.0, self.region.1, Scroll::Down, 1);
        } else {
            self.move_to(self.cursor.row.saturating_sub(1), self.cursor.column);
        }
    }

    fn in_region(&self) -> bool {
        (self.region.0..self.region.1).contains(&self.cursor.row)
    }

    fn set_region(&mut self, sequence: &Sequence) {
        let first = sequence.count(0) - 1;
        let last = match sequence.selector(1) {
            0 => self.rows,
            last => usize::from(last).min(self.rows),
        };
        if first + 1 < last {
            self.region = (first, last);
            self.move_to(0, 0);
        }
    }

    /// Moves the rows `first..end` by `count`, blank rows coming in.
    fn scroll(&mut self, first: usize, end: usize, direction: Scroll, count: usize) {
        let count = count.min(end - first);
        let (from, to) = (self.index(first, 0), self.index(end, 0));
        let cells = &mut self.cells[from..to];
        let distance = count * self.columns;
        let blank = self.pen.cell(' ');
        match direction {
            Scroll::Up => {
                cells.rotate_left(distance);
                let keep = cells.len() - distance;
                cells[keep..].fill(blank);
            }
            Scroll::Down => {
                cells.rotate_right(distance);
                cells[..distance].fill(blank);
            }
        }
        self.changed[first..end].fill(true);
    }

    /// Deletes (`P`) or inserts (`@`) `count` cells at the cursor.
    fn shift_line(&mut self, name: u8, count: usize) {
        let start = self.index(self.cursor.row, self.cursor.column);
        let end = self.index(self.cursor.row, 0) + self.columns;
        let count = count.min(end - start);
        let blank = self.pen.cell(' ');
        let cells = &mut self.cells[start..end];
        if name == b'P' {
            cells.rotate_left(count);
            let keep = cells.len() - count;
            cells[keep..].fill(blank);
        } else {
            cells.rotate_right(count);
            cells[..count].fill(blank);
        }
        self.wrap = false;
    }

    fn erase_display(&mut self, what: u16) {
        let here = self.index(self.cursor.row, self.cursor.column);
        match what {
            0 => self.erase(here, self.cells.len()),
            1 => self.erase(0, here + 1),
            2 | 3 => self.erase(0, self.cells.len()),
            _ => {}
        }
    }

    fn erase_line(&mut self, what: u16) {
        let start = self.index(self.cursor.row, 0);
        let here = start + self.cursor.column;
        match what {
            0 => self.erase(here, start + self.columns),
            1 => self.erase(start, here + 1),
            2 => self.erase(start, start + self.columns),
            _ => {}
        }
    }

    fn erase(&mut self, from: usize, to: usize) {
        let blank = Pen {
            reverse: false,
            ..self.pen
        }
        .cell(' ');
        self.cells[from..to].fill(blank);
        self.changed[from / self.columns..to.div_ceil(self.columns)].fill(true);
        self.wrap = false;
    }

    fn index(&self, row: usize, column: usize) -> usize {
        row * self.columns + column
    }

    /// Select graphic rendition.
    fn colours(&mut self, parameters: &[u16]) {
        let mut rest = parameters.iter().copied();
        if parameters.is_empty() {
            self.pen = PLAIN;
        }
        while let Some(parameter) = rest.next() {
            match parameter {
                0 => self.pen = PLAIN,
                1 => self.pen.bright = true,
                2 | 22 => self.pen.bright = false,
                7 => self.pen.reverse = true,
                27 => self.pen.reverse = false,
                30..=37 => self.pen.foreground = (parameter - 30) as u8,
                38 => self.pen.foreground = extended(&mut rest).unwrap_or(self.pen.foreground),
                39 => self.pen.foreground = DEFAULT_FOREGROUND,
                40..=47 => self.pen.background = (parameter - 40) as u8,
                48 => self.pen.background = extended(&mut rest).unwrap_or(self.pen.background),
                49 => self.pen.background = DEFAULT_BACKGROUND,
                90..=97 => self.pen.foreground = (parameter - 90) as u8 + 8,
                100..=107 => self.pen.background = (parameter - 100) as u8 + 8,
                _ => {}
            }
        }
    }
}

#[derive(Clone, Copy)]
enum Scroll {
    Up,
    Down,
}

/// The rest of `38;5;n` or `38;2;r;g;b` as one of the sixteen colours.
fn extended(rest: &mut impl Iterator<Item = u16>) -> Option<u8> {
    match rest.next()? {
        5 => Some(match rest.next()? {
            colour @ 0..=15 => colour as u8,
            cube @ 16..=231 => {
                let cube = cube - 16;
                nearest([cube / 36 * 51, cube / 6 % 6 * 51, cube % 6 * 51])
            }
            grey => {
                let level = grey.min(255).saturating_sub(232) * 10 + 8;
                nearest([level; 3])
            }
        }),
        2 => Some(nearest([rest.next()?, rest.next()?, rest.next()?])),
        _ => None,
    }
}

/// The palette entry nearest to a colour of 0..=255 per channel: one bit per channel, and whether bright.
fn nearest(channels: [u16; 3]) -> u8 {
    let brightest = channels.into_iter().max().unwrap_or(0);
    let bits = (0..3)
        .filter(|&channel| brightest > 40 && channels[channel] > brightest / 2)
        .fold(0, |bits, channel| bits | 1 << channel);
    match (bits, brightest) {
        (0, 41..) => 8,
        (7, 0..=140) => 8,
        (_, 211..) => bits + 8,
        _ => bits,
    }
}

#[cfg(test)]
mod tests;
