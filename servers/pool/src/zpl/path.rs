//! Paths inside one file system. Symbolic links are not followed: the caller decides what they are relative to.

use alloc::vec::Vec;

use super::{DirectoryEntry, FileType, Zpl};
use crate::error::{Error, Structure};

/// Directories from a file up to the root at most, against cycles in damaged pools.
const MAX_DEPTH: usize = 4096;

impl Zpl {
    /// The object that a path leads to from the root. Empty components are skipped.
    pub async fn resolve(&self, path: &[u8]) -> Result<u64, Error> {
        let mut object = self.root();
        for component in path.split(|&byte| byte == b'/') {
            if !component.is_empty() && component != b"." {
                object = self.lookup(object, component).await?.object;
            }
        }
        Ok(object)
    }

    /// A path of an object from the root, by way of the parent that each file remembers.
    ///
    /// # Errors
    /// `NotFound` when a directory on the way no longer has the name: the file was unlinked.
    pub async fn path_of(&self, object: u64) -> Result<Vec<u8>, Error> {
        let mut components: Vec<Vec<u8>> = Vec::new();
        let mut at = object;
        while at != self.root() {
            if components.len() > MAX_DEPTH {
                return Err(Error::Corrupt(Structure::Znode));
            }
            let parent = self.znode(at).await?.parent;
            let entries = self.readdir(parent).await?;
            let own = entries
                .into_iter()
                .find(|entry| entry.object == at)
                .ok_or(Error::NotFound)?;
            components.push(own.name);
            at = parent;
        }
        components.reverse();
        Ok(components.join(&b'/'))
    }

    /// Every name below a directory with its path, directories before their contents.
    pub async fn walk(&self, directory: u64) -> Result<Vec<(Vec<u8>, DirectoryEntry)>, Error> {
        let mut all = Vec::new();
        let mut pending = Vec::from([(Vec::new(), directory, 0)]);
        while let Some((prefix, object, depth)) = pending.pop() {
            if depth > MAX_DEPTH {
                return Err(Error::Corrupt(Structure::Znode));
            }
            for entry in self.readdir(object).await? {
                let mut path: Vec<u8> = prefix.clone();
                if !path.is_empty() {
                    path.push(b'/');
                }
                path.extend_from_slice(&entry.name);
                if entry.kind == FileType::Directory {
                    pending.push((path.clone(), entry.object, depth + 1));
                }
                all.push((path, entry));
            }
        }
        Ok(all)
    }
}
