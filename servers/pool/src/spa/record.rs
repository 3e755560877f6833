//! What a transaction group took and gave back, appended to the space maps.
//!
//! Without the feature log_spacemap every changed metaslab's own map gets its changes. With it all changes go to
//! one log, which is `space_log`'s; the metaslabs' maps get theirs when they are flushed.

use alloc::vec;
use alloc::vec::Vec;

use super::Spa;
use crate::dmu::NewObject;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::put_u64;
use crate::metaslab::{HISTOGRAM_LENGTH, Metaslab, MetaslabChanges, histogram};
use crate::space_map::{Action, Entry, SHORT_RUN_MAX, SpaceMapPhys, encode_short};

const CORRUPT: Error = Error::Corrupt(Structure::SpaceMap);
/// Size of a new space map's blocks.
const SPACE_MAP_BLOCK: usize = 4096;
/// Bonus of a space map: object, length, allocated, five words of padding, histogram.
const SPACE_MAP_BONUS: usize = 8 * (8 + HISTOGRAM_LENGTH);
/// Bonus of a space map without histogram: the first three words.
const OLD_BONUS: usize = 8 * 3;
const HISTOGRAM_AT: usize = 8 * 8;
const SPACEMAP_HISTOGRAM: &str = "com.delphix:spacemap_histogram";
/// Shorter maps are not worth being written anew.
const CONDENSE_MIN: u64 = 16 * SPACE_MAP_BLOCK as u64;
/// A map that is this many times as long as it need be is written anew.
const CONDENSE_FACTOR: u64 = 2;
const WORD: u64 = 8;

/// A metaslab by the place of its vdev in the allocator and its own in the vdev.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct MetaslabPlace {
    pub top: usize,
    pub index: usize,
}

impl Spa {
    /// All metaslabs that are used for writing.
    pub(super) fn metaslab_places(&self) -> Vec<MetaslabPlace> {
        let mut allocator = self.zio().allocator();
        let tops = allocator.tops_mut().iter().enumerate();
        tops.flat_map(|(top, space)| {
            (0..space.metaslabs.len()).map(move |index| MetaslabPlace { top, index })
        })
        .collect()
    }

    /// Does something with a metaslab and the number of its vdev.
    pub(super) fn with_metaslab<T>(
        &self,
        place: MetaslabPlace,
        act: impl FnOnce(&mut Metaslab, u32) -> T,
    ) -> T {
        let mut allocator = self.zio().allocator();
        let top = &mut allocator.tops_mut()[place.top];
        let vdev = top.vdev;
        act(&mut top.metaslabs[place.index], vdev)
    }

    /// Appends what was allocated and freed to the log of this group, or else to the metaslabs' own maps; says whether there was anything.
    pub(super) async fn record_space(&self, txg: u64, log: Option<u64>) -> Result<bool, Error> {
        let mut changed = false;
        let mut logged = Vec::new();
        for place in self.metaslab_places() {
            if !self.with_metaslab(place, |metaslab, _| metaslab.is_dirty()) {
                continue;
            }
            changed = true;
            let changes = self.with_metaslab(place, |metaslab, _| metaslab.take_changes())?;
            let map = self.own_map(place).await?;
            match log {
                None => self.append_to_own_map(place, map, changes).await?,
                Some(_) => self.log_changes(place, txg, &changes, &mut logged).await?,
            }
        }
        if let Some(log) = log {
            self.append_to_log(log, &logged).await?;
        }
        Ok(changed)
    }

    /// The object of a metaslab's map, which is made with the first change.
    pub(super) async fn own_map(&self, place: MetaslabPlace) -> Result<u64, Error> {
        let (map, vdev) = self.with_metaslab(place, |metaslab, vdev| (metaslab.map_object, vdev));
        if map != 0 {
            return Ok(map);
        }
        let map = self.create_space_map().await?;
        let array = self.metaslab_array(vdev).ok_or(CORRUPT)?;
        self.mos()
            .write(array, place.index as u64 * WORD, &map.to_le_bytes())
            .await?;
        self.with_metaslab(place, |metaslab, _| metaslab.map_object = map);
        Ok(map)
    }

