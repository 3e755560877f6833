//! fletcher2 and fletcher4, the fast checksums of ordinary blocks.

use super::Checksum;

/// Two interleaved streams of 64-bit words; sums in words 0 and 1, sums of sums in 2 and 3.
pub fn fletcher2(data: &[u8]) -> Checksum {
    let [mut a0, mut a1, mut b0, mut b1] = [0u64; 4];
    for pair in data.as_chunks::<16>().0 {
        let (first, second) = pair.split_at(8);
        a0 = a0.wrapping_add(word64(first));
        a1 = a1.wrapping_add(word64(second));
        b0 = b0.wrapping_add(a0);
        b1 = b1.wrapping_add(a1);
    }
    [a0, a1, b0, b1]
}

fn word64(bytes: &[u8]) -> u64 {
    bytes
        .first_chunk()
        .map_or(0, |bytes| u64::from_le_bytes(*bytes))
}

/// One stream of 32-bit words, summed four times over.
pub fn fletcher4(data: &[u8]) -> Checksum {
    pool_simd::fletcher4::extend([0; 4], data)
}

/// [`fletcher4`] from the sums of what came before.
pub fn fletcher4_continue(before: Checksum, data: &[u8]) -> Checksum {
    pool_simd::fletcher4::extend(before, data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_of_small_words_are_what_arithmetic_says() {
        let words: alloc::vec::Vec<u8> = [1u32, 2, 3, 4]
            .into_iter()
            .flat_map(u32::to_le_bytes)
            .collect();
        assert_eq!(fletcher4(&words), [10, 20, 35, 56]);
        let words: alloc::vec::Vec<u8> = [1u64, 2, 3, 4]
            .into_iter()
            .flat_map(u64::to_le_bytes)
            .collect();
        assert_eq!(fletcher2(&words), [4, 6, 5, 8]);
    }
}
