//! Copying, filling and comparing memory.
//!
//! A program on the kernel links no C library, so these are its `memcpy`, `memmove`, `memset`,
//! `memcmp`, `bcmp` and `strlen`. The compiler may turn any loop that copies into a call of
//! `memcpy`; the loops here are therefore assembly, and short lengths are single moves. SSE2 is
//! the baseline of the architecture.

use core::arch::asm;
use core::arch::x86_64::{
    __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_set1_epi8, _mm_storeu_si128,
};

/// Bytes that one turn of the copy loops moves.
const BLOCK: usize = 64;
/// Bytes of one vector.
const VECTOR: usize = 16;

/// Copies `length` < 2 × `VECTOR`… bytes: all are read before any is written, so overlap is fine.
///
/// # Safety
/// As for [`copy`]; `length` is at most 2 × [`VECTOR`].
#[inline(always)]
unsafe fn copy_short(to: *mut u8, from: *const u8, length: usize) {
    /// Two moves of one width that meet or overlap in the middle.
    macro_rules! head_and_tail {
        ($width:ty) => {{
            let tail = length - size_of::<$width>();
            // SAFETY: the caller vouches for `length` bytes; both moves are within them.
            unsafe {
                let first = from.cast::<$width>().read_unaligned();
                let last = from.add(tail).cast::<$width>().read_unaligned();
                to.cast::<$width>().write_unaligned(first);
                to.add(tail).cast::<$width>().write_unaligned(last);
            }
        }};
    }
    match length {
        0 => {}
        1 => head_and_tail!(u8),
        2..=3 => head_and_tail!(u16),
        4..=7 => head_and_tail!(u32),
        8..=15 => head_and_tail!(u64),
        _ => head_and_tail!(__m128i),
    }
}

/// One block in registers.
type Block = [__m128i; BLOCK / VECTOR];

/// Reads a block.
///
/// # Safety
/// [`BLOCK`] bytes are readable at `from`.
#[inline(always)]
unsafe fn load_block(from: *const u8) -> Block {
    // SAFETY: within the block.
    core::array::from_fn(|index| unsafe { _mm_loadu_si128(from.add(index * VECTOR).cast()) })
}

/// Writes a block.
///
/// # Safety
/// [`BLOCK`] bytes are writable at `to`.
#[inline(always)]
unsafe fn store_block(to: *mut u8, block: Block) {
    for (index, vector) in block.into_iter().enumerate() {
        // SAFETY: within the block.
        unsafe { _mm_storeu_si128(to.add(index * VECTOR).cast(), vector) }
    }
}

/// Moves `blocks` ≥ 1 blocks, each read as a whole before it is written; `step` is the signed
/// distance from one to the next.
///
/// # Safety
/// All of the blocks are readable at `from` and writable at `to`.
unsafe fn copy_blocks(to: *mut u8, from: *const u8, blocks: usize, step: isize) {
    // SAFETY: the loop touches exactly the blocks.
    unsafe {
        asm!(
            "2:",
            "movups {a}, [{from}]",
            "movups {b}, [{from} + 16]",
            "movups {c}, [{from} + 32]",
            "movups {d}, [{from} + 48]",
            "movups [{to}], {a}",
            "movups [{to} + 16], {b}",
            "movups [{to} + 32], {c}",
            "movups [{to} + 48], {d}",
            "add {from}, {step}",
            "add {to}, {step}",
            "dec {blocks}",
            "jnz 2b",
            from = inout(reg) from => _,
            to = inout(reg) to => _,
            blocks = inout(reg) blocks => _,
            step = in(reg) step,
            a = out(xmm_reg) _,
            b = out(xmm_reg) _,
            c = out(xmm_reg) _,
            d = out(xmm_reg) _,
            options(nostack),
        );
    }
}

