//! A seat is one terminal: the serial line, or the screen with its keyboard.
//!
//! It shows one virtual console at a time, its front. A seat is a reader of scrollbacks: for each
//! console it knows up to where it has shown it, so consoles never wait for seats and a seat that comes
//! back goes on where it left. Which console is in front is decided in [`crate::switchboard`].

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::scrollback::Scrollback;

/// What leaving a console sends first: attributes off, cursor on, whole-screen scrolling, and a new
/// line. What ran there may have left the terminal in any state.
const LEAVE: &[u8] = b"\x1b[0m\x1b[?25h\x1b[r\r\n";
/// What a picture of a console's own starts with: the terminal's initial state.
const BLANK: &[u8] = b"\x1bc";

/// Most bytes that wait before the front console's own: what two consoles may lag behind. Beyond that
/// somebody switches faster than the line can show.
const MAX_PRELUDE_BYTES: usize = 8 * 1024;

/// How a console comes to the front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// With what it wrote since this seat last showed it.
    Resume,
    /// With everything that its scrollback keeps.
    Replay,
}

/// What kind of terminal a seat is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SeatKind {
    /// A line to a terminal that keeps its own history: only what is new is sent.
    Line,
    /// A screen that is drawn here: each console has a picture of its own.
    Screen,
}

/// One terminal's view of the virtual consoles.
#[derive(Debug)]
pub struct Seat {
    kind: SeatKind,
    front: usize,
    /// For each console the position up to which it was shown.
    shown: Vec<u64>,
    /// Bytes to send before the front console's own.
    prelude: VecDeque<u8>,
}

impl Seat {
    /// A seat that shows console 0 of `consoles`.
    pub fn new(kind: SeatKind, consoles: usize) -> Self {
        Self {
            kind,
            front: 0,
            shown: alloc::vec![0; consoles],
            prelude: VecDeque::new(),
        }
    }

    /// The index of the console in front.
    pub fn front(&self) -> usize {
        self.front
    }

    /// Brings `console`, whose history is `next`, to the front; nothing happens if it is there. A line
    /// first shows what is left of the console in front, whose history is `current`.
    pub fn show(
        &mut self,
        console: usize,
        current: &Scrollback,
        next: &Scrollback,
        beginning: Beginning,
    ) {
        if console == self.front {
            return;
        }
        match self.kind {
            SeatKind::Line => {
                if self.prelude.len() > MAX_PRELUDE_BYTES {
                    self.prelude.clear();
                }
                let rest = core::iter::from_fn(|| self.next_own(current));
                let rest: Vec<u8> = rest.take(MAX_PRELUDE_BYTES).collect();
                self.prelude.extend(rest);
                self.prelude.extend(LEAVE);
            }
            SeatKind::Screen => {
                self.prelude.clear();
                self.prelude.extend(BLANK);
            }
        }
        self.front = console;
        if beginning == Beginning::Replay || self.kind == SeatKind::Screen {
            self.shown[console] = next.first_line();
        }
    }

    /// Bytes of `console` that this seat has yet to send; none if it is not in front.
    pub fn backlog(&self, console: usize, scrollback: &Scrollback) -> u64 {
        if console == self.front {
            let shown = self.shown[console].max(scrollback.start());
            scrollback.end().saturating_sub(shown)
        } else {
            0
        }
    }

    /// Whether there is a byte to send; `scrollback` is that of the console in front.
    pub fn has_next(&self, scrollback: &Scrollback) -> bool {
        !self.prelude.is_empty() || self.backlog(self.front, scrollback) > 0
    }

    /// The next byte to send; `scrollback` is that of the console in front.
    pub fn next(&mut self, scrollback: &Scrollback) -> Option<u8> {
        self.prelude
            .pop_front()
            .or_else(|| self.next_own(scrollback))
    }

