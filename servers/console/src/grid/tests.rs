use super::*;
use proptest::prelude::*;

fn grid(columns: usize, rows: usize, bytes: &[u8]) -> Grid {
    let mut grid = Grid::new(columns, rows);
    grid.write(bytes);
    grid
}

fn lines(grid: &Grid) -> Vec<String> {
    (0..grid.size().1)
        .map(|row| {
            let text: String = grid.row(row).iter().map(|cell| cell.character).collect();
            text.trim_end().to_owned()
        })
        .collect()
}

#[test]
fn text_wraps_and_scrolls() {
    let grid = grid(4, 3, b"abcdefgh\r\nxy\r\nz");
    assert_eq!(lines(&grid), ["efgh", "xy", "z"]);
    assert_eq!(grid.cursor(), Some((2, 1)));
}

#[test]
fn a_full_line_wraps_only_when_more_comes() {
    assert_eq!(grid(4, 2, b"abcd").cursor(), Some((0, 3)));
    assert_eq!(lines(&grid(4, 2, b"abcd\r\nx")), ["abcd", "x"]);
}

#[test]
fn cursor_functions_move_and_clamp() {
    let grid = grid(
        10,
        4,
        b"\x1b[2;3Ha\x1b[99;99Hb\x1b[A\x1b[2Dc\x1b[Hd\x1b[5Ge\tf",
    );
    assert_eq!(lines(&grid), ["d   e   f", "  a", "       c", "         b"]);
}

#[test]
fn erasing_and_shifting_change_the_named_part() {
    assert_eq!(lines(&grid(6, 1, b"abcdef\x1b[3G\x1b[K")), ["ab"]);
    assert_eq!(lines(&grid(6, 1, b"abcdef\x1b[3G\x1b[1K")), ["   def"]);
    assert_eq!(lines(&grid(6, 1, b"abcdef\x1b[3G\x1b[2P")), ["abef"]);
    assert_eq!(lines(&grid(6, 1, b"abcdef\x1b[3G\x1b[2@")), ["ab  cd"]);
    assert_eq!(lines(&grid(6, 1, b"abcdef\x1b[3G\x1b[2X")), ["ab  ef"]);
    assert_eq!(lines(&grid(3, 2, b"abc\r\ndef\x1b[2J")), ["", ""]);
    assert_eq!(lines(&grid(3, 2, b"abc\r\ndef\x1b[1;2H\x1b[J")), ["a", ""]);
}

#[test]
fn a_scroll_region_scrolls_alone() {
    let grid = grid(2, 4, b"a\r\nb\r\nc\r\nd\x1b[2;3r\x1b[3;1H\nx");
    assert_eq!(lines(&grid), ["a", "c", "x", "d"]);
}

#[test]
fn lines_are_inserted_and_deleted() {
    assert_eq!(
        lines(&grid(1, 3, b"a\r\nb\r\nc\x1b[2;1H\x1b[L")),
        ["a", "", "b"]
    );
    assert_eq!(
        lines(&grid(1, 3, b"a\r\nb\r\nc\x1b[2;1H\x1b[M")),
        ["a", "c", ""]
    );
    assert_eq!(
        lines(&grid(1, 3, b"a\r\nb\r\nc\x1b[1;1H\x1bM")),
        ["", "a", "b"]
    );
}

#[test]
fn colours_are_set_and_reset() {
    let grid = grid(
        8,
        1,
        b"\x1b[31;44ma\x1b[1mb\x1b[7mc\x1b[0md\x1b[38;5;9me\x1b[38;2;0;0;255mf\x1b[97mg",
    );
    let colours: Vec<(u8, u8)> = grid.row(0)[..7]
        .iter()
        .map(|cell| (cell.foreground, cell.background))
        .collect();
    assert_eq!(
        colours,
        [(1, 4), (9, 4), (4, 9), (7, 0), (9, 0), (12, 0), (15, 0)]
    );
}

#[test]
fn the_cursor_is_saved_restored_and_hidden() {
    let mut grid = grid(8, 2, b"ab\x1b7\x1b[2;5Hx\x1b8c\x1b[?25l");
    assert_eq!(lines(&grid), ["abc", "    x"]);
    assert_eq!(grid.cursor(), None);
    grid.write(b"\x1bc");
    assert_eq!(grid.cursor(), Some((0, 0)));
    assert_eq!(lines(&grid), ["", ""]);
}

#[test]
fn only_rows_that_changed_are_reported() {
    let mut grid = grid(8, 4, b"");
    for row in 0..4 {
        assert!(grid.take_changed(row));
    }
    grid.write(b"\x1b[3;1Hx");
    let changed: Vec<bool> = (0..4).map(|row| grid.take_changed(row)).collect();
    assert_eq!(changed, [true, false, true, false], "the cursor left row 0");
}

proptest! {
    #[test]
    fn any_bytes_are_shown_with_the_cursor_inside(
        columns in 1usize..20,
        rows in 1usize..8,
        bytes in proptest::collection::vec(
            prop_oneof![
                any::<u8>(),
                Just(0x1b),
                Just(b'['),
                proptest::sample::select(&b"0123456789;?ABCDGHJKLMPSTX@mrsu\n"[..]),
            ],
            0..400,
        ),
    ) {
        let grid = grid(columns, rows, &bytes);
        if let Some((row, column)) = grid.cursor() {
            prop_assert!(row < rows && column < columns);
        }
        prop_assert_eq!(grid.row(rows - 1).len(), columns);
        for row in 0..rows {
            for cell in grid.row(row) {
                prop_assert!(cell.foreground < 16 && cell.background < 16);
            }
        }
    }

    #[test]
    fn a_replay_in_pieces_gives_the_same_picture(
        bytes in proptest::collection::vec(any::<u8>(), 0..200),
        split in 0usize..200,
    ) {
        let whole = grid(7, 3, &bytes);
        let (first, second) = bytes.split_at(split.min(bytes.len()));
        let mut pieces = grid(7, 3, first);
        pieces.write(second);
        prop_assert_eq!(lines(&whole), lines(&pieces));
    }
}
