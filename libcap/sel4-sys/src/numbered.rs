//! Closed enums whose numbers are the ABI.
//!
//! Owns the one macro that ties names to numbers, so that encoding (`number`) and decoding
//! (`TryFrom<u64>`) follow from the same list and cannot disagree.

/// A number that names nothing in the enum it was decoded as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnknownNumber(
    /// The number that was refused.
    pub u64,
);

/// Declares an enum with fixed numbers, `number`, `ALL` and `TryFrom<u64>`.
macro_rules! numbered {
    (
        $(#[$enum_doc:meta])*
        $name:ident {
            $( $(#[$doc:meta])* $variant:ident = $number:expr, )+
        }
    ) => {
        $(#[$enum_doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u64)]
        pub enum $name {
            $( $(#[$doc])* $variant = $number, )+
        }

        impl $name {
            /// Every value, in the order of declaration.
            pub const ALL: &'static [$name] = &[ $( $name::$variant, )+ ];

            /// The number that stands for this value in the ABI.
            #[must_use]
            pub const fn number(self) -> u64 {
                self as u64
            }
        }

        impl TryFrom<u64> for $name {
            type Error = $crate::UnknownNumber;

            #[inline]
            fn try_from(number: u64) -> Result<Self, $crate::UnknownNumber> {
                $( if number == $name::$variant as u64 { return Ok($name::$variant); } )+
                Err($crate::UnknownNumber(number))
            }
        }
    };
}
pub(crate) use numbered;

#[cfg(test)]
mod tests {
    use crate::*;

    fn round_trips<T>(all: &[T], number: impl Fn(T) -> u64)
    where
        T: TryFrom<u64, Error = UnknownNumber> + Copy + PartialEq + core::fmt::Debug,
    {
        for &value in all {
            assert_eq!(T::try_from(number(value)), Ok(value));
        }
        assert_eq!(
            T::try_from(u64::MAX >> 1),
            Err(UnknownNumber(u64::MAX >> 1))
        );
    }

    #[test]
    fn every_number_decodes_to_the_name_it_came_from() {
        round_trips(Syscall::ALL, Syscall::number);
        round_trips(ObjectType::ALL, ObjectType::number);
        round_trips(InvocationLabel::ALL, InvocationLabel::number);
        round_trips(ErrorCode::ALL, ErrorCode::number);
        round_trips(LookupFailureKind::ALL, LookupFailureKind::number);
        round_trips(FaultLabel::ALL, FaultLabel::number);
        round_trips(ExitReason::ALL, ExitReason::number);
        round_trips(VcpuField::ALL, VcpuField::number);
        round_trips(ExtraRecord::ALL, ExtraRecord::number);
        round_trips(InitialSlot::ALL, InitialSlot::number);
    }
}
