use super::*;
use console::grid::Grid;
use proptest::prelude::*;

const PROMPT: &str = "tessera# ";

/// An editor in front of a terminal.
struct Seat {
    editor: Editor,
    grid: Grid,
    entered: Vec<String>,
}

impl Seat {
    fn new(columns: usize) -> Self {
        let mut seat = Self {
            editor: Editor::new(PROMPT, columns),
            grid: Grid::new(columns, 3),
            entered: Vec::new(),
        };
        seat.show();
        seat
    }

    fn show(&mut self) {
        let mut out = Vec::new();
        self.editor.show(&mut out);
        self.grid.write(&out);
    }

    fn type_bytes(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            let outcome = self.editor.push(byte);
            if let Outcome::Entered(line) = outcome {
                self.entered.push(line);
                let mut out = b"\r\n\x1b[H\x1b[2J".to_vec();
                self.editor.forget_display();
                self.editor.show(&mut out);
                self.grid.write(&out);
            }
            self.show();
        }
    }

    fn row(&self) -> String {
        let cells = self.grid.row(0).iter();
        cells.map(|cell| cell.character).collect::<String>()
    }

    /// The row's text with `|` at the cursor.
    fn picture(&self) -> String {
        let mut row: Vec<char> = self.row().chars().collect();
        let (line, column) = self.grid.cursor().unwrap();
        assert_eq!(line, 0, "the line never leaves its row");
        row.insert(column, '|');
        row.into_iter().collect::<String>().trim_end().to_owned()
    }
}

fn picture(keys: &str) -> String {
    let mut seat = Seat::new(80);
    seat.type_bytes(keys.as_bytes());
    seat.picture()
}

#[test]
fn typed_text_follows_the_prompt() {
    assert_eq!(picture(""), "tessera# |");
    assert_eq!(picture("vmadm list"), "tessera# vmadm list|");
}

#[test]
fn typing_at_the_end_sends_only_what_was_typed() {
    let mut editor = Editor::new(PROMPT, 80);
    let mut out = Vec::new();
    editor.show(&mut out);
    assert_eq!(out, PROMPT.as_bytes());
    out.clear();
    for byte in b"ps" {
        editor.push(*byte);
        editor.show(&mut out);
    }
    assert_eq!(out, b"ps");
    out.clear();
    editor.push(0x7f);
    editor.show(&mut out);
    assert_eq!(out, b"\x08\x1b[K");
}

#[test]
fn the_cursor_moves_by_characters_words_and_to_the_ends() {
    assert_eq!(picture("one two\x1b[D\x1b[D"), "tessera# one t|wo");
    assert_eq!(picture("one two\x02\x02\x06"), "tessera# one tw|o");
    assert_eq!(picture("one two\x1bb\x1bb"), "tessera# |one two");
    assert_eq!(picture("one two\x01\x1bf"), "tessera# one| two");
    assert_eq!(picture("one two\x1b[H\x1b[C"), "tessera# o|ne two");
    assert_eq!(picture("one two\x01\x05!"), "tessera# one two!|");
}

#[test]
fn text_is_inserted_and_deleted_at_the_cursor() {
    assert_eq!(picture("ab\x02X"), "tessera# aX|b");
    assert_eq!(picture("abc\x02\x7f"), "tessera# a|c");
    assert_eq!(picture("abc\x01\x04"), "tessera# |bc");
    assert_eq!(picture("abc\x01\x1b[3~\x1b[3~"), "tessera# |c");
    assert_eq!(picture("ab\x14"), "tessera# ba|");
}

#[test]
fn killed_text_is_yanked() {
    assert_eq!(picture("one two\x17"), "tessera# one |");
    assert_eq!(picture("one two\x17\x01\x19"), "tessera# two|one");
    assert_eq!(
        picture("one two\x01\x0b\x19\x19"),
        "tessera# one twoone two|"
    );
    assert_eq!(picture("one two\x1bb\x15"), "tessera# |two");
    assert_eq!(picture("one two\x01\x1bd"), "tessera# | two");
    assert_eq!(picture("one/two\x1b\x7f"), "tessera# one/|");
}

