//! Integer arithmetic with the flags it leaves in RFLAGS.
//!
//! Pure functions over values that are already cut to their size. Where the architecture leaves a
//! flag undefined it is cleared. Source: Intel SDM volume 1, appendix A.

use crate::exit::AccessSize;

/// Carry.
pub const CF: u64 = 1 << 0;
/// Parity of the low byte.
pub const PF: u64 = 1 << 2;
/// Carry out of bit 3.
pub const AF: u64 = 1 << 4;
/// Zero.
pub const ZF: u64 = 1 << 6;
/// Sign.
pub const SF: u64 = 1 << 7;
/// Direction of string instructions.
pub const DF: u64 = 1 << 10;
/// Signed overflow.
pub const OF: u64 = 1 << 11;

/// The six flags that arithmetic sets.
pub const STATUS_FLAGS: u64 = CF | PF | AF | ZF | SF | OF;

/// A result, and the status flags it sets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Result, cut to size.
    pub value: u64,
    /// New values of the flags in `affected`.
    pub flags: u64,
    /// Which flags change.
    pub affected: u64,
}

impl Outcome {
    /// `rflags` with the changed flags.
    #[must_use]
    pub fn apply(&self, rflags: u64) -> u64 {
        rflags & !self.affected | self.flags & self.affected
    }
}

/// ZF, SF and PF of a result.
fn result_flags(value: u64, size: AccessSize) -> u64 {
    let mut flags = 0;
    if value == 0 {
        flags |= ZF;
    }
    if value & size.sign_bit() != 0 {
        flags |= SF;
    }
    if (value as u8).count_ones().is_multiple_of(2) {
        flags |= PF;
    }
    flags
}

/// `left + right + carry`, with carry 0 or 1.
#[must_use]
pub fn add(left: u64, right: u64, carry: u64, size: AccessSize) -> Outcome {
    let wide = u128::from(left) + u128::from(right) + u128::from(carry);
    let value = wide as u64 & size.mask();
    let mut flags = result_flags(value, size);
    if wide >> size.bits() != 0 {
        flags |= CF;
    }
    if (left ^ right ^ value) & 0x10 != 0 {
        flags |= AF;
    }
    if (left ^ value) & (right ^ value) & size.sign_bit() != 0 {
        flags |= OF;
    }
    Outcome {
        value,
        flags,
        affected: STATUS_FLAGS,
    }
}

/// `left - right - borrow`, with borrow 0 or 1.
#[must_use]
pub fn subtract(left: u64, right: u64, borrow: u64, size: AccessSize) -> Outcome {
    let value = left.wrapping_sub(right).wrapping_sub(borrow) & size.mask();
    let mut flags = result_flags(value, size);
    if u128::from(left) < u128::from(right) + u128::from(borrow) {
        flags |= CF;
    }
    if (left ^ right ^ value) & 0x10 != 0 {
        flags |= AF;
    }
    if (left ^ right) & (left ^ value) & size.sign_bit() != 0 {
        flags |= OF;
    }
    Outcome {
        value,
        flags,
        affected: STATUS_FLAGS,
    }
}

/// The result of AND, OR, XOR or TEST: carry and overflow are cleared.
#[must_use]
pub fn logic(value: u64, size: AccessSize) -> Outcome {
    let value = value & size.mask();
    Outcome {
        value,
        flags: result_flags(value, size),
        affected: STATUS_FLAGS,
    }
}

/// INC: like adding one, but carry stays.
#[must_use]
pub fn increment(value: u64, size: AccessSize) -> Outcome {
    Outcome {
        affected: STATUS_FLAGS & !CF,
        ..add(value, 1, 0, size)
    }
}

/// DEC: like subtracting one, but carry stays.
#[must_use]
pub fn decrement(value: u64, size: AccessSize) -> Outcome {
    Outcome {
        affected: STATUS_FLAGS & !CF,
        ..subtract(value, 1, 0, size)
    }
}

/// What a bit-test instruction does to its bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BitAction {
    /// BT.
    Test,
    /// BTS.
    Set,
    /// BTR.
    Reset,
    /// BTC.
    Complement,
}

/// Tests bit `index` (below the width) and acts on it; carry takes its old value.
#[must_use]
pub fn bit(value: u64, index: u32, action: BitAction, size: AccessSize) -> Outcome {
    let mask = 1u64 << (index % size.bits());
    let new = match action {
        BitAction::Test => value,
        BitAction::Set => value | mask,
        BitAction::Reset => value & !mask,
        BitAction::Complement => value ^ mask,
    };
    let flags = if value & mask != 0 { CF } else { 0 };
    Outcome {
        value: new,
        flags,
        affected: CF,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SIZES: [AccessSize; 4] = [
        AccessSize::Byte,
        AccessSize::Word,
        AccessSize::Dword,
        AccessSize::Qword,
    ];

    #[test]
    fn known_sums_have_their_known_flags() {
        let cases = [
            (0x7f, 0x01, 0x80, SF | OF | AF),
            (0xff, 0x01, 0x00, CF | ZF | PF | AF),
            (0x80, 0x80, 0x00, CF | ZF | PF | OF),
            (0x01, 0x02, 0x03, PF),
        ];
        for (left, right, value, flags) in cases {
            let sum = add(left, right, 0, AccessSize::Byte);
            assert_eq!(
                (sum.value, sum.flags),
                (value, flags),
                "{left:#x} + {right:#x}"
            );
        }
    }

    #[test]
    fn known_differences_have_their_known_flags() {
        let cases = [
            (0x00, 0x01, 0xff, CF | SF | PF | AF),
            (0x80, 0x01, 0x7f, OF | AF),
            (0x05, 0x05, 0x00, ZF | PF),
        ];
        for (left, right, value, flags) in cases {
            let difference = subtract(left, right, 0, AccessSize::Byte);
            assert_eq!(
                (difference.value, difference.flags),
                (value, flags),
                "{left:#x} - {right:#x}"
            );
        }
    }

    #[test]
    fn increment_keeps_carry() {
        assert_eq!(increment(0xff, AccessSize::Byte).apply(CF) & CF, CF);
        assert_eq!(decrement(0, AccessSize::Byte).apply(0) & CF, 0);
    }

    proptest! {
        #[test]
        fn a_difference_added_back_gives_the_start(left: u64, right: u64, borrow in 0u64..2) {
            for size in SIZES {
                let (left, right) = (left & size.mask(), right & size.mask());
                let difference = subtract(left, right, borrow, size);
                let back = add(difference.value, right, borrow, size);
                prop_assert_eq!(back.value, left);
                // Carry out and borrow out mirror each other.
                prop_assert_eq!(back.flags & CF, difference.flags & CF);
            }
        }

        #[test]
        fn overflow_is_what_signed_arithmetic_says(left: i32, right: i32) {
            let sum = add(u64::from(left as u32), u64::from(right as u32), 0, AccessSize::Dword);
            prop_assert_eq!(sum.flags & OF != 0, left.checked_add(right).is_none());
            let difference = subtract(u64::from(left as u32), u64::from(right as u32), 0, AccessSize::Dword);
            prop_assert_eq!(difference.flags & OF != 0, left.checked_sub(right).is_none());
        }

        #[test]
        fn a_bit_test_reports_the_old_bit(value: u64, index in 0u32..64) {
            for action in [BitAction::Test, BitAction::Set, BitAction::Reset, BitAction::Complement] {
                let outcome = bit(value, index, action, AccessSize::Qword);
                prop_assert_eq!(outcome.flags & CF, value >> index & 1);
                prop_assert_eq!((outcome.value ^ value) & !(1 << index), 0);
            }
        }
    }
}
