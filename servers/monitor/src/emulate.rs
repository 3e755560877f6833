//! Finishes instructions that the CPU could not: accesses to device memory, string port I/O, and
//! accesses to control registers.
//!
//! Submodules: [`fetch`] gets and decodes the bytes, [`place`] turns operands into RAM or device
//! addresses, [`arithmetic`] computes flags, [`execute`] performs ordinary instructions, [`string`]
//! the repeated ones, [`control`] those on control registers, [`length`] measures the few whose
//! length is known beforehand. Nothing here knows a device: they are behind [`Bus`].
//!
//! An instruction that faults leaves the registers as they were (a repeated one: as after the
//! last whole step), so the guest can mend the cause and run it again.

pub mod arithmetic;
pub mod control;
pub mod execute;
pub mod fetch;
pub mod length;
pub mod place;
pub mod string;

use iced_x86::Instruction;

use crate::bus::Bus;
use crate::event::GuestException;
use crate::memory::{GuestAddress, GuestMemory};
use crate::mode::CpuMode;
use crate::paging::WalkFault;
use crate::segment::SegmentSource;
use crate::vcpu::Registers;

/// Why an instruction was not finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EmulationError {
    /// The guest gets this exception.
    Exception(GuestException),
    /// The instruction is legal but not one that the monitor can finish.
    Unsupported,
    /// The guest's page tables, or the code itself, are not in RAM.
    OutsideRam(GuestAddress),
}

impl From<GuestException> for EmulationError {
    fn from(exception: GuestException) -> Self {
        EmulationError::Exception(exception)
    }
}

impl From<WalkFault> for EmulationError {
    fn from(fault: WalkFault) -> Self {
        match fault {
            WalkFault::Page {
                error_code,
                address,
            } => EmulationError::Exception(GuestException::PageFault {
                error_code,
                address,
            }),
            WalkFault::NonCanonical => {
                EmulationError::Exception(GuestException::GeneralProtection(0))
            }
            WalkFault::TablesOutsideRam(address) => EmulationError::OutsideRam(address),
        }
    }
}

/// How far an instruction got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Finished; RIP is past it.
    Done,
    /// A repeated instruction did its share; RIP is still at it.
    Partial,
}

/// Everything that the instruction may touch.
pub struct Emulator<'a, B: Bus> {
    /// Registers, changed in place.
    pub registers: &'a mut Registers,
    /// Mode at the exit.
    pub mode: &'a CpuMode,
    /// RAM.
    pub memory: GuestMemory<'a>,
    /// Segment registers.
    pub segments: &'a mut dyn SegmentSource,
    /// Devices.
    pub bus: &'a mut B,
    /// The guest-physical address that the CPU reported, which spares a walk.
    pub reported: Option<GuestAddress>,
}

impl<B: Bus> Emulator<'_, B> {
    /// Performs one decoded instruction.
    ///
    /// # Errors
    /// [`EmulationError`]; the registers are then as the module says.
    pub fn run(&mut self, instruction: &Instruction) -> Result<Progress, EmulationError> {
        if instruction.is_stack_instruction() || string::is_string(instruction.code()) {
            // Two memory operands: the report does not say which one it is about.
            self.reported = None;
        }
        let progress = if string::is_string(instruction.code()) {
            self.run_string(instruction)?
        } else {
            self.execute(instruction)?;
            Progress::Done
        };
        if progress == Progress::Done {
            let length = instruction.len() as u64;
            self.registers.rip = self.mode.advance(self.registers.rip, length);
        }
        Ok(progress)
    }
}

#[cfg(test)]
mod tests;
