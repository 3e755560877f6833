//! Identifiers that are not used twice, from what little a shell has to be random with.
//!
//! A mixer over time stamps: enough so that two VMs do not get one identifier, not enough for keys.

/// Mixes time stamps into numbers.
#[derive(Clone, Copy, Debug)]
pub struct Mixer {
    state: u64,
}

impl Mixer {
    /// A mixer that starts from `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next number, with `time_stamp` mixed in.
    pub fn next(&mut self, time_stamp: u64) -> u128 {
        self.state ^= time_stamp;
        u128::from(self.word()) << 64 | u128::from(self.word())
    }

    /// SplitMix64: every state gives another word, and neighbouring states give unlike ones.
    fn word(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.state;
        word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ word >> 31
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn numbers_do_not_repeat_even_if_time_stands_still() {
        let mut mixer = Mixer::new(1);
        let numbers: BTreeSet<u128> = (0..10_000).map(|_| mixer.next(7)).collect();
        assert_eq!(numbers.len(), 10_000);
    }

    #[test]
    fn the_time_stamp_makes_a_difference_in_about_half_of_the_bits() {
        let bits = (Mixer::new(1).next(1_000_000) ^ Mixer::new(1).next(1_000_001)).count_ones();
        assert!((40..88).contains(&bits), "{bits}");
    }
}
