//! Debian's own kernel for the guest, with some of its modules, fetched by apt and never changed.
//!
//! The metapackage `linux-image-cloud-amd64` depends on the package of the newest kernel. That
//! one is downloaded (not installed) and unpacked into the cache directory.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The package that always names the newest cloud kernel of the release.
const METAPACKAGE: &str = "linux-image-cloud-amd64";

/// Directory of the cache into which the package is unpacked.
const TREE: &str = "linux";
/// The modules that tell a guest of its power button, in the order in which they are loaded: a
/// kernel without them never hears of it.
const MODULES: [&str; 2] = ["drivers/input/evdev.ko", "drivers/acpi/button.ko"];

/// What a guest is made of.
#[derive(Debug)]
pub struct Guest {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The modules that its first program loads, in that order.
    pub modules: Vec<PathBuf>,
}

/// The guest's kernel and modules in `cache`, downloaded if they are not there yet.
///
/// # Errors
/// A sentence that says which step failed.
pub fn guest(cache: &Path) -> Result<Guest, String> {
    let kernel = kernel(cache)?;
    // One package holds one version.
    let versions = cache.join(TREE).join("lib/modules");
    let version = find(&versions, |_| true)?;
    let modules = MODULES.map(|module| version.join("kernel").join(module));
    Ok(Guest {
        kernel,
        modules: modules.into(),
    })
}

/// The kernel image in `cache`, downloaded if it is not there yet.
fn kernel(cache: &Path) -> Result<PathBuf, String> {
    let kernel = cache.join("vmlinuz");
    if kernel.exists() {
        return Ok(kernel);
    }
    std::fs::create_dir_all(cache).map_err(|error| format!("{}: {error}", cache.display()))?;
    let package = newest_package()?;
    println!("images: downloading Debian's {package} for the guest");
    run(Command::new("apt-get")
        .args(["download", "-q", &package])
        .current_dir(cache))?;
    let archive = find(cache, |name| {
        name.starts_with(&package) && name.ends_with(".deb")
    })?;
    let tree = cache.join(TREE);
    run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(&tree))?;
    let image = find(&tree.join("boot"), |name| name.starts_with("vmlinuz-"))?;
    // Renamed last, so that an interrupted download is not taken for a whole one.
    std::fs::rename(&image, &kernel).map_err(|error| format!("{}: {error}", image.display()))?;
    Ok(kernel)
}

/// The kernel package that the metapackage depends on.
fn newest_package() -> Result<String, String> {
    let shown = Command::new("apt-cache")
        .args(["depends", METAPACKAGE])
        .output();
    let shown = shown.map_err(|error| format!("apt-cache: {error}"))?;
    package_in(&String::from_utf8_lossy(&shown.stdout)).ok_or_else(|| {
        format!("apt knows no kernel for {METAPACKAGE}; run `apt-get update` and try again")
    })
}

/// The first `Depends:` of apt-cache's answer that is a kernel.
fn package_in(answer: &str) -> Option<String> {
    let depends = answer
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "));
    depends
        .map(str::trim)
        .find(|name| name.starts_with("linux-image-"))
        .map(str::to_owned)
}

fn run(command: &mut Command) -> Result<(), String> {
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?}: {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
}

/// The file in `directory` whose name fits.
fn find(directory: &Path, fits: impl Fn(&str) -> bool) -> Result<PathBuf, String> {
    let entries = std::fs::read_dir(directory)
        .map_err(|error| format!("{}: {error}", directory.display()))?;
    let fits = |path: &PathBuf| {
        path.file_name()
            .and_then(|name| name.to_str())
            .is_some_and(&fits)
    };
    let found = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(fits);
    found.ok_or_else(|| format!("{}: the file looked for is not there", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_package_is_found_in_apts_answer() {
        let answer =
            "linux-image-cloud-amd64\n  Depends: linux-image-6.1.0-9-cloud-amd64\n  Suggests: x\n";
        assert_eq!(
            package_in(answer).as_deref(),
            Some("linux-image-6.1.0-9-cloud-amd64")
        );
        assert_eq!(package_in("N: Unable to locate package\n"), None);
    }
}
