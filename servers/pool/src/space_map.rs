//! Space maps: logs of what was allocated and freed in a metaslab, and the logs of whole transaction groups.
//!
//! A map is an object of 64-bit words. Short entries are one word, long ones two; a two-word entry never crosses a
//! block. With the log_spacemap feature, recent changes of all metaslabs are in one map for each transaction group, until
//! they are flushed to the metaslab's own.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

use crate::dmu::{Dnode, Objset};
use crate::error::{Error, Structure};
use crate::layout::Fields;
use crate::spa::Spa;
use crate::vdev::{Vdev, VdevKind};
use crate::zap::{Zap, entries_or_none};

const CORRUPT: Error = Error::Corrupt(Structure::SpaceMap);

/// Longest run of a one-word entry, in units.
pub const SHORT_RUN_MAX: u64 = 1 << 15;
/// Longest run of a two-word entry, in units.
pub const LONG_RUN_MAX: u64 = 1 << 36;
/// First offset that a one-word entry cannot have, in units.
pub const SHORT_OFFSET_END: u64 = 1 << 47;
/// Units of log space maps are sectors of this size, whatever the vdev.
pub const LOG_SHIFT: u32 = 9;

/// Entry of the MOS directory: the table of the logs of transaction groups. It is there while the feature is in use.
pub(crate) const LOGS: &str = "com.delphix:log_spacemap_zap";
/// Pair of a top-level vdev's configuration: its table in the MOS.
pub(crate) const TOP_TABLE: &str = "com.delphix:vdev_zap_top";
/// Entry of that table: see [`Spa::unflushed_array`].
pub(crate) const UNFLUSHED_TXGS: &[u8] = b"com.delphix:ms_unflushed_phys_txgs";

/// What an entry says of its range.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// It was allocated.
    Allocate,
    /// It was freed.
    Free,
}

/// One entry of a map, in units of the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What happened.
    pub action: Action,
    /// Start of the range.
    pub offset: u64,
    /// Its length.
    pub run: u64,
    /// The top-level vdev: two-word entries have the field, which means something in log space maps only.
    pub vdev: Option<u32>,
}

/// The bonus of a map's object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpaceMapPhys {
    /// Bytes of entries.
    pub length: u64,
    /// Bytes allocated less bytes freed.
    pub allocated: i64,
}

impl SpaceMapPhys {
    /// Reads the bonus.
    pub fn of(dnode: &Dnode) -> Result<SpaceMapPhys, Error> {
        let word = |index: usize| dnode.phys.bonus.u64_at(8 * index).ok_or(CORRUPT);
        let phys = SpaceMapPhys {
            length: word(1)?,
            allocated: word(2)? as i64,
        };
        if !phys.length.is_multiple_of(8) || phys.length > crate::spa::stored_bytes(dnode) {
            return Err(CORRUPT);
        }
        Ok(phys)
    }

    /// Counts an entry of `length` bytes.
    pub fn count(&mut self, action: Action, length: u64) {
        self.allocated += match action {
            Action::Allocate => length as i64,
            Action::Free => -(length as i64),
        };
    }
}

/// Reads the entries out of the words of one block.
pub fn decode(words: &[u64]) -> Result<Vec<Entry>, Error> {
    let mut entries = Vec::with_capacity(words.len());
    let mut words = words.iter();
    while let Some(&word) = words.next() {
        match word >> 62 {
            // Debug entries and padding.
            2 => {}
            3 => {
                let second = *words.next().ok_or(CORRUPT)?;
                let vdev = word & 0xff_ffff;
                entries.push(Entry {
                    action: action(second >> 63),
                    offset: second & !(1 << 63),
                    run: (word >> 24 & ((1 << 36) - 1)) + 1,
                    vdev: Some(vdev as u32),
                });
            }
            _ => entries.push(Entry {
                action: action(word >> 15 & 1),
                offset: word >> 16 & (SHORT_OFFSET_END - 1),
                run: (word & (SHORT_RUN_MAX - 1)) + 1,
                vdev: None,
            }),
        }
    }
    Ok(entries)
}

