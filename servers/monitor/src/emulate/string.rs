//! String instructions: MOVS, STOS, LODS, CMPS, SCAS, INS and OUTS, with their repeat prefixes.
//!
//! A repeated one does a bounded share per exit and leaves RIP at itself, so that a guest's huge
//! count delays neither its own interrupts nor the other VCPUs, which wait for the machine's lock.

use iced_x86::{Code, Instruction, OpKind};

use super::arithmetic::{self, DF, ZF};
use super::{EmulationError, Emulator, Progress};
use crate::bus::Bus;
use crate::exit::AccessSize;
use crate::paging::Intent;
use crate::vcpu::{RAX, RCX, RDI, RDX, RSI};

/// Steps of a repeated instruction per exit: about 100 µs of emulation, in the order of a
/// kernel's longest time with interrupts off.
pub const MAXIMUM_STEPS: u64 = 1024;

/// What a string instruction does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Move,
    Store,
    Load,
    Compare,
    Scan,
    Input,
    Output,
}

/// Operation and element size of a string instruction.
fn classify(code: Code) -> Option<(Operation, AccessSize)> {
    use AccessSize::{Byte, Dword, Qword, Word};
    Some(match code {
        Code::Movsb_m8_m8 => (Operation::Move, Byte),
        Code::Movsw_m16_m16 => (Operation::Move, Word),
        Code::Movsd_m32_m32 => (Operation::Move, Dword),
        Code::Movsq_m64_m64 => (Operation::Move, Qword),
        Code::Stosb_m8_AL => (Operation::Store, Byte),
        Code::Stosw_m16_AX => (Operation::Store, Word),
        Code::Stosd_m32_EAX => (Operation::Store, Dword),
        Code::Stosq_m64_RAX => (Operation::Store, Qword),
        Code::Lodsb_AL_m8 => (Operation::Load, Byte),
        Code::Lodsw_AX_m16 => (Operation::Load, Word),
        Code::Lodsd_EAX_m32 => (Operation::Load, Dword),
        Code::Lodsq_RAX_m64 => (Operation::Load, Qword),
        Code::Cmpsb_m8_m8 => (Operation::Compare, Byte),
        Code::Cmpsw_m16_m16 => (Operation::Compare, Word),
        Code::Cmpsd_m32_m32 => (Operation::Compare, Dword),
        Code::Cmpsq_m64_m64 => (Operation::Compare, Qword),
        Code::Scasb_AL_m8 => (Operation::Scan, Byte),
        Code::Scasw_AX_m16 => (Operation::Scan, Word),
        Code::Scasd_EAX_m32 => (Operation::Scan, Dword),
        Code::Scasq_RAX_m64 => (Operation::Scan, Qword),
        Code::Insb_m8_DX => (Operation::Input, Byte),
        Code::Insw_m16_DX => (Operation::Input, Word),
        Code::Insd_m32_DX => (Operation::Input, Dword),
        Code::Outsb_DX_m8 => (Operation::Output, Byte),
        Code::Outsw_DX_m16 => (Operation::Output, Word),
        Code::Outsd_DX_m32 => (Operation::Output, Dword),
        _ => return None,
    })
}

/// Whether [`Emulator::run`] treats this code as a string instruction.
#[must_use]
pub fn is_string(code: Code) -> bool {
    classify(code).is_some()
}

/// Mask of the address size, from the operand that is memory.
fn address_mask(instruction: &Instruction) -> u64 {
    let is_memory = |kind: &OpKind| !matches!(kind, OpKind::Register);
    match instruction.op_kinds().find(is_memory) {
        Some(OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI) => 0xffff,
        Some(OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI) => 0xffff_ffff,
        _ => u64::MAX,
    }
}