/// Copies `length` bytes; the two ranges may overlap.
///
/// # Safety
/// `from` is readable and `to` is writable for `length` bytes. Others may write to `from` at the
/// same time (memory that is shared): then it is open which of the bytes are copied.
#[inline]
pub unsafe fn copy(to: *mut u8, from: *const u8, length: usize) {
    // SAFETY: every access is within the ranges. What the last write needs is read first, and
    // the blocks go in the direction in which no block is overwritten before it is read.
    unsafe {
        if length <= 2 * VECTOR {
            copy_short(to, from, length);
        } else if length < BLOCK {
            let head = [
                _mm_loadu_si128(from.cast()),
                _mm_loadu_si128(from.add(VECTOR).cast()),
            ];
            let tail = length - 2 * VECTOR;
            let (from, end) = (from.add(tail), to.add(tail));
            let last = [
                _mm_loadu_si128(from.cast()),
                _mm_loadu_si128(from.add(VECTOR).cast()),
            ];
            _mm_storeu_si128(to.cast(), head[0]);
            _mm_storeu_si128(to.add(VECTOR).cast(), head[1]);
            _mm_storeu_si128(end.cast(), last[0]);
            _mm_storeu_si128(end.add(VECTOR).cast(), last[1]);
        } else if to.addr().wrapping_sub(from.addr()) >= length {
            // `to` is below `from` or behind its end: forward.
            let last = load_block(from.add(length - BLOCK));
            copy_blocks(to, from, length / BLOCK, BLOCK as isize);
            store_block(to.add(length - BLOCK), last);
        } else {
            let first = load_block(from);
            let start = length - BLOCK;
            copy_blocks(
                to.add(start),
                from.add(start),
                length / BLOCK,
                -(BLOCK as isize),
            );
            store_block(to, first);
        }
    }
}

/// Sets `length` bytes to `byte`.
///
/// # Safety
/// `to` is writable for `length` bytes.
#[inline]
pub unsafe fn fill(to: *mut u8, byte: u8, length: usize) {
    let word = u64::from(byte) * 0x0101_0101_0101_0101;
    /// Two writes of one width that meet or overlap in the middle.
    macro_rules! head_and_tail {
        ($width:ty, $value:expr) => {{
            // SAFETY: the caller vouches for `length` bytes.
            unsafe {
                to.cast::<$width>().write_unaligned($value);
                to.add(length - size_of::<$width>())
                    .cast::<$width>()
                    .write_unaligned($value);
            }
        }};
    }
    match length {
        0 => {}
        1 => head_and_tail!(u8, byte),
        2..=3 => head_and_tail!(u16, word as u16),
        4..=7 => head_and_tail!(u32, word as u32),
        8..=15 => head_and_tail!(u64, word),
        // SAFETY: as above; the loop writes whole vectors within `length`, the last write the
        // rest.
        _ => unsafe {
            let vector = _mm_set1_epi8(byte.cast_signed());
            asm!(
                "2:",
                "movups [{to}], {vector}",
                "add {to}, 16",
                "dec {vectors}",
                "jnz 2b",
                to = inout(reg) to => _,
                vectors = inout(reg) length / VECTOR => _,
                vector = in(xmm_reg) vector,
                options(nostack),
            );
            _mm_storeu_si128(to.add(length - VECTOR).cast(), vector);
        },
    }
}

/// Compares `length` bytes: negative, 0 or positive, as the first different byte of `left` is
/// less or greater.
///
/// # Safety
/// Both are readable for `length` bytes.
#[inline]
#[must_use]
pub unsafe fn compare(left: *const u8, right: *const u8, length: usize) -> i32 {
    let mut index = 0;
    // SAFETY: every access is below `length`. The reads of single bytes are volatile, so that
    // the compiler does not see a comparison that it could turn into a call of this function.
    unsafe {
        while index + VECTOR <= length {
            let a = _mm_loadu_si128(left.add(index).cast());
            let b = _mm_loadu_si128(right.add(index).cast());
            let equal = _mm_movemask_epi8(_mm_cmpeq_epi8(a, b));
            if equal != 0xffff {
                let different = index + (!equal).trailing_zeros() as usize;
                return i32::from(*left.add(different)) - i32::from(*right.add(different));
            }
            index += VECTOR;
        }
        while index < length {
            let (a, b) = (
                left.add(index).read_volatile(),
                right.add(index).read_volatile(),
            );
            if a != b {
                return i32::from(a) - i32::from(b);
            }
            index += 1;
        }
    }
    0
}

