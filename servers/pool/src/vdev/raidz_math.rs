//! The arithmetic of raidz: parity columns over GF(256), and lost columns from what is left.
//!
//! Parity row `r` of the data columns `d[0..n]` is the sum of `g^(r·(n-1-i)) · d[i]` with g = 2, the polynomial 0x11d, evaluated by Horner's
//! rule. Columns may be shorter than the first; what is missing counts as zero. The sums themselves are `pool_simd::raidz`'s.

use alloc::vec;
use alloc::vec::Vec;

use pool_simd::raidz::{add_product, double, generate};

/// The most parity columns there are.
pub const MAX_PARITY: usize = 3;

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

/// Parity rows 0 (P), 1 (Q), 2 (R) of the data columns, as many as asked for; each as long as the first column.
pub fn parities(rows: usize, data: &[&[u8]]) -> Vec<Vec<u8>> {
    let length = data.first().map_or(0, |column| column.len());
    sums(rows.min(MAX_PARITY), data, length)
}

fn sums(rows: usize, columns: &[&[u8]], length: usize) -> Vec<Vec<u8>> {
    let mut sums = vec![vec![0u8; length]; rows];
    let mut slices: Vec<&mut [u8]> = sums.iter_mut().map(Vec::as_mut_slice).collect();
    generate(columns, &mut slices);
    sums
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
    // What the good columns contribute is subtracted; what remains are sums of the lost ones. A column without bytes counts as zeros.
    let good: Vec<&[u8]> = (0..columns)
        .map(|index| match lost.contains(&index) {
            true => &[][..],
            false => &data[index],
        })
        .collect();
    let needed = rows.iter().map(|(row, _)| row + 1).max().unwrap_or(0);
    let mut remains = sums(needed.min(MAX_PARITY), &good, length);
    for &(row, parity) in rows {
        add_product(1, parity, remains.get_mut(row)?);
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
        for (&factor, &(row, _)) in factors.iter().zip(rows) {
            add_product(factor, &remains[row], &mut data[index]);
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
        let rows = parities(3, &data);
        assert_eq!(rows, [[0x81], [0x1d ^ 0x01], [double(0x1d) ^ 0x01]]);
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
            let rows: Vec<(usize, Vec<u8>)> = parities(3, &slices).into_iter().enumerate().collect();
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
