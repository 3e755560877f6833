//! The line editor: keys in, screen bytes and entered lines out.
//!
//! Owns the line, its history and how both look on the terminal. It reads nothing and writes
//! nothing itself; [`crate::shell`] feeds it bytes and sends what it gives. The keys are those of
//! emacs mode in other shells.

pub mod display;
pub mod history;
pub mod keys;
pub mod line;

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use display::Display;
use history::History;
use keys::{Key, KeyDecoder};
use line::Line;

/// What a key led to beyond a changed line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Editing,
    /// A line was entered.
    Entered(String),
    /// The line was given up with Ctrl-C.
    Interrupted,
    /// Ctrl-D on an empty line.
    EndOfInput,
    /// Tab: the word at the cursor is to be completed.
    Complete,
    /// Ctrl-L: the screen is to be cleared.
    Clear,
}

/// A search in the history.
#[derive(Debug)]
struct Search {
    text: String,
    found: Option<usize>,
    /// The line before the search, for Ctrl-G.
    draft: String,
}

/// An editor of lines.
#[derive(Debug)]
pub struct Editor {
    prompt: String,
    columns: usize,
    decoder: KeyDecoder,
    line: Line,
    history: History,
    /// Where in the history the line comes from, and what was typed before walking there.
    walk: Option<(usize, String)>,
    search: Option<Search>,
    display: Display,
}

impl Editor {
    /// An editor with this prompt on a terminal of `columns` columns.
    pub fn new(prompt: &str, columns: usize) -> Self {
        Self {
            prompt: prompt.into(),
            columns,
            decoder: KeyDecoder::default(),
            line: Line::default(),
            history: History::default(),
            walk: None,
            search: None,
            display: Display::default(),
        }
    }

    /// The lines entered so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// The line up to the cursor.
    pub fn before_cursor(&self) -> String {
        self.line.characters()[..self.line.cursor()]
            .iter()
            .collect()
    }

    /// Takes one typed byte. Call [`Editor::show`] when no more bytes are there.
    pub fn push(&mut self, byte: u8) -> Outcome {
        match self.decoder.push(byte) {
            Some(key) => self.key(key),
            None => Outcome::Editing,
        }
    }

    /// Appends what brings the terminal up to date.
    pub fn show(&mut self, out: &mut Vec<u8>) {
        let (prompt, cursor) = match &self.search {
            None => (self.prompt.clone(), self.line.cursor()),
            Some(search) => {
                let failed = if search.found.is_none() && !search.text.is_empty() {
                    "failed "
                } else {
                    ""
                };
                let prompt = format!("({failed}reverse-i-search)`{}': ", search.text);
                (prompt, self.line.cursor())
            }
        };
        let line = self.line.characters();
        self.display
            .update(&prompt, line, cursor, self.columns, out);
    }

    /// Takes the line off the terminal; the next [`Editor::show`] puts it back.
    pub fn hide(&mut self, out: &mut Vec<u8>) {
        self.display.erase(out);
    }

    /// Leaves what is on the terminal there and begins below it.
    pub fn leave(&mut self, out: &mut Vec<u8>) {
        self.display.finish(out);
    }

    /// Takes the terminal's row as empty, because something cleared it.
    pub fn forget_display(&mut self) {
        self.display.forget();
    }

    /// Replaces the characters from `start` to the cursor: a completion.
    pub fn replace_before(&mut self, start: usize, text: &str) {
        self.line.replace_before(start, text);
    }

    fn key(&mut self, key: Key) -> Outcome {
        if self.search.is_some() && self.search_key(key) {
            return Outcome::Editing;
        }
        match key {
            Key::Enter => return self.enter(),
            Key::Tab => return Outcome::Complete,
            Key::Control('c') => {
                self.line.set("");
                self.walk = None;
                return Outcome::Interrupted;
            }
            Key::Control('d') if self.line.characters().is_empty() => return Outcome::EndOfInput,
            Key::Control('l') => return Outcome::Clear,
            Key::Control('r' | 's') => self.begin_search(),
            Key::Up | Key::Control('p') => self.walk_back(),
            Key::Down | Key::Control('n') => self.walk_forward(),
            Key::Meta('<') => self.walk_to(0),
            Key::Meta('>') => self.walk_to(usize::MAX),
            _ => self.edit(key),
        }
        Outcome::Editing
    }

