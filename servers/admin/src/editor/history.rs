//! The lines that were entered, and walking and searching in them.

use alloc::collections::VecDeque;
use alloc::string::String;

/// Lines kept: more than anybody walks back, little memory.
const MAX_LINES: usize = 500;

/// What was entered, oldest first.
#[derive(Debug, Default)]
pub struct History {
    lines: VecDeque<String>,
}

impl History {
    /// Keeps a line. Blank ones and repetitions are not kept.
    pub fn push(&mut self, line: &str) {
        if line.trim().is_empty() || self.lines.back().is_some_and(|last| last == line) {
            return;
        }
        if self.lines.len() == MAX_LINES {
            self.lines.pop_front();
        }
        self.lines.push_back(line.into());
    }

    /// How many lines there are.
    pub fn len(&self) -> usize {
        self.lines.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }

    /// The line at `index`, from the oldest.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.lines.get(index).map(String::as_str)
    }

    /// The lines, oldest first.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    /// The newest line before `index` that contains `text`.
    pub fn search_backward(&self, index: usize, text: &str) -> Option<usize> {
        (0..index.min(self.len()))
            .rev()
            .find(|&index| self.lines[index].contains(text))
    }

    /// The oldest line after `index` that contains `text`.
    pub fn search_forward(&self, index: usize, text: &str) -> Option<usize> {
        (index + 1..self.len()).find(|&index| self.lines[index].contains(text))
    }
}
