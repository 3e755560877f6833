//! Edon-R 512 as tweaked for its SHA-3 second submission, seeded with the pool's salt.
//!
//! The compression function is a sequence of quasigroup operations on vectors of eight words. An operation adds
//! words along the top five rows of a Latin square, rotates, and xors along the other three rows.

const BLOCK: usize = 128;

type Vector = [u64; 8];

/// Columns of the first Latin square: words added, words xored.
const ADD_FIRST: [[usize; 5]; 8] = [
    [0, 4, 7, 1, 2],
    [7, 1, 0, 4, 3],
    [1, 7, 4, 0, 6],
    [3, 6, 2, 5, 7],
    [2, 3, 5, 6, 1],
    [4, 0, 3, 2, 5],
    [6, 5, 1, 7, 0],
    [5, 2, 6, 3, 4],
];
const XOR_FIRST: [[usize; 3]; 8] = [
    [5, 3, 6],
    [2, 6, 5],
    [3, 5, 2],
    [1, 0, 4],
    [7, 4, 0],
    [6, 7, 1],
    [4, 2, 3],
    [0, 1, 7],
];
const ROTATE_FIRST: [u32; 8] = [0, 5, 15, 22, 31, 40, 50, 59];
const CONSTANT_FIRST: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// Columns of the second Latin square.
const ADD_SECOND: [[usize; 5]; 8] = [
    [0, 7, 5, 1, 2],
    [4, 6, 3, 0, 1],
    [2, 3, 1, 5, 0],
    [3, 2, 6, 4, 7],
    [1, 5, 0, 3, 4],
    [6, 4, 2, 7, 5],
    [5, 1, 7, 2, 6],
    [7, 0, 4, 6, 3],
];
const XOR_SECOND: [[usize; 3]; 8] = [
    [3, 4, 6],
    [5, 7, 2],
    [7, 6, 4],
    [0, 1, 5],
    [6, 2, 7],
    [1, 0, 3],
    [4, 3, 0],
    [2, 5, 1],
];
const ROTATE_SECOND: [u32; 8] = [0, 10, 19, 29, 36, 44, 48, 55];
const CONSTANT_SECOND: u64 = 0x5555_5555_5555_5555;

/// The hash of `salt` expanded to one block, then `data`; the first half of the digest.
pub fn edonr512_salted(salt: &[u8; 32], data: &[u8]) -> [u8; 32] {
    let first = edonr512(&[], salt);
    let second = edonr512(&[], &first);
    let mut seed = [0; BLOCK];
    seed[..64].copy_from_slice(&first);
    seed[64..].copy_from_slice(&second);
    let digest = edonr512(&seed, data);
    let mut half = [0; 32];
    half.copy_from_slice(&digest[..32]);
    half
}

/// The hash of `prefix` (whole blocks) followed by `data`.
fn edonr512(prefix: &[u8], data: &[u8]) -> [u8; 64] {
    let mut pipe = initial_pipe();
    for block in prefix.as_chunks::<BLOCK>().0 {
        compress(&mut pipe, block);
    }
    let (blocks, tail) = data.as_chunks::<BLOCK>();
    for block in blocks {
        compress(&mut pipe, block);
    }
    let bits = (prefix.len() + data.len()) as u64 * 8;
    let mut last = [0; 2 * BLOCK];
    last[..tail.len()].copy_from_slice(tail);
    last[tail.len()] = 0x80;
    let end = if tail.len() < BLOCK - 8 {
        BLOCK
    } else {
        2 * BLOCK
    };
    last[end - 8..end].copy_from_slice(&bits.to_le_bytes());
    for block in last[..end].as_chunks::<BLOCK>().0 {
        compress(&mut pipe, block);
    }
    let mut digest = [0; 64];
    for (bytes, word) in digest.chunks_exact_mut(8).zip(pipe[1]) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    digest
}

/// The double pipe starts as the bytes 80, 81 … ff, big-endian in each word.
fn initial_pipe() -> [Vector; 2] {
    let mut pipe = [[0; 8]; 2];
    for (index, word) in pipe.as_flattened_mut().iter_mut().enumerate() {
        let start = 0x80 + 8 * index as u8;
        *word = u64::from_be_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|byte| start + byte));
    }
    pipe
}

fn compress(pipe: &mut [Vector; 2], block: &[u8; BLOCK]) {
    let mut message = [[0u64; 8]; 2];
    for (word, bytes) in message
        .as_flattened_mut()
        .iter_mut()
        .zip(block.as_chunks::<8>().0)
    {
        *word = u64::from_le_bytes(*bytes);
    }
    let mut p = operate(&reversed(message[1]), &message[0]);
    let mut q = operate(&p, &message[1]);
    p = operate(&pipe[1], &p);
    q = operate(&p, &q);
    p = operate(&p, &pipe[0]);
    q = operate(&q, &p);
    p = operate(&reversed(message[0]), &p);
    q = operate(&p, &q);
    for index in 0..8 {
        pipe[0][index] ^= message[1][index] ^ p[index];
        pipe[1][index] ^= message[0][index] ^ q[index];
    }
}

fn reversed(mut vector: Vector) -> Vector {
    vector.reverse();
    vector
}

/// The quasigroup operation of two vectors.
fn operate(x: &Vector, y: &Vector) -> Vector {
    let s = mix(x, &ADD_FIRST, &XOR_FIRST, &ROTATE_FIRST, CONSTANT_FIRST);
    let t = mix(y, &ADD_SECOND, &XOR_SECOND, &ROTATE_SECOND, CONSTANT_SECOND);
    core::array::from_fn(|index| {
        let from = (index + 3) % 8;
        s[from].wrapping_add(t[from])
    })
}

fn mix(
    words: &Vector,
    add: &[[usize; 5]; 8],
    xor: &[[usize; 3]; 8],
    rotate: &[u32; 8],
    constant: u64,
) -> Vector {
    let mut sums: Vector = core::array::from_fn(|index| {
        add[index]
            .iter()
            .fold(0u64, |sum, &from| sum.wrapping_add(words[from]))
    });
    // The constant goes into the first sum only, before the rotation by 0.
    sums[0] = sums[0].wrapping_add(constant);
    for (sum, rotation) in sums.iter_mut().zip(rotate) {
        *sum = sum.rotate_left(*rotation);
    }
    core::array::from_fn(|index| xor[index].iter().fold(0, |mixed, &from| mixed ^ sums[from]))
}
