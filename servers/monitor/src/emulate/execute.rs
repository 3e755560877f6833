//! Ordinary instructions with a memory operand: moves, arithmetic, bit tests, exchanges, stack.

use iced_x86::{Code, Instruction, Mnemonic, OpKind};
use sel4_sys::vcpu_field::segment_attributes;

use super::arithmetic::{self, BitAction, CF, Outcome, ZF};
use super::place::Place;
use super::{EmulationError, Emulator};
use crate::bus::Bus;
use crate::exit::AccessSize;
use crate::mode::CodeWidth;
use crate::paging::Intent;
use crate::vcpu::{RAX, RSP, SegmentName};

/// Instructions of the shape `destination = destination op source`.
#[derive(Clone, Copy)]
enum Binary {
    Add,
    AddCarry,
    Subtract,
    SubtractBorrow,
    And,
    Or,
    Xor,
}

/// Those that only set flags.
#[derive(Clone, Copy)]
enum Comparison {
    Compare,
    Test,
}

/// Instructions of the shape `destination = op destination`.
#[derive(Clone, Copy)]
enum Unary {
    Increment,
    Decrement,
    Negate,
    Not,
}

/// How a move fills the upper part of a wider destination.
#[derive(Clone, Copy)]
enum Extension {
    Zero,
    Sign,
}

