//! Trim, which tells devices which of their bytes hold nothing, and clear, which forgets counted errors.

use alloc::vec::Vec;

use super::{Spa, TopologyError};
use crate::error::{DeviceError, Error};
use crate::vdev::{LABEL_START_SIZE, Vdev, VdevKind};

impl Spa {
    /// Tells the devices which ranges are free: `zpool trim`. Gives the bytes that were discarded on all of them. The exclusive borrow
    /// keeps transaction groups from giving such a range out meanwhile.
    ///
    /// # Errors
    /// Those of devices, and `ReadOnly`.
    pub async fn trim(&mut self) -> Result<u64, Error> {
        self.check_writable().await?;
        let free: Vec<(u32, Vec<(u64, u64)>)> = {
            let mut allocator = self.zio().allocator();
            let tops = allocator.tops_mut().iter();
            tops.map(|top| {
                let metaslabs = top.metaslabs.iter();
                (
                    top.vdev,
                    metaslabs.flat_map(|each| each.free_ranges()).collect(),
                )
            })
            .collect()
        };
        let mut discarded = 0;
        for (number, ranges) in free {
            let Some(top) = self.zio().vdevs().top(number) else {
                continue;
            };
            for (start, length) in ranges {
                discarded += discard(top, start, length).await?;
            }
        }
        Ok(discarded)
    }

    /// Sets the counters of errors to zero, of a device by its path or guid or of all vdevs: `zpool clear`.
    ///
    /// # Errors
    /// `NoSuchDevice`.
    pub fn clear_errors(&self, name: Option<&str>) -> Result<(), TopologyError> {
        let only = name.map(|name| self.leaf_guid(name)).transpose()?;
        for top in self.zio().vdevs().tops() {
            clear(top, only);
        }
        Ok(())
    }
}

fn clear(vdev: &Vdev, only: Option<u64>) {
    if only.is_none_or(|guid| guid == vdev.config.guid) {
        vdev.statistics.read_errors.set(0);
        vdev.statistics.write_errors.set(0);
        vdev.statistics.checksum_errors.set(0);
    }
    for child in &vdev.children {
        clear(child, only);
    }
}

/// Discards a range of a top-level vdev on every device that has a part of it.
async fn discard(top: &Vdev, start: u64, length: u64) -> Result<u64, DeviceError> {
    if !matches!(top.kind, VdevKind::Raidz(_)) {
        let mut discarded = 0;
        for leaf in top.leaves() {
            discarded += discard_leaf(leaf, start, length).await?;
        }
        return Ok(discarded);
    }
    let mut discarded = 0;
    let shift = top.config.ashift;
    for (column, child) in top.children.iter().enumerate() {
        let (first, end) = column_rows(
            (start >> shift, (start + length) >> shift),
            top.children.len() as u64,
            column as u64,
        );
        for leaf in child.leaves() {
            discarded += discard_leaf(leaf, first << shift, (end - first) << shift).await?;
        }
    }
    Ok(discarded)
}

/// Rows of a raidz column that lie in a range of sectors, whose sectors go around the columns.
fn column_rows((start, end): (u64, u64), columns: u64, column: u64) -> (u64, u64) {
    let rows = |sector: u64| sector.saturating_sub(column).div_ceil(columns);
    (rows(start), rows(end))
}

async fn discard_leaf(leaf: &Vdev, start: u64, length: u64) -> Result<u64, DeviceError> {
    match leaf.device() {
        Some(device) if length > 0 => {
            device.discard(start + LABEL_START_SIZE, length).await?;
            Ok(length)
        }
        _ => Ok(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sector_of_a_range_is_in_one_row_of_one_column() {
        for (start, end, columns) in [(0, 12, 3), (5, 6, 3), (7, 23, 5), (2, 2, 4)] {
            for sector in 0..30 {
                let (first, last) = column_rows((start, end), columns, sector % columns);
                let inside = (first..last).contains(&(sector / columns));
                assert_eq!(inside, (start..end).contains(&sector), "{sector}");
            }
        }
    }
}
