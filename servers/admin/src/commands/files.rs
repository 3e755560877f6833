//! Commands that show the boot archive: `cat`, `ls`.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proto::boot::{Archive, ArchiveError};

use super::{options, usage};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::stream::Stream;
use crate::table::{Column, Form, render};
use crate::vmadm::settings::BOOT_DIRECTORY;

/// Bytes in which a file that is no text shows it.
const PROBE_BYTES: usize = 4096;

/// `cat FILE...`.
pub(super) fn cat<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    if arguments.is_empty() {
        return Err(usage("cat"));
    }
    for path in arguments {
        let path = absolute(path);
        let bytes = match stream.machine().archive().file(&path) {
            Ok(bytes) => Vec::from(bytes),
            Err(ArchiveError::NotFound) => return Err(missing(&path)),
            Err(_) => return Err(Failure::Failed(format!("{path}: the file is damaged"))),
        };
        let probe = &bytes[..bytes.len().min(PROBE_BYTES)];
        if stream.is_terminal() && probe.contains(&0) {
            return Err(Failure::Failed(format!("{path}: not a text file")));
        }
        stream.print(&String::from_utf8_lossy(&bytes));
    }
    Ok(())
}

/// `ls [-l] [PATH]`.
pub(super) fn ls<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = options("ls", arguments, "l1", "")?;
    let path = match options.operands() {
        [] => absolute(BOOT_DIRECTORY),
        [path] => absolute(path),
        _ => return Err(usage("ls")),
    };
    let entries = children(stream.machine().archive(), &path);
    if entries.is_empty() {
        return Err(missing(&path));
    }
    if options.has('l') {
        let columns = [Column::number("size", 10), Column::text("name", 0)];
        let rows: Vec<Vec<String>> = entries
            .into_iter()
            .map(|(name, bytes)| {
                let size = bytes.map_or_else(String::new, |bytes| format!("{bytes}"));
                Vec::from([size, name])
            })
            .collect();
        stream.print(&render(&columns, &rows, Form::Untitled));
    } else {
        for name in entries.keys() {
            stream.print(&format!("{name}\n"));
        }
    }
    Ok(())
}

/// What stands directly under `path`: files with their size, directories with `/` and none. A file stands
/// for itself.
pub fn children(archive: &Archive, path: &str) -> BTreeMap<String, Option<u64>> {
    let directory = format!("{}/", path.trim_end_matches('/'));
    let mut found = BTreeMap::new();
    for entry in archive.entries() {
        if entry.path == path {
            found.insert(entry.path.clone(), Some(entry.length));
        } else if let Some(rest) = entry.path.strip_prefix(&directory) {
            match rest.split_once('/') {
                Some((name, _)) => found.insert(format!("{name}/"), None),
                None => found.insert(rest.into(), Some(entry.length)),
            };
        }
    }
    found
}

/// A path from the root; `boot/x` is meant as `/boot/x`.
fn absolute(path: &str) -> String {
    let path = path.trim_end_matches('/');
    if path.starts_with('/') || path.is_empty() {
        path.into()
    } else {
        format!("/{path}")
    }
}

fn missing(path: &str) -> Failure {
    Failure::Failed(format!("{path}: no such file"))
}
