//! Instructions on control and debug registers, decoded to what they want.
//!
//! What the access then means is decided in [`crate::system_register`]: this module only turns
//! bytes and registers into a request, because on some CPUs the exit does not say which register
//! was meant.

use iced_x86::{Code, Instruction, OpKind, Register};

use super::{EmulationError, Emulator};
use crate::bus::Bus;
use crate::exit::AccessSize;
use crate::mode::CR0_TS;
use crate::paging::Intent;

/// A control register that a MOV can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRegister {
    /// CR0.
    Cr0,
    /// CR2.
    Cr2,
    /// CR3.
    Cr3,
    /// CR4.
    Cr4,
    /// CR8, the task priority.
    Cr8,
}

/// What the instruction asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlRequest {
    /// Write `value` to the register.
    Write {
        /// Destination.
        register: ControlRegister,
        /// New value.
        value: u64,
    },
    /// Read the register into a general register.
    Read {
        /// Source.
        register: ControlRegister,
        /// Index of the general register.
        general: usize,
    },
    /// Write a debug register.
    WriteDebug {
        /// 0..7, 4 and 5 already mapped to 6 and 7.
        register: u8,
        /// New value.
        value: u64,
    },
    /// Read a debug register into a general register.
    ReadDebug {
        /// 0..7, 4 and 5 already mapped to 6 and 7.
        register: u8,
        /// Index of the general register.
        general: usize,
    },
    /// The instruction was finished here (SMSW stores CR0, which the exit record has).
    Finished,
}

fn control_register(register: Register) -> Result<ControlRegister, EmulationError> {
    match register {
        Register::CR0 => Ok(ControlRegister::Cr0),
        Register::CR2 => Ok(ControlRegister::Cr2),
        Register::CR3 => Ok(ControlRegister::Cr3),
        Register::CR4 => Ok(ControlRegister::Cr4),
        Register::CR8 => Ok(ControlRegister::Cr8),
        _ => Err(crate::event::GuestException::InvalidOpcode.into()),
    }
}

/// DR4 and DR5 name DR6 and DR7 (CR4.DE, which would forbid it, is not offered to be relied on).
fn debug_register(register: Register) -> u8 {
    match register.number() as u8 {
        4 => 6,
        5 => 7,
        number => number & 7,
    }
}

impl<B: Bus> Emulator<'_, B> {
    /// Decodes an access to a control or debug register. RIP is left alone.
    ///
    /// # Errors
    /// [`EmulationError::Unsupported`] for any other instruction.
    pub fn control_request(
        &mut self,
        instruction: &Instruction,
    ) -> Result<ControlRequest, EmulationError> {
        match instruction.code() {
            Code::Mov_cr_r32 | Code::Mov_cr_r64 => Ok(ControlRequest::Write {
                register: control_register(instruction.op0_register())?,
                value: self.read_register(instruction.op1_register())?,
            }),
            Code::Mov_r32_cr | Code::Mov_r64_cr => Ok(ControlRequest::Read {
                register: control_register(instruction.op1_register())?,
                general: instruction.op0_register().number() & 15,
            }),
            Code::Mov_dr_r32 | Code::Mov_dr_r64 => Ok(ControlRequest::WriteDebug {
                register: debug_register(instruction.op0_register()),
                value: self.read_register(instruction.op1_register())?,
            }),
            Code::Mov_r32_dr | Code::Mov_r64_dr => Ok(ControlRequest::ReadDebug {
                register: debug_register(instruction.op1_register()),
                general: instruction.op0_register().number() & 15,
            }),
            Code::Clts => Ok(ControlRequest::Write {
                register: ControlRegister::Cr0,
                value: self.mode.cr0 & !CR0_TS,
            }),
            Code::Lmsw_rm16 | Code::Lmsw_r32m16 | Code::Lmsw_r64m16 => {
                self.load_status(instruction)
            }
            Code::Smsw_rm16 | Code::Smsw_r32m16 | Code::Smsw_r64m16 => {
                self.store_status(instruction)
            }
            _ => Err(EmulationError::Unsupported),
        }
    }

    /// LMSW: the low four bits of CR0, of which PE can only be set.
    fn load_status(&mut self, instruction: &Instruction) -> Result<ControlRequest, EmulationError> {
        let place = self.resolve(instruction, 0, AccessSize::Word, Intent::Read)?;
        let low = self.load(place, AccessSize::Word)? & 0xf;
        Ok(ControlRequest::Write {
            register: ControlRegister::Cr0,
            value: self.mode.cr0 & !0xe | low,
        })
    }

    fn store_status(
        &mut self,
        instruction: &Instruction,
    ) -> Result<ControlRequest, EmulationError> {
        let size = match instruction.op_kind(0) {
            OpKind::Register => self.operand_size(instruction, 0)?,
            _ => AccessSize::Word,
        };
        let place = self.resolve(instruction, 0, size, Intent::Write)?;
        self.store(place, size, self.mode.cr0)?;
        Ok(ControlRequest::Finished)
    }
}
