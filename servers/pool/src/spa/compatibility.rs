//! Sets of features that a new pool can have, by the names of the `compatibility` property.

use super::feature::{Compatibility, FEATURES, Feature};

/// The features that a new pool has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CompatibilitySet {
    /// What OpenZFS 2.1 has on Linux.
    #[default]
    OpenZfs21,
    /// What ZFS on Linux had in 0.6.5, before space maps of two words: every later OpenZFS imports it.
    ZfsOnLinux065,
}

/// Not read when it is in use, but of a set: a pool has it enabled as the set says.
const DRAID: Feature = Feature {
    name: "draid",
    guid: "org.openzfs:draid",
    compatibility: Compatibility::None,
};

const OPENZFS_2_1: &[&str] = &[
    "allocation_classes",
    "async_destroy",
    "bookmark_v2",
    "bookmark_written",
    "bookmarks",
    "device_rebuild",
    "device_removal",
    "draid",
    "edonr",
    "embedded_data",
    "empty_bpobj",
    "enabled_txg",
    "encryption",
    "extensible_dataset",
    "filesystem_limits",
    "hole_birth",
    "large_blocks",
    "large_dnode",
    "livelist",
    "log_spacemap",
    "lz4_compress",
    "multi_vdev_crash_dump",
    "obsolete_counts",
    "project_quota",
    "redacted_datasets",
    "redaction_bookmarks",
    "resilver_defer",
    "sha512",
    "skein",
    "spacemap_histogram",
    "spacemap_v2",
    "userobj_accounting",
    "zpool_checkpoint",
    "zstd_compress",
];

const ZFS_ON_LINUX_0_6_5: &[&str] = &[
    "async_destroy",
    "bookmarks",
    "embedded_data",
    "empty_bpobj",
    "enabled_txg",
    "extensible_dataset",
    "filesystem_limits",
    "hole_birth",
    "large_blocks",
    "lz4_compress",
    "spacemap_histogram",
];

/// Features that are in use from the start of every pool that has them; the others are counted as they are used.
const USED_FROM_START: [&str; 6] = [
    "lz4_compress",
    "enabled_txg",
    "hole_birth",
    "embedded_data",
    "spacemap_v2",
    "log_spacemap",
];

impl CompatibilitySet {
    /// All sets.
    pub const ALL: [CompatibilitySet; 2] =
        [CompatibilitySet::OpenZfs21, CompatibilitySet::ZfsOnLinux065];

    /// The name, as the property has it.
    pub fn name(self) -> &'static str {
        match self {
            CompatibilitySet::OpenZfs21 => "openzfs-2.1-linux",
            CompatibilitySet::ZfsOnLinux065 => "zol-0.6.5",
        }
    }

    /// Its features, with how often each is in use from the start.
    pub(super) fn features(self) -> impl Iterator<Item = (Feature, u64)> {
        let names = match self {
            CompatibilitySet::OpenZfs21 => OPENZFS_2_1,
            CompatibilitySet::ZfsOnLinux065 => ZFS_ON_LINUX_0_6_5,
        };
        let all = FEATURES.into_iter().chain([DRAID]);
        all.filter(|feature| names.contains(&feature.name))
            .map(|feature| (feature, u64::from(USED_FROM_START.contains(&feature.name))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_feature_of_a_set_is_known() {
        assert_eq!(
            CompatibilitySet::OpenZfs21.features().count(),
            OPENZFS_2_1.len()
        );
        assert_eq!(
            CompatibilitySet::ZfsOnLinux065.features().count(),
            ZFS_ON_LINUX_0_6_5.len()
        );
    }
}
