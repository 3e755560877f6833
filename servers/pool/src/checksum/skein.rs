//! Skein-512 with a key and 256 bits of output, over the Threefish block cipher (Skein 1.3, section 3).

use threefish::Threefish512;

/// Types of the tweak, in its top byte.
const TYPE_KEY: u64 = 0;
const TYPE_CONFIG: u64 = 4;
const TYPE_MESSAGE: u64 = 48;
const TYPE_OUTPUT: u64 = 63;
const FIRST: u64 = 1 << 62;
const FINAL: u64 = 1 << 63;

const BLOCK: usize = 64;

/// Output length in bits, part of the configuration.
const OUTPUT_BITS: u64 = 256;
/// "SHA3" and version 1, as the configuration's first word.
const SCHEMA: u64 = 0x1_3341_4853;

/// The keyed hash of `data`.
pub fn skein512_256(key: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let mut config = [0; 32];
    config[..8].copy_from_slice(&SCHEMA.to_le_bytes());
    config[8..16].copy_from_slice(&OUTPUT_BITS.to_le_bytes());
    let state = chain([0; 8], key, TYPE_KEY);
    let state = chain(state, &config, TYPE_CONFIG);
    let state = chain(state, data, TYPE_MESSAGE);
    let state = chain(state, &[0; 8], TYPE_OUTPUT);
    let mut digest = [0; 32];
    for (bytes, word) in digest.chunks_exact_mut(8).zip(state) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// Unique block iteration: every block of the input encrypted under the state before it.
fn chain(mut state: [u64; 8], input: &[u8], kind: u64) -> [u64; 8] {
    let mut position = 0;
    loop {
        let rest = &input[position..];
        let taken = rest.len().min(BLOCK);
        let last = rest.len() <= BLOCK;
        let mut block = [0; BLOCK];
        block[..taken].copy_from_slice(&rest[..taken]);
        let first = if position == 0 { FIRST } else { 0 };
        position += taken;
        let tweak = [
            position as u64,
            kind << 56 | first | if last { FINAL } else { 0 },
        ];
        state = encrypt(state, tweak, &block);
        if last {
            return state;
        }
    }
}

fn encrypt(key: [u64; 8], tweak: [u64; 2], block: &[u8; BLOCK]) -> [u64; 8] {
    let mut plain = [0; 8];
    for (word, bytes) in plain.iter_mut().zip(block.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut words = plain;
    Threefish512::new_with_tweak_u64(&key, &tweak).encrypt_block_u64(&mut words);
    for (word, plain) in words.iter_mut().zip(plain) {
        *word ^= plain;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_around_a_block_changes_the_hash() {
        let key = [3; 32];
        let hashes = [63, 64, 65, 128].map(|length| skein512_256(&key, &[0; 128][..length]));
        for (index, hash) in hashes.iter().enumerate() {
            assert!(!hashes[..index].contains(hash));
        }
    }
}
