//! Labels: the four copies on every leaf that say which pool it belongs to, each with a ring of uberblocks.

use alloc::vec;
use alloc::vec::Vec;

use super::LABEL_END_SIZE;
use crate::block_device::BlockDevice;
use crate::checksum::embedded_is_valid;
use crate::error::Error;
use crate::nvlist::Nvlist;
use crate::uberblock::Uberblock;

/// Size of one label; devices are rounded down to whole labels.
pub const LABEL_SIZE: u64 = 256 << 10;
/// Labels on a device.
pub const LABELS: u64 = 4;
/// Where the configuration is in a label.
pub const CONFIG_AT: usize = 16 << 10;
/// Its size with the embedded checksum.
pub const CONFIG_SIZE: usize = 112 << 10;
/// Where the ring of uberblocks is in a label.
pub const RING_AT: usize = 128 << 10;
/// Size of the ring.
pub const RING_SIZE: usize = 128 << 10;

/// What the labels of one device say.
#[derive(Default)]
pub struct DeviceLabels {
    /// The configuration of each label; `None` where it is damaged or was never written.
    pub configs: [Option<Nvlist>; LABELS as usize],
    /// Every uberblock with a right checksum, of all labels; each a decoding result, because one may be foreign.
    pub uberblocks: Vec<Result<Uberblock, Error>>,
}

impl DeviceLabels {
    /// The configuration that was written last.
    pub fn config(&self) -> Option<&Nvlist> {
        self.configs
            .iter()
            .flatten()
            .max_by_key(|config| config.u64("txg").unwrap_or(0))
    }
}

/// Byte offset of label `index` on a device of `length` bytes; `None` when the device is too small for labels.
pub fn label_offset(length: u64, index: u64) -> Option<u64> {
    let usable = length - length % LABEL_SIZE;
    if usable < super::LABEL_START_SIZE + LABEL_END_SIZE {
        return None;
    }
    Some(if index < LABELS / 2 {
        index * LABEL_SIZE
    } else {
        usable - (LABELS - index) * LABEL_SIZE
    })
}

/// Reads all labels of a device. A label that cannot be read counts as damaged.
pub async fn read_labels(device: &dyn BlockDevice) -> DeviceLabels {
    let mut labels = DeviceLabels::default();
    for index in 0..LABELS {
        let Some(offset) = label_offset(device.length(), index) else {
            break;
        };
        let mut label = vec![0; LABEL_SIZE as usize];
        if device.read(offset, &mut label).await.is_err() {
            continue;
        }
        let config = decode_config(
            &label[CONFIG_AT..][..CONFIG_SIZE],
            offset + CONFIG_AT as u64,
        );
        let ashift = config.as_ref().and_then(ashift);
        labels.configs[index as usize] = config;
        let known = ashift.or_else(|| labels.config().and_then(self::ashift));
        read_ring(
            &label[RING_AT..],
            offset + RING_AT as u64,
            known,
            &mut labels.uberblocks,
        );
    }
    labels
}

fn decode_config(area: &[u8], offset: u64) -> Option<Nvlist> {
    if !embedded_is_valid(area, [offset, 0, 0, 0]) {
        return None;
    }
    Nvlist::decode(area).ok()
}

fn ashift(config: &Nvlist) -> Option<u32> {
    config
        .list("vdev_tree")?
        .u64("ashift")
        .map(|ashift| ashift.min(16) as u32)
}

/// Reads a ring. The slot size follows from the sector size; when no configuration tells it, every size is tried.
fn read_ring(
    ring: &[u8],
    offset: u64,
    ashift: Option<u32>,
    found: &mut Vec<Result<Uberblock, Error>>,
) {
    let candidates = match ashift {
        Some(ashift) => vec![Uberblock::slot_size(ashift)],
        None => [10, 11, 12, 13].map(Uberblock::slot_size).to_vec(),
    };
    for size in candidates {
        let before = found.len();
        for (index, slot) in ring.chunks_exact(size).enumerate() {
            // An empty slot is by far the most frequent; its checksum need not be computed.
            if slot[..8].iter().all(|&byte| byte == 0) {
                continue;
            }
            found.extend(Uberblock::decode_slot(slot, offset + (index * size) as u64));
        }
        if found.len() > before {
            return;
        }
    }
}
