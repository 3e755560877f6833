//! The guest's initramfs: busybox, a few of the kernel's modules, and an `/init` that ends in a shell.
//!
//! Written in the "newc" format of cpio, which Linux documents in its driver-api/early-userspace/
//! buffer-format. Made here so that no tool that needs root or a device node is involved.

use crate::archive;
use std::path::{Path, PathBuf};

/// Where Debian's busybox-static puts the program.
pub const BUSYBOX: &str = "/bin/busybox";
/// The line that `/init` prints when user space has started; tests wait for it.
pub const MARK: &str = "TESSERA-GUEST-INIT";

/// The guest's first program. It loads the modules and watches the power button. A shell started by
/// `setsid -c` owns the terminal, so that Ctrl-C reaches what runs in it; when it ends the machine is
/// switched off.
const INIT: &str = "#!/bin/sh
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev 2>/dev/null
echo TESSERA-GUEST-INIT $(uname -r) $(nproc) cpus
for module in /lib/modules/*.ko; do insmod $module; done
acpid -l /dev/null -p /acpid.pid
export PS1='guest# ' HOME=/
setsid -c sh -i </dev/ttyS0 >/dev/ttyS0 2>&1
poweroff -f
";

/// Directories, each after the one that it is in.
const DIRECTORIES: [&str; 10] = [
    "bin",
    "dev",
    "etc",
    "etc/acpi",
    "etc/acpi/PWRF",
    "lib",
    "lib/modules",
    "proc",
    "sys",
    "tmp",
];
/// Mode bits of a directory, of a file and of a program.
const DIRECTORY: u32 = 0o040_755;
const PLAIN_FILE: u32 = 0o100_644;
const PROGRAM: u32 = 0o100_755;
const SYMBOLIC_LINK: u32 = 0o120_777;
const CHARACTER_DEVICE: u32 = 0o020_600;
/// Linux opens this before `/init` runs: major 5, minor 1.
const CONSOLE_DEVICE: [u32; 2] = [5, 1];

/// What busybox's acpid runs when the power button is pressed, and where it looks for that.
const BUTTON: &str = "#!/bin/sh
poweroff -f
";
const BUTTON_PATH: &str = "etc/acpi/PWRF/00000080";

/// The archive, with the busybox at `busybox` and these modules, which are loaded in that order.
///
/// # Errors
/// A sentence, when one of these files cannot be read.
pub fn build(busybox: &Path, modules: &[PathBuf]) -> Result<Vec<u8>, String> {
    let program = std::fs::read(busybox)
        .map_err(|error| format!("{}: {error}; `make setup` installs it", busybox.display()))?;
    let modules = modules.iter().map(|module| archive::read(module));
    Ok(cpio(&program, &modules.collect::<Result<Vec<_>, _>>()?))
}

/// An archive whose `/init` is `program` and which has nothing else.
#[must_use]
pub fn with_init(program: &[u8]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    cpio.add("dev", DIRECTORY, [0, 0], &[]);
    cpio.add("dev/console", CHARACTER_DEVICE, CONSOLE_DEVICE, &[]);
    cpio.add("init", PROGRAM, [0, 0], program);
    cpio.finish()
}

fn cpio(busybox: &[u8], modules: &[Vec<u8>]) -> Vec<u8> {
    let mut cpio = Cpio::default();
    for directory in DIRECTORIES {
        cpio.add(directory, DIRECTORY, [0, 0], &[]);
    }
    cpio.add("dev/console", CHARACTER_DEVICE, CONSOLE_DEVICE, &[]);
    cpio.add("bin/busybox", PROGRAM, [0, 0], busybox);
    // `#!/bin/sh` is needed before busybox has installed its links.
    cpio.add("bin/sh", SYMBOLIC_LINK, [0, 0], b"busybox");
    for (module, number) in modules.iter().zip(0..) {
        let name = format!("lib/modules/{number}.ko");
        cpio.add(&name, PLAIN_FILE, [0, 0], module);
    }
    cpio.add(BUTTON_PATH, PROGRAM, [0, 0], BUTTON.as_bytes());
    cpio.add("init", PROGRAM, [0, 0], INIT.as_bytes());
    cpio.finish()
}

/// A cpio archive under construction.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn add(&mut self, name: &str, mode: u32, device: [u32; 2], data: &[u8]) {
        self.entries += 1;
        let [major, minor] = device;
        let name_bytes = name.len() as u32 + 1;
        // inode, mode, uid, gid, links, mtime, size, device, special device, name length, check
        let fields = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            major,
            minor,
            name_bytes,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes
                .extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.add("TRAILER!!!", 0, [0, 0], &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn the_mark_is_what_init_prints() {
        assert!(INIT.contains(MARK));
    }

    #[test]
    fn cpio_reads_the_archive_back() {
        let mut cpio = Command::new("cpio")
            .args(["--list", "--verbose", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio, which `make setup` installs");
        let mut input = cpio.stdin.take().expect("piped");
        input
            .write_all(&super::cpio(&[7; 1001], &[vec![8; 77]]))
            .expect("cpio reads");
        drop(input);
        let listing = cpio.wait_with_output().expect("cpio ends");
        assert!(listing.status.success());
        let listing = String::from_utf8(listing.stdout).expect("text");
        let names: Vec<&str> = listing
            .lines()
            .filter_map(|line| line.split(' ').next_back())
            .collect();
        let (directories, files) = names.split_at(DIRECTORIES.len());
        assert_eq!(directories, DIRECTORIES);
        assert_eq!(
            files,
            [
                "dev/console",
                "bin/busybox",
                "busybox",
                "lib/modules/0.ko",
                BUTTON_PATH,
                "init"
            ]
        );
        for size in [" 1001 ", " 77 "] {
            assert!(listing.contains(size), "{listing}");
        }
    }
}
