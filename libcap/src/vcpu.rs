//! Running a virtual CPU: VMEnter and the exit record.
//!
//! The calling thread enters the guest that is bound to it and comes back with an exit or a
//! notification (docs/abi.md, "System calls"). It is separate from [`crate::capability`] because
//! it is no invocation: no capability is named.

use sel4_sys::message::REGISTER_WORDS;
use sel4_sys::vcpu::{EnterRefusal, enter, enter_flags, enter_result, exit, exit_mode};
use sel4_sys::{CPtr, Event, ExitReason, MessageInfo, Syscall, UnknownNumber};

use crate::kernel::{self, Delivery, Request};

/// Number of general registers in a record.
pub const GENERAL_REGISTERS: usize = 16;

/// General registers in the CPU's order: RAX RCX RDX RBX RSP RBP RSI RDI R8..R15.
pub type GeneralRegisters = [u64; GENERAL_REGISTERS];

/// What to change before the guest goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Entry<'r> {
    flags: u64,
    event: Event,
    rip: u64,
    rflags: u64,
    registers: Option<&'r GeneralRegisters>,
}

impl<'r> Entry<'r> {
    /// Go on as it is.
    #[must_use]
    #[inline]
    pub fn resume() -> Self {
        Self::default()
    }

    /// Set RIP and the general registers.
    #[must_use]
    #[inline]
    pub fn with_registers(mut self, rip: u64, registers: &'r GeneralRegisters) -> Self {
        self.flags |= enter_flags::SET_REGISTERS;
        self.rip = rip;
        self.registers = Some(registers);
        self
    }

    /// Set RFLAGS; counts only together with [`Entry::with_registers`].
    #[must_use]
    #[inline]
    pub fn with_rflags(mut self, rflags: u64) -> Self {
        self.flags |= enter_flags::SET_RFLAGS;
        self.rflags = rflags;
        self
    }

    /// Inject an event.
    #[must_use]
    #[inline]
    pub fn with_event(mut self, event: Event) -> Self {
        self.flags |= enter_flags::INJECT;
        self.event = event;
        self
    }

    /// Exit as soon as the guest can take an interrupt.
    #[must_use]
    #[inline]
    pub fn until_interrupt_window(mut self) -> Self {
        self.flags |= enter_flags::INTERRUPT_WINDOW;
        self
    }

    /// End the interrupt shadow: the instruction that made it was emulated.
    #[must_use]
    #[inline]
    pub fn after_emulation(mut self) -> Self {
        self.flags |= enter_flags::CLEAR_SHADOW;
        self
    }

    /// Places the message; returns the words that are in registers.
    #[inline]
    fn place(&self) -> [u64; REGISTER_WORDS] {
        if let Some(registers) = self.registers {
            kernel::set_buffer_word(enter::RFLAGS, self.rflags);
            kernel::set_buffer_words(enter::REGISTERS, registers);
        }
        [self.flags, self.event.word(), self.rip, 0]
    }
}

const _: () = assert!(enter::FLAGS == 0 && enter::EVENT == 1 && enter::RIP == 2);

/// What an entry came back with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The bound notification was signalled with these bits; the guest is as it was and so is
    /// the exit record.
    Notification(u64),
    /// The guest exited; the record was filled.
    Exit,
    /// The kernel did not enter.
    Refused(Refusal),
}

/// Why the kernel did not enter a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// The VCPU has no guest memory.
    NoGuestRoot,
    /// State or event are invalid.
    InvalidState {
        /// Number of the offending [`sel4_sys::VcpuField`], 0 if it is the event.
        field: u64,
    },
    /// This machine cannot run guests.
    NoVirtualisation,
}

/// Words of a record before the general registers, which are its last part.
const HEAD_WORDS: usize = exit::REGISTERS;

const _: () = assert!(exit::REGISTERS + GENERAL_REGISTERS == exit::LENGTH);

/// Why and in which state a guest exited.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExitRecord {
    words: [u64; HEAD_WORDS],
    registers: GeneralRegisters,
}

