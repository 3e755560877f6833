//! Sets of disjoint ranges: the free space of a metaslab, or what a transaction group allocated of it.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Disjoint, coalesced ranges.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RangeTree {
    /// End of each range by its start.
    ranges: BTreeMap<u64, u64>,
    space: u64,
}

/// A range does not fit the set: it overlaps what is there, or lacks what should be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap;

impl RangeTree {
    /// An empty set.
    pub fn new() -> Self {
        RangeTree::default()
    }

    /// Sum of the lengths.
    pub fn space(&self) -> u64 {
        self.space
    }

    /// Whether there is no range.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Start and length of each range, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.ranges
            .iter()
            .map(|(&start, &end)| (start, end - start))
    }

    /// Adds a range that must not overlap any.
    pub fn add(&mut self, start: u64, length: u64) -> Result<(), Overlap> {
        let mut end = start
            .checked_add(length)
            .filter(|_| length > 0)
            .ok_or(Overlap)?;
        let mut begin = start;
        if let Some((&before, &before_end)) = self.ranges.range(..=start).next_back() {
            if before_end > start {
                return Err(Overlap);
            }
            if before_end == start {
                begin = before;
            }
        }
        if let Some((&after, &after_end)) = self.ranges.range(start..).next() {
            if after < end {
                return Err(Overlap);
            }
            if after == end {
                self.ranges.remove(&after);
                end = after_end;
            }
        }
        self.ranges.insert(begin, end);
        self.space += length;
        Ok(())
    }

    /// Removes a range that must be wholly inside one.
    pub fn remove(&mut self, start: u64, length: u64) -> Result<(), Overlap> {
        let end = start
            .checked_add(length)
            .filter(|_| length > 0)
            .ok_or(Overlap)?;
        let (&begin, &last) = self.ranges.range(..=start).next_back().ok_or(Overlap)?;
        if last < end {
            return Err(Overlap);
        }
        if begin == start {
            self.ranges.remove(&begin);
        } else {
            self.ranges.insert(begin, start);
        }
        if last > end {
            self.ranges.insert(end, last);
        }
        self.space -= length;
        Ok(())
    }

    /// Removes as much of a range as is there; gives the parts that were not.
    pub fn remove_present(&mut self, start: u64, length: u64) -> Result<Vec<(u64, u64)>, Overlap> {
        let end = start
            .checked_add(length)
            .filter(|_| length > 0)
            .ok_or(Overlap)?;
        let before = self.ranges.range(..=start).next_back();
        let first = before
            .filter(|(_, last)| **last > start)
            .map_or(start, |(&begin, _)| begin);
        let touched = self.ranges.range(first..end);
        let present: Vec<(u64, u64)> = touched
            .map(|(&begin, &last)| (begin.max(start), last.min(end)))
            .collect();
        let mut absent = Vec::new();
        let mut at = start;
        for (begin, last) in present {
            if begin > at {
                absent.push((at, begin - at));
            }
            self.remove(begin, last - begin)?;
            at = last;
        }
        if at < end {
            absent.push((at, end - at));
        }
        Ok(absent)
    }

    /// Number of ranges.
    pub fn len(&self) -> usize {
        self.ranges.len()
    }

    /// Whether a range is wholly inside the set.
    pub fn contains(&self, start: u64, length: u64) -> bool {
        let inside = self.ranges.range(..=start).next_back();
        inside.is_some_and(|(_, &end)| {
            start
                .checked_add(length)
                .is_some_and(|wanted| wanted <= end)
        })
    }

    /// Start of the first part of `length` at or after `from`.
    pub fn find(&self, from: u64, length: u64) -> Option<u64> {
        let inside = self
            .ranges
            .range(..=from)
            .next_back()
            .map(|(_, &end)| (from, end));
        let after = self.ranges.range(from..).map(|(&start, &end)| (start, end));
        inside
            .into_iter()
            .chain(after)
            .find(|(start, end)| end.saturating_sub(*start) >= length)
            .map(|(start, _)| start)
    }

    /// Takes everything out.
    pub fn take(&mut self) -> RangeTree {
        core::mem::take(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use proptest::prelude::*;

    #[test]
    fn neighbours_become_one_range() {
        let mut tree = RangeTree::new();
        tree.add(0, 10).unwrap();
        tree.add(20, 10).unwrap();
        tree.add(10, 10).unwrap();
        assert_eq!(tree.iter().collect::<vec::Vec<_>>(), [(0, 30)]);
        assert_eq!(tree.add(29, 2), Err(Overlap));
        assert_eq!(tree.remove(25, 10), Err(Overlap));
        assert_eq!(tree.find(5, 26), None);
        assert_eq!(tree.find(5, 25), Some(5));
    }

    proptest! {
        #[test]
        fn what_is_there_is_removed_and_the_rest_is_named(
            present in proptest::collection::vec((0u64..64, 1u64..16), 0..10),
            start in 0u64..64,
            length in 1u64..30,
        ) {
            let mut tree = RangeTree::new();
            for (start, length) in present {
                let _ = tree.add(start, length);
            }
            let before: Vec<bool> = (0..100).map(|at| tree.contains(at, 1)).collect();
            let absent = tree.remove_present(start, length).unwrap();
            for at in 0..100 {
                let inside = (start..start + length).contains(&at);
                let named = absent.iter().any(|(start, length)| (*start..start + length).contains(&at));
                prop_assert_eq!(tree.contains(at, 1), before[at as usize] && !inside);
                prop_assert_eq!(named, inside && !before[at as usize]);
            }
        }

        #[test]
        fn the_set_is_what_a_bitmap_says(operations in proptest::collection::vec((any::<bool>(), 0u64..64, 1u64..16), 1..80)) {
            let mut tree = RangeTree::new();
            let mut bitmap = [false; 80];
            for (add, start, length) in operations {
                let range = start as usize..(start + length) as usize;
                let fits = bitmap[range.clone()].iter().all(|&bit| bit != add);
                let done = if add { tree.add(start, length) } else { tree.remove(start, length) };
                prop_assert_eq!(done.is_ok(), fits);
                if fits {
                    bitmap[range].fill(add);
                }
                prop_assert_eq!(tree.space(), bitmap.iter().filter(|&&bit| bit).count() as u64);
                let listed: u64 = tree.iter().map(|(_, length)| length).sum();
                prop_assert_eq!(listed, tree.space());
            }
        }
    }
}
