//! The native properties: their order, their defaults and the words for their numbers.

/// How a property's value is shown and stored.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// A number; the default is the number.
    Number(u64),
    /// One of a few words, each with its number; the default is the number.
    Words(&'static [(&'static str, u64)], u64),
    /// Text with a default.
    Text(&'static str),
    /// Computed; see `properties`.
    Computed,
}

/// What kinds of data set have a property.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// File systems and their snapshots.
    Filesystem,
    /// File systems, without snapshots.
    FilesystemHead,
    /// Volumes.
    Volume,
    /// File systems and volumes, without snapshots.
    Head,
    /// All three.
    All,
    /// Snapshots.
    Snapshot,
}

/// One native property.
#[derive(Clone, Copy, Debug)]
pub struct NativeProperty {
    /// Its name.
    pub name: &'static str,
    /// Its value.
    pub form: Form,
    /// Who has it.
    pub scope: Scope,
}

const ON_OFF: &[(&str, u64)] = &[("off", 0), ("on", 1)];
/// Words of `compression`. zstd levels are the algorithm with the level in the upper bits.
const COMPRESSION: &[(&str, u64)] = &[
    ("on", 1),
    ("off", 2),
    ("lzjb", 3),
    ("gzip-1", 5),
    ("gzip-2", 6),
    ("gzip-3", 7),
    ("gzip-4", 8),
    ("gzip-5", 9),
    ("gzip", 10),
    ("gzip-7", 11),
    ("gzip-8", 12),
    ("gzip-9", 13),
    ("zle", 14),
    ("lz4", 15),
    ("zstd", 16),
];
const CHECKSUM: &[(&str, u64)] = &[
    ("on", 1),
    ("off", 2),
    ("fletcher2", 6),
    ("fletcher4", 7),
    ("sha256", 8),
    ("noparity", 10),
    ("sha512", 11),
    ("skein", 12),
    ("edonr", 13),
    ("blake3", 14),
];
/// The number of `off` for compression, checksum and deduplication.
pub const OFF: u64 = 2;
const VERIFY: u64 = 256;
const DEDUP: &[(&str, u64)] = &[
    ("on", 1),
    ("off", 2),
    ("verify", 1 | VERIFY),
    ("sha256", 8),
    ("sha256,verify", 8 | VERIFY),
    ("sha512", 11),
    ("sha512,verify", 11 | VERIFY),
    ("skein", 12),
    ("skein,verify", 12 | VERIFY),
    ("edonr,verify", 13 | VERIFY),
    ("blake3", 14),
    ("blake3,verify", 14 | VERIFY),
];
const CACHE: &[(&str, u64)] = &[("none", 0), ("metadata", 1), ("all", 2)];
const SNAPDIR: &[(&str, u64)] = &[("hidden", 0), ("visible", 1), ("disabled", 2)];
const SNAPDEV: &[(&str, u64)] = &[("hidden", 0), ("visible", 1)];
const ACL_MODE: &[(&str, u64)] = &[
    ("discard", 0),
    ("groupmask", 2),
    ("passthrough", 3),
    ("restricted", 4),
];
const ACL_INHERIT: &[(&str, u64)] = &[
    ("discard", 0),
    ("noallow", 1),
    ("restricted", 4),
    ("passthrough", 3),
    ("passthrough-x", 5),
];
const CANMOUNT: &[(&str, u64)] = &[("off", 0), ("on", 1), ("noauto", 2)];
const XATTR: &[(&str, u64)] = &[("off", 0), ("on", 2), ("sa", 2), ("dir", 1)];
const CASE: &[(&str, u64)] = &[("sensitive", 0), ("insensitive", 1), ("mixed", 2)];
const NORMALIZATION: &[(&str, u64)] = &[
    ("none", 0),
    ("formC", 0x50),
    ("formD", 0x10),
    ("formKC", 0x60),
    ("formKD", 0x20),
];
const LOGBIAS: &[(&str, u64)] = &[("latency", 0), ("throughput", 1)];
const SYNC: &[(&str, u64)] = &[("standard", 0), ("always", 1), ("disabled", 2)];
const DNODE_SIZE: &[(&str, u64)] = &[
    ("legacy", 0),
    ("auto", 1),
    ("1k", 1024),
    ("2k", 2048),
    ("4k", 4096),
    ("8k", 8192),
    ("16k", 16384),
];
const VOLMODE: &[(&str, u64)] = &[
    ("default", 0),
    ("full", 1),
    ("geom", 1),
    ("dev", 2),
    ("none", 3),
];
const ACL_TYPE: &[(&str, u64)] = &[("off", 0), ("posix", 1), ("nfsv4", 2)];
const REDUNDANT: &[(&str, u64)] = &[("all", 0), ("most", 1), ("some", 2), ("none", 3)];
const PREFETCH: &[(&str, u64)] = &[("none", 0), ("metadata", 1), ("all", 2)];
const DIRECT: &[(&str, u64)] = &[("disabled", 0), ("standard", 1), ("always", 2)];

const fn native(name: &'static str, form: Form, scope: Scope) -> NativeProperty {
    NativeProperty { name, form, scope }
}

