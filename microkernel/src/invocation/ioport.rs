//! IOPortControl issues ranges of I/O ports, each port once; IOPort reads and writes them.

use super::{Answer, Arguments, Outcome};
use crate::arch::{self, PortWidth};
use crate::cap::Cap;
use crate::derivation;
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::lookup::{SlotRole, lookup_slot_in};
use crate::object::Slot;
use crate::store::Ref;
use sel4_sys::InvocationLabel;

/// A range of ports to issue.
#[derive(Clone, Copy, Debug)]
struct Issue {
    first: u16,
    last: u16,
    destination: Ref<Slot>,
}

/// One access to a port.
#[derive(Clone, Copy, Debug)]
struct Access {
    port: u16,
    width: PortWidth,
    /// The value to write; `None` reads.
    value: Option<u32>,
}

impl Kernel {
    /// Whether no capability covers a port of `first..=last`.
    fn are_io_ports_free(&self, first: u16, last: u16) -> bool {
        port_masks(first, last).all(|(index, mask)| self.io_ports[index].get() & mask == 0)
    }

    fn claim_io_ports(&self, first: u16, last: u16) {
        for (index, mask) in port_masks(first, last) {
            self.io_ports[index].set(self.io_ports[index].get() | mask);
        }
    }

    /// Makes the ports `first..=last` free to be issued again.
    pub(crate) fn release_io_ports(&self, first: u16, last: u16) {
        for (index, mask) in port_masks(first, last) {
            self.io_ports[index].set(self.io_ports[index].get() & !mask);
        }
    }
}

/// The words of the port bitmap that hold `first..=last`, each with its bits.
fn port_masks(first: u16, last: u16) -> impl Iterator<Item = (usize, u64)> {
    let (first, last) = (usize::from(first), usize::from(last));
    (first / 64..=last / 64).map(move |index| {
        let low = if index == first / 64 { first % 64 } else { 0 };
        let high = if index == last / 64 { last % 64 } else { 63 };
        (index, u64::MAX << low & u64::MAX >> (63 - high))
    })
}

/// Serves an invocation of the IOPortControl capability in `arguments.slot`.
///
/// # Errors
/// As seL4's reference says for IOPortControl.Issue.
pub fn invoke_control(kernel: &Kernel, arguments: &Arguments) -> Outcome {
    let issue = decode_issue(kernel, arguments)?;
    kernel.claim_io_ports(issue.first, issue.last);
    derivation::insert(
        Cap::IoPort {
            first: issue.first,
            last: issue.last,
        },
        arguments.slot,
        issue.destination,
    );
    Ok(Answer::empty())
}

fn decode_issue(kernel: &Kernel, arguments: &Arguments) -> Result<Issue, SyscallError> {
    if arguments.label != InvocationLabel::X86IoPortControlIssue.number() {
        return Err(SyscallError::IllegalOperation);
    }
    let (index, depth) = (arguments.word(2)?, arguments.word(3)?);
    let root = arguments.extra_slot(0)?;
    let (first, last) = (arguments.word(0)? as u16, arguments.word(1)? as u16);
    if last < first {
        return Err(SyscallError::InvalidArgument(1));
    }
    if !kernel.are_io_ports_free(first, last) {
        return Err(SyscallError::RevokeFirst);
    }
    let destination = lookup_slot_in(SlotRole::Target, root.cap(), index, depth)?;
    derivation::ensure_empty(destination)?;
    Ok(Issue {
        first,
        last,
        destination,
    })
}

/// Serves an invocation of a capability to the ports `first..=last`.
///
/// # Errors
/// As seL4's reference says for the IOPort methods.
pub fn invoke_port(first: u16, last: u16, arguments: &Arguments) -> Outcome {
    let access = decode_access(first, last, arguments)?;
    match access.value {
        Some(value) => {
            arch::port_out(access.port, access.width, value);
            Ok(Answer::empty())
        }
        None => {
            let value = arch::port_in(access.port, access.width);
            Ok(Answer::words(&[u64::from(value)]))
        }
    }
}

fn decode_access(first: u16, last: u16, arguments: &Arguments) -> Result<Access, SyscallError> {
    use InvocationLabel as Label;
    let label = Label::try_from(arguments.label).map_err(|_| SyscallError::IllegalOperation)?;
    let width = match label {
        Label::X86IoPortIn8 | Label::X86IoPortOut8 => PortWidth::Byte,
        Label::X86IoPortIn16 | Label::X86IoPortOut16 => PortWidth::Word,
        Label::X86IoPortIn32 | Label::X86IoPortOut32 => PortWidth::Long,
        _ => return Err(SyscallError::IllegalOperation),
    };
    let (bytes, value_mask) = match width {
        PortWidth::Byte => (1, 0xff),
        PortWidth::Word => (2, 0xffff),
        PortWidth::Long => (4, u32::MAX),
    };
    let value = match label {
        Label::X86IoPortIn8 | Label::X86IoPortIn16 | Label::X86IoPortIn32 => None,
        _ => Some(arguments.word(1)? as u32 & value_mask),
    };
    let port = arguments.word(0)? as u16;
    if port < first || u32::from(port) + bytes - 1 > u32::from(last) {
        return Err(SyscallError::IllegalOperation);
    }
    Ok(Access { port, width, value })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_issued_once_until_it_is_released() {
        let kernel = std::boxed::Box::new(Kernel::new());
        kernel.claim_io_ports(60, 200);
        assert!(!kernel.are_io_ports_free(0, 60));
        assert!(!kernel.are_io_ports_free(128, 128));
        assert!(!kernel.are_io_ports_free(200, u16::MAX));
        assert!(kernel.are_io_ports_free(0, 59));
        assert!(kernel.are_io_ports_free(201, u16::MAX));
        kernel.release_io_ports(60, 200);
        assert!(kernel.are_io_ports_free(0, u16::MAX));
    }

    #[test]
    fn the_bitmap_has_a_bit_for_each_port() {
        let bits: u32 = port_masks(0, u16::MAX)
            .map(|(_, mask)| mask.count_ones())
            .sum();
        assert_eq!(bits, 1 << 16);
        let one: std::vec::Vec<_> = port_masks(0x3f8, 0x3f8).collect();
        assert_eq!(one, [(0x3f8 / 64, 1 << (0x3f8 % 64))]);
    }
}
