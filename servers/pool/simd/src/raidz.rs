//! raidz parity over GF(256): sums of columns under powers of 2, and products with a constant.
//!
//! The field has the polynomial 0x11d and the generator 2. Row `r` of the parity is, by Horner's rule, `sum ← 2^r · sum + column` over the
//! columns. All rows of a piece are summed in registers while its columns go by once.

use crate::has_avx2;

/// Bytes of each row that are summed at once: with three rows they and a column fit the 16 registers.
const PIECE: usize = 64;

/// Multiplication by 2.
#[inline(always)]
pub const fn double(byte: u8) -> u8 {
    // All ones if the top bit is set.
    let mask = ((byte as i8) >> 7) as u8;
    (byte << 1) ^ (mask & 0x1d)
}

/// Computes the first `rows.len()` rows (P, Q, R; more are left alone) of the columns. Each row is as long as the caller made it; columns may
/// be shorter, and count as zero beyond their end.
pub fn generate(columns: &[&[u8]], rows: &mut [&mut [u8]]) {
    if has_avx2::get() {
        // SAFETY: the CPU has AVX2 and the system saves its registers, as was just found.
        unsafe { generate_avx2(columns, rows) }
    } else {
        generate_portable(columns, rows);
    }
}

/// Adds `factor` times `source` to `sum`, as far as both reach.
pub fn add_product(factor: u8, source: &[u8], sum: &mut [u8]) {
    if has_avx2::get() {
        // SAFETY: the CPU has AVX2 and the system saves its registers, as was just found.
        unsafe { add_product_avx2(factor, source, sum) }
    } else {
        add_product_portable(factor, source, sum);
    }
}

#[target_feature(enable = "avx2")]
fn generate_avx2(columns: &[&[u8]], rows: &mut [&mut [u8]]) {
    generate_portable(columns, rows);
}

#[target_feature(enable = "avx2")]
fn add_product_avx2(factor: u8, source: &[u8], sum: &mut [u8]) {
    add_product_portable(factor, source, sum);
}

#[inline(always)]
fn generate_portable(columns: &[&[u8]], rows: &mut [&mut [u8]]) {
    match rows {
        [p] => generate_rows(columns, [p]),
        [p, q] => generate_rows(columns, [p, q]),
        [p, q, r, ..] => generate_rows(columns, [p, q, r]),
        [] => {}
    }
}

#[inline(always)]
fn generate_rows<const ROWS: usize>(columns: &[&[u8]], mut rows: [&mut [u8]; ROWS]) {
    let length = rows.iter().map(|row| row.len()).max().unwrap_or(0);
    for at in (0..length).step_by(PIECE) {
        let mut sums = [[0u8; PIECE]; ROWS];
        for column in columns {
            let rest = column.get(at..).unwrap_or_default();
            match rest.first_chunk() {
                Some(piece) => add_piece(&mut sums, piece),
                None => {
                    let mut piece = [0; PIECE];
                    piece[..rest.len()].copy_from_slice(rest);
                    add_piece(&mut sums, &piece);
                }
            }
        }
        for (row, sum) in rows.iter_mut().zip(&sums) {
            let rest = row.get_mut(at..).unwrap_or_default();
            let taken = rest.len().min(PIECE);
            rest[..taken].copy_from_slice(&sum[..taken]);
        }
    }
}

#[inline(always)]
fn add_piece<const ROWS: usize>(sums: &mut [[u8; PIECE]; ROWS], piece: &[u8; PIECE]) {
    for (row, sum) in sums.iter_mut().enumerate() {
        for (sum, byte) in sum.iter_mut().zip(piece) {
            let mut scaled = *sum;
            for _ in 0..row {
                scaled = double(scaled);
            }
            *sum = scaled ^ byte;
        }
    }
}

#[inline(always)]
fn add_product_portable(factor: u8, source: &[u8], sum: &mut [u8]) {
    let length = source.len().min(sum.len());
    let (pieces, tail) = source[..length].as_chunks::<PIECE>();
    let (sum_pieces, sum_tail) = sum[..length].as_chunks_mut::<PIECE>();
    for (sum, piece) in sum_pieces.iter_mut().zip(pieces) {
        let mut power = *piece;
        let mut bits = factor;
        while bits != 0 {
            // All ones or all zeros, so that no byte needs a branch.
            let mask = (bits & 1).wrapping_neg();
            for (sum, power) in sum.iter_mut().zip(&mut power) {
                *sum ^= *power & mask;
                *power = double(*power);
            }
            bits >>= 1;
        }
    }
    for (sum, byte) in sum_tail.iter_mut().zip(tail) {
        *sum ^= multiply(factor, *byte);
    }
}

/// The product of two elements, bit by bit: the definition.
pub const fn multiply(mut factor: u8, mut byte: u8) -> u8 {
    let mut product = 0;
    while factor != 0 {
        if factor & 1 != 0 {
            product ^= byte;
        }
        byte = double(byte);
        factor >>= 1;
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Row `row`, byte by byte.
    fn row_scalar(row: usize, columns: &[&[u8]], length: usize) -> Vec<u8> {
        let mut sum = vec![0; length];
        for column in columns {
            for (at, sum) in sum.iter_mut().enumerate() {
                *sum = multiply(1 << row, *sum) ^ column.get(at).copied().unwrap_or(0);
            }
        }
        sum
    }

    #[test]
    fn doubling_the_top_bit_gives_the_polynomial() {
        assert_eq!([double(1), double(0x80), double(0xff)], [2, 0x1d, 0xe3]);
    }

    proptest! {
        #[test]
        fn rows_agree_with_the_scalar_twin(
            columns in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..300), 0..9),
            length in 0usize..300, count in 1usize..4,
        ) {
            let columns: Vec<&[u8]> = columns.iter().map(Vec::as_slice).collect();
            let expected: Vec<Vec<u8>> = (0..count).map(|row| row_scalar(row, &columns, length)).collect();
            for way in [generate, generate_portable] {
                let mut rows = vec![vec![0xaa; length]; count];
                let mut slices: Vec<&mut [u8]> = rows.iter_mut().map(Vec::as_mut_slice).collect();
                way(&columns, &mut slices);
                prop_assert_eq!(&rows, &expected);
            }
        }

        #[test]
        fn products_agree_with_the_scalar_twin(
            factor: u8, source in proptest::collection::vec(any::<u8>(), 0..300), length in 0usize..300, start: u8,
        ) {
            let mut expected = vec![start; length];
            for (sum, byte) in expected.iter_mut().zip(&source) {
                *sum ^= multiply(factor, *byte);
            }
            for way in [add_product, add_product_portable] {
                let mut sum = vec![start; length];
                way(factor, &source, &mut sum);
                prop_assert_eq!(&sum, &expected);
            }
        }
    }
}
