//! Free space: which ranges of each top-level vdev a new block may take.
//!
//! A vdev is divided into metaslabs. Space that is freed in a transaction group is given out again only some groups
//! later, so that the uberblocks before still find their blocks. What changes is kept until the
//! space maps record it (`spa`).

mod unflushed;

use alloc::vec::Vec;

use crate::blkptr::{Dva, Gang};
use crate::error::{Error, Structure};
use crate::range_tree::{Overlap, RangeTree};
use crate::space_map::{Action, Entry};
use crate::vdev::config::Purpose;
use crate::vdev::{Vdev, VdevKind};
use unflushed::Unflushed;

/// Transaction groups that freed space rests before it is used again.
const DEFER: usize = 2;

impl From<Overlap> for Error {
    fn from(_: Overlap) -> Self {
        Error::Corrupt(Structure::SpaceMap)
    }
}

/// What blocks a top-level vdev takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AllocationClass {
    /// Everything that has no class of its own.
    Normal,
    /// Blocks of the intent log.
    Log,
}

/// One metaslab.
#[derive(Debug, Default)]
pub struct Metaslab {
    /// Object of its space map; 0 before its first allocation.
    pub map_object: u64,
    /// What its space map lacks and logs of transaction groups have.
    pub unflushed: Unflushed,
    start: u64,
    size: u64,
    free: RangeTree,
    allocated: RangeTree,
    freed: RangeTree,
    deferred: [RangeTree; DEFER],
}

/// Changes of a metaslab since they were last taken, in bytes from its start.
pub struct MetaslabChanges {
    /// Allocated, then freed, in the order of recording.
    pub entries: Vec<(Action, u64, u64)>,
    /// Free ranges after them, as lengths, for the histogram.
    pub free_lengths: Vec<u64>,
}

impl Metaslab {
    fn new(start: u64, size: u64) -> Result<Metaslab, Overlap> {
        let mut metaslab = Metaslab {
            start,
            size,
            ..Metaslab::default()
        };
        metaslab.free.add(start, size)?;
        Ok(metaslab)
    }

    /// Its first byte on the vdev.
    pub fn start(&self) -> u64 {
        self.start
    }

    /// What is free and rests no more, as starts and lengths in bytes of the vdev.
    pub fn free_ranges(&self) -> Vec<(u64, u64)> {
        self.free.iter().collect()
    }

    /// Replays entries whose offsets are bytes of the vdev.
    pub fn replay(&mut self, entries: &[Entry]) -> Result<(), Overlap> {
        for entry in entries {
            match entry.action {
                Action::Allocate => self.free.remove(entry.offset, entry.run)?,
                Action::Free => self.free.add(entry.offset, entry.run)?,
            }
        }
        Ok(())
    }

    /// Replays what logs have and the metaslab's own map lacks.
    pub fn replay_unflushed(&mut self, entries: &[Entry]) -> Result<(), Overlap> {
        self.replay(entries)?;
        for entry in entries {
            self.unflushed
                .record(entry.action, entry.offset, entry.run)?;
        }
        Ok(())
    }

    /// Whether there are changes that no space map has.
    pub fn is_dirty(&self) -> bool {
        !self.allocated.is_empty() || !self.freed.is_empty()
    }

    /// Takes the changes for recording; what was freed starts to rest.
    pub fn take_changes(&mut self) -> Result<MetaslabChanges, Overlap> {
        let (allocated, freed) = (self.allocated.take(), self.freed.take());
        for (at, length) in freed.iter() {
            self.deferred[0].add(at, length)?;
        }
        let with = |action| move |(at, length): (u64, u64)| (action, at, length);
        let allocated = allocated.iter().map(with(Action::Allocate));
        Ok(self.changes(allocated.chain(freed.iter().map(with(Action::Free)))))
    }

    /// Takes what only logs have, for the metaslab's own map: later changes are in logs from `txg` on.
    pub fn take_unflushed(&mut self, txg: u64) -> MetaslabChanges {
        let entries = self.unflushed.flush(txg);
        self.changes(entries)
    }

    fn changes(&self, entries: impl Iterator<Item = (Action, u64, u64)>) -> MetaslabChanges {
        let relative = |(action, at, length)| (action, at - self.start, length);
        // What rests is free as far as the map is concerned.
        let resting = self.deferred.iter().flat_map(RangeTree::iter);
        let free = self.free.iter().chain(resting);
        MetaslabChanges {
            entries: entries.map(relative).collect(),
            free_lengths: free.map(|(_, length)| length).collect(),
        }
    }

