//! The house rules as a check that reads the tree: each message names what to do instead.
//!
//! Rules about one file stand in [`rules`], the exceptions to them, each with its reason, in
//! [`exceptions`], links between documents in [`links`].

mod exceptions;
mod links;
mod rules;

use std::path::{Path, PathBuf};

/// Directories that hold no source of ours.
const SKIPPED: [&str; 3] = ["target", "out", ".git"];

/// One broken rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Finding {
    /// The file, relative to the tree.
    pub file: PathBuf,
    /// The line, from 1; 0 for the whole file.
    pub line: usize,
    /// What is wrong and what to do instead.
    pub what: String,
}

/// Checks the tree at `top`, and prints the size of the microkernel.
///
/// # Errors
/// All findings, one on a line.
pub fn check(top: &Path) -> Result<(), String> {
    let mut findings = Vec::new();
    let mut kernel = rules::Lines::default();
    for file in files(top)? {
        let relative = file.strip_prefix(top).unwrap_or(&file);
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue; // not text, so nothing to say about it
        };
        findings.extend(rules::check(relative, &text));
        if relative
            .extension()
            .is_some_and(|extension| extension == "md")
        {
            findings.extend(links::check(top, relative, &text));
        }
        if relative.starts_with("microkernel") {
            kernel += rules::lines_without_tests(relative, &text);
        }
    }
    findings.extend(exceptions::unused(top));
    println!(
        "tidy: microkernel/ has {} lines of Rust and assembly without tests, {} of them code",
        kernel.all, kernel.code
    );
    if findings.is_empty() {
        println!("tidy: the house rules hold");
        return Ok(());
    }
    let show = |f: &Finding| format!("{}:{}: {}", f.file.display(), f.line, f.what);
    let shown: Vec<String> = findings.iter().map(show).collect();
    Err(format!(
        "{} house rules broken\n{}",
        shown.len(),
        shown.join("\n")
    ))
}

/// All files below `top`, in a fixed order.
fn files(top: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Vec::new();
    let mut open = vec![top.to_owned()];
    while let Some(directory) = open.pop() {
        let entries = std::fs::read_dir(&directory)
            .map_err(|error| format!("{}: {error}", directory.display()))?;
        for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() && !SKIPPED.contains(&name.as_ref()) {
                open.push(path);
            } else if path.is_file() {
                found.push(path);
            }
        }
    }
    found.sort();
    Ok(found)
}
