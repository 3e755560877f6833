//! The bootable image: kernel, root task and boot archive under GRUB, for BIOS and UEFI, from a
//! CD or a USB stick.

use crate::elf;
use std::path::Path;
use std::process::Command;

/// What goes into an image.
#[derive(Debug)]
pub struct Contents<'a> {
    /// The kernel's ELF file.
    pub kernel: &'a Path,
    /// The root task's ELF file: boot module 0.
    pub root: &'a Path,
    /// The boot archive: boot module 1. A foreign root task has none.
    pub archive: Option<&'a Path>,
}

/// Writes the image to `iso`, using the directory `tree` (made anew) for its files.
///
/// # Errors
/// A sentence that names the file or the tool that failed.
pub fn build(contents: &Contents<'_>, tree: &Path, iso: &Path) -> Result<(), String> {
    let boot = tree.join("boot");
    let grub = boot.join("grub");
    let at = |path: &Path| {
        let path = path.display().to_string();
        move |error: std::io::Error| format!("{path}: {error}")
    };
    if tree.exists() {
        std::fs::remove_dir_all(tree).map_err(at(tree))?;
    }
    std::fs::create_dir_all(&grub).map_err(at(&grub))?;
    std::fs::write(boot.join("kernel.elf"), trimmed(contents.kernel)?).map_err(at(&boot))?;
    // A foreign root task is packed untouched: its loader may look at more than segments.
    std::fs::copy(contents.root, boot.join("root.elf")).map_err(at(contents.root))?;
    if let Some(archive) = contents.archive {
        std::fs::copy(archive, boot.join("archive")).map_err(at(archive))?;
    }
    let menu = menu(contents.archive.is_some());
    std::fs::write(grub.join("grub.cfg"), menu).map_err(at(&grub))?;
    mkrescue(tree, iso)
}

fn trimmed(kernel: &Path) -> Result<Vec<u8>, String> {
    let file = crate::archive::read(kernel)?;
    elf::trim(&file).map_err(|fault| format!("{}: {fault}", kernel.display()))
}

/// GRUB's configuration. It loads `all_video` so that the kernel gets a frame buffer on UEFI, and
/// says nothing on the serial line, which belongs to the console server.
fn menu(with_archive: bool) -> String {
    let archive = if with_archive {
        "  module2 /boot/archive archive\n"
    } else {
        ""
    };
    format!(
        "set timeout=0\nset default=0\ninsmod all_video\nmenuentry \"Tessera\" {{\n  \
         multiboot2 /boot/kernel.elf\n  module2 /boot/root.elf root\n{archive}  boot\n}}\n"
    )
}

fn mkrescue(tree: &Path, iso: &Path) -> Result<(), String> {
    let output = Command::new("grub-mkrescue")
        .arg("-o")
        .arg(iso)
        .arg(tree)
        .output();
    let output = output.map_err(|error| format!("grub-mkrescue: {error}; try `make setup`"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!(
        "grub-mkrescue: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    ))
}