    /// The keys that move the cursor or change the line.
    fn edit(&mut self, key: Key) {
        let line = &mut self.line;
        let cursor = line.cursor();
        match key {
            Key::Character(character) => line.insert([character]),
            Key::Backspace => line.delete_before(),
            Key::Delete | Key::Control('d') => line.delete_at(),
            Key::Left | Key::Control('b') => line.move_to(cursor.saturating_sub(1)),
            Key::Right | Key::Control('f') => line.move_to(cursor + 1),
            Key::Home | Key::Control('a') => line.move_to(0),
            Key::End | Key::Control('e') => line.move_to(usize::MAX),
            Key::WordLeft | Key::Meta('b') => line.move_to(line.word_before(char::is_alphanumeric)),
            Key::WordRight | Key::Meta('f') => line.move_to(line.word_after(char::is_alphanumeric)),
            Key::Control('k') => line.kill_to(usize::MAX),
            Key::Control('u') => line.kill_to(0),
            Key::Control('w') => line.kill_to(line.word_before(|c| !c.is_whitespace())),
            Key::MetaBackspace => line.kill_to(line.word_before(char::is_alphanumeric)),
            Key::Meta('d') => line.kill_to(line.word_after(char::is_alphanumeric)),
            Key::Control('y') => line.yank(),
            Key::Control('t') => line.transpose(),
            _ => {}
        }
    }

    fn enter(&mut self) -> Outcome {
        let text = self.line.text();
        self.line.set("");
        self.walk = None;
        self.history.push(&text);
        Outcome::Entered(text)
    }

    fn walk_back(&mut self) {
        let index = match &self.walk {
            Some((index, _)) => *index,
            None => self.history.len(),
        };
        if index > 0 {
            self.walk_to(index - 1);
        }
    }

    fn walk_forward(&mut self) {
        if let Some((index, _)) = self.walk {
            self.walk_to(index + 1);
        }
    }

    /// Shows the line at `index` of the history; beyond its end, what was being typed.
    fn walk_to(&mut self, index: usize) {
        match self.history.get(index) {
            Some(text) => {
                let draft = match self.walk.take() {
                    Some((_, draft)) => draft,
                    None => self.line.text(),
                };
                self.line.set(text);
                self.walk = Some((index, draft));
            }
            None => {
                if let Some((_, draft)) = self.walk.take() {
                    self.line.set(&draft);
                }
            }
        }
    }

    fn begin_search(&mut self) {
        self.search = Some(Search {
            text: String::new(),
            found: None,
            draft: self.line.text(),
        });
    }

    /// A key while searching; whether the search took it. Any other key ends the search with the line
    /// that it found, and then does what it always does.
    fn search_key(&mut self, key: Key) -> bool {
        let Some(mut search) = self.search.take() else {
            return false;
        };
        let length = self.history.len();
        let found = match key {
            Key::Character(character) => {
                search.text.push(character);
                let from = search.found.map_or(length, |found| found + 1);
                self.history.search_backward(from, &search.text)
            }
            Key::Backspace => {
                search.text.pop();
                self.history.search_backward(length, &search.text)
            }
            Key::Control('r') => {
                let from = search.found.unwrap_or(length);
                let older = self.history.search_backward(from, &search.text);
                older.or(search.found)
            }
            Key::Control('s') => {
                let from = search.found.unwrap_or(length);
                let newer = self.history.search_forward(from, &search.text);
                newer.or(search.found)
            }
            Key::Control('g') => {
                self.line.set(&search.draft);
                return true;
            }
            Key::Control('c') => {
                self.line.set(&search.draft);
                return false;
            }
            _ => return false,
        };
        search.found = found.filter(|_| !search.text.is_empty());
        if let Some(text) = search.found.and_then(|found| self.history.get(found)) {
            let position = text
                .find(&search.text)
                .map_or(0, |byte| text[..byte].chars().count());
            self.line.set(text);
            self.line.move_to(position);
        }
        self.search = Some(search);
        true
    }
}

#[cfg(test)]
mod tests;