impl ExitRecord {
    /// A record with these words, as the kernel delivers them.
    #[must_use]
    pub fn from_words(words: [u64; exit::LENGTH]) -> Self {
        Self {
            words: core::array::from_fn(|index| words[index]),
            registers: core::array::from_fn(|index| words[exit::REGISTERS + index]),
        }
    }

    /// Takes over what the kernel delivered: the first words in registers, the rest in the buffer.
    #[inline]
    fn fill(&mut self, registers: [u64; REGISTER_WORDS]) {
        const BUFFER_WORDS: usize = HEAD_WORDS - REGISTER_WORDS;
        let (first, rest) = self.words.split_at_mut(REGISTER_WORDS);
        first.copy_from_slice(&registers);
        rest.copy_from_slice(&kernel::buffer_words::<BUFFER_WORDS>(REGISTER_WORDS));
        self.registers = kernel::buffer_words(exit::REGISTERS);
    }

    /// The reason.
    ///
    /// # Errors
    /// Its number, if the ABI does not know it.
    pub fn reason(&self) -> Result<ExitReason, UnknownNumber> {
        ExitReason::try_from(self.words[exit::REASON])
    }

    /// What belongs to the reason (see [`sel4_sys::vcpu`]).
    #[must_use]
    pub const fn qualification(&self) -> u64 {
        self.words[exit::QUALIFICATION]
    }

    /// RIP of the instruction that exited.
    #[must_use]
    pub const fn rip(&self) -> u64 {
        self.words[exit::RIP]
    }

    /// Its length in bytes, if the CPU told it.
    #[must_use]
    pub const fn instruction_length(&self) -> Option<u64> {
        match self.words[exit::INSTRUCTION_LENGTH] {
            0 => None,
            length => Some(length),
        }
    }

    /// Bytes of the instruction, as many as the CPU gave.
    #[must_use]
    pub fn instruction_bytes(&self) -> heapless::Vec<u8, 16> {
        let valid = usize::try_from(self.words[exit::INSTRUCTION_VALID]).unwrap_or(usize::MAX);
        let words = [
            self.words[exit::INSTRUCTION_LOW],
            self.words[exit::INSTRUCTION_HIGH],
        ];
        words
            .iter()
            .flat_map(|word| word.to_le_bytes())
            .take(valid)
            .collect()
    }

    /// RFLAGS.
    #[must_use]
    pub const fn rflags(&self) -> u64 {
        self.words[exit::RFLAGS]
    }

    /// Guest-physical address of a memory fault; raw exit code of an invalid state.
    #[must_use]
    pub const fn guest_physical(&self) -> u64 {
        self.words[exit::GUEST_PHYSICAL]
    }

    /// CR0 as the guest sees it.
    #[must_use]
    pub const fn cr0(&self) -> u64 {
        self.words[exit::CR0]
    }

    /// CR3.
    #[must_use]
    pub const fn cr3(&self) -> u64 {
        self.words[exit::CR3]
    }

    /// CR4 as the guest sees it.
    #[must_use]
    pub const fn cr4(&self) -> u64 {
        self.words[exit::CR4]
    }

    /// EFER as the guest sees it.
    #[must_use]
    pub const fn efer(&self) -> u64 {
        self.words[exit::EFER]
    }

    /// Mode bits ([`exit_mode`]).
    #[must_use]
    pub const fn mode(&self) -> u64 {
        self.words[exit::MODE]
    }

    /// Current privilege level, 0..=3.
    #[must_use]
    pub const fn privilege_level(&self) -> u64 {
        self.mode() & exit_mode::CPL_MASK
    }

    /// Base of CS.
    #[must_use]
    pub const fn cs_base(&self) -> u64 {
        self.words[exit::CS_BASE]
    }

    /// The event whose delivery was broken off or that is still pending.
    #[must_use]
    pub const fn pending_event(&self) -> Event {
        Event::from_word(self.words[exit::PENDING_EVENT])
    }

    /// The general registers.
    #[must_use]
    pub const fn registers(&self) -> &GeneralRegisters {
        &self.registers
    }
}

