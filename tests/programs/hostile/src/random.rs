//! Random numbers that are the same in every run.

/// A xorshift generator.
pub struct Random(u64);

impl Random {
    /// From a seed that is not 0.
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, which is not 0.
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A number below `limit`.
    pub fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}
