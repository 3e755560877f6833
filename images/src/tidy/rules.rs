//! Rules about a single file.

use super::{Finding, exceptions};
use std::path::Path;

/// Longest file, in lines. A longer one holds two things.
const MOST_LINES: usize = 500;
/// How many lines above an `unsafe` block its `SAFETY:` may begin.
const SAFETY_REACH: usize = 12;
/// Directories of the machine that somebody builds on. Written in pieces, so that this file does
/// not break its own rule.
const BUILD_MACHINE: [&str; 4] = [
    concat!("/ho", "me/"),
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("/tm", "p/"),
];
/// Words that mark what is not finished, in pieces likewise.
const UNFINISHED: [&str; 4] = [
    concat!("to", "do!("),
    concat!("unimpl", "emented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
];

/// Whether a file has more lines than it should.
pub fn is_long(text: &str) -> bool {
    text.lines().count() > MOST_LINES
}

/// All findings in the file at `path` (relative to the tree) with the text `text`.
pub fn check(path: &Path, text: &str) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find = |line: usize, what: &str| {
        findings.push(Finding {
            file: path.to_owned(),
            line,
            what: what.to_owned(),
        });
    };
    let rust = path.extension().is_some_and(|extension| extension == "rs");
    if rust && is_long(text) && !exceptions::may_be_long(path) {
        find(
            0,
            "has more than 500 lines: move one of its nouns to a file of its own",
        );
    }
    let lines: Vec<&str> = text.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let number = index + 1;
        if names_build_machine(line) && !exceptions::may_name_paths(path) {
            find(
                number,
                "names a directory of a build machine: use a path relative to the workspace",
            );
        }
        if UNFINISHED.iter().any(|word| line.contains(word)) {
            find(
                number,
                "marks something unfinished: finish it, or describe the gap in docs/caveats.md",
            );
        }
        if rust && is_unsafe(line) {
            if !exceptions::may_be_unsafe(path) {
                find(
                    number,
                    "is unsafe outside of the listed files: call one of those instead",
                );
            } else if needs_reason(line) && !has_reason(&lines[..=index]) {
                find(
                    number,
                    "is unsafe without a `// SAFETY:` comment: say what it relies on",
                );
            }
        }
    }
    findings
}

/// Whether the line has an absolute path into a directory of a build machine. In a relative path
/// the same name follows a letter.
fn names_build_machine(line: &str) -> bool {
    BUILD_MACHINE.iter().any(|path| {
        line.match_indices(path).any(|(at, _)| {
            !line[..at].ends_with(|before: char| before.is_alphanumeric() || before == '.')
        })
    })
}

/// What `unsafe` opens. Declarations of foreign functions need no reason: their callers give it.
const OPENED: [(&str, bool); 4] = [("{", true), ("fn", true), ("impl", true), ("extern", false)];

/// Whether the line opens something unsafe, comments and lint names left out.
fn is_unsafe(line: &str) -> bool {
    opens(line).is_some()
}

fn needs_reason(line: &str) -> bool {
    opens(line).unwrap_or(false)
}

/// Whether what the line opens needs a reason, if it opens something unsafe.
fn opens(line: &str) -> Option<bool> {
    let code = line.split("//").next().unwrap_or_default();
    let (_, opened) = code.split_once(concat!("unsa", "fe "))?;
    let found = OPENED.iter().find(|(form, _)| opened.starts_with(form));
    found.map(|(_, reason)| *reason)
}

/// Whether the last of `lines` or a comment shortly above it gives the reason.
fn has_reason(lines: &[&str]) -> bool {
    let near = &lines[lines.len().saturating_sub(SAFETY_REACH)..];
    near.iter()
        .any(|line| line.contains("SAFETY:") || line.contains("# Safety"))
}

/// Lines of a file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// All of them.
    pub all: usize,
    /// Those that are neither blank nor only a comment.
    pub code: usize,
}

impl std::ops::AddAssign for Lines {
    fn add_assign(&mut self, other: Self) {
        self.all += other.all;
        self.code += other.code;
    }
}

/// Lines of Rust and assembly in the file, up to its test module.
pub fn lines_without_tests(path: &Path, text: &str) -> Lines {
    let name = path.to_string_lossy();
    let test_file = name.contains("/tests/") || name.ends_with("tests.rs");
    let comment = match path.extension().and_then(|extension| extension.to_str()) {
        Some("rs") if !test_file => "//",
        Some("s" | "S") if !test_file => "#",
        _ => return Lines::default(),
    };
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let starts_tests =
        |pair: &[&str]| pair[0] == "#[cfg(test)]" && pair[1].starts_with("mod tests {");
    let end = lines
        .windows(2)
        .position(starts_tests)
        .unwrap_or(lines.len());
    let is_code = |line: &&&str| !line.is_empty() && !line.starts_with(comment);
    Lines {
        all: end,
        code: lines[..end].iter().filter(is_code).count(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str, text: &str) -> Vec<String> {
        check(Path::new(path), text)
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    #[test]
    fn long_files_are_found() {
        assert_eq!(found("libcap/src/a.rs", &"\n".repeat(500)).len(), 0);
        assert!(found("libcap/src/a.rs", &"\n".repeat(501))[0].contains("500 lines"));
    }

    #[test]
    fn unsafe_needs_a_listed_file_and_a_reason() {
        let block = concat!("    unsa", "fe { poke() }\n");
        assert!(
            found("servers/admin/src/lib.rs", block)[0].contains("outside of the listed files")
        );
        assert!(found("microkernel/src/arch/x.rs", block)[0].contains("SAFETY"));
        let reasoned = format!("    // SAFETY: nobody else pokes.\n{block}");
        assert_eq!(found("microkernel/src/arch/x.rs", &reasoned).len(), 0);
        assert_eq!(
            found("servers/admin/src/lib.rs", concat!("// unsa", "fe { }\n")).len(),
            0
        );
    }

    #[test]
    fn paths_and_unfinished_words_are_found() {
        let path = format!("let x = \"{}me/ann/x\";", "/ho");
        assert!(found("a.rs", &path)[0].contains("build machine"));
        let word = format!("{}ME: later", "// FIX");
        assert!(found("a.rs", &word)[0].contains("caveats"));
    }

    #[test]
    fn tests_do_not_count_and_comments_are_no_code() {
        let text = "//! Doc.\n\nfn a() {}\n#[cfg(test)]\nmod tests {}\n";
        let count = |path| lines_without_tests(Path::new(path), text);
        assert_eq!(count("microkernel/src/a.rs"), Lines { all: 3, code: 1 });
        assert_eq!(count("microkernel/tests/a.rs"), Lines::default());
        assert_eq!(count("microkernel/kernel.ld"), Lines::default());
    }
}
