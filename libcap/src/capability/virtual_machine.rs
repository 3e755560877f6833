//! Virtual CPUs and guest-physical address spaces. Running a VCPU is in [`crate::vcpu`].

use heapless::Vec;
use sel4_sys::vcpu_field::FIELDS_PER_CALL;
use sel4_sys::{InvocationLabel, VcpuField};

use super::{IoPort, Tcb, capabilities};
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// One virtual CPU.
    Vcpu,
    /// The root of a guest-physical address space (GuestPML4).
    GuestRoot,
    /// Its second level: one slot is 1 GiB.
    GuestPdpt,
    /// Its third level: one slot is 2 MiB.
    GuestPageDirectory,
    /// Its fourth level: one slot is 4 KiB.
    GuestPageTable,
}

impl Vcpu {
    /// Binds the thread that runs this VCPU.
    ///
    /// # Errors
    /// `IllegalOperation` if either is bound.
    pub fn set_tcb(self, thread: Tcb) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::VcpuSetTcb,
            &[],
            &[thread.cptr()],
        )
    }

    /// Sets the memory that the guest sees.
    ///
    /// # Errors
    /// `InvalidCapability` if the root has no identifier yet.
    pub fn set_guest_root(self, root: GuestRoot) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::VcpuSetGuestRoot,
            &[],
            &[root.cptr()],
        )
    }

    /// Reads up to [`FIELDS_PER_CALL`] fields, in the order asked.
    ///
    /// # Errors
    /// `Range` for more fields than that.
    pub fn read_fields<const N: usize>(
        self,
        fields: [VcpuField; N],
    ) -> Result<[u64; N], KernelError> {
        const { assert!(N <= FIELDS_PER_CALL) };
        let mut words: Vec<u64, { 1 + FIELDS_PER_CALL }> = Vec::new();
        words.extend(core::iter::once(N as u64).chain(fields.map(VcpuField::number)));
        let answer = invoke(self.cptr(), InvocationLabel::VcpuReadFields, &words, &[])?;
        Ok(core::array::from_fn(|index| answer.word(index)))
    }

    /// Writes fields. More than [`FIELDS_PER_CALL`] are several calls; of a call that is refused
    /// nothing is written.
    ///
    /// # Errors
    /// `InvalidArgument` with the index of the field, within its call, whose value no CPU would
    /// accept.
    pub fn write_fields(self, fields: &[(VcpuField, u64)]) -> Result<(), KernelError> {
        for chunk in fields.chunks(FIELDS_PER_CALL) {
            let mut words: Vec<u64, { 1 + 2 * FIELDS_PER_CALL }> = Vec::new();
            let pairs = chunk
                .iter()
                .flat_map(|&(field, value)| [field.number(), value]);
            words.extend(core::iter::once(chunk.len() as u64).chain(pairs));
            perform(self.cptr(), InvocationLabel::VcpuWriteFields, &words, &[])?;
        }
        Ok(())
    }

    /// Lets the guest use ports `first` to `last` directly.
    ///
    /// # Errors
    /// `IllegalOperation` if `ports` does not cover them.
    pub fn enable_io_port(self, ports: IoPort, first: u16, last: u16) -> Result<(), KernelError> {
        let words = [u64::from(first), u64::from(last)];
        perform(
            self.cptr(),
            InvocationLabel::VcpuEnableIoPort,
            &words,
            &[ports.cptr()],
        )
    }

    /// Makes ports exit again.
    ///
    /// # Errors
    /// `InvalidArgument` if `last` is below `first`.
    pub fn disable_io_port(self, first: u16, last: u16) -> Result<(), KernelError> {
        let words = [u64::from(first), u64::from(last)];
        perform(self.cptr(), InvocationLabel::VcpuDisableIoPort, &words, &[])
    }
}

/// Mapping methods of a guest paging structure.
macro_rules! guest_table {
    ($( $name:ident, )+) => {
        $(
            impl $name {
                /// Puts the structure in place for the span that `guest_physical` is in.
                ///
                /// # Errors
                /// `FailedLookup` with the level that is missing above it, `DeleteFirst` if the
                /// span has one.
                pub fn map(
                    self,
                    root: GuestRoot,
                    guest_physical: u64,
                ) -> Result<(), KernelError> {
                    let caps = [root.cptr()];
                    perform(self.cptr(), InvocationLabel::GuestTableMap, &[guest_physical], &caps)
                }

                /// Takes it out with everything below it.
                ///
                /// # Errors
                /// `InvalidCapability` if it is no such structure.
                pub fn unmap(self) -> Result<(), KernelError> {
                    perform(self.cptr(), InvocationLabel::GuestTableUnmap, &[], &[])
                }
            }
        )+
    };
}

guest_table! { GuestPdpt, GuestPageDirectory, GuestPageTable, }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};
    use sel4_sys::CPtr;

    #[test]
    fn fields_are_read_by_count_and_id() {
        prepare(Answer {
            words: vec![7, 8],
            ..Answer::default()
        });
        let fields = [VcpuField::Rip, VcpuField::Cr0];
        assert_eq!(Vcpu::from_cptr(CPtr(3)).read_fields(fields), Ok([7, 8]));
        assert_eq!(take()[0].words, [2, 52, 36]);
    }

    #[test]
    fn many_fields_are_written_in_several_calls() {
        let fields: Vec<(VcpuField, u64), 64> = VcpuField::ALL
            .iter()
            .take(40)
            .map(|&field| (field, 9))
            .collect();
        Vcpu::from_cptr(CPtr(3)).write_fields(&fields).unwrap();
        let lengths: std::vec::Vec<usize> = take().iter().map(|call| call.words.len()).collect();
        assert_eq!(lengths, [65, 17]);
    }
}
