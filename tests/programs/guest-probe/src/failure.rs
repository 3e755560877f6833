//! What a scenario reports when the kernel did something else.

use alloc::format;
use alloc::string::String;
use core::fmt;

use libcap::KernelError;

/// A sentence about what happened instead.
#[derive(Debug)]
pub struct Failure(pub String);

/// How a scenario ends.
pub type Outcome<T = ()> = Result<T, Failure>;

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<KernelError> for Failure {
    fn from(error: KernelError) -> Self {
        Self(format!("refused: {error:?}"))
    }
}

/// Fails with a sentence unless two values are equal. Values are shown in hexadecimal.
macro_rules! ensure_equal {
    ($left:expr, $right:expr, $($what:tt)+) => {
        match ($left, $right) {
            (left, right) if left == right => {}
            (left, right) => {
                return Err($crate::failure::Failure(alloc::format!(
                    "{}: {left:#x?} instead of {right:#x?}", format_args!($($what)+)
                )));
            }
        }
    };
}

/// Fails with a sentence unless a condition holds.
macro_rules! ensure {
    ($condition:expr, $($what:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure(alloc::format!($($what)+)));
        }
    };
}

pub(crate) use {ensure, ensure_equal};
