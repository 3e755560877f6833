//! A set of interrupt vectors: IRR, ISR and TMR are one each.

use serde::{Deserialize, Serialize};

/// Vectors 0..255.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VectorSet {
    words: [u64; 4],
}

impl VectorSet {
    /// Adds a vector.
    pub fn insert(&mut self, vector: u8) {
        self.words[usize::from(vector >> 6)] |= 1 << (vector & 63);
    }

    /// Takes a vector out.
    pub fn remove(&mut self, vector: u8) {
        self.words[usize::from(vector >> 6)] &= !(1 << (vector & 63));
    }

    /// Whether the vector is in it.
    #[must_use]
    pub fn contains(&self, vector: u8) -> bool {
        self.words[usize::from(vector >> 6)] & 1 << (vector & 63) != 0
    }

    /// The highest vector.
    #[must_use]
    pub fn highest(&self) -> Option<u8> {
        (0..4u8).rev().find_map(|index| {
            let word = self.words[usize::from(index)];
            (word != 0).then(|| index * 64 + 63 - word.leading_zeros() as u8)
        })
    }

    /// The 32 vectors of register `index` (0..7).
    #[must_use]
    pub fn register(&self, index: u8) -> u32 {
        (self.words[usize::from(index / 2) % 4] >> (index % 2 * 32)) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_highest_is_the_maximum(vectors in proptest::collection::btree_set(any::<u8>(), 0..20)) {
            let mut set = VectorSet::default();
            for &vector in &vectors {
                set.insert(vector);
                prop_assert!(set.contains(vector));
                prop_assert_ne!(set.register(vector / 32) & 1 << (vector % 32), 0);
            }
            prop_assert_eq!(set.highest(), vectors.last().copied());
            for &vector in &vectors {
                set.remove(vector);
            }
            prop_assert_eq!(set, VectorSet::default());
        }
    }
}
