//! Feature flags: which there are, and which this implementation reads and writes.

use crate::block_device::Access;

/// What a feature asks of an implementation that does not know it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compatibility {
    /// A pool that uses it can still be read.
    ReadOnly,
    /// A pool that uses it cannot be used.
    None,
}

/// One feature.
#[derive(Clone, Copy, Debug)]
pub struct Feature {
    /// Short name, as in `feature@name`.
    pub name: &'static str,
    /// Identity in the pool.
    pub guid: &'static str,
    /// What it asks.
    pub compatibility: Compatibility,
}

const fn feature(name: &'static str, guid: &'static str, compatibility: Compatibility) -> Feature {
    Feature {
        name,
        guid,
        compatibility,
    }
}

/// The features of OpenZFS 2.3 that this implementation knows, in the order of the format's table. `raidz_expansion` and `draid` are not
/// among them.
pub const FEATURES: [Feature; 39] = [
    feature(
        "async_destroy",
        "com.delphix:async_destroy",
        Compatibility::ReadOnly,
    ),
    feature(
        "empty_bpobj",
        "com.delphix:empty_bpobj",
        Compatibility::ReadOnly,
    ),
    feature(
        "lz4_compress",
        "org.illumos:lz4_compress",
        Compatibility::None,
    ),
    feature(
        "multi_vdev_crash_dump",
        "com.joyent:multi_vdev_crash_dump",
        Compatibility::None,
    ),
    feature(
        "spacemap_histogram",
        "com.delphix:spacemap_histogram",
        Compatibility::ReadOnly,
    ),
    feature(
        "enabled_txg",
        "com.delphix:enabled_txg",
        Compatibility::ReadOnly,
    ),
    feature("hole_birth", "com.delphix:hole_birth", Compatibility::None),
    feature(
        "zpool_checkpoint",
        "com.delphix:zpool_checkpoint",
        Compatibility::ReadOnly,
    ),
    feature(
        "spacemap_v2",
        "com.delphix:spacemap_v2",
        Compatibility::ReadOnly,
    ),
    feature(
        "extensible_dataset",
        "com.delphix:extensible_dataset",
        Compatibility::None,
    ),
    feature(
        "bookmarks",
        "com.delphix:bookmarks",
        Compatibility::ReadOnly,
    ),
    feature(
        "filesystem_limits",
        "com.joyent:filesystem_limits",
        Compatibility::ReadOnly,
    ),
    feature(
        "embedded_data",
        "com.delphix:embedded_data",
        Compatibility::None,
    ),
    feature("livelist", "com.delphix:livelist", Compatibility::ReadOnly),
    feature(
        "log_spacemap",
        "com.delphix:log_spacemap",
        Compatibility::ReadOnly,
    ),
    feature(
        "large_blocks",
        "org.open-zfs:large_blocks",
        Compatibility::None,
    ),
    feature(
        "large_dnode",
        "org.zfsonlinux:large_dnode",
        Compatibility::None,
    ),
    feature("sha512", "org.illumos:sha512", Compatibility::None),
    feature("skein", "org.illumos:skein", Compatibility::None),
    feature("edonr", "org.illumos:edonr", Compatibility::None),
    feature(
        "redaction_bookmarks",
        "com.delphix:redaction_bookmarks",
        Compatibility::None,
    ),
    feature(
        "redacted_datasets",
        "com.delphix:redacted_datasets",
        Compatibility::None,
    ),
    feature(
        "bookmark_written",
        "com.delphix:bookmark_written",
        Compatibility::None,
    ),
    feature(
        "device_removal",
        "com.delphix:device_removal",
        Compatibility::None,
    ),
    feature(
        "obsolete_counts",
        "com.delphix:obsolete_counts",
        Compatibility::ReadOnly,
    ),
    feature(
        "userobj_accounting",
        "org.zfsonlinux:userobj_accounting",
        Compatibility::ReadOnly,
    ),
    feature("bookmark_v2", "com.datto:bookmark_v2", Compatibility::None),
    feature("encryption", "com.datto:encryption", Compatibility::None),
    feature(
        "project_quota",
        "org.zfsonlinux:project_quota",
        Compatibility::ReadOnly,
    ),
    feature(
        "allocation_classes",
        "org.zfsonlinux:allocation_classes",
        Compatibility::ReadOnly,
    ),
    feature(
        "resilver_defer",
        "com.datto:resilver_defer",
        Compatibility::ReadOnly,
    ),
    feature(
        "device_rebuild",
        "org.openzfs:device_rebuild",
        Compatibility::ReadOnly,
    ),
    feature(
        "zstd_compress",
        "org.freebsd:zstd_compress",
        Compatibility::None,
    ),
    feature(
        "zilsaxattr",
        "org.openzfs:zilsaxattr",
        Compatibility::ReadOnly,
    ),
    feature(
        "head_errlog",
        "com.delphix:head_errlog",
        Compatibility::None,
    ),
    feature("blake3", "org.openzfs:blake3", Compatibility::None),
    feature(
        "vdev_zaps_v2",
        "com.klarasystems:vdev_zaps_v2",
        Compatibility::None,
    ),
    feature(
        "redaction_list_spill",
        "com.delphix:redaction_list_spill",
        Compatibility::None,
    ),
    feature("longname", "org.zfsonlinux:longname", Compatibility::None),
];

/// Features whose tables a writer must keep up and that only reading ignores safely.
pub const READ_ONLY_FEATURES: [Feature; 3] = [
    feature(
        "block_cloning",
        "com.fudosecurity:block_cloning",
        Compatibility::ReadOnly,
    ),
    feature(
        "fast_dedup",
        "com.klarasystems:fast_dedup",
        Compatibility::ReadOnly,
    ),
    feature(
        "large_microzap",
        "com.klarasystems:large_microzap",
        Compatibility::ReadOnly,
    ),
];

/// Whether a pool that actively uses the feature can be imported like this.
pub fn is_supported(guid: &str, access: Access) -> bool {
    FEATURES.iter().any(|feature| feature.guid == guid)
        || access == Access::ReadOnly
            && READ_ONLY_FEATURES
                .iter()
                .any(|feature| feature.guid == guid)
}