fn action(bit: u64) -> Action {
    if bit == 0 {
        Action::Allocate
    } else {
        Action::Free
    }
}

/// The word of an entry that fits the short form; `None` when it does not.
pub fn encode_short(entry: Entry) -> Option<u64> {
    let fits =
        entry.run <= SHORT_RUN_MAX && entry.offset < SHORT_OFFSET_END && entry.vdev.is_none();
    let free = u64::from(entry.action == Action::Free);
    fits.then(|| entry.offset << 16 | free << 15 | (entry.run - 1))
}

/// The words of an entry in the long form, which the logs of transaction groups have; `None` when it fits no form.
pub fn encode_long(entry: Entry) -> Option<[u64; 2]> {
    let fits = (1..=LONG_RUN_MAX).contains(&entry.run) && entry.offset < 1 << 63;
    let vdev = entry.vdev.map_or(0, u64::from);
    let free = u64::from(entry.action == Action::Free);
    fits.then(|| {
        [
            3 << 62 | (entry.run - 1) << 24 | vdev,
            free << 63 | entry.offset,
        ]
    })
}

/// Reads all entries of a map.
pub async fn load(objset: &Objset, object: u64) -> Result<Vec<Entry>, Error> {
    let dnode = objset.dnode(object).await?;
    let mut left = SpaceMapPhys::of(&dnode)?.length;
    let mut entries = Vec::new();
    let mut block = 0;
    while left > 0 {
        let data = objset.block(&dnode, block).await?.ok_or(CORRUPT)?;
        let part = left.min(data.len() as u64);
        entries.extend(decode(&data[..part as usize].words())?);
        left -= part;
        block += 1;
    }
    Ok(entries)
}

/// Changes that are in the logs of transaction groups and not yet in the maps of their metaslabs.
#[derive(Debug, Default)]
pub struct LogEntries {
    /// By vdev and metaslab, in the order in which they happened, in bytes of the vdev.
    changes: BTreeMap<(u64, u64), Vec<Entry>>,
    /// By vdev: log2 of the size of its metaslabs, and for each the first group whose log has changes that its own map lacks.
    unflushed: BTreeMap<u64, (u32, Vec<u64>)>,
}

impl LogEntries {
    /// Loads all logs of a pool.
    pub async fn load(spa: &Spa) -> Result<LogEntries, Error> {
        let mut all = LogEntries::default();
        let Some(table) = spa.directory(LOGS) else {
            return Ok(all);
        };
        for top in spa.zio().vdevs().tops() {
            let txgs = match spa.unflushed_array(top).await? {
                0 => Vec::new(),
                array => spa.unflushed_txgs(top, array).await?,
            };
            all.unflushed
                .insert(top.config.id, (top.config.metaslab_shift, txgs));
        }
        let logs = spa.space_logs(table).await?;
        for (txg, object) in logs {
            for entry in load(spa.mos(), object).await? {
                let vdev = u64::from(entry.vdev.ok_or(CORRUPT)?);
                let Some((shift, unflushed)) = all.unflushed.get(&vdev) else {
                    return Err(CORRUPT);
                };
                let offset = entry.offset.checked_shl(LOG_SHIFT).ok_or(CORRUPT)?;
                let metaslab = offset >> shift;
                let since = usize::try_from(metaslab)
                    .ok()
                    .and_then(|index| unflushed.get(index));
                if since.is_some_and(|&since| txg >= since) {
                    let entry = Entry {
                        offset,
                        run: entry.run << LOG_SHIFT,
                        ..entry
                    };
                    all.changes.entry((vdev, metaslab)).or_default().push(entry);
                }
            }
        }
        Ok(all)
    }

    /// The changes of one metaslab, in bytes of the vdev.
    pub fn of(&self, vdev: u64, metaslab: u64) -> &[Entry] {
        self.changes
            .get(&(vdev, metaslab))
            .map_or(&[], Vec::as_slice)
    }