    /// What is allocated, without what no map has yet, as starts from the metaslab's and lengths: the shortest
    /// contents of its map.
    pub fn in_use(&self) -> Result<Vec<(u64, u64)>, Overlap> {
        let mut others = self.free.clone();
        for tree in self.deferred.iter().chain([&self.allocated]) {
            for (start, length) in tree.iter() {
                others.add(start, length)?;
            }
        }
        let mut all = RangeTree::new();
        all.add(self.start, self.size)?;
        for (start, length) in others.iter() {
            all.remove(start, length)?;
        }
        Ok(all
            .iter()
            .map(|(at, length)| (at - self.start, length))
            .collect())
    }

    /// Ends a transaction group: what rested long enough can be given out.
    fn advance(&mut self) -> Result<(), Overlap> {
        let ready = self.deferred[DEFER - 1].take();
        self.deferred.rotate_right(1);
        for (start, length) in ready.iter() {
            self.free.add(start, length)?;
        }
        Ok(())
    }
}

/// The space of one top-level vdev.
#[derive(Debug)]
pub struct TopSpace {
    /// Number of the vdev.
    pub vdev: u32,
    class: AllocationClass,
    /// log2 of a metaslab's size.
    pub shift: u32,
    /// Its metaslabs in order.
    pub metaslabs: Vec<Metaslab>,
    /// Object with [`Unflushed::since`] of each metaslab; 0 when there is none.
    pub unflushed_array: u64,
    /// Where each of the copies of a block is tried first: metaslab and offset.
    cursors: Vec<(usize, u64)>,
}

/// Copies get cursors of their own, spread over the vdev.
const CURSORS: usize = 3;

impl TopSpace {
    /// All of a vdev as free; `None` when it takes no new blocks.
    pub fn new(top: &Vdev) -> Result<Option<TopSpace>, Error> {
        if matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_))
            || top.config.metaslab_shift == 0
        {
            return Ok(None);
        }
        let shift = top.config.metaslab_shift;
        let count = top.metaslab_count();
        let metaslabs: Result<Vec<Metaslab>, Overlap> = (0..count)
            .map(|index| Metaslab::new(index << shift, 1 << shift))
            .collect();
        let class = match top.config.purpose {
            Purpose::Log => AllocationClass::Log,
            Purpose::Normal => AllocationClass::Normal,
        };
        let cursors = (0..CURSORS as u64).map(|copy| (copy * count / CURSORS as u64, 0));
        let cursors = cursors
            .map(|(metaslab, _)| (metaslab as usize, metaslab << shift))
            .collect();
        Ok(Some(TopSpace {
            vdev: top.config.id as u32,
            class,
            shift,
            metaslabs: metaslabs?,
            unflushed_array: 0,
            cursors,
        }))
    }

    fn allocate(&mut self, size: u64, copy: usize) -> Option<u64> {
        let count = self.metaslabs.len();
        let (first, from) = self.cursors[copy % CURSORS];
        for turn in 0..=count {
            let index = (first + turn) % count;
            let metaslab = &mut self.metaslabs[index];
            // The first metaslab is tried from the cursor and, last of all, from its start.
            let from = if turn == 0 { from } else { metaslab.start };
            if let Some(offset) = metaslab.free.find(from, size) {
                metaslab.free.remove(offset, size).ok()?;
                metaslab.allocated.add(offset, size).ok()?;
                self.cursors[copy % CURSORS] = (index, offset + size);
                return Some(offset);
            }
        }
        None
    }

    fn metaslab_of(&mut self, offset: u64) -> Result<&mut Metaslab, Error> {
        let index = usize::try_from(offset >> self.shift).ok();
        index
            .and_then(|index| self.metaslabs.get_mut(index))
            .ok_or(Error::Corrupt(Structure::BlockPointer))
    }
}

/// The free space of a pool.
#[derive(Debug, Default)]
pub struct Allocator {
    tops: Vec<TopSpace>,
    rotor: usize,
}

impl Allocator {
    /// The space of these vdevs.
    pub fn new(tops: Vec<TopSpace>) -> Self {
        Allocator { tops, rotor: 0 }
    }

    /// The vdevs.
    pub fn tops_mut(&mut self) -> &mut [TopSpace] {
        &mut self.tops
    }

    /// Bytes free for data now.
    pub fn free_space(&self) -> u64 {
        let normal = self
            .tops
            .iter()
            .filter(|top| top.class == AllocationClass::Normal);
        normal
            .flat_map(|top| &top.metaslabs)
            .map(|metaslab| metaslab.free.space())
            .sum()
    }

