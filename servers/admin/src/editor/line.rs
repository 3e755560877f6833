//! The line being edited: characters, a cursor, and what was killed last.
//!
//! The editing functions of emacs mode, without a terminal. [`super`] maps keys to them and
//! [`super::display`] shows the result.

use alloc::string::String;
use alloc::vec::Vec;

/// Longest line, in characters: longer than any VM's JSON that somebody would type.
pub const MAX_LINE_CHARACTERS: usize = 4096;

/// An editable line.
#[derive(Debug, Default)]
pub struct Line {
    characters: Vec<char>,
    cursor: usize,
    killed: Vec<char>,
}

impl Line {
    /// The characters.
    pub fn characters(&self) -> &[char] {
        &self.characters
    }

    /// The text.
    pub fn text(&self) -> String {
        self.characters.iter().collect()
    }

    /// The cursor, as the number of characters before it.
    pub fn cursor(&self) -> usize {
        self.cursor
    }

    /// Replaces the whole line, with the cursor at its end.
    pub fn set(&mut self, text: &str) {
        self.characters = text.chars().take(MAX_LINE_CHARACTERS).collect();
        self.cursor = self.characters.len();
    }

    /// Moves the cursor, at most to the end.
    pub fn move_to(&mut self, position: usize) {
        self.cursor = position.min(self.characters.len());
    }

    /// Puts text in at the cursor; what makes the line too long is left out.
    pub fn insert(&mut self, text: impl IntoIterator<Item = char>) {
        for character in text {
            if self.characters.len() == MAX_LINE_CHARACTERS {
                return;
            }
            self.characters.insert(self.cursor, character);
            self.cursor += 1;
        }
    }

    /// Replaces the characters from `start` to the cursor.
    pub fn replace_before(&mut self, start: usize, text: &str) {
        let start = start.min(self.cursor);
        self.characters.drain(start..self.cursor);
        self.cursor = start;
        self.insert(text.chars());
    }

    /// Deletes the character before the cursor.
    pub fn delete_before(&mut self) {
        if self.cursor > 0 {
            self.cursor -= 1;
            self.characters.remove(self.cursor);
        }
    }

    /// Deletes the character at the cursor.
    pub fn delete_at(&mut self) {
        if self.cursor < self.characters.len() {
            self.characters.remove(self.cursor);
        }
    }

    /// Exchanges the two characters before the cursor, or around it if it is not at the end.
    pub fn transpose(&mut self) {
        let length = self.characters.len();
        let second = self.cursor.min(length.saturating_sub(1));
        if second > 0 {
            self.characters.swap(second - 1, second);
            self.cursor = second + 1;
        }
    }

    /// Kills what lies between the cursor and `position`.
    pub fn kill_to(&mut self, position: usize) {
        let position = position.min(self.characters.len());
        let (start, end) = (self.cursor.min(position), self.cursor.max(position));
        if start < end {
            self.killed = self.characters.drain(start..end).collect();
            self.cursor = start;
        }
    }

    /// Puts in what was killed last.
    pub fn yank(&mut self) {
        let killed = self.killed.clone();
        self.insert(killed);
    }

    /// The start of the word before the cursor; `is_word` tells what a word is made of.
    pub fn word_before(&self, is_word: impl Fn(char) -> bool) -> usize {
        let mut position = self.cursor;
        while position > 0 && !is_word(self.characters[position - 1]) {
            position -= 1;
        }
        while position > 0 && is_word(self.characters[position - 1]) {
            position -= 1;
        }
        position
    }

    /// The end of the word after the cursor.
    pub fn word_after(&self, is_word: impl Fn(char) -> bool) -> usize {
        let mut position = self.cursor;
        let end = self.characters.len();
        while position < end && !is_word(self.characters[position]) {
            position += 1;
        }
        while position < end && is_word(self.characters[position]) {
            position += 1;
        }
        position
    }
}