impl<B: Bus> Emulator<'_, B> {
    /// Performs one instruction that is not a string instruction. RIP is left alone.
    pub(super) fn execute(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        match instruction.mnemonic() {
            Mnemonic::Mov | Mnemonic::Movnti => self.move_value(instruction),
            Mnemonic::Movbe => self.move_reversed(instruction),
            Mnemonic::Movzx => self.extend(instruction, Extension::Zero),
            Mnemonic::Movsx | Mnemonic::Movsxd => self.extend(instruction, Extension::Sign),
            Mnemonic::Add => self.binary(instruction, Binary::Add),
            Mnemonic::Adc => self.binary(instruction, Binary::AddCarry),
            Mnemonic::Sub => self.binary(instruction, Binary::Subtract),
            Mnemonic::Sbb => self.binary(instruction, Binary::SubtractBorrow),
            Mnemonic::And => self.binary(instruction, Binary::And),
            Mnemonic::Or => self.binary(instruction, Binary::Or),
            Mnemonic::Xor => self.binary(instruction, Binary::Xor),
            Mnemonic::Cmp => self.compare(instruction, Comparison::Compare),
            Mnemonic::Test => self.compare(instruction, Comparison::Test),
            Mnemonic::Inc => self.unary(instruction, Unary::Increment),
            Mnemonic::Dec => self.unary(instruction, Unary::Decrement),
            Mnemonic::Neg => self.unary(instruction, Unary::Negate),
            Mnemonic::Not => self.unary(instruction, Unary::Not),
            Mnemonic::Xchg => self.exchange(instruction),
            Mnemonic::Xadd => self.exchange_and_add(instruction),
            Mnemonic::Cmpxchg => self.compare_and_exchange(instruction),
            Mnemonic::Bt => self.bit_test(instruction, BitAction::Test),
            Mnemonic::Bts => self.bit_test(instruction, BitAction::Set),
            Mnemonic::Btr => self.bit_test(instruction, BitAction::Reset),
            Mnemonic::Btc => self.bit_test(instruction, BitAction::Complement),
            Mnemonic::Push => self.push(instruction),
            Mnemonic::Pop => self.pop(instruction),
            _ => Err(EmulationError::Unsupported),
        }
    }

    fn apply(&mut self, outcome: &Outcome) {
        self.registers.rflags = outcome.apply(self.registers.rflags);
    }

    fn carry(&self) -> u64 {
        self.registers.rflags & CF
    }

    fn move_value(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        // Moves with a segment, control or debug register are not between general operands.
        let size = self.operand_size(instruction, 0)?;
        let source = self.resolve(instruction, 1, size, Intent::Read)?;
        let destination = self.resolve(instruction, 0, size, Intent::Write)?;
        let value = self.load(source, size)?;
        self.store(destination, size, value)
    }

    fn move_reversed(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let source = self.resolve(instruction, 1, size, Intent::Read)?;
        let destination = self.resolve(instruction, 0, size, Intent::Write)?;
        let value = self.load(source, size)?;
        self.store(destination, size, value.swap_bytes() >> (64 - size.bits()))
    }

    fn extend(
        &mut self,
        instruction: &Instruction,
        extension: Extension,
    ) -> Result<(), EmulationError> {
        let from = self.operand_size(instruction, 1)?;
        let to = self.operand_size(instruction, 0)?;
        let source = self.resolve(instruction, 1, from, Intent::Read)?;
        let destination = self.resolve(instruction, 0, to, Intent::Write)?;
        let mut value = self.load(source, from)?;
        if matches!(extension, Extension::Sign) && value & from.sign_bit() != 0 {
            value |= !from.mask();
        }
        self.store(destination, to, value & to.mask())
    }

    fn binary(
        &mut self,
        instruction: &Instruction,
        operation: Binary,
    ) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let source = self.resolve(instruction, 1, size, Intent::Read)?;
        let destination = self.resolve(instruction, 0, size, Intent::Write)?;
        let right = self.load(source, size)?;
        let left = self.load(destination, size)?;
        let outcome = match operation {
            Binary::Add => arithmetic::add(left, right, 0, size),
            Binary::AddCarry => arithmetic::add(left, right, self.carry(), size),
            Binary::Subtract => arithmetic::subtract(left, right, 0, size),
            Binary::SubtractBorrow => arithmetic::subtract(left, right, self.carry(), size),
            Binary::And => arithmetic::logic(left & right, size),
            Binary::Or => arithmetic::logic(left | right, size),
            Binary::Xor => arithmetic::logic(left ^ right, size),
        };
        self.store(destination, size, outcome.value)?;
        self.apply(&outcome);
        Ok(())
    }

    fn compare(
        &mut self,
        instruction: &Instruction,
        comparison: Comparison,
    ) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let left = self.resolve(instruction, 0, size, Intent::Read)?;
        let right = self.resolve(instruction, 1, size, Intent::Read)?;
        let left = self.load(left, size)?;
        let right = self.load(right, size)?;
        let outcome = match comparison {
            Comparison::Compare => arithmetic::subtract(left, right, 0, size),
            Comparison::Test => arithmetic::logic(left & right, size),
        };
        self.apply(&outcome);
        Ok(())
    }

    fn unary(&mut self, instruction: &Instruction, operation: Unary) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let place = self.resolve(instruction, 0, size, Intent::Write)?;
        let value = self.load(place, size)?;
        let outcome = match operation {
            Unary::Increment => arithmetic::increment(value, size),
            Unary::Decrement => arithmetic::decrement(value, size),
            Unary::Negate => arithmetic::subtract(0, value, 0, size),
            Unary::Not => Outcome {
                value: !value & size.mask(),
                flags: 0,
                affected: 0,
            },
        };
        self.store(place, size, outcome.value)?;
        self.apply(&outcome);
        Ok(())
    }

    fn exchange(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let first = self.resolve(instruction, 0, size, Intent::Write)?;
        let second = self.resolve(instruction, 1, size, Intent::Write)?;
        let left = self.load(first, size)?;
        let right = self.load(second, size)?;
        self.store(first, size, right)?;
        self.store(second, size, left)
    }

    fn exchange_and_add(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let destination = self.resolve(instruction, 0, size, Intent::Write)?;
        let source = self.resolve(instruction, 1, size, Intent::Write)?;
        let left = self.load(destination, size)?;
        let right = self.load(source, size)?;
        let outcome = arithmetic::add(left, right, 0, size);
        self.store(source, size, left)?;
        self.store(destination, size, outcome.value)?;
        self.apply(&outcome);
        Ok(())
    }

    fn compare_and_exchange(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let destination = self.resolve(instruction, 0, size, Intent::Write)?;
        let source = self.resolve(instruction, 1, size, Intent::Read)?;
        let current = self.load(destination, size)?;
        let expected = self.registers.general[RAX] & size.mask();
        let outcome = arithmetic::subtract(expected, current, 0, size);
        if outcome.flags & ZF != 0 {
            let new = self.load(source, size)?;
            self.store(destination, size, new)?;
        } else {
            // A failed exchange writes the old value back, and a device sees that.
            self.store(destination, size, current)?;
            self.set_accumulator(size, current);
        }
        self.apply(&outcome);
        Ok(())
    }

    /// Writes AL, AX, EAX or RAX.
    pub(super) fn set_accumulator(&mut self, size: AccessSize, value: u64) {
        let old = &mut self.registers.general[RAX];
        *old = match size {
            AccessSize::Dword | AccessSize::Qword => value & size.mask(),
            AccessSize::Byte | AccessSize::Word => *old & !size.mask() | value & size.mask(),
        };
    }

    fn bit_test(
        &mut self,
        instruction: &Instruction,
        action: BitAction,
    ) -> Result<(), EmulationError> {
        let size = self.operand_size(instruction, 0)?;
        let intent = match action {
            BitAction::Test => Intent::Read,
            _ => Intent::Write,
        };
        let is_register = instruction.op_kind(1) == OpKind::Register;
        let (place, index) = if is_register && instruction.op_kind(0) == OpKind::Memory {
            self.bit_string_place(instruction, size, intent)?
        } else {
            let source = self.resolve(instruction, 1, size, Intent::Read)?;
            let index = self.load(source, size)?;
            (self.resolve(instruction, 0, size, intent)?, index)
        };
        let index = (index % u64::from(size.bits())) as u32;
        let value = self.load(place, size)?;
        let outcome = arithmetic::bit(value, index, action, size);
        if action != BitAction::Test {
            self.store(place, size, outcome.value)?;
        }
        self.apply(&outcome);
        Ok(())
    }

    /// With a register index the memory operand is a bit string: the index reaches beyond it.
    fn bit_string_place(
        &mut self,
        instruction: &Instruction,
        size: AccessSize,
        intent: Intent,
    ) -> Result<(Place, u64), EmulationError> {
        let raw = self.read_register(instruction.op_register(1))?;
        let spare = 64 - size.bits();
        let index = (raw << spare) as i64 >> spare;
        let elements = index.div_euclid(i64::from(size.bits()));
        let bytes = elements.wrapping_mul(size.bytes() as i64) as u64;
        let base = self.effective_offset(instruction, 0)?;
        let mask = match instruction.memory_base().size() {
            2 => 0xffff,
            4 => 0xffff_ffff,
            _ => self.mode.code_size.pointer_mask(),
        };
        let offset = base.wrapping_add(bytes) & mask;
        let name = super::place::operand_segment(instruction, 0);
        let place = self.resolve_memory(name, offset, size, intent)?;
        Ok((Place::Memory(place), index as u64))
    }

    /// Mask of the stack pointer.
    fn stack_mask(&mut self) -> u64 {
        match self.mode.code_size {
            CodeWidth::Bits64 => u64::MAX,
            _ if self.segments.segment(SegmentName::Ss).attributes
                & segment_attributes::DEFAULT_32
                != 0 =>
            {
                0xffff_ffff
            }
            _ => 0xffff,
        }
    }

    fn set_stack_pointer(&mut self, mask: u64, value: u64) {
        let old = self.registers.general[RSP];
        self.registers.general[RSP] = match mask {
            0xffff => old & !mask | value & mask,
            _ => value & mask,
        };
    }

    fn push(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        if !matches!(
            instruction.code(),
            Code::Push_rm16 | Code::Push_rm32 | Code::Push_rm64
        ) {
            return Err(EmulationError::Unsupported);
        }
        let size = self.operand_size(instruction, 0)?;
        let source = self.resolve(instruction, 0, size, Intent::Read)?;
        let mask = self.stack_mask();
        let top = self.registers.general[RSP].wrapping_sub(size.bytes() as u64) & mask;
        let slot = self.resolve_memory(SegmentName::Ss, top, size, Intent::Write)?;
        let value = self.load(source, size)?;
        self.store_memory(slot, size, value);
        self.set_stack_pointer(mask, top);
        Ok(())
    }

    fn pop(&mut self, instruction: &Instruction) -> Result<(), EmulationError> {
        if !matches!(
            instruction.code(),
            Code::Pop_rm16 | Code::Pop_rm32 | Code::Pop_rm64
        ) {
            return Err(EmulationError::Unsupported);
        }
        let size = self.operand_size(instruction, 0)?;
        let mask = self.stack_mask();
        let top = self.registers.general[RSP] & mask;
        let slot = self.resolve_memory(SegmentName::Ss, top, size, Intent::Read)?;
        // The destination's address is computed with the pointer already moved.
        let old = self.registers.general[RSP];
        self.set_stack_pointer(mask, top.wrapping_add(size.bytes() as u64));
        let destination = self
            .resolve(instruction, 0, size, Intent::Write)
            .inspect_err(|_| self.registers.general[RSP] = old)?;
        let value = self.load_memory(slot, size);
        self.store(destination, size, value)
    }
}