/// Runs the VCPU that is bound to the calling thread. `record` is filled when the guest exits and
/// left alone otherwise.
///
/// # Panics
/// If the kernel answers something that the ABI does not know.
#[inline]
pub fn enter(entry: &Entry, record: &mut ExitRecord) -> Outcome {
    let registers = entry.place();
    let delivery = kernel::system_call(Request {
        syscall: Syscall::VMEnter,
        target: CPtr::NULL,
        // The flags say which words count.
        info: MessageInfo::default(),
        registers,
        reply: CPtr::NULL,
    });
    match delivery.info.label() {
        enter_result::NOTIFICATION => Outcome::Notification(delivery.badge),
        enter_result::EXIT => {
            record.fill(delivery.registers);
            Outcome::Exit
        }
        label => Outcome::Refused(refusal(label, &delivery)),
    }
}

/// Why the kernel did not enter.
#[cold]
fn refusal(label: u64, delivery: &Delivery) -> Refusal {
    assert!(
        label == enter_result::REFUSED,
        "VMEnter answered label {label}"
    );
    match EnterRefusal::try_from(delivery.word(0)) {
        Ok(EnterRefusal::NoGuestRoot) => Refusal::NoGuestRoot,
        Ok(EnterRefusal::InvalidState) => Refusal::InvalidState {
            field: delivery.word(1),
        },
        Ok(EnterRefusal::NoVirtualisation) => Refusal::NoVirtualisation,
        Err(UnknownNumber(number)) => panic!("VMEnter was refused for reason {number}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};

    #[test]
    fn going_on_sends_no_registers() {
        prepare(Answer {
            badge: 5,
            ..Answer::default()
        });
        let entry = Entry::resume().with_event(Event::interrupt(0x20));
        let mut record = ExitRecord::default();
        assert_eq!(enter(&entry, &mut record), Outcome::Notification(5));
        assert_eq!(record, ExitRecord::default());
        let [recorded] = &take()[..] else {
            panic!("one call")
        };
        assert_eq!(recorded.request.syscall, Syscall::VMEnter);
        assert_eq!(recorded.request.info, MessageInfo::default());
        assert_eq!(recorded.request.registers, [2, 0x8000_0020, 0, 0]);
    }

    #[test]
    fn registers_go_where_the_abi_has_them() {
        let registers = core::array::from_fn(|index| 100 + index as u64);
        let entry = Entry::resume()
            .with_registers(0x7c00, &registers)
            .with_rflags(2);
        prepare(Answer {
            label: 1,
            ..Answer::default()
        });
        assert_eq!(enter(&entry, &mut ExitRecord::default()), Outcome::Exit);
        assert_eq!(take()[0].request.registers, [0b1001, 0, 0x7c00, 0]);
        assert_eq!(kernel::buffer_word(4), 2);
        assert!((0..16).all(|index| kernel::buffer_word(16 + index) == 100 + index as u64));
    }

    #[test]
    fn an_exit_fills_the_record() {
        let mut words: Vec<u64> = (0..32).map(|index| 1000 + index).collect();
        words[exit::REASON] = ExitReason::Io.number();
        words[exit::INSTRUCTION_LOW] = 0xeeff;
        words[exit::INSTRUCTION_VALID] = 2;
        prepare(Answer {
            label: 1,
            words,
            ..Answer::default()
        });
        let mut record = ExitRecord::default();
        assert_eq!(enter(&Entry::resume(), &mut record), Outcome::Exit);
        assert_eq!(record.reason(), Ok(ExitReason::Io));
        assert_eq!((record.rip(), record.cs_base()), (1002, 1011));
        assert_eq!(record.registers()[15], 1031);
        assert_eq!(record.instruction_bytes(), [0xff, 0xee]);
    }

    #[test]
    fn a_count_of_instruction_bytes_beyond_the_record_is_cut() {
        let mut words = [0; 32];
        words[exit::INSTRUCTION_VALID] = u64::MAX;
        assert_eq!(ExitRecord::from_words(words).instruction_bytes().len(), 16);
    }

    #[test]
    fn a_refusal_names_the_field() {
        prepare(Answer {
            label: 2,
            words: vec![2, 36],
            ..Answer::default()
        });
        let outcome = enter(&Entry::resume(), &mut ExitRecord::default());
        assert_eq!(
            outcome,
            Outcome::Refused(Refusal::InvalidState { field: 36 })
        );
    }
}
