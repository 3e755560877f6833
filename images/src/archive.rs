//! Gathers what the boot archive holds: the manifest, its programs and the files under `/boot`.

use crate::debian::Guest;
use crate::{elf, initramfs, manifest};
use proto::boot::Manifest;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the parts of an archive come from.
#[derive(Debug)]
pub struct Sources {
    /// The system manifest.
    pub manifest: PathBuf,
    /// Directory with the programs' ELF files.
    pub programs: PathBuf,
    /// Files that appear under `/boot` by their own name.
    pub boot_files: Vec<PathBuf>,
    /// Files that were made, with their names in the archive.
    pub made: Vec<(String, Vec<u8>)>,
    /// The guest: its kernel appears as `/boot/vmlinuz`, its modules in `/boot/initrd`.
    pub guest: Option<Guest>,
}

/// Builds the archive.
///
/// # Errors
/// A sentence that names the file that is missing or wrong.
pub fn build(sources: &Sources) -> Result<Vec<u8>, String> {
    let manifest = manifest::read(&sources.manifest)?;
    let mut files = programs(&manifest, &sources.programs)?;
    for path in &sources.boot_files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        files.push((format!("/boot/{name}"), read(path)?));
    }
    files.extend(sources.made.iter().cloned());
    if let Some(guest) = &sources.guest {
        let initramfs = initramfs::build(Path::new(initramfs::BUSYBOX), &guest.modules)?;
        files.push(("/boot/vmlinuz".to_owned(), read(&guest.kernel)?));
        files.push(("/boot/initrd".to_owned(), initramfs));
    }
    Ok(proto::boot::archive::build(&manifest, &files))
}

/// Each image that the manifest names, once.
fn programs(manifest: &Manifest, directory: &Path) -> Result<Vec<(String, Vec<u8>)>, String> {
    let images: BTreeSet<&str> = manifest.programs.iter().map(|p| p.image.as_str()).collect();
    let load = |image: &str| {
        let name = image.strip_prefix("/bin/").unwrap_or(image);
        let path = directory.join(name);
        let program = elf::program(&read(&path)?);
        let program = program.map_err(|fault| format!("{}: {fault}", path.display()))?;
        Ok((image.to_owned(), program))
    };
    images.into_iter().map(load).collect()
}

/// The file at `path`.
///
/// # Errors
/// A sentence that names it.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()))
}
