//! Changes of a metaslab that only the logs of transaction groups have: what its own space map lacks.

use crate::range_tree::{Overlap, RangeTree};
use crate::space_map::Action;

/// The difference between a metaslab and its own space map.
#[derive(Debug, Default)]
pub struct Unflushed {
    /// The first transaction group whose log may have changes of the metaslab; 0 when no log has.
    pub since: u64,
    allocated: RangeTree,
    freed: RangeTree,
}

impl Unflushed {
    /// Adds a change. What was freed and is allocated again, or the other way round, is as the map has it.
    ///
    /// # Errors
    /// When a range is allocated or freed twice.
    pub fn record(&mut self, action: Action, start: u64, length: u64) -> Result<(), Overlap> {
        let (undone, done) = match action {
            Action::Allocate => (&mut self.freed, &mut self.allocated),
            Action::Free => (&mut self.allocated, &mut self.freed),
        };
        for (start, length) in undone.remove_present(start, length)? {
            done.add(start, length)?;
        }
        Ok(())
    }

    /// Number of ranges: what it costs in memory, and to write.
    pub fn ranges(&self) -> usize {
        self.allocated.len() + self.freed.len()
    }

    /// Takes the changes for the metaslab's own map: all later ones are in logs from `txg` on.
    pub fn flush(&mut self, txg: u64) -> impl Iterator<Item = (Action, u64, u64)> + use<> {
        self.since = txg;
        let (allocated, freed) = (self.allocated.take(), self.freed.take());
        let with = |action| move |(start, length)| (action, start, length);
        let allocated: alloc::vec::Vec<_> = allocated.iter().map(with(Action::Allocate)).collect();
        let freed: alloc::vec::Vec<_> = freed.iter().map(with(Action::Free)).collect();
        allocated.into_iter().chain(freed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    #[test]
    fn what_is_undone_needs_no_entry() {
        let mut unflushed = Unflushed::default();
        unflushed.record(Action::Allocate, 0, 100).unwrap();
        unflushed.record(Action::Free, 20, 30).unwrap();
        unflushed.record(Action::Free, 200, 10).unwrap();
        unflushed.record(Action::Allocate, 205, 10).unwrap();
        assert_eq!(unflushed.ranges(), 4);
        let entries: Vec<_> = unflushed.flush(7).collect();
        assert_eq!(
            entries,
            [
                (Action::Allocate, 0, 20),
                (Action::Allocate, 50, 50),
                (Action::Allocate, 210, 5),
                (Action::Free, 200, 5)
            ]
        );
        assert_eq!((unflushed.ranges(), unflushed.since), (0, 7));
    }

    #[test]
    fn a_range_is_not_freed_twice() {
        let mut unflushed = Unflushed::default();
        unflushed.record(Action::Free, 10, 10).unwrap();
        assert_eq!(unflushed.record(Action::Free, 15, 10), Err(Overlap));
    }
}
