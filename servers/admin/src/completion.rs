//! What the tab key offers: commands, VMs, boot files, programs, properties.
//!
//! Decides what can stand at a word's place and asks the machine for it. How it is shown is
//! [`crate::shell`]'s.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use crate::commands::COMMANDS;
use crate::commands::files::children;
use crate::commands::programs::display_name;
use crate::filter::FILTERS;
use crate::machine::Machine;
use crate::vmadm::lifecycle::programs;
use crate::vmadm::properties::PROPERTIES;
use crate::vmadm::settings::BOOT_DIRECTORY;
use crate::vmadm::store::VmStore;
use crate::vmadm::{self, SUBCOMMANDS};
use crate::words::Partial;

/// Levels that `log -l` takes.
const LEVELS: [&str; 4] = ["debug", "info", "warning", "error"];

/// One thing that could stand there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// What the word becomes.
    pub text: String,
    /// How it is listed.
    pub label: String,
}

impl Candidate {
    fn new(text: &str) -> Self {
        Self {
            text: text.into(),
            label: text.into(),
        }
    }
}

/// Everything that the word can become, in order.
pub fn candidates<M: Machine>(machine: &mut M, partial: &Partial) -> Vec<Candidate> {
    let before: Vec<&str> = partial.before.iter().map(String::as_str).collect();
    let word = partial.word.as_str();
    let last = before.last().copied().unwrap_or_default();
    let mut found = match before.as_slice() {
        [] if partial.piped => names(FILTERS.iter().copied().chain(["vmadm"]), word),
        [] | ["help"] => names(COMMANDS.iter().map(|command| command.name), word),
        ["cat" | "ls", ..] => paths(machine, word),
        ["kill" | "restart" | "caps", ..] => program_names(machine, word),
        ["log", ..] if last == "-p" => program_names(machine, word),
        ["log", ..] if last == "-l" => names(LEVELS, word),
        ["vmadm", arguments @ ..] => vmadm_candidates(machine, arguments, word),
        _ => Vec::new(),
    };
    found.sort();
    found.dedup();
    found
}

fn vmadm_candidates<M: Machine>(machine: &mut M, before: &[&str], word: &str) -> Vec<Candidate> {
    let last = before.last().copied().unwrap_or_default();
    let command = before.first().and_then(|name| vmadm::find(name));
    match command.map(|command| command.name) {
        None if before.is_empty() => names(SUBCOMMANDS.iter().map(|command| command.name), word),
        None => Vec::new(),
        Some("create" | "validate") if last == "-f" => paths(machine, word),
        Some("create") => names(["-f"], word),
        Some("validate") if before.len() == 1 => names(["create"], word),
        Some("validate") => names(["-f"], word),
        Some("list" | "lookup") if matches!(last, "-o" | "-s") => property_list(word),
        Some("list" | "lookup") => conditions(word),
        Some("help") => Vec::new(),
        Some(_) if before.len() == 1 => vms(machine, word),
        Some("stop" | "reboot") => names(["-F", "-t"], word),
        Some(_) => Vec::new(),
    }
}

fn names<'n>(names: impl IntoIterator<Item = &'n str>, word: &str) -> Vec<Candidate> {
    names
        .into_iter()
        .filter(|name| name.starts_with(word))
        .map(Candidate::new)
        .collect()
}

/// VMs by identifier or alias; either becomes the identifier, which is what vmadm takes.
fn vms<M: Machine>(machine: &mut M, word: &str) -> Vec<Candidate> {
    let mut found = Vec::new();
    for vm in machine.vms().all() {
        let uuid = vm.settings.uuid.to_string();
        let alias = vm.settings.alias.as_deref();
        if uuid.starts_with(word) || alias.is_some_and(|alias| alias.starts_with(word)) {
            let label = match alias {
                Some(alias) => format!("{uuid} ({alias})"),
                None => uuid.clone(),
            };
            found.push(Candidate { text: uuid, label });
        }
    }
    found
}

fn paths<M: Machine>(machine: &M, word: &str) -> Vec<Candidate> {
    let word = if word.is_empty() {
        BOOT_DIRECTORY
    } else {
        word
    };
    let Some((directory, _)) = word.rsplit_once('/') else {
        return Vec::new();
    };
    children(machine.archive(), directory)
        .into_keys()
        .map(|name| Candidate {
            text: format!("{directory}/{name}"),
            label: name,
        })
        .filter(|path| path.text.starts_with(word))
        .collect()
}

fn program_names<M: Machine>(machine: &M, word: &str) -> Vec<Candidate> {
    let manifest = machine.archive().manifest();
    // Without root there is nothing to offer, and nothing to complain about while somebody types.
    let programs = programs(machine).unwrap_or_default();
    programs
        .iter()
        .map(|program| display_name(manifest, program))
        .filter(|name| name.starts_with(word))
        .map(|name| Candidate::new(&name))
        .collect()
}

/// The last name of a list `a,b,c`.
fn property_list(word: &str) -> Vec<Candidate> {
    let (head, tail) = match word.rfind(',') {
        Some(comma) => word.split_at(comma + 1),
        None => ("", word),
    };
    PROPERTIES
        .iter()
        .filter(|property| property.name.starts_with(tail))
        .map(|property| Candidate {
            text: format!("{head}{}", property.name),
            label: property.name.into(),
        })
        .collect()
}

fn conditions(word: &str) -> Vec<Candidate> {
    PROPERTIES
        .iter()
        .filter(|property| property.name.starts_with(word))
        .map(|property| Candidate {
            text: format!("{}=", property.name),
            label: property.name.into(),
        })
        .collect()
}

/// The longest text that all candidates begin with.
pub fn common_prefix(candidates: &[Candidate]) -> &str {
    let Some((first, rest)) = candidates.split_first() else {
        return "";
    };
    let mut length = first.text.len();
    for candidate in rest {
        let same = first
            .text
            .bytes()
            .zip(candidate.text.bytes())
            .take_while(|(left, right)| left == right)
            .count();
        length = length.min(same);
    }
    while !first.text.is_char_boundary(length) {
        length -= 1;
    }
    &first.text[..length]
}

/// Blanks between two columns of a list.
const GAP: usize = 2;

/// A list as a terminal of so many columns shows it: down, then right, as `ls` does elsewhere.
pub fn in_columns(labels: &[&str], columns: usize) -> String {
    let longest = labels.iter().map(|label| label.chars().count()).max();
    let width = longest.unwrap_or(0) + GAP;
    // The last column needs no gap.
    let across = ((columns + GAP) / width).max(1);
    let rows = labels.len().div_ceil(across);
    let mut list = String::new();
    for row in 0..rows {
        let mut line = String::new();
        for label in labels.iter().skip(row).step_by(rows) {
            line.push_str(&format!("{label:width$}"));
        }
        list.push_str(line.trim_end());
        list.push_str("\r\n");
    }
    list
}

/// Whether more may follow a completed word without a blank.
pub fn is_open(text: &str) -> bool {
    text.ends_with(['/', '='])
}
