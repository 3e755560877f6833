//! The properties of a VM: which there are, what they may be, and how they are shown.
//!
//! One table for everything: payloads are checked against it, `list` takes its columns from it, and
//! completion its names. Names, defaults and units are vmadm's; `kernel`, `initrd` and `cmdline` are
//! Tessera's own. A property of vmadm's that Tessera cannot honour yet (disks, NICs, CPU caps) is not
//! in the table: a payload that asks for it is refused rather than half obeyed.

/// Memory of a VM that does not say, in MiB: vmadm's default.
pub const DEFAULT_RAM_MIB: u64 = 256;
/// Least memory of a VM: less boots no kernel.
pub const MIN_RAM_MIB: u64 = 16;
/// Most memory of a VM: the manifest's limit for a monitor.
pub const MAX_RAM_MIB: u64 = 64 * 1024;
/// Virtual CPUs of a VM that does not say: vmadm's default.
pub const DEFAULT_VCPUS: u64 = 1;
/// Most virtual CPUs: the manifest's limit for a monitor.
pub const MAX_VCPUS: u64 = 4;
/// Longest alias and hostname, in bytes: a DNS name's length.
pub const MAX_NAME_BYTES: usize = 253;
/// Longest kernel command line, in bytes: what is left of the message that starts a monitor. Linux on
/// x86 takes 2047.
pub const MAX_CMDLINE_BYTES: usize = 512;
/// Longest path of a boot file, in bytes.
pub const MAX_PATH_BYTES: usize = 64;
/// Entries of each metadata object.
pub const MAX_METADATA_ENTRIES: usize = 64;

/// What a property's value may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An identifier.
    Uuid,
    /// The one brand that there is.
    Brand,
    /// A name: printable, at most [`MAX_NAME_BYTES`].
    Name,
    /// Printable text, at most [`MAX_CMDLINE_BYTES`].
    Text,
    /// A file of the boot archive under `/boot`.
    BootFile,
    /// A whole number in this range.
    Number(u64, u64),
    /// `true` or `false`.
    Flag,
    /// An object of strings, numbers and flags.
    Metadata,
    /// Not in payloads: what vmadm says of a VM.
    ReadOnly,
}

/// One property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Property {
    /// Its name in JSON.
    pub name: &'static str,
    /// What it may be.
    pub kind: Kind,
    /// Width of its column in `list`.
    pub width: usize,
}

const fn property(name: &'static str, kind: Kind, width: usize) -> Property {
    Property { name, kind, width }
}

/// Every property, in the order in which `get` shows them.
pub const PROPERTIES: &[Property] = &[
    property("zonename", Kind::ReadOnly, 36),
    property("uuid", Kind::Uuid, 36),
    property("brand", Kind::Brand, 14),
    property("type", Kind::ReadOnly, 4),
    property("hvm", Kind::ReadOnly, 5),
    property("alias", Kind::Name, 12),
    property("hostname", Kind::Name, 12),
    property("state", Kind::ReadOnly, 16),
    property("zone_state", Kind::ReadOnly, 13),
    property("autoboot", Kind::Flag, 8),
    property("ram", Kind::Number(MIN_RAM_MIB, MAX_RAM_MIB), 7),
    property("vcpus", Kind::Number(1, MAX_VCPUS), 5),
    property("kernel", Kind::BootFile, 20),
    property("initrd", Kind::BootFile, 20),
    property("cmdline", Kind::Text, 20),
    property("owner_uuid", Kind::Uuid, 36),
    property("billing_id", Kind::Uuid, 36),
    property("tags", Kind::Metadata, 20),
    property("customer_metadata", Kind::Metadata, 20),
    property("internal_metadata", Kind::Metadata, 20),
    property("pid", Kind::ReadOnly, 5),
    property("transition_to", Kind::ReadOnly, 13),
    property("v", Kind::ReadOnly, 1),
];

/// The property of that name.
pub fn find(name: &str) -> Option<&'static Property> {
    PROPERTIES.iter().find(|property| property.name == name)
}
