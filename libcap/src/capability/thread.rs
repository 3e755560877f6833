//! Threads.

use sel4_sys::thread::{READ_REGISTERS_SUSPEND, REGISTERS, UserContext, WRITE_REGISTERS_RESUME};
use sel4_sys::{CNodeData, CPtr, InvocationLabel, TcbFlags};

use super::{CNode, Endpoint, Frame, Notification, SchedContext, VSpace, capabilities};
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// A thread.
    Tcb,
}

/// The spaces a thread lives in.
#[derive(Debug, Clone, Copy)]
pub struct ThreadSpaces {
    /// Root of its capability space.
    pub cspace: CNode,
    /// Guard for it; [`CNodeData::NONE`] leaves the capability's own.
    pub cspace_data: CNodeData,
    /// Its address space.
    pub vspace: VSpace,
}

/// The pointer of a capability that may be left out.
fn or_null(cap: Option<Endpoint>) -> CPtr {
    cap.map_or(CPtr::NULL, Endpoint::cptr)
}

impl Tcb {
    /// Sets the spaces and the IPC buffer.
    ///
    /// # Errors
    /// `IllegalOperation` for capabilities of the wrong kind, `Alignment` of the buffer.
    pub fn configure(
        self,
        spaces: &ThreadSpaces,
        buffer_vaddr: u64,
        buffer: Frame,
    ) -> Result<(), KernelError> {
        let words = [spaces.cspace_data.word(), 0, buffer_vaddr];
        let caps = [spaces.cspace.cptr(), spaces.vspace.cptr(), buffer.cptr()];
        perform(self.cptr(), InvocationLabel::TcbConfigure, &words, &caps)
    }

    /// Sets the spaces and where faults go.
    ///
    /// # Errors
    /// As [`Tcb::configure`]; `InvalidCapability` if the endpoint cannot be replied through.
    pub fn set_space(
        self,
        fault: Option<Endpoint>,
        spaces: &ThreadSpaces,
    ) -> Result<(), KernelError> {
        let words = [spaces.cspace_data.word(), 0];
        let caps = [or_null(fault), spaces.cspace.cptr(), spaces.vspace.cptr()];
        perform(self.cptr(), InvocationLabel::TcbSetSpace, &words, &caps)
    }

