//! The ARC: a cache of blocks that adapts between what was used lately and what is used often.
//!
//! Two lists of cached blocks, recent and frequent, and for each a list of ghosts: keys of what it evicted. A hit in a
//! ghost list says which of the two should have been larger, and moves the target (Megiddo and Modha,
//! FAST 2003). Sizes are bytes. The cache never waits and knows nothing of I/O.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

/// A block in memory, shared and immutable.
pub type Buffer = Rc<Vec<u8>>;

/// What identifies a block for good: where it is and when it was written there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockKey {
    /// Top-level vdev.
    pub vdev: u32,
    /// Byte offset.
    pub offset: u64,
    /// Transaction group that wrote it.
    pub birth: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum List {
    Recent,
    Frequent,
    RecentGhost,
    FrequentGhost,
}

impl List {
    fn ghost(self) -> List {
        match self {
            List::Recent | List::RecentGhost => List::RecentGhost,
            List::Frequent | List::FrequentGhost => List::FrequentGhost,
        }
    }
}

struct Entry {
    list: List,
    /// Place in the list: later is higher.
    turn: u64,
    size: usize,
    /// `None` in the ghost lists.
    buffer: Option<Buffer>,
}

#[derive(Default)]
struct Order {
    turns: BTreeMap<u64, BlockKey>,
    bytes: usize,
}

/// Counters of the cache since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArcStatistics {
    /// Lookups that found the block.
    pub hits: u64,
    /// Lookups that did not.
    pub misses: u64,
    /// Bytes cached now.
    pub bytes: usize,
}

/// The cache.
pub struct Arc {
    limit: usize,
    /// Bytes that the recent list should have.
    target: usize,
    entries: BTreeMap<BlockKey, Entry>,
    orders: [Order; 4],
    turn: u64,
    hits: u64,
    misses: u64,
}

impl Arc {
    /// A cache of at most `limit` bytes of blocks.
    pub fn new(limit: usize) -> Self {
        Arc {
            limit,
            target: limit / 2,
            entries: BTreeMap::new(),
            orders: Default::default(),
            turn: 0,
            hits: 0,
            misses: 0,
        }
    }

    /// The block, which counts as one more use of it.
    pub fn get(&mut self, key: BlockKey) -> Option<Buffer> {
        let buffer = self
            .entries
            .get(&key)
            .and_then(|entry| entry.buffer.clone());
        if buffer.is_none() {
            self.misses += 1;
            return None;
        }
        self.hits += 1;
        self.place(key, List::Frequent);
        buffer
    }

    /// Caches a block that was just read or written.
    pub fn insert(&mut self, key: BlockKey, buffer: Buffer) {
        let size = buffer.len();
        // A block that takes more than a quarter of the cache would push out too much for one use.
        if size > self.limit / 4 {
            return;
        }
        let list = match self.entries.get(&key).map(|entry| entry.list) {
            None => List::Recent,
            Some(List::RecentGhost) => {
                let step = self.ghost_step(List::FrequentGhost, List::RecentGhost, size);
                self.target = (self.target + step).min(self.limit);
                List::Frequent
            }
            Some(List::FrequentGhost) => {
                let step = self.ghost_step(List::RecentGhost, List::FrequentGhost, size);
                self.target = self.target.saturating_sub(step);
                List::Frequent
            }
            Some(list) => list,
        };
        self.remove(key);
        self.turn += 1;
        let entry = Entry {
            list,
            turn: self.turn,
            size,
            buffer: Some(buffer),
        };
        self.attach(key, entry);
        self.evict();
    }

    /// Forgets a block, because its place was freed.
    pub fn remove(&mut self, key: BlockKey) {
        if let Some(entry) = self.entries.remove(&key) {
            let order = &mut self.orders[entry.list as usize];
            order.turns.remove(&entry.turn);
            order.bytes -= entry.size;
        }
    }

    /// Bytes of blocks that it may hold.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Changes the limit and evicts down to it.
    pub fn set_limit(&mut self, limit: usize) {
        self.limit = limit;
        self.target = self.target.min(limit);
        self.evict();
    }

