//! The arithmetic of raidz: parity columns over GF(256), and lost columns from what is left.
//!
//! Parity row `r` of the data columns `d[0..n]` is the sum of `g^(r·(n-1-i)) · d[i]` with g = 2, the polynomial 0x11d, evaluated by Horner's
//! rule. Columns may be shorter than the first; what is missing counts as zero.

use alloc::vec;
use alloc::vec::Vec;

/// The most parity columns there are.
pub const MAX_PARITY: usize = 3;

/// Multiplication by 2 in GF(256).
const fn double(byte: u8) -> u8 {
    (byte << 1) ^ if byte & 0x80 != 0 { 0x1d } else { 0 }
}

/// Powers of 2, and their logarithms.
const TABLES: ([u8; 255], [u8; 256]) = {
    let mut powers = [0; 255];
    let mut logarithms = [0; 256];
    let mut value = 1u8;
    let mut exponent = 0;
    while exponent < 255 {
        powers[exponent] = value;
        logarithms[value as usize] = exponent as u8;
        value = double(value);
        exponent += 1;
    }
    (powers, logarithms)
};

fn multiply(a: u8, b: u8) -> u8 {
    if a == 0 || b == 0 {
        return 0;
    }
    let exponent = usize::from(TABLES.1[usize::from(a)]) + usize::from(TABLES.1[usize::from(b)]);
    TABLES.0[exponent % 255]
}

fn inverse(a: u8) -> u8 {
    TABLES.0[(255 - usize::from(TABLES.1[usize::from(a)])) % 255]
}

/// The factor of data column `column` of `columns` in parity row `row`.
fn coefficient(row: usize, column: usize, columns: usize) -> u8 {
    TABLES.0[row * (columns - 1 - column) % 255]
}

/// Parity row `row` (0 = P, 1 = Q, 2 = R) of the data columns; as long as the first.
pub fn parity(row: usize, data: &[&[u8]]) -> Vec<u8> {
    let mut sum = vec![0u8; data.first().map_or(0, |column| column.len())];
    for column in data {
        scale(&mut sum, row);
        for (sum, byte) in sum.iter_mut().zip(*column) {
            *sum ^= byte;
        }
    }
    sum
}

/// Multiplies every byte by 2^row.
fn scale(bytes: &mut [u8], row: usize) {
    for _ in 0..row {
        for byte in bytes.iter_mut() {
            *byte = double(*byte);
        }
    }
}

/// Rebuilds lost data columns in place.
///
/// `data` has every data column, the lost ones with any content but their right length; `lost` are their indices; `parities`
/// are at least as many good parity columns with their row numbers. `None` when they are too few.
pub fn reconstruct(
    data: &mut [Vec<u8>],
    lost: &[usize],
    parities: &[(usize, &[u8])],
) -> Option<()> {
    let rows = parities.get(..lost.len())?;
    let columns = data.len();
    let length = data.first()?.len();
    // What the good columns contribute is subtracted; what remains are sums of the lost ones.
    let mut remains: Vec<Vec<u8>> = Vec::with_capacity(rows.len());
    for &(row, parity) in rows {
        let mut sum = vec![0u8; length];
        for (index, column) in data.iter().enumerate() {
            scale(&mut sum, row);
            if !lost.contains(&index) {
                for (sum, byte) in sum.iter_mut().zip(column) {
                    *sum ^= byte;
                }
            }
        }
        for (sum, byte) in sum.iter_mut().zip(parity) {
            *sum ^= byte;
        }
        remains.push(sum);
    }
    let matrix: Vec<Vec<u8>> = rows
        .iter()
        .map(|&(row, _)| {
            lost.iter()
                .map(|&column| coefficient(row, column, columns))
                .collect()
        })
        .collect();
    let inverted = invert(matrix)?;
    for (factors, &index) in inverted.iter().zip(lost) {
        data[index].fill(0);
        for (&factor, remain) in factors.iter().zip(&remains) {
            let table: [u8; 256] = core::array::from_fn(|byte| multiply(factor, byte as u8));
            for (byte, remain) in data[index].iter_mut().zip(remain) {
                *byte ^= table[usize::from(*remain)];
            }
        }
    }
    Some(())
}

/// The inverse of a small square matrix by elimination; `None` when it has none.
fn invert(mut matrix: Vec<Vec<u8>>) -> Option<Vec<Vec<u8>>> {
    let size = matrix.len();
    let mut result: Vec<Vec<u8>> = (0..size)
        .map(|row| (0..size).map(|column| u8::from(row == column)).collect())
        .collect();
    for pivot in 0..size {
        let row = (pivot..size).find(|&row| matrix[row][pivot] != 0)?;
        matrix.swap(pivot, row);
        result.swap(pivot, row);
        let factor = inverse(matrix[pivot][pivot]);
        for column in 0..size {
            matrix[pivot][column] = multiply(matrix[pivot][column], factor);
            result[pivot][column] = multiply(result[pivot][column], factor);
        }
        for other in (0..size).filter(|&other| other != pivot) {
            let factor = matrix[other][pivot];
            for column in 0..size {
                matrix[other][column] ^= multiply(factor, matrix[pivot][column]);
                result[other][column] ^= multiply(factor, result[pivot][column]);
            }
        }
    }
    Some(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parity_rows_of_two_bytes_are_what_the_field_says() {
        let data: [&[u8]; 2] = [&[0x80], &[0x01]];
        assert_eq!(parity(0, &data), [0x81]);
        assert_eq!(parity(1, &data), [0x1d ^ 0x01]);
        assert_eq!(parity(2, &data), [double(0x1d) ^ 0x01]);
    }

    proptest! {
        #[test]
        fn any_lost_columns_up_to_the_parity_come_back(
            columns in 1usize..10, length in 1usize..40, seed: u64,
            picks in proptest::collection::vec(any::<prop::sample::Index>(), 1..4),
            skip in 0usize..3,
        ) {
            let mut state = seed;
            let mut byte = || { state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1); (state >> 56) as u8 };
            // The last columns are one byte shorter, as partial rows are.
            let data: Vec<Vec<u8>> = (0..columns)
                .map(|index| (0..length + usize::from(index * 2 < columns)).map(|_| byte()).collect()).collect();
            let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let rows: Vec<(usize, Vec<u8>)> = (0..3).map(|row| (row, parity(row, &slices))).collect();
            let mut lost: Vec<usize> = picks.iter().map(|pick| pick.index(columns)).collect();
            lost.sort_unstable();
            lost.dedup();
            let mut good: Vec<(usize, &[u8])> = rows.iter().map(|(row, bytes)| (*row, bytes.as_slice())).collect();
            if lost.len() < 3 {
                good.remove(skip);
            }
            let mut damaged = data.clone();
            for &index in &lost {
                damaged[index].fill(0xaa);
            }
            prop_assert_eq!(reconstruct(&mut damaged, &lost, &good), Some(()));
            prop_assert_eq!(damaged, data);
        }
    }
}
