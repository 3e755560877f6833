//! Events that can be injected into a VCPU, in the format of docs/abi.md, and the exceptions that
//! the monitor itself raises when it finishes an instruction on the guest's behalf.

/// What kind of event it is (bits 8..10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EventKind {
    /// From an interrupt controller.
    ExternalInterrupt,
    /// Non-maskable interrupt.
    Nmi,
    /// Fault or trap of an instruction.
    Exception,
    /// INT n.
    SoftwareInterrupt,
}

/// One event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// Interrupt or exception vector.
    pub vector: u8,
    /// Kind.
    pub kind: EventKind,
    /// Error code that is pushed, if the exception has one.
    pub error_code: Option<u32>,
}

const PUSH_ERROR_CODE: u64 = 1 << 11;
const VALID: u64 = 1 << 31;

impl Event {
    /// A maskable interrupt.
    #[must_use]
    pub fn external_interrupt(vector: u8) -> Self {
        Self {
            vector,
            kind: EventKind::ExternalInterrupt,
            error_code: None,
        }
    }

    /// A non-maskable interrupt.
    #[must_use]
    pub fn nmi() -> Self {
        Self {
            vector: 2,
            kind: EventKind::Nmi,
            error_code: None,
        }
    }

    /// The word that `VMEnter` takes.
    #[must_use]
    pub fn encode(self) -> u64 {
        let kind = match self.kind {
            EventKind::ExternalInterrupt => 0,
            EventKind::Nmi => 2,
            EventKind::Exception => 3,
            EventKind::SoftwareInterrupt => 4,
        };
        let error = match self.error_code {
            Some(code) => PUSH_ERROR_CODE | u64::from(code) << 32,
            None => 0,
        };
        u64::from(self.vector) | kind << 8 | VALID | error
    }

    /// Reads such a word; `None` if it is not valid or of an unlisted kind.
    #[must_use]
    pub fn decode(word: u64) -> Option<Self> {
        if word & VALID == 0 {
            return None;
        }
        let kind = match word >> 8 & 7 {
            0 => EventKind::ExternalInterrupt,
            2 => EventKind::Nmi,
            3 => EventKind::Exception,
            4 => EventKind::SoftwareInterrupt,
            _ => return None,
        };
        Some(Self {
            vector: word as u8,
            kind,
            error_code: (word & PUSH_ERROR_CODE != 0).then_some((word >> 32) as u32),
        })
    }
}

/// An exception that the monitor raises in the guest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestException {
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
    /// The event to inject. For a page fault CR2 must be written as well.
    #[must_use]
    pub fn event(self) -> Event {
        let (vector, error_code) = match self {
            GuestException::InvalidOpcode => (6, None),
            GuestException::StackFault(code) => (12, Some(code)),
            GuestException::GeneralProtection(code) => (13, Some(code)),
            GuestException::PageFault { error_code, .. } => (14, Some(error_code)),
        };
        Event {
            vector,
            kind: EventKind::Exception,
            error_code,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_page_fault_is_vector_14_with_its_code() {
        let fault = GuestException::PageFault {
            error_code: 6,
            address: 0x1000,
        };
        assert_eq!(fault.event().encode(), 0x6_8000_0b0e);
    }

    proptest! {
        #[test]
        fn any_word_decodes_to_an_event_that_encodes_to_the_same_meaning(word: u64) {
            if let Some(event) = Event::decode(word) {
                prop_assert_eq!(Event::decode(event.encode()), Some(event));
            }
        }
    }
}
