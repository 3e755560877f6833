//! Size and use of the whole pool, as `zpool list` counts them: with parity.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;

use super::{Spa, SpaState, mos};
use crate::block_device::Access;
use crate::compress::Compression;
use crate::error::{Error, Unsupported};
use crate::metaslab::{Allocator, TopSpace};
use crate::space_map::{self, Entry, LogEntries, SpaceMapPhys};
use crate::vdev::config::Purpose;
use crate::vdev::{Vdev, VdevKind};
use crate::zio::{Embedding, Holes, PointerForms};

const LZ4_COMPRESS: &str = "org.illumos:lz4_compress";
const HOLE_BIRTH: &str = "com.delphix:hole_birth";
const EMBEDDED_DATA: &str = "com.delphix:embedded_data";
/// Features that may be active in a pool that is written: they ask nothing of a writer that is not done.
const HARMLESS: &[&str] = &[
    LZ4_COMPRESS,
    HOLE_BIRTH,
    EMBEDDED_DATA,
    "com.delphix:spacemap_histogram",
    "com.delphix:enabled_txg",
    "com.delphix:extensible_dataset",
    "com.delphix:spacemap_v2",
    "com.delphix:log_spacemap",
    "com.klarasystems:vdev_zaps_v2",
    "com.delphix:bookmarks",
    "org.zfsonlinux:userobj_accounting",
    "org.zfsonlinux:project_quota",
    "org.open-zfs:large_blocks",
    "org.zfsonlinux:large_dnode",
    "org.illumos:sha512",
    "org.illumos:skein",
    "org.illumos:edonr",
    "org.openzfs:blake3",
    "org.freebsd:zstd_compress",
    "com.joyent:multi_vdev_crash_dump",
    "com.delphix:empty_bpobj",
    "com.delphix:async_destroy",
    "com.delphix:head_errlog",
    "com.datto:bookmark_v2",
    "com.delphix:bookmark_written",
    "com.delphix:livelist",
    "com.joyent:filesystem_limits",
    "com.datto:encryption",
    "org.openzfs:zilsaxattr",
];

/// What blocks can be like in a pool with its features.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlockForms {
    /// What `compression=on` means, and what metadata gets.
    pub fast_compression: Compression,
    /// What pointers can be like.
    pub pointers: PointerForms,
}

impl Default for BlockForms {
    fn default() -> Self {
        BlockForms {
            fast_compression: Compression::Lz4,
            pointers: PointerForms {
                embedding: Embedding::Enabled,
                holes: Holes::Dated,
            },
        }
    }
}

impl Spa {
    /// Whether transaction groups can be written to this pool.
    ///
    /// # Errors
    /// `ReadOnly` when it was imported so, `Unsupported` when it uses features whose structures are not kept up yet.
    pub async fn check_writable(&self) -> Result<(), Error> {
        if self.access() == Access::ReadOnly {
            return Err(Error::ReadOnly);
        }
        if self.state.get() == SpaState::Suspended {
            return Err(Error::Suspended);
        }
        let counts = self.feature_counts().await?;
        let active: Vec<&str> = counts
            .iter()
            .filter(|(_, count)| **count > 0)
            .map(|(guid, _)| guid.as_str())
            .collect();
        if !active.iter().all(|guid| HARMLESS.contains(guid)) {
            return Err(Error::Unsupported(Unsupported::Writing));
        }
        let choose = |guid| active.contains(&guid);
        let mut forms = BlockForms::default();
        if !choose(LZ4_COMPRESS) {
            forms.fast_compression = Compression::Lzjb;
        }
        if !choose(EMBEDDED_DATA) {
            forms.pointers.embedding = Embedding::Disabled;
        }
        if !choose(HOLE_BIRTH) {
            forms.pointers.holes = Holes::Blank;
        }
        self.block_forms.set(forms);
        Ok(())
    }

    /// Loads the free space of all vdevs from their space maps.
    pub(super) async fn load_allocator(&self) -> Result<(), Error> {
        let mut spaces = Vec::new();
        let logs = LogEntries::load(self).await?;
        for top in self.zio().vdevs().tops() {
            let Some(mut space) = TopSpace::new(top)? else {
                continue;
            };
            space.unflushed_array = self.unflushed_array(top).await?;
            let maps = self.metaslab_maps(top).await?;
            for (index, (metaslab, object)) in space.metaslabs.iter_mut().zip(maps).enumerate() {
                let id = (top.config.id, index as u64);
                metaslab.unflushed.since = logs.since(id.0, id.1);
                if object != 0 {
                    metaslab.map_object = object;
                    metaslab.replay(&self.own_entries(top, id.1, object).await?)?;
                }
                metaslab.replay_unflushed(logs.of(id.0, id.1))?;
            }
            spaces.push(space);
        }
        self.zio().set_allocator(Allocator::new(spaces));
        Ok(())
    }

    /// The entries of a metaslab's own map, in bytes of the vdev.
    async fn own_entries(&self, top: &Vdev, index: u64, object: u64) -> Result<Vec<Entry>, Error> {
        let start = index << top.config.metaslab_shift;
        let shift = top.config.ashift;
        let mut entries = space_map::load(self.mos(), object).await?;
        for entry in &mut entries {
            entry.offset = (entry.offset << shift).saturating_add(start);
            entry.run <<= shift;
        }
        Ok(entries)
    }

    fn data_tops(&self) -> impl Iterator<Item = &Vdev> {
        self.zio().vdevs().tops().iter().filter(|top| {
            top.config.purpose == Purpose::Normal
                && !matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_))
        })
    }

    /// Bytes of all metaslabs for data and metadata.
    pub async fn size(&self) -> Result<u64, Error> {
        Ok(self.data_tops().map(Vdev::metaslab_space).sum())
    }

    /// Bytes allocated in them.
    pub async fn allocated(&self) -> Result<u64, Error> {
        let logs = LogEntries::load(self).await?;
        let mut total: i64 = 0;
        for top in self.data_tops() {
            for (index, object) in self.metaslab_maps(top).await?.into_iter().enumerate() {
                if object != 0 {
                    total += SpaceMapPhys::of(&self.mos().dnode(object).await?)?.allocated;
                }
                total += logs.balance(top.config.id, index as u64);
            }
        }
        Ok(total.max(0) as u64)
    }

    /// Feature guids with their reference counts.
    pub async fn feature_counts(&self) -> Result<BTreeMap<String, u64>, Error> {
        let mut counts =
            mos::features(self.mos(), self.directory("features_for_read").unwrap_or(0)).await?;
        counts.extend(
            mos::features(
                self.mos(),
                self.directory("features_for_write").unwrap_or(0),
            )
            .await?,
        );
        Ok(counts)
    }
}
