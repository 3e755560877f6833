//! Links in the documents lead to files that are there.

use super::Finding;
use std::path::Path;

/// Findings for each link of the Markdown `text` at `path` that leads nowhere.
pub fn check(top: &Path, path: &Path, text: &str) -> Vec<Finding> {
    let directory = top.join(path.parent().unwrap_or(Path::new("")));
    let mut findings = Vec::new();
    for (line, number) in text.lines().zip(1..) {
        for target in targets(line).filter(|target| is_file(target)) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !directory.join(file).exists() {
                findings.push(Finding {
                    file: path.to_owned(),
                    line: number,
                    what: format!(
                        "links to `{file}`, which does not exist: mend or remove the link"
                    ),
                });
            }
        }
    }
    findings
}

/// What the Markdown links in `line` lead to.
fn targets(line: &str) -> impl Iterator<Item = &str> {
    line.split("](")
        .skip(1)
        .filter_map(|rest| Some(rest.split_once(')')?.0))
}

/// Whether a link leads to a file rather than to an address.
fn is_file(target: &str) -> bool {
    !target.contains("://") && !target.starts_with("mailto:")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_links_to_missing_files_are_found() {
        let top = Path::new(env!("CARGO_MANIFEST_DIR"));
        let text =
            "[a](system.toml) [b](system.toml#x) [c](https://example.org) [d](#e)\n[f](gone.md)";
        let findings = check(top, Path::new("README.md"), text);
        assert_eq!(findings.len(), 1);
        assert_eq!(findings[0].line, 2);
        assert!(findings[0].what.contains("`gone.md`"), "{findings:?}");
    }
}