    /// The first group whose log may have changes of a metaslab that its own map lacks; 0 when no log has.
    pub fn since(&self, vdev: u64, metaslab: u64) -> u64 {
        let txgs = self.unflushed.get(&vdev).map(|(_, txgs)| txgs);
        txgs.and_then(|txgs| txgs.get(usize::try_from(metaslab).ok()?))
            .copied()
            .unwrap_or(0)
    }

    /// Bytes allocated less bytes freed by the changes of one metaslab.
    pub fn balance(&self, vdev: u64, metaslab: u64) -> i64 {
        let signed = self
            .of(vdev, metaslab)
            .iter()
            .map(|entry| match entry.action {
                Action::Allocate => entry.run as i64,
                Action::Free => -(entry.run as i64),
            });
        signed.sum()
    }
}

impl Spa {
    /// The space map objects of a top-level vdev's metaslabs; 0 where nothing was ever allocated.
    pub async fn metaslab_maps(&self, top: &Vdev) -> Result<Vec<u64>, Error> {
        let object = top.config.metaslab_array;
        if object == 0 || matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_)) {
            return Ok(Vec::new());
        }
        let dnode = self.mos().dnode(object).await?;
        // The array grows with the metaslabs in use; the maps beyond its end are not there yet.
        let stored = crate::spa::stored_bytes(&dnode) / 8;
        let count = top.metaslab_count().min(stored);
        Ok(self
            .mos()
            .read_vec(&dnode, 0, count as usize * 8)
            .await?
            .words())
    }

    /// The logs of transaction groups that are still needed, oldest first, with their objects. `table` lists them.
    pub(crate) async fn space_logs(&self, table: u64) -> Result<Vec<(u64, u64)>, Error> {
        let mut logs = Vec::new();
        for entry in entries_or_none(self.mos(), table).await? {
            let txg = u64::from_str_radix(&entry.text(), 16).map_err(|_| CORRUPT)?;
            logs.push((txg, entry.value.u64().ok_or(CORRUPT)?));
        }
        logs.sort_unstable();
        Ok(logs)
    }

    /// The object that says from which group on logs have changes of each metaslab of a vdev; 0 when there is none.
    pub(crate) async fn unflushed_array(&self, top: &Vdev) -> Result<u64, Error> {
        let Some(zap) = top.config.nvlist.u64(TOP_TABLE) else {
            return Ok(0);
        };
        let entry = Zap::open(self.mos(), zap)
            .await?
            .lookup(UNFLUSHED_TXGS)
            .await?;
        entry.map_or(Ok(0), |object| object.u64().ok_or(CORRUPT))
    }

    async fn unflushed_txgs(&self, top: &Vdev, array: u64) -> Result<Vec<u64>, Error> {
        let dnode = self.mos().dnode(array).await?;
        let count = top
            .metaslab_count()
            .min(crate::spa::stored_bytes(&dnode) / 8);
        Ok(self
            .mos()
            .read_vec(&dnode, 0, count as usize * 8)
            .await?
            .words())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_two_word_entry_keeps_its_vdev() {
        let first = 3 << 62 | 9 << 24 | 5;
        let entries = decode(&[first, 1 << 63 | 77, 2 << 62]).unwrap();
        assert_eq!(
            entries,
            [Entry {
                action: Action::Free,
                offset: 77,
                run: 10,
                vdev: Some(5)
            }]
        );
        assert_eq!(decode(&[first]), Err(CORRUPT));
    }

    proptest! {
        #[test]
        fn long_entries_survive(offset in 0..1u64 << 63, run in 1..=LONG_RUN_MAX, free: bool, vdev in 0u32..1000) {
            let action = if free { Action::Free } else { Action::Allocate };
            let entry = Entry { action, offset, run, vdev: Some(vdev) };
            prop_assert_eq!(decode(&encode_long(entry).unwrap()).unwrap(), [entry]);
        }

        #[test]
        fn short_entries_survive(offset in 0..SHORT_OFFSET_END, run in 1..=SHORT_RUN_MAX, free: bool) {
            let action = if free { Action::Free } else { Action::Allocate };
            let entry = Entry { action, offset, run, vdev: None };
            prop_assert_eq!(decode(&[encode_short(entry).unwrap()]).unwrap(), [entry]);
        }
    }
}