/// The symbols that compiled code calls.
///
/// # Safety
/// Each has the contract of the C function of its name.
#[cfg(feature = "runtime")]
mod symbols {
    use super::{compare, copy, fill};

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcpy(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the caller's contract is stricter.
        unsafe { copy(to, from, length) }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memmove(to: *mut u8, from: *const u8, length: usize) -> *mut u8 {
        // SAFETY: the same contract.
        unsafe { copy(to, from, length) }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memset(to: *mut u8, byte: i32, length: usize) -> *mut u8 {
        // SAFETY: the same contract; C passes the byte as an int.
        unsafe { fill(to, byte as u8, length) }
        to
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn memcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
        // SAFETY: the same contract.
        unsafe { compare(left, right, length) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn bcmp(left: *const u8, right: *const u8, length: usize) -> i32 {
        // SAFETY: the same contract.
        unsafe { compare(left, right, length) }
    }

    #[unsafe(no_mangle)]
    unsafe extern "C" fn strlen(text: *const u8) -> usize {
        let mut length = 0;
        // SAFETY: the text ends with a zero byte.
        while unsafe { text.add(length).read_volatile() } != 0 {
            length += 1;
        }
        length
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ROOM: usize = 600;

    #[test]
    fn every_length_and_overlap_copies_like_the_slice_method() {
        for length in 0..=300 {
            for (from, to) in [(0, 300), (0, 1), (1, 0), (5, 21), (21, 5), (0, 64), (65, 1)] {
                let original: Vec<u8> = (0..ROOM).map(|index| (index * 7) as u8).collect();
                let (mut ours, mut expected) = (original.clone(), original);
                expected.copy_within(from..from + length, to);
                let base = ours.as_mut_ptr();
                // SAFETY: both ranges are within `ours`.
                unsafe { copy(base.add(to), base.add(from), length) };
                assert_eq!(ours, expected, "{length} bytes from {from} to {to}");
            }
        }
    }

    #[test]
    fn every_length_is_filled_and_nothing_else() {
        for length in 0..=200 {
            for start in [0, 1, 15, 33] {
                let mut ours = vec![0x11_u8; 300];
                // SAFETY: within `ours`.
                unsafe { fill(ours.as_mut_ptr().add(start), 0xee, length) };
                let expected: Vec<u8> = (0..300)
                    .map(|index| {
                        if (start..start + length).contains(&index) {
                            0xee
                        } else {
                            0x11
                        }
                    })
                    .collect();
                assert_eq!(ours, expected, "{length} bytes from {start}");
            }
        }
    }

    proptest! {
        #[test]
        fn comparing_orders_like_slices(left in prop::collection::vec(0_u8..3, 0..100),
                                        right in prop::collection::vec(0_u8..3, 0..100)) {
            let length = left.len().min(right.len());
            // SAFETY: both have `length` bytes.
            let ours = unsafe { compare(left.as_ptr(), right.as_ptr(), length) };
            prop_assert_eq!(ours.cmp(&0), left[..length].cmp(&right[..length]));
        }

        #[test]
        fn one_different_byte_is_found(length in 1_usize..200, at in any::<prop::sample::Index>()) {
            let left = vec![0x80_u8; length];
            let mut right = left.clone();
            right[at.index(length)] = 0x7f;
            // SAFETY: both have `length` bytes.
            let ours = unsafe { compare(left.as_ptr(), right.as_ptr(), length) };
            prop_assert!(ours > 0);
        }
    }
}
