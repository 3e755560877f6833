//! Commands that turn lines into lines: the right-hand sides of pipes.
//!
//! A filter sees one line at a time, so that a pipe from a command that never ends shows its lines as
//! they come.

use alloc::collections::VecDeque;
use alloc::format;
use alloc::string::{String, ToString};

use regex::bytes::{Regex, RegexBuilder};

use crate::failure::{FAILURE, Failure, SUCCESS};
use crate::options::Options;

/// Names of the filters.
pub const FILTERS: &[&str] = &["grep", "head", "tail", "wc"];
/// Largest compiled pattern, in bytes; typed patterns take a few kilobytes.
const MAX_PATTERN_BYTES: usize = 256 * 1024;
/// Lines that `head` and `tail` give unless told otherwise, as everywhere.
const DEFAULT_LINES: usize = 10;
/// Most lines that `tail` keeps: they are in memory.
const MAX_TAIL_LINES: usize = 10_000;

/// Whether whoever writes should go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More may come.
    Continue,
    /// Nobody reads any more.
    Stop,
}

/// One filter of a pipe.
#[derive(Debug)]
pub enum Filter {
    /// Lines that match, or do not.
    Grep(Grep),
    /// The first lines; how many are still to come.
    Head(usize),
    /// The last lines and how many.
    Tail(VecDeque<String>, usize),
    /// Counts.
    Count(Count),
}

/// The state of `grep`.
#[derive(Debug)]
pub struct Grep {
    pattern: Regex,
    wanted: bool,
    count_only: bool,
    matches: usize,
}

/// The state of `wc`.
#[derive(Debug, Default)]
pub struct Count {
    lines: usize,
    words: usize,
    bytes: usize,
    /// Which of the three are shown; none means all.
    shown: [bool; 3],
}

impl Filter {
    /// The filter that `words` names, or `None` if its name is no filter's.
    ///
    /// # Errors
    /// Its arguments are wrong.
    pub fn new(words: &[String]) -> Option<Result<Self, Failure>> {
        let (name, arguments) = words.split_first()?;
        match name.as_str() {
            "grep" => Some(Grep::new(arguments).map(Self::Grep)),
            "head" => Some(line_count("head", arguments).map(Self::Head)),
            "tail" => Some(
                line_count("tail", arguments)
                    .map(|lines| Self::Tail(VecDeque::new(), lines.min(MAX_TAIL_LINES))),
            ),
            "wc" => Some(Count::new(arguments).map(Self::Count)),
            _ => None,
        }
    }

    /// Takes one line without its end.
    fn push(&mut self, line: &str, emit: &mut dyn FnMut(&str) -> Flow) -> Flow {
        match self {
            Self::Grep(grep) => {
                if grep.pattern.is_match(line.as_bytes()) != grep.wanted {
                    return Flow::Continue;
                }
                grep.matches += 1;
                if grep.count_only {
                    return Flow::Continue;
                }
                emit(line)
            }
            Self::Head(0) => Flow::Stop,
            Self::Head(left) => {
                *left -= 1;
                let flow = emit(line);
                if *left == 0 { Flow::Stop } else { flow }
            }
            Self::Tail(kept, lines) => {
                kept.push_back(line.into());
                if kept.len() > *lines {
                    kept.pop_front();
                }
                Flow::Continue
            }
            Self::Count(count) => {
                count.lines += 1;
                count.words += line.split_whitespace().count();
                count.bytes += line.len() + 1;
                Flow::Continue
            }
        }
    }

    /// Says what is left to say at the end; the exit code.
    fn finish(&mut self, emit: &mut dyn FnMut(&str) -> Flow) -> u8 {
        match self {
            Self::Grep(grep) => {
                if grep.count_only {
                    emit(&grep.matches.to_string());
                }
                if grep.matches > 0 { SUCCESS } else { FAILURE }
            }
            Self::Head(_) => SUCCESS,
            Self::Tail(kept, _) => {
                for line in kept.drain(..) {
                    if emit(&line) == Flow::Stop {
                        break;
                    }
                }
                SUCCESS
            }
            Self::Count(count) => {
                emit(&count.line());
                SUCCESS
            }
        }
    }
}

impl Grep {
    fn new(arguments: &[String]) -> Result<Self, Failure> {
        let usage = || Failure::Usage("usage: grep [-civ] PATTERN".into());
        let options = Options::parse(arguments, "Eciv", "").map_err(|_| usage())?;
        let [pattern] = options.operands() else {
            return Err(usage());
        };
        Ok(Self {
            pattern: pattern_of(
                pattern,
                if options.has('i') {
                    Case::Ignored
                } else {
                    Case::Kept
                },
            )?,
            wanted: !options.has('v'),
            count_only: options.has('c'),
            matches: 0,
        })
    }
}

/// Whether a pattern tells capitals from small letters (of ASCII).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    /// It does.
    Kept,
    /// It does not.
    Ignored,
}

/// Compiles a regular expression.
///
/// # Errors
/// It is none.
pub fn pattern_of(pattern: &str, case: Case) -> Result<Regex, Failure> {
    RegexBuilder::new(pattern)
        .unicode(false)
        .case_insensitive(case == Case::Ignored)
        .size_limit(MAX_PATTERN_BYTES)
        .dfa_size_limit(MAX_PATTERN_BYTES)
        .build()
        .map_err(|_| Failure::Usage(format!("not a regular expression: {pattern}")))
}