    fn metaslab_array(&self, vdev: u32) -> Option<u64> {
        let root = self.root.borrow();
        root.children
            .get(vdev as usize)
            .map(|top| top.metaslab_array)
            .filter(|&object| object != 0)
    }

    /// Makes an empty space map.
    pub(super) async fn create_space_map(&self) -> Result<u64, Error> {
        // Maps with histograms are counted by their feature; pools without it have shorter ones.
        let bonus = match self.count_feature(SPACEMAP_HISTOGRAM, 1).await {
            Ok(()) => SPACE_MAP_BONUS,
            Err(Error::FeatureDisabled) => OLD_BONUS,
            Err(error) => return Err(error),
        };
        let new = NewObject {
            object_type: ObjectType::SPACE_MAP,
            block_size: SPACE_MAP_BLOCK,
            bonus_type: ObjectType::SPACE_MAP_HEADER,
            bonus: vec![0; bonus],
        };
        self.mos().allocate(new).await
    }

    /// Frees a space map.
    pub(super) async fn free_space_map(&self, object: u64) -> Result<(), Error> {
        let bonus = self.mos().dnode(object).await?.phys.bonus.len();
        if bonus == SPACE_MAP_BONUS {
            self.count_feature(SPACEMAP_HISTOGRAM, -1).await?;
        }
        self.mos().free_object(object).await
    }

    /// Appends changes to a metaslab's own map, which is written anew when that is much shorter.
    pub(super) async fn append_to_own_map(
        &self,
        place: MetaslabPlace,
        map: u64,
        changes: MetaslabChanges,
    ) -> Result<(), Error> {
        let vdev = self.with_metaslab(place, |_, vdev| vdev);
        let shift = self
            .zio()
            .vdevs()
            .top(vdev)
            .map_or(9, |top| top.config.ashift);
        let dnode = self.mos().dnode(map).await?;
        let mut phys = SpaceMapPhys::of(&dnode)?;
        let mut entries = changes.entries;
        if phys.length >= CONDENSE_MIN {
            let in_use = self.with_metaslab(place, |metaslab, _| metaslab.in_use())?;
            if phys.length > CONDENSE_FACTOR * WORD * in_use.len() as u64 {
                self.mos().truncate(map, 0).await?;
                (phys.length, phys.allocated) = (0, 0);
                let all = in_use.into_iter();
                entries = all
                    .map(|(start, length)| (Action::Allocate, start, length))
                    .collect();
            }
        }
        let mut words = Vec::new();
        for (action, start, length) in entries {
            phys.count(action, length);
            append_short(&mut words, action, start >> shift, length >> shift)?;
        }
        let counts = histogram(&changes.free_lengths, shift);
        self.append_words(map, phys, &words, Some(counts)).await
    }

    /// Appends words to a map and stores its header. `phys` has their balance already.
    pub(super) async fn append_words(
        &self,
        map: u64,
        mut phys: SpaceMapPhys,
        words: &[u64],
        histogram: Option<[u64; HISTOGRAM_LENGTH]>,
    ) -> Result<(), Error> {
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        self.mos().write(map, phys.length, &bytes).await?;
        phys.length += bytes.len() as u64;
        let mut bonus = self.mos().dnode(map).await?.phys.bonus.clone();
        put_u64(&mut bonus, 0, map);
        put_u64(&mut bonus, 8, phys.length);
        put_u64(&mut bonus, 16, phys.allocated as u64);
        if let Some(counts) = histogram.filter(|_| bonus.len() == SPACE_MAP_BONUS) {
            for (bucket, count) in counts.into_iter().enumerate() {
                put_u64(&mut bonus, HISTOGRAM_AT + 8 * bucket, count);
            }
        }
        self.mos().set_bonus(map, bonus).await
    }
}

/// Appends a range, in units of the map, as entries of one word.
pub(super) fn append_short(
    words: &mut Vec<u64>,
    action: Action,
    mut offset: u64,
    mut run: u64,
) -> Result<(), Error> {
    while run > 0 {
        let part = run.min(SHORT_RUN_MAX);
        let entry = Entry {
            action,
            offset,
            run: part,
            vdev: None,
        };
        words.push(encode_short(entry).ok_or(CORRUPT)?);
        offset += part;
        run -= part;
    }
    Ok(())
}
