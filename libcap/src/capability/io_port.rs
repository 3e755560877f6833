//! I/O ports.

use sel4_sys::InvocationLabel;

use super::{Slot, capabilities};
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// A range of I/O ports.
    IoPort,
    /// The right to hand out ranges.
    IoPortControl,
}

impl IoPortControl {
    /// Makes a capability to ports `first` to `last` inclusive.
    ///
    /// # Errors
    /// `RevokeFirst` if one of them was handed out, `InvalidArgument` if `last` is below `first`,
    /// `DeleteFirst` if the slot is taken.
    pub fn issue(self, first: u16, last: u16, destination: Slot) -> Result<(), KernelError> {
        let slot = [destination.index, u64::from(destination.depth)];
        let words = [u64::from(first), u64::from(last), slot[0], slot[1]];
        let caps = [destination.root.cptr()];
        perform(
            self.cptr(),
            InvocationLabel::X86IoPortControlIssue,
            &words,
            &caps,
        )
    }
}

/// Access methods for one width.
macro_rules! port_access {
    ($( $read:ident $in_label:ident, $write:ident $out_label:ident: $width:ty; )+) => {
        impl IoPort {
            $(
                /// Reads from a port.
                ///
                /// # Errors
                /// `IllegalOperation` if the port is not in the range.
                pub fn $read(self, port: u16) -> Result<$width, KernelError> {
                    let words = [u64::from(port)];
                    let answer = invoke(self.cptr(), InvocationLabel::$in_label, &words, &[])?;
                    Ok(answer.word(0) as $width)
                }

                /// Writes to a port.
                ///
                /// # Errors
                /// `IllegalOperation` if the port is not in the range.
                pub fn $write(self, port: u16, value: $width) -> Result<(), KernelError> {
                    let words = [u64::from(port), u64::from(value)];
                    perform(self.cptr(), InvocationLabel::$out_label, &words, &[])
                }
            )+
        }
    };
}

port_access! {
    read_u8 X86IoPortIn8, write_u8 X86IoPortOut8: u8;
    read_u16 X86IoPortIn16, write_u16 X86IoPortOut16: u16;
    read_u32 X86IoPortIn32, write_u32 X86IoPortOut32: u32;
}
