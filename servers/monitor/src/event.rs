//! The exceptions that the monitor itself raises when it finishes an instruction on the guest's
//! behalf.

use sel4_sys::Event;

use crate::mode::CpuMode;

const VECTOR_DEBUG: u8 = 1;
const VECTOR_INVALID_OPCODE: u8 = 6;
const VECTOR_STACK: u8 = 12;
const VECTOR_PROTECTION: u8 = 13;
const VECTOR_PAGE: u8 = 14;

/// An exception that the monitor raises in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestException {
    /// #DB after an instruction that ran with RFLAGS.TF.
    SingleStep,
    /// #UD.
    InvalidOpcode,
    /// #GP with an error code.
    GeneralProtection(u32),
    /// #SS with an error code.
    StackFault(u32),
    /// #PF: error code, and the linear address for CR2.
    PageFault {
        /// Architectural error code.
        error_code: u32,
        /// Faulting linear address.
        address: u64,
    },
}

impl GuestException {
    /// The event to inject. For a page fault CR2 must be written as well. Real mode knows no
    /// error codes.
    #[must_use]
    pub fn event(self, mode: &CpuMode) -> Event {
        let (vector, error_code) = match self {
            GuestException::SingleStep => (VECTOR_DEBUG, None),
            GuestException::InvalidOpcode => (VECTOR_INVALID_OPCODE, None),
            GuestException::StackFault(code) => (VECTOR_STACK, Some(code)),
            GuestException::GeneralProtection(code) => (VECTOR_PROTECTION, Some(code)),
            GuestException::PageFault { error_code, .. } => (VECTOR_PAGE, Some(error_code)),
        };
        Event::exception(vector, error_code.filter(|_| mode.is_protected()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use libcap::vcpu::ExitRecord;

    #[test]
    fn real_mode_exceptions_push_no_error_code() {
        let mut mode = CpuMode::of(&ExitRecord::default());
        let fault = GuestException::GeneralProtection(0);
        assert_eq!(fault.event(&mode), Event::exception(13, None));
        mode.cr0 = 1;
        assert_eq!(fault.event(&mode), Event::exception(13, Some(0)));
    }
}