#[test]
fn the_history_is_walked_and_the_draft_comes_back() {
    assert_eq!(picture("ps\rmem\r\x1b[A\x1b[A"), "tessera# ps|");
    assert_eq!(picture("ps\rmem\rdra\x10\x10\x10\x0e"), "tessera# mem|");
    assert_eq!(picture("ps\rmem\rdra\x10\x0e"), "tessera# dra|");
    assert_eq!(picture("ps\rps\r \rmem\r\x10\x10\x10"), "tessera# ps|");
    assert_eq!(picture("ps\rmem\rdra\x1b<"), "tessera# ps|");
    assert_eq!(picture("ps\rmem\rdra\x1b<\x1b>"), "tessera# dra|");
}

#[test]
fn the_history_is_searched() {
    let entered = "vmadm list\rps\rvmadm get x\r";
    let search = |keys: &str| picture(&format!("{entered}{keys}"));
    assert_eq!(search("\x12li"), "(reverse-i-search)`li': vmadm |list");
    assert_eq!(search("\x12vm\x12"), "(reverse-i-search)`vm': |vmadm list");
    assert_eq!(
        search("\x12vm\x12\x13"),
        "(reverse-i-search)`vm': |vmadm get x"
    );
    assert_eq!(
        search("\x12vmzz"),
        "(failed reverse-i-search)`vmzz': |vmadm get x"
    );
    assert_eq!(search("dra\x12ps\x07"), "tessera# dra|");
    assert_eq!(search("\x12li\x05!"), "tessera# vmadm list!|");
}

#[test]
fn a_search_that_is_entered_gives_the_line_it_found() {
    let mut seat = Seat::new(80);
    seat.type_bytes(b"vmadm list\rps\r\x12li\r");
    assert_eq!(seat.entered, ["vmadm list", "ps", "vmadm list"]);
}

#[test]
fn control_keys_have_their_outcomes() {
    let mut editor = Editor::new(PROMPT, 80);
    assert_eq!(editor.push(0x04), Outcome::EndOfInput);
    assert_eq!(editor.push(b'x'), Outcome::Editing);
    assert_eq!(editor.push(b'\t'), Outcome::Complete);
    assert_eq!(editor.push(0x0c), Outcome::Clear);
    assert_eq!(editor.push(0x03), Outcome::Interrupted);
    assert_eq!(editor.push(0x04), Outcome::EndOfInput);
}

#[test]
fn a_long_line_scrolls_in_its_row() {
    let mut seat = Seat::new(30);
    seat.type_bytes(b"0123456789abcdefghijklmnopqrst");
    assert_eq!(seat.picture(), "tessera# <fghijklmnopqrst|");
    seat.type_bytes(b"\x01");
    assert_eq!(seat.picture(), "tessera# |0123456789abcdefghi>");
    seat.type_bytes(b"\r");
    assert_eq!(seat.entered, ["0123456789abcdefghijklmnopqrst"]);
}

#[test]
fn a_notice_goes_above_the_line_and_the_line_comes_back() {
    let mut seat = Seat::new(40);
    seat.type_bytes(b"vmadm li\x02");
    let mut out = Vec::new();
    seat.editor.hide(&mut out);
    out.extend_from_slice(b"notice\r\n");
    seat.editor.show(&mut out);
    seat.grid.write(&out);
    assert!(seat.row().starts_with("notice"));
    let second: String = seat.grid.row(1).iter().map(|cell| cell.character).collect();
    assert_eq!(second.trim_end(), "tessera# vmadm li");
    assert_eq!(seat.grid.cursor(), Some((1, 16)));
}

proptest! {
    /// The differences that are sent give the same row as drawing it afresh.
    #[test]
    fn any_keys_leave_the_row_as_a_fresh_drawing_would(
        bytes in proptest::collection::vec(
            prop_oneof![
                any::<u8>(),
                proptest::sample::select(&b"abc \x01\x02\x05\x06\x0b\x10\x0e\x12\x14\x17\x19\x7f\r"[..]),
                0x20u8..0x7f,
            ],
            0..150,
        ),
        columns in 20usize..60,
    ) {
        let mut seat = Seat::new(columns);
        // Characters beyond ASCII may be wider than the one column the editor counts.
        let bytes: Vec<u8> = bytes.into_iter().filter(u8::is_ascii).collect();
        seat.type_bytes(&bytes);
        let before = (seat.row(), seat.grid.cursor());
        let mut out = Vec::new();
        seat.editor.hide(&mut out);
        seat.grid.write(&out);
        let hidden = seat.row();
        prop_assert_eq!(hidden.trim(), "");
        seat.show();
        prop_assert_eq!(before, (seat.row(), seat.grid.cursor()));
    }
}