impl Count {
    fn new(arguments: &[String]) -> Result<Self, Failure> {
        let usage = || Failure::Usage("usage: wc [-clw]".into());
        let options = Options::parse(arguments, "clw", "").map_err(|_| usage())?;
        if !options.operands().is_empty() {
            return Err(usage());
        }
        Ok(Self {
            shown: ['l', 'w', 'c'].map(|name| options.has(name)),
            ..Self::default()
        })
    }

    fn line(&self) -> String {
        let counts = [self.lines, self.words, self.bytes];
        let all = self.shown == [false; 3];
        let shown: alloc::vec::Vec<String> = (0..3)
            .filter(|&index| all || self.shown[index])
            .map(|index| counts[index].to_string())
            .collect();
        shown.join(" ")
    }
}

/// `-n LINES` or `-LINES`.
fn line_count(name: &str, arguments: &[String]) -> Result<usize, Failure> {
    let usage = || Failure::Usage(format!("usage: {name} [-n LINES]"));
    let lines = match arguments {
        [] => return Ok(DEFAULT_LINES),
        [flag, lines] if flag == "-n" => lines.as_str(),
        [lines] => lines
            .strip_prefix("-n")
            .or(lines.strip_prefix('-'))
            .ok_or_else(usage)?,
        _ => return Err(usage()),
    };
    lines.parse().map_err(|_| usage())
}

/// Sends a line through all of `filters`; what comes out goes to `sink`.
pub fn push(filters: &mut [Filter], line: &str, sink: &mut dyn FnMut(&str) -> Flow) -> Flow {
    match filters.split_first_mut() {
        None => sink(line),
        Some((first, rest)) => first.push(line, &mut |line| push(rest, line, sink)),
    }
}

/// Ends all of `filters` in order; the exit code of the last.
pub fn finish(filters: &mut [Filter], sink: &mut dyn FnMut(&str) -> Flow) -> Option<u8> {
    let (first, rest) = filters.split_first_mut()?;
    let status = first.finish(&mut |line| push(rest, line, sink));
    finish(rest, sink).or(Some(status))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn words(text: &str) -> Vec<String> {
        text.split(' ').map(String::from).collect()
    }

    fn run(pipe: &[&str], lines: &[&str]) -> (Vec<String>, u8, usize) {
        let mut filters: Vec<Filter> = pipe
            .iter()
            .map(|command| Filter::new(&words(command)).unwrap().unwrap())
            .collect();
        let mut out = Vec::new();
        let mut sink = |line: &str| {
            out.push(line.to_owned());
            Flow::Continue
        };
        let mut taken = 0;
        for line in lines {
            taken += 1;
            if push(&mut filters, line, &mut sink) == Flow::Stop {
                break;
            }
        }
        let status = finish(&mut filters, &mut sink).unwrap();
        (out, status, taken)
    }

    const LINES: &[&str] = &["one", "two", "Three x", "four"];

    #[test]
    fn grep_selects_lines_and_says_whether_there_were_any() {
        assert_eq!(run(&["grep o"], LINES).0, ["one", "two", "four"]);
        assert_eq!(run(&["grep -v o"], LINES).0, ["Three x"]);
        assert_eq!(run(&["grep -i ^t.*e"], LINES).0, ["Three x"]);
        let (counted, status, _) = run(&["grep -c o$"], LINES);
        assert_eq!((counted[0].as_str(), status), ("1", SUCCESS));
        assert_eq!(run(&["grep none"], LINES).1, FAILURE);
    }

    #[test]
    fn head_ends_the_pipe_and_tail_waits_for_its_end() {
        assert_eq!(
            run(&["head -n 2"], LINES),
            (vec!["one".into(), "two".into()], 0, 2)
        );
        assert_eq!(run(&["head -1"], LINES).0, ["one"]);
        assert_eq!(run(&["head -n0"], LINES).0.len(), 0);
        assert_eq!(run(&["tail -n 1"], LINES).0, ["four"]);
        assert_eq!(run(&["tail"], LINES).0, LINES);
    }

    #[test]
    fn counts_are_of_lines_words_and_bytes() {
        assert_eq!(run(&["wc"], LINES).0, ["4 5 21"]);
        assert_eq!(run(&["wc -l"], LINES).0, ["4"]);
    }

    #[test]
    fn filters_are_joined() {
        assert_eq!(run(&["grep o", "tail -n 2", "wc -l"], LINES).0, ["2"]);
        assert_eq!(run(&["head -n 3", "grep x"], LINES).0, ["Three x"]);
        assert_eq!(run(&["grep zzz", "wc -l"], LINES), (vec!["0".into()], 0, 4));
    }

    #[test]
    fn wrong_arguments_are_refused() {
        for command in [
            "grep", "grep a b", "grep (", "head x", "tail -n", "wc x", "wc -z",
        ] {
            let filter = Filter::new(&words(command)).unwrap();
            assert!(matches!(filter, Err(Failure::Usage(_))), "{command}");
        }
        assert!(Filter::new(&words("ps")).is_none());
    }

    proptest! {
        #[test]
        fn any_pattern_is_compiled_or_refused(pattern in "[a-c.*+?(){}\\[\\]|^$\\\\0-9é]{0,30}") {
            if let Ok(regex) = pattern_of(&pattern, Case::Kept) {
                regex.is_match(b"abcabc");
            }
        }
    }
}