    /// Takes space for one copy of a block. `size_on` says how much it takes on a vdev.
    ///
    /// # Errors
    /// `NoSpace` when no vdev of the class has a large enough range.
    pub fn allocate(
        &mut self,
        class: AllocationClass,
        copy: usize,
        size_on: &dyn Fn(u32) -> u64,
    ) -> Result<Dva, Error> {
        let count = self.tops.len();
        for turn in 0..count {
            let index = (self.rotor + turn) % count;
            let top = &mut self.tops[index];
            if top.class != class {
                continue;
            }
            let size = size_on(top.vdev);
            if let Some(offset) = top.allocate(size, copy) {
                self.rotor = index + 1;
                return Ok(Dva {
                    vdev: top.vdev,
                    offset,
                    allocated: size,
                    gang: Gang::No,
                });
            }
        }
        Err(Error::NoSpace)
    }

    /// Gives the space of a copy back.
    pub fn free(&mut self, dva: Dva) -> Result<(), Error> {
        let top = self.tops.iter_mut().find(|top| top.vdev == dva.vdev);
        // Space of a removed vdev is accounted for in its mapping, not here.
        let Some(top) = top else { return Ok(()) };
        Ok(top
            .metaslab_of(dva.offset)?
            .freed
            .add(dva.offset, dva.allocated)?)
    }

    /// Takes space that is known to be in use, such as a claimed log block's.
    pub fn claim(&mut self, dva: Dva) -> Result<(), Error> {
        let top = self.tops.iter_mut().find(|top| top.vdev == dva.vdev);
        let metaslab = top
            .ok_or(Error::Corrupt(Structure::BlockPointer))?
            .metaslab_of(dva.offset)?;
        metaslab.free.remove(dva.offset, dva.allocated)?;
        Ok(metaslab.allocated.add(dva.offset, dva.allocated)?)
    }

    /// Ends a transaction group.
    pub fn advance(&mut self) -> Result<(), Error> {
        for metaslab in self.tops.iter_mut().flat_map(|top| &mut top.metaslabs) {
            metaslab.advance()?;
        }
        Ok(())
    }
}

/// Length of the histogram in a space map's bonus.
pub const HISTOGRAM_LENGTH: usize = 32;

/// How many free ranges there are of each power of two, in units of `1 << shift` bytes.
pub fn histogram(free_lengths: &[u64], shift: u32) -> [u64; HISTOGRAM_LENGTH] {
    let mut counts = [0; HISTOGRAM_LENGTH];
    for length in free_lengths.iter().filter(|&&length| length >> shift > 0) {
        let bucket = (length >> shift).ilog2() as usize;
        counts[bucket.min(HISTOGRAM_LENGTH - 1)] += 1;
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn space(metaslabs: u64) -> Allocator {
        let metaslabs: Vec<Metaslab> = (0..metaslabs)
            .map(|index| Metaslab::new(index << 16, 1 << 16).unwrap())
            .collect();
        let cursors = vec![(0, 0), (0, 0), (0, 0)];
        Allocator::new(vec![TopSpace {
            vdev: 0,
            class: AllocationClass::Normal,
            shift: 16,
            metaslabs,
            unflushed_array: 0,
            cursors,
        }])
    }

    #[test]
    fn freed_space_rests_for_two_groups() {
        let mut space = space(1);
        let all = |_| 1 << 16;
        let dva = space.allocate(AllocationClass::Normal, 0, &all).unwrap();
        space.free(dva).unwrap();
        for _ in 0..2 {
            assert_eq!(
                space.allocate(AllocationClass::Normal, 0, &all),
                Err(Error::NoSpace)
            );
            space.tops_mut()[0].metaslabs[0].take_changes().unwrap();
            space.advance().unwrap();
        }
        space.advance().unwrap();
        assert_eq!(space.allocate(AllocationClass::Normal, 0, &all), Ok(dva));
    }

    #[test]
    fn freeing_twice_is_refused() {
        let mut space = space(1);
        let dva = space
            .allocate(AllocationClass::Normal, 0, &|_| 512)
            .unwrap();
        space.free(dva).unwrap();
        assert!(space.free(dva).is_err());
    }

    #[test]
    fn the_histogram_counts_powers_of_two() {
        let counts = histogram(&[512, 1024, 1535, 65536], 9);
        assert_eq!((counts[0], counts[1], counts[7]), (1, 2, 1));
    }
}