impl<B: Bus> Emulator<'_, B> {
    /// Performs up to [`MAXIMUM_STEPS`] steps of a string instruction.
    pub(super) fn run_string(
        &mut self,
        instruction: &Instruction,
    ) -> Result<Progress, EmulationError> {
        let (operation, size) = classify(instruction.code()).ok_or(EmulationError::Unsupported)?;
        let mask = address_mask(instruction);
        let repeats = instruction.has_rep_prefix() || instruction.has_repne_prefix();
        if !repeats {
            self.step(instruction, operation, size, mask)?;
            return Ok(Progress::Done);
        }
        for _ in 0..MAXIMUM_STEPS {
            let count = self.registers.general[RCX] & mask;
            if count == 0 {
                return Ok(Progress::Done);
            }
            self.step(instruction, operation, size, mask)?;
            self.set_masked(RCX, mask, count - 1);
            if self.condition_ends(instruction, operation) {
                return Ok(Progress::Done);
            }
        }
        Ok(match self.registers.general[RCX] & mask {
            0 => Progress::Done,
            _ => Progress::Partial,
        })
    }

    /// REPE stops at a difference, REPNE at a match; only comparisons look.
    fn condition_ends(&self, instruction: &Instruction, operation: Operation) -> bool {
        if !matches!(operation, Operation::Compare | Operation::Scan) {
            return false;
        }
        let equal = self.registers.rflags & ZF != 0;
        equal == instruction.has_repne_prefix()
    }

    /// One element. Everything that can fault comes before the first effect.
    fn step(
        &mut self,
        instruction: &Instruction,
        operation: Operation,
        size: AccessSize,
        mask: u64,
    ) -> Result<(), EmulationError> {
        let port = self.registers.general[RDX] as u16;
        let accumulator = self.registers.general[RAX] & size.mask();
        match operation {
            Operation::Move => {
                let source = self.resolve(instruction, 1, size, Intent::Read)?;
                let destination = self.resolve(instruction, 0, size, Intent::Write)?;
                let value = self.load(source, size)?;
                self.store(destination, size, value)?;
                self.move_pointer(RSI, mask, size);
                self.move_pointer(RDI, mask, size);
            }
            Operation::Store => {
                let destination = self.resolve(instruction, 0, size, Intent::Write)?;
                self.store(destination, size, accumulator)?;
                self.move_pointer(RDI, mask, size);
            }
            Operation::Load => {
                let source = self.resolve(instruction, 1, size, Intent::Read)?;
                let value = self.load(source, size)?;
                self.set_accumulator(size, value);
                self.move_pointer(RSI, mask, size);
            }
            Operation::Compare => {
                let left = self.resolve(instruction, 0, size, Intent::Read)?;
                let right = self.resolve(instruction, 1, size, Intent::Read)?;
                let (left, right) = (self.load(left, size)?, self.load(right, size)?);
                self.set_comparison(left, right, size);
                self.move_pointer(RSI, mask, size);
                self.move_pointer(RDI, mask, size);
            }
            Operation::Scan => {
                let right = self.resolve(instruction, 1, size, Intent::Read)?;
                let right = self.load(right, size)?;
                self.set_comparison(accumulator, right, size);
                self.move_pointer(RDI, mask, size);
            }
            Operation::Input => {
                let destination = self.resolve(instruction, 0, size, Intent::Write)?;
                let value = self.bus.read_port(port, size) & size.mask();
                self.store(destination, size, value)?;
                self.move_pointer(RDI, mask, size);
            }
            Operation::Output => {
                let source = self.resolve(instruction, 1, size, Intent::Read)?;
                let value = self.load(source, size)?;
                self.bus.write_port(port, size, value);
                self.move_pointer(RSI, mask, size);
            }
        }
        Ok(())
    }

    fn set_comparison(&mut self, left: u64, right: u64, size: AccessSize) {
        let outcome = arithmetic::subtract(left, right, 0, size);
        self.registers.rflags = outcome.apply(self.registers.rflags);
    }

    fn move_pointer(&mut self, index: usize, mask: u64, size: AccessSize) {
        let step = size.bytes() as u64;
        let old = self.registers.general[index];
        let new = if self.registers.rflags & DF == 0 {
            old.wrapping_add(step)
        } else {
            old.wrapping_sub(step)
        };
        self.set_masked(index, mask, new);
    }

    /// Writes a counter or pointer in the instruction's address size.
    fn set_masked(&mut self, index: usize, mask: u64, value: u64) {
        let old = &mut self.registers.general[index];
        *old = match mask {
            0xffff => *old & !mask | value & mask,
            _ => value & mask,
        };
    }
}