/// All native properties in the order in which `zfs get all` prints them.
pub const NATIVE: &[NativeProperty] = &[
    native("type", Form::Computed, Scope::All),
    native("creation", Form::Computed, Scope::All),
    native("used", Form::Computed, Scope::All),
    native("available", Form::Computed, Scope::Head),
    native("referenced", Form::Computed, Scope::All),
    native("compressratio", Form::Computed, Scope::All),
    native("origin", Form::Computed, Scope::Head),
    native("quota", Form::Number(0), Scope::FilesystemHead),
    native("reservation", Form::Number(0), Scope::Head),
    native("volsize", Form::Computed, Scope::Volume),
    native("volblocksize", Form::Computed, Scope::Volume),
    native("recordsize", Form::Number(128 << 10), Scope::FilesystemHead),
    native("mountpoint", Form::Computed, Scope::FilesystemHead),
    native("sharenfs", Form::Text("off"), Scope::FilesystemHead),
    native("checksum", Form::Words(CHECKSUM, 1), Scope::Head),
    native("compression", Form::Words(COMPRESSION, 1), Scope::Head),
    native("atime", Form::Words(ON_OFF, 1), Scope::FilesystemHead),
    native("devices", Form::Words(ON_OFF, 1), Scope::Filesystem),
    native("exec", Form::Words(ON_OFF, 1), Scope::Filesystem),
    native("setuid", Form::Words(ON_OFF, 1), Scope::Filesystem),
    native("readonly", Form::Words(ON_OFF, 0), Scope::Head),
    native("zoned", Form::Words(ON_OFF, 0), Scope::FilesystemHead),
    native("snapdir", Form::Words(SNAPDIR, 0), Scope::FilesystemHead),
    native("aclmode", Form::Words(ACL_MODE, 0), Scope::FilesystemHead),
    native(
        "aclinherit",
        Form::Words(ACL_INHERIT, 4),
        Scope::FilesystemHead,
    ),
    native("createtxg", Form::Computed, Scope::All),
    native("canmount", Form::Words(CANMOUNT, 1), Scope::FilesystemHead),
    native("xattr", Form::Words(XATTR, 2), Scope::Filesystem),
    native("copies", Form::Number(1), Scope::Head),
    native("version", Form::Computed, Scope::Filesystem),
    native("utf8only", Form::Words(ON_OFF, 0), Scope::Filesystem),
    native(
        "normalization",
        Form::Words(NORMALIZATION, 0),
        Scope::Filesystem,
    ),
    native("casesensitivity", Form::Words(CASE, 0), Scope::Filesystem),
    native("vscan", Form::Words(ON_OFF, 0), Scope::FilesystemHead),
    native("nbmand", Form::Words(ON_OFF, 0), Scope::Filesystem),
    native("sharesmb", Form::Text("off"), Scope::FilesystemHead),
    native("refquota", Form::Number(0), Scope::FilesystemHead),
    native("refreservation", Form::Number(0), Scope::Head),
    native("guid", Form::Computed, Scope::All),
    native("primarycache", Form::Words(CACHE, 2), Scope::All),
    native("secondarycache", Form::Words(CACHE, 2), Scope::All),
    native("usedbysnapshots", Form::Computed, Scope::Head),
    native("usedbydataset", Form::Computed, Scope::Head),
    native("usedbychildren", Form::Computed, Scope::Head),
    native("usedbyrefreservation", Form::Computed, Scope::Head),
    native("logbias", Form::Words(LOGBIAS, 0), Scope::Head),
    native("objsetid", Form::Computed, Scope::All),
    native("dedup", Form::Words(DEDUP, 2), Scope::Head),
    native("mlslabel", Form::Text("none"), Scope::Head),
    native("sync", Form::Words(SYNC, 0), Scope::Head),
    native(
        "dnodesize",
        Form::Words(DNODE_SIZE, 0),
        Scope::FilesystemHead,
    ),
    native("refcompressratio", Form::Computed, Scope::All),
    native("written", Form::Computed, Scope::All),
    native("clones", Form::Computed, Scope::Snapshot),
    native("logicalused", Form::Computed, Scope::Head),
    native("logicalreferenced", Form::Computed, Scope::All),
    native("volmode", Form::Words(VOLMODE, 0), Scope::Volume),
    native(
        "filesystem_limit",
        Form::Number(u64::MAX),
        Scope::FilesystemHead,
    ),
    native("snapshot_limit", Form::Number(u64::MAX), Scope::Head),
    native("filesystem_count", Form::Computed, Scope::FilesystemHead),
    native("snapshot_count", Form::Computed, Scope::Head),
    native("snapdev", Form::Words(SNAPDEV, 0), Scope::Volume),
    native("acltype", Form::Words(ACL_TYPE, 0), Scope::Filesystem),
    native("relatime", Form::Words(ON_OFF, 1), Scope::FilesystemHead),
    native("redundant_metadata", Form::Words(REDUNDANT, 0), Scope::Head),
    native("overlay", Form::Words(ON_OFF, 1), Scope::FilesystemHead),
    native("encryption", Form::Computed, Scope::All),
    native("keylocation", Form::Text("none"), Scope::Head),
    native("keyformat", Form::Computed, Scope::Head),
    native("pbkdf2iters", Form::Computed, Scope::Head),
    native("encryptionroot", Form::Computed, Scope::All),
    native("special_small_blocks", Form::Number(0), Scope::Head),
    native("prefetch", Form::Words(PREFETCH, 2), Scope::Head),
    native("direct", Form::Words(DIRECT, 1), Scope::FilesystemHead),
    native("longname", Form::Words(ON_OFF, 0), Scope::FilesystemHead),
    native("defer_destroy", Form::Computed, Scope::Snapshot),
    native("userrefs", Form::Computed, Scope::Snapshot),
    native("snapshots_changed", Form::Computed, Scope::Head),
    native("receive_resume_token", Form::Computed, Scope::Head),
];

/// The native property with a name.
pub fn find(name: &str) -> Option<&'static NativeProperty> {
    NATIVE.iter().find(|property| property.name == name)
}