    fn next_own(&mut self, scrollback: &Scrollback) -> Option<u8> {
        let shown = &mut self.shown[self.front];
        if *shown < scrollback.start() {
            *shown = scrollback.first_line();
        }
        let byte = scrollback.byte(*shown)?;
        *shown += 1;
        Some(byte)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(seat: &mut Seat, scrollback: &Scrollback) -> Vec<u8> {
        core::iter::from_fn(|| seat.next(scrollback)).collect()
    }

    fn with_leave(bytes: &[u8]) -> Vec<u8> {
        [LEAVE, bytes].concat()
    }

    #[test]
    fn a_line_resumes_where_it_left_and_replays_when_asked() {
        let mut shell = Scrollback::new(100);
        let mut vm = Scrollback::new(100);
        let mut seat = Seat::new(SeatKind::Line, 2);
        shell.write(b"$ attach\n");
        assert_eq!(drain(&mut seat, &shell), b"$ attach\n");
        vm.write(b"boot\n");
        seat.show(1, &shell, &vm, Beginning::Replay);
        assert_eq!(drain(&mut seat, &vm), with_leave(b"boot\n"));
        shell.write(b"notice\n");
        seat.show(0, &vm, &shell, Beginning::Resume);
        assert_eq!(drain(&mut seat, &shell), with_leave(b"notice\n"));
        seat.show(1, &shell, &vm, Beginning::Replay);
        assert_eq!(drain(&mut seat, &vm), with_leave(b"boot\n"));
    }

    #[test]
    fn a_line_shows_the_rest_of_a_console_before_it_leaves() {
        let mut shell = Scrollback::new(100);
        let vm = Scrollback::new(100);
        let mut seat = Seat::new(SeatKind::Line, 2);
        shell.write(b"connected\n");
        seat.show(1, &shell, &vm, Beginning::Replay);
        assert_eq!(drain(&mut seat, &vm), [b"connected\n", LEAVE].concat());
        seat.show(0, &vm, &shell, Beginning::Resume);
        assert_eq!(drain(&mut seat, &shell), LEAVE, "it is shown once");
    }

    #[test]
    fn switching_without_end_keeps_a_bounded_prelude() {
        let mut shell = Scrollback::new(100_000);
        let vm = Scrollback::new(100);
        let mut seat = Seat::new(SeatKind::Line, 2);
        for _ in 0..100 {
            shell.write(&[b'x'; 5000]);
            seat.show(1, &shell, &vm, Beginning::Replay);
            seat.show(0, &vm, &shell, Beginning::Resume);
        }
        assert!(drain(&mut seat, &shell).len() <= 3 * MAX_PRELUDE_BYTES);
    }

    #[test]
    fn a_screen_draws_each_console_anew() {
        let mut shell = Scrollback::new(100);
        let vm = Scrollback::new(100);
        let mut seat = Seat::new(SeatKind::Screen, 2);
        shell.write(b"one\n");
        drain(&mut seat, &shell);
        seat.show(1, &shell, &vm, Beginning::Resume);
        assert_eq!(drain(&mut seat, &vm), BLANK);
        seat.show(0, &vm, &shell, Beginning::Resume);
        assert_eq!(drain(&mut seat, &shell), [BLANK, b"one\n"].concat());
    }

    #[test]
    fn a_seat_that_fell_behind_goes_on_with_a_whole_line() {
        let mut shell = Scrollback::new(8);
        let mut seat = Seat::new(SeatKind::Line, 1);
        shell.write(b"abc\ndef\nghi\nj");
        assert_eq!(drain(&mut seat, &shell), b"ghi\nj");
        assert_eq!(seat.backlog(0, &shell), 0);
    }

    #[test]
    fn only_the_console_in_front_has_a_backlog() {
        let mut scrollback = Scrollback::new(8);
        scrollback.write(b"abc");
        let seat = Seat::new(SeatKind::Line, 2);
        assert_eq!(seat.backlog(0, &scrollback), 3);
        assert_eq!(seat.backlog(1, &scrollback), 0);
    }
}
