//! fletcher4: four sums over 32-bit words, each the sum of the one before.
//!
//! Word `i` goes to lane `i mod 4`, each lane sums on its own, and the lanes are joined at the end: with `p` words from a
//! word to the end of its lane `j`, the word is `4p - j` words from the end of all, and its weight in each of the sums is a polynomial of
//! that, which is written in terms of the lane's own weights `p`, `p(p+1)/2` and `p(p+1)(p+2)/6`.

use crate::has_avx2;

/// The sums of words, of those sums, and so on, each modulo 2^64.
pub type Sums = [u64; 4];

const LANES: usize = 4;
/// Bytes of one step: a word for each lane.
const STEP: usize = 4 * LANES;
/// Shorter data is not worth joining lanes.
const LANES_MIN: usize = 16 * STEP;

/// The sums of `data` after those of what came before. A tail shorter than four bytes is not counted.
pub fn extend(before: Sums, data: &[u8]) -> Sums {
    if data.len() < LANES_MIN {
        return extend_scalar(before, data);
    }
    let (steps, tail) = data.as_chunks::<STEP>();
    let lanes = if has_avx2::get() {
        // SAFETY: the CPU has AVX2 and the system saves its registers, as was just found.
        unsafe { sum_lanes_avx2(steps) }
    } else {
        sum_lanes(steps)
    };
    let words = (LANES * steps.len()) as u64;
    extend_scalar(append(before, words, join(&lanes)), tail)
}

/// The definition: one word after the other.
pub fn extend_scalar([mut a, mut b, mut c, mut d]: Sums, data: &[u8]) -> Sums {
    for word in data.as_chunks::<4>().0 {
        a = a.wrapping_add(u64::from(u32::from_le_bytes(*word)));
        b = b.wrapping_add(a);
        c = c.wrapping_add(b);
        d = d.wrapping_add(c);
    }
    [a, b, c, d]
}

/// The four sums, each for every lane.
type Lanes = [[u64; LANES]; 4];

#[target_feature(enable = "avx2")]
fn sum_lanes_avx2(steps: &[[u8; STEP]]) -> Lanes {
    sum_lanes(steps)
}

#[inline(always)]
fn sum_lanes(steps: &[[u8; STEP]]) -> Lanes {
    let [mut a, mut b, mut c, mut d] = [[0u64; LANES]; 4];
    for step in steps {
        let words = step.as_chunks::<4>().0;
        for lane in 0..LANES {
            a[lane] = a[lane].wrapping_add(u64::from(u32::from_le_bytes(words[lane])));
        }
        for lane in 0..LANES {
            b[lane] = b[lane].wrapping_add(a[lane]);
        }
        for lane in 0..LANES {
            c[lane] = c[lane].wrapping_add(b[lane]);
        }
        for lane in 0..LANES {
            d[lane] = d[lane].wrapping_add(c[lane]);
        }
    }
    [a, b, c, d]
}

/// The sums of all words from the sums of the lanes.
fn join(lanes: &Lanes) -> Sums {
    let mut sums = [0u64; 4];
    for (lane, number) in (0..LANES).zip(0u64..) {
        let j = number;
        let [a, b, c, d] = [0, 1, 2, 3].map(|sum: usize| lanes[sum][lane]);
        let weighted = [
            a,
            b.wrapping_mul(4).wrapping_sub(a.wrapping_mul(j)),
            c.wrapping_mul(16)
                .wrapping_sub(b.wrapping_mul(6 + 4 * j))
                .wrapping_add(a.wrapping_mul(j * j.saturating_sub(1) / 2)),
            d.wrapping_mul(64)
                .wrapping_sub(c.wrapping_mul(48 + 16 * j))
                .wrapping_add(b.wrapping_mul(4 + 4 * j + 2 * j * j))
                .wrapping_sub(a.wrapping_mul(j * j.saturating_sub(1) * j.saturating_sub(2) / 6)),
        ];
        for (sum, part) in sums.iter_mut().zip(weighted) {
            *sum = sum.wrapping_add(part);
        }
    }
    sums
}

/// The sums of two runs, the second of `words` words.
fn append([a, b, c, d]: Sums, words: u64, second: Sums) -> Sums {
    // Memory holds fewer than 2^42 words, so that the products fit.
    let n = u128::from(words);
    let pairs = (n * (n + 1) / 2) as u64;
    let triples = (n * (n + 1) * (n + 2) / 6) as u64;
    let moved = [
        a,
        b.wrapping_add(a.wrapping_mul(words)),
        c.wrapping_add(b.wrapping_mul(words))
            .wrapping_add(a.wrapping_mul(pairs)),
        d.wrapping_add(c.wrapping_mul(words))
            .wrapping_add(b.wrapping_mul(pairs))
            .wrapping_add(a.wrapping_mul(triples)),
    ];
    core::array::from_fn(|sum| moved[sum].wrapping_add(second[sum]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_largest_words_wrap_alike() {
        let data = vec![0xff; 1 << 20];
        let before = [u64::MAX - 5, 7, u64::MAX, 1 << 63];
        assert_eq!(extend(before, &data), extend_scalar(before, &data));
    }

    proptest! {
        #[test]
        fn both_ways_and_the_scalar_twin_agree(
            before: Sums, data in proptest::collection::vec(any::<u8>(), 0..4 * LANES_MIN),
        ) {
            let expected = extend_scalar(before, &data);
            prop_assert_eq!(extend(before, &data), expected);
            let (steps, tail) = data.as_chunks::<STEP>();
            let portable = append(before, (LANES * steps.len()) as u64, join(&sum_lanes(steps)));
            prop_assert_eq!(extend_scalar(portable, tail), expected);
        }
    }
}
