//! LZJB: a copy map byte announces, for each of the next eight items, a literal or a match.
//!
//! A match is two bytes: six bits of length less three, ten bits of distance.

use alloc::vec::Vec;

const MATCH_BITS: u32 = 6;
const MATCH_MIN: usize = 3;
const MATCH_MAX: usize = (1 << MATCH_BITS) + MATCH_MIN - 1;
const OFFSET_MASK: u32 = (1 << (16 - MATCH_BITS)) - 1;
/// Entries of the table that remembers where three bytes were last seen.
const TABLE: usize = 1024;

/// Fills `out`; `None` when the input ends early or refers to before the start.
pub fn decompress(data: &[u8], out: &mut [u8]) -> Option<()> {
    let mut input = data.iter().copied();
    let mut at = 0;
    let (mut map, mut mask) = (0u8, 0u16);
    while at < out.len() {
        mask <<= 1;
        if mask == 0 || mask == 0x100 {
            mask = 1;
            map = input.next()?;
        }
        if u16::from(map) & mask == 0 {
            out[at] = input.next()?;
            at += 1;
            continue;
        }
        let pair = u32::from(input.next()?) << 8 | u32::from(input.next()?);
        let length = (pair >> (16 - MATCH_BITS)) as usize + MATCH_MIN;
        let distance = (pair & OFFSET_MASK) as usize;
        if distance == 0 || distance > at {
            return None;
        }
        // Byte by byte, because a match may overlap what it produces.
        for _ in 0..length.min(out.len() - at) {
            out[at] = out[at - distance];
            at += 1;
        }
    }
    Some(())
}

/// Compresses to at most `limit` bytes.
pub fn compress(data: &[u8], limit: usize) -> Option<Vec<u8>> {
    let mut out: Vec<u8> = Vec::with_capacity(limit);
    let mut seen = [usize::MAX; TABLE];
    let (mut map_at, mut mask) = (0, 0u16);
    let mut at = 0;
    while at < data.len() {
        mask <<= 1;
        if mask == 0 || mask == 0x100 {
            mask = 1;
            map_at = out.len();
            out.push(0);
        }
        match find(data, at, &mut seen) {
            Some((distance, length)) => {
                out[map_at] |= mask as u8;
                let pair = ((length - MATCH_MIN) as u32) << (16 - MATCH_BITS) | distance as u32;
                out.extend([(pair >> 8) as u8, pair as u8]);
                at += length;
            }
            None => {
                out.push(data[at]);
                at += 1;
            }
        }
        if out.len() > limit {
            return None;
        }
    }
    Some(out)
}

/// The earlier place that agrees with the bytes at `at`, as distance and length.
fn find(data: &[u8], at: usize, seen: &mut [usize; TABLE]) -> Option<(usize, usize)> {
    let rest = &data[at..];
    let [a, b, c] = *rest.first_chunk()?;
    let hash =
        (usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c)).wrapping_mul(0x9e5) >> 4;
    let slot = &mut seen[hash % TABLE];
    let before = core::mem::replace(slot, at);
    let distance = at
        .checked_sub(before)
        .filter(|&distance| distance <= OFFSET_MASK as usize)?;
    let length = data[before..]
        .iter()
        .zip(rest)
        .take(MATCH_MAX)
        .take_while(|(old, new)| old == new)
        .count();
    (length >= MATCH_MIN).then_some((distance, length))
}
