//! Size and use of the whole pool, as `zpool list` counts them: with parity.

use alloc::collections::BTreeMap;
use alloc::string::String;

use super::{Spa, mos};
use crate::error::Error;
use crate::space_map::{LogEntries, SpaceMapPhys};
use crate::vdev::config::Purpose;
use crate::vdev::{Vdev, VdevKind};

impl Spa {
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
