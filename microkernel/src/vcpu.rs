//! The VCPU object.

use crate::store::Object;

/// One virtual CPU.
#[repr(C, align(4096))]
pub struct Vcpu {
    reserved: [u8; 32768],
}

#[expect(unsafe_code, reason = "only the marker: zero is an unused VCPU")]
// SAFETY: as the reason says.
unsafe impl Object for Vcpu {}

impl Vcpu {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 15;
}