    /// Sets the IPC buffer.
    ///
    /// # Errors
    /// `Alignment`, `IllegalOperation` for device memory.
    pub fn set_ipc_buffer(self, vaddr: u64, buffer: Frame) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::TcbSetIpcBuffer,
            &[vaddr],
            &[buffer.cptr()],
        )
    }

    /// Sets priorities, scheduling context and fault endpoint. `authority`'s maximum controlled
    /// priority bounds both priorities.
    ///
    /// # Errors
    /// `Range` beyond the authority, `IllegalOperation` if a scheduling context is bound
    /// elsewhere.
    pub fn set_sched_params(
        self,
        authority: Self,
        maximum_controlled_priority: u8,
        priority: u8,
        context: Option<SchedContext>,
        fault: Option<Endpoint>,
    ) -> Result<(), KernelError> {
        let words = [u64::from(maximum_controlled_priority), u64::from(priority)];
        let context = context.map_or(CPtr::NULL, SchedContext::cptr);
        let caps = [authority.cptr(), context, or_null(fault)];
        perform(
            self.cptr(),
            InvocationLabel::TcbSetSchedParams,
            &words,
            &caps,
        )
    }

    /// Sets the priority.
    ///
    /// # Errors
    /// `Range` beyond the authority's maximum controlled priority.
    pub fn set_priority(self, authority: Self, priority: u8) -> Result<(), KernelError> {
        let caps = [authority.cptr()];
        perform(
            self.cptr(),
            InvocationLabel::TcbSetPriority,
            &[u64::from(priority)],
            &caps,
        )
    }

    /// Sets where timeouts go.
    ///
    /// # Errors
    /// `InvalidCapability` if the endpoint cannot be replied through.
    pub fn set_timeout_endpoint(self, endpoint: Option<Endpoint>) -> Result<(), KernelError> {
        let caps = [or_null(endpoint)];
        perform(
            self.cptr(),
            InvocationLabel::TcbSetTimeoutEndpoint,
            &[],
            &caps,
        )
    }

    /// Binds a notification: the thread receives its signals wherever it waits.
    ///
    /// # Errors
    /// `IllegalOperation` if either is bound.
    pub fn bind_notification(self, notification: Notification) -> Result<(), KernelError> {
        let caps = [notification.cptr()];
        perform(
            self.cptr(),
            InvocationLabel::TcbBindNotification,
            &[],
            &caps,
        )
    }

    /// Undoes [`Tcb::bind_notification`].
    ///
    /// # Errors
    /// `IllegalOperation` if none is bound.
    pub fn unbind_notification(self) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::TcbUnbindNotification,
            &[],
            &[],
        )
    }

    /// Stops the thread.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no thread.
    pub fn suspend(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::TcbSuspend, &[], &[])
    }

    /// Lets the thread run; a system call that was broken off starts again.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no thread.
    pub fn resume(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::TcbResume, &[], &[])
    }

    /// The registers of a thread, which is suspended first.
    ///
    /// # Errors
    /// `IllegalOperation` for the calling thread itself.
    pub fn suspend_and_read_registers(self) -> Result<UserContext, KernelError> {
        self.read(READ_REGISTERS_SUSPEND)
    }

    /// The registers of a thread as they are.
    ///
    /// # Errors
    /// `IllegalOperation` for the calling thread itself.
    pub fn read_registers(self) -> Result<UserContext, KernelError> {
        self.read(0)
    }

    fn read(self, flags: u64) -> Result<UserContext, KernelError> {
        let words = [flags, REGISTERS as u64];
        let answer = invoke(self.cptr(), InvocationLabel::TcbReadRegisters, &words, &[])?;
        Ok(UserContext::from_words(&core::array::from_fn(|index| {
            answer.word(index)
        })))
    }

    /// Sets every register and leaves the thread as it is.
    ///
    /// # Errors
    /// `IllegalOperation` for the calling thread itself.
    pub fn write_registers(self, context: &UserContext) -> Result<(), KernelError> {
        self.write(0, context)
    }

    /// Sets every register and lets the thread run from there.
    ///
    /// # Errors
    /// `IllegalOperation` for the calling thread itself.
    pub fn write_registers_and_resume(self, context: &UserContext) -> Result<(), KernelError> {
        self.write(WRITE_REGISTERS_RESUME, context)
    }

    fn write(self, flags: u64, context: &UserContext) -> Result<(), KernelError> {
        let mut words = [0; 2 + REGISTERS];
        words[0] = flags;
        words[1] = REGISTERS as u64;
        words[2..].copy_from_slice(&context.to_words());
        perform(self.cptr(), InvocationLabel::TcbWriteRegisters, &words, &[])
    }

    /// Sets the FS base.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no thread.
    pub fn set_tls_base(self, base: u64) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::TcbSetTlsBase, &[base], &[])
    }

    /// Clears and sets flags; returns those after.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no thread.
    pub fn set_flags(self, clear: TcbFlags, set: TcbFlags) -> Result<TcbFlags, KernelError> {
        let words = [clear.word(), set.word()];
        let answer = invoke(self.cptr(), InvocationLabel::TcbSetFlags, &words, &[])?;
        Ok(TcbFlags::from_word(answer.word(0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};

    #[test]
    fn registers_are_written_behind_flags_and_count() {
        let context = UserContext {
            rip: 1,
            gs_base: 20,
            ..UserContext::default()
        };
        Tcb::from_cptr(CPtr(3))
            .write_registers_and_resume(&context)
            .unwrap();
        let words = &take()[0].words;
        assert_eq!(words.len(), 22);
        assert_eq!((words[0], words[1], words[2], words[21]), (1, 20, 1, 20));
    }

    #[test]
    fn registers_are_read_from_the_whole_answer() {
        prepare(Answer {
            words: (100..120).collect(),
            ..Answer::default()
        });
        let context = Tcb::from_cptr(CPtr(3))
            .suspend_and_read_registers()
            .unwrap();
        assert_eq!((context.rip, context.rax, context.gs_base), (100, 103, 119));
        assert_eq!(take()[0].words, [1, 20]);
    }

    #[test]
    fn capabilities_left_out_are_null() {
        let thread = Tcb::from_cptr(CPtr(3));
        thread
            .set_sched_params(Tcb::from_cptr(CPtr(1)), 0, 100, None, None)
            .unwrap();
        assert_eq!(take()[0].caps, [CPtr(1), CPtr::NULL, CPtr::NULL]);
    }
}
