//! What killed a program, from the kernel's fault message to a line of the log.

use core::fmt;
use proto::root::Death;
use sel4_sys::FaultLabel;

/// Reads the fault message with this label and these words.
#[must_use]
pub fn read(label: u64, word: impl Fn(usize) -> u64) -> Death {
    match FaultLabel::try_from(label) {
        Ok(FaultLabel::VmFault) => Death::MemoryFault {
            ip: word(0),
            address: word(1),
        },
        Ok(FaultLabel::UserException) => Death::Exception {
            ip: word(0),
            vector: word(3) as u32,
        },
        Ok(FaultLabel::CapFault) => Death::CapFault {
            ip: word(0),
            slot: word(1),
        },
        Ok(FaultLabel::UnknownSyscall) => Death::UnknownSyscall {
            ip: word(15),
            number: word(18),
        },
        _ => Death::OtherFault(label),
    }
}

/// A death in words.
#[derive(Debug, Clone, Copy)]
pub struct InWords(pub Death);

impl fmt::Display for InWords {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Death::MemoryFault { ip, address } => {
                write!(f, "memory fault at {ip:#x}, address {address:#x}")
            }
            Death::Exception { ip, vector } => write!(f, "exception {vector} at {ip:#x}"),
            Death::CapFault { ip, slot } => {
                write!(
                    f,
                    "use of capability {slot} that it does not have, at {ip:#x}"
                )
            }
            Death::UnknownSyscall { ip, number } => {
                write!(f, "unknown system call {number:#x} at {ip:#x}")
            }
            Death::OtherFault(label) => write!(f, "fault {label}"),
            Death::Killed => write!(f, "killed"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(label: u64) -> String {
        let words: [u64; 19] = core::array::from_fn(|index| 0x100 + index as u64);
        InWords(read(label, |index| words[index])).to_string()
    }

    #[test]
    fn each_fault_says_where_and_what() {
        assert_eq!(words(6), "memory fault at 0x100, address 0x101");
        assert_eq!(words(3), "exception 259 at 0x100");
        assert_eq!(
            words(1),
            "use of capability 257 that it does not have, at 0x100"
        );
        assert_eq!(words(2), "unknown system call 0x112 at 0x10f");
        assert_eq!(words(5), "fault 5");
        assert_eq!(words(77), "fault 77");
    }
}