    /// The counters.
    pub fn statistics(&self) -> ArcStatistics {
        ArcStatistics {
            hits: self.hits,
            misses: self.misses,
            bytes: self.cached(),
        }
    }

    fn cached(&self) -> usize {
        self.orders[List::Recent as usize].bytes + self.orders[List::Frequent as usize].bytes
    }

    /// How far a ghost hit moves the target: further when the other ghost list is the larger one.
    fn ghost_step(&self, other: List, hit: List, size: usize) -> usize {
        let other = self.orders[other as usize].bytes;
        let hit = self.orders[hit as usize].bytes.max(1);
        size * (other / hit).max(1)
    }

    fn place(&mut self, key: BlockKey, list: List) {
        let Some(mut entry) = self.entries.remove(&key) else {
            return;
        };
        let order = &mut self.orders[entry.list as usize];
        order.turns.remove(&entry.turn);
        order.bytes -= entry.size;
        self.turn += 1;
        entry.turn = self.turn;
        entry.list = list;
        self.attach(key, entry);
    }

    fn attach(&mut self, key: BlockKey, entry: Entry) {
        let order = &mut self.orders[entry.list as usize];
        order.turns.insert(entry.turn, key);
        order.bytes += entry.size;
        self.entries.insert(key, entry);
    }

    fn evict(&mut self) {
        while self.cached() > self.limit {
            let recent = self.orders[List::Recent as usize].bytes;
            let from =
                if recent > self.target || self.orders[List::Frequent as usize].turns.is_empty() {
                    List::Recent
                } else {
                    List::Frequent
                };
            let Some((_, &key)) = self.orders[from as usize].turns.first_key_value() else {
                return;
            };
            if let Some(entry) = self.entries.get_mut(&key) {
                entry.buffer = None;
            }
            self.place(key, from.ghost());
        }
        // The ghosts together remember about as much again as the cache holds.
        for ghost in [List::RecentGhost, List::FrequentGhost] {
            while self.orders[ghost as usize].bytes > self.limit / 2 {
                let Some((_, &key)) = self.orders[ghost as usize].turns.first_key_value() else {
                    break;
                };
                self.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key(number: u64) -> BlockKey {
        BlockKey {
            vdev: 0,
            offset: number << 12,
            birth: 1,
        }
    }

    fn buffer() -> Buffer {
        Rc::new(alloc::vec![0; 1000])
    }

    #[test]
    fn blocks_used_twice_survive_a_long_scan() {
        let mut arc = Arc::new(100_000);
        for number in 0..20 {
            arc.insert(key(number), buffer());
            arc.get(key(number));
        }
        for number in 1000..3000 {
            arc.insert(key(number), buffer());
        }
        let kept = (0..20)
            .filter(|&number| arc.get(key(number)).is_some())
            .count();
        assert_eq!(kept, 20);
    }

    #[test]
    fn a_removed_block_is_gone() {
        let mut arc = Arc::new(10_000);
        arc.insert(key(1), buffer());
        arc.remove(key(1));
        assert_eq!(arc.get(key(1)), None);
    }

    proptest! {
        #[test]
        fn the_limit_holds_and_sizes_add_up(uses in proptest::collection::vec((0u64..60, 0usize..3), 1..400)) {
            let mut arc = Arc::new(20_000);
            for (number, action) in uses {
                match action {
                    0 => arc.insert(key(number), buffer()),
                    1 => drop(arc.get(key(number))),
                    _ => arc.remove(key(number)),
                }
                prop_assert!(arc.statistics().bytes <= 20_000);
                let total: usize = arc.entries.values().map(|entry| entry.size).sum();
                prop_assert_eq!(total, arc.orders.iter().map(|order| order.bytes).sum::<usize>());
                let held = arc.entries.values().filter(|entry| entry.buffer.is_some()).count() * 1000;
                prop_assert_eq!(held, arc.statistics().bytes);
            }
        }
    }
}
