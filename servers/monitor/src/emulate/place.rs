//! Operands: general registers of every width, and memory operands that turn out to be RAM or a
//! device.
//!
//! An operand is first *resolved*, which makes every check and may fault, and then accessed, which
//! cannot. So an instruction with two operands has no half-done effects.

use iced_x86::{Instruction, OpKind, Register};

use super::{EmulationError, Emulator};
use crate::bus::Bus;
use crate::exit::AccessSize;
use crate::memory::GuestAddress;
use crate::paging::{Intent, translate};
use crate::segment::SegmentAccess;
use crate::vcpu::SegmentName;

/// A resolved operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// General register, in the width of the operand.
    Register(Register),
    /// A constant.
    Immediate(u64),
    /// RAM or device memory.
    Memory(MemoryPlace),
}

/// Resolved memory: contiguous, or split at a page boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryPlace {
    first: GuestAddress,
    /// Bytes at `first`, and where the rest is.
    split: Option<(usize, GuestAddress)>,
}

/// Segment register by decoder name.
fn segment_name(register: Register) -> SegmentName {
    match register {
        Register::ES => SegmentName::Es,
        Register::CS => SegmentName::Cs,
        Register::SS => SegmentName::Ss,
        Register::FS => SegmentName::Fs,
        Register::GS => SegmentName::Gs,
        _ => SegmentName::Ds,
    }
}

/// The general register's index, and the bit its part starts at.
fn general_index(register: Register) -> Option<(usize, u32)> {
    let number = register.number();
    if register.is_gpr8() {
        // The decoder counts AL..BL, AH..BH, SPL..DIL, R8L..R15L.
        return Some(match number {
            0..=3 => (number, 0),
            4..=7 => (number - 4, 8),
            _ => (number - 4, 0),
        });
    }
    let is_general = register.is_gpr16() || register.is_gpr32() || register.is_gpr64();
    is_general.then_some((number, 0))
}

/// Size of a general register.
fn register_size(register: Register) -> Option<AccessSize> {
    AccessSize::from_bytes(register.size())
}

impl<B: Bus> Emulator<'_, B> {
    /// Value of a general register in its own width.
    pub(super) fn read_register(&self, register: Register) -> Result<u64, EmulationError> {
        let (index, shift) = general_index(register).ok_or(EmulationError::Unsupported)?;
        let size = register_size(register).ok_or(EmulationError::Unsupported)?;
        Ok(self.registers.general[index & 15] >> shift & size.mask())
    }

    /// Writes a general register; a 32-bit write clears the upper half.
    pub(super) fn write_register(
        &mut self,
        register: Register,
        value: u64,
    ) -> Result<(), EmulationError> {
        let (index, shift) = general_index(register).ok_or(EmulationError::Unsupported)?;
        let size = register_size(register).ok_or(EmulationError::Unsupported)?;
        let old = &mut self.registers.general[index & 15];
        *old = match size {
            AccessSize::Qword => value,
            AccessSize::Dword => value & 0xffff_ffff,
            AccessSize::Byte | AccessSize::Word => {
                *old & !(size.mask() << shift) | (value & size.mask()) << shift
            }
        };
        Ok(())
    }

    /// Width of operand `index`.
    pub(super) fn operand_size(
        &self,
        instruction: &Instruction,
        index: u32,
    ) -> Result<AccessSize, EmulationError> {
        let bytes = match instruction.op_kind(index) {
            OpKind::Register => instruction.op_register(index).size(),
            _ => instruction.memory_size().size(),
        };
        AccessSize::from_bytes(bytes).ok_or(EmulationError::Unsupported)
    }

    /// Offset of memory operand `index` within its segment.
    pub(super) fn effective_offset(
        &self,
        instruction: &Instruction,
        index: u32,
    ) -> Result<u64, EmulationError> {
        instruction
            .virtual_address(index, 0, |register, _, _| {
                if register.is_segment_register() {
                    // The segment is added, and checked, later.
                    return Some(0);
                }
                self.read_register(register).ok()
            })
            .ok_or(EmulationError::Unsupported)
    }

    /// Resolves operand `index` for an access of `size`.
    pub(super) fn resolve(
        &mut self,
        instruction: &Instruction,
        index: u32,
        size: AccessSize,
        intent: Intent,
    ) -> Result<Place, EmulationError> {
        match instruction.op_kind(index) {
            OpKind::Register => Ok(Place::Register(instruction.op_register(index))),
            OpKind::Memory if let Some(first) = self.reported_operand(instruction, size) => {
                Ok(Place::Memory(MemoryPlace { first, split: None }))
            }
            OpKind::Memory
            | OpKind::MemorySegSI
            | OpKind::MemorySegESI
            | OpKind::MemorySegRSI
            | OpKind::MemorySegDI
            | OpKind::MemorySegEDI
            | OpKind::MemorySegRDI
            | OpKind::MemoryESDI
            | OpKind::MemoryESEDI
            | OpKind::MemoryESRDI => {
                let offset = self.effective_offset(instruction, index)?;
                let name = operand_segment(instruction, index);
                self.resolve_memory(name, offset, size, intent)
                    .map(Place::Memory)
            }
            _ => instruction
                .try_immediate(index)
                .map(|value| Place::Immediate(value & size.mask()))
                .map_err(|_| EmulationError::Unsupported),
        }
    }

    /// Where the memory operand is, if the CPU's report says so beyond doubt: 64-bit code without
    /// a segment base, and an operand that begins at the reported byte and stays in its page.
    /// The CPU has made every check then, and nothing is left to walk.
    fn reported_operand(
        &self,
        instruction: &Instruction,
        size: AccessSize,
    ) -> Option<GuestAddress> {
        let reported = self.reported?;
        let segment = instruction.memory_segment();
        if !self.mode.is_64_bit() || matches!(segment, Register::FS | Register::GS) {
            return None;
        }
        let value = |register: Register| match register {
            // The displacement of a RIP-relative operand is the address already.
            Register::None | Register::RIP | Register::EIP => Some(0),
            register => Some(self.registers.general[general_index(register)?.0 & 15]),
        };
        let scale = u64::from(instruction.memory_index_scale());
        let offset = value(instruction.memory_base())?
            .wrapping_add(value(instruction.memory_index())?.wrapping_mul(scale))
            .wrapping_add(instruction.memory_displacement64());
        let in_page = offset & 0xfff;
        let fits = in_page == reported.0 & 0xfff && in_page + size.bytes() as u64 <= 0x1000;
        fits.then_some(reported)
    }

    /// Resolves `size` bytes at `offset` of a segment.
    pub(super) fn resolve_memory(
        &mut self,
        name: SegmentName,
        offset: u64,
        size: AccessSize,
        intent: Intent,
    ) -> Result<MemoryPlace, EmulationError> {
        let length = size.bytes() as u64;
        let access = SegmentAccess {
            name,
            offset,
            length,
            intent,
        };
        let linear = access.linear(self.mode, self.segments)?;
        let in_page = 0x1000 - (linear & 0xfff);
        if length <= in_page {
            let first = match self.reported {
                Some(reported) if reported.0 & 0xfff == linear & 0xfff => reported,
                _ => translate(&self.memory, self.mode, linear, intent)?.address,
            };
            return Ok(MemoryPlace { first, split: None });
        }
        let first = translate(&self.memory, self.mode, linear, intent)?.address;
        let next = linear.wrapping_add(in_page);
        let second = translate(&self.memory, self.mode, next, intent)?.address;
        Ok(MemoryPlace {
            first,
            split: Some((in_page as usize, second)),
        })
    }

    /// Reads a resolved operand.
    pub(super) fn load(&mut self, place: Place, size: AccessSize) -> Result<u64, EmulationError> {
        match place {
            Place::Register(register) => self.read_register(register),
            Place::Immediate(value) => Ok(value),
            Place::Memory(memory) => Ok(self.load_memory(memory, size)),
        }
    }

    /// Writes a resolved operand.
    pub(super) fn store(
        &mut self,
        place: Place,
        size: AccessSize,
        value: u64,
    ) -> Result<(), EmulationError> {
        match place {
            Place::Register(register) => self.write_register(register, value),
            Place::Immediate(_) => Err(EmulationError::Unsupported),
            Place::Memory(memory) => {
                self.store_memory(memory, size, value);
                Ok(())
            }
        }
    }

    /// Reads resolved memory.
    pub(super) fn load_memory(&mut self, place: MemoryPlace, size: AccessSize) -> u64 {
        match place.split {
            None => self.load_at(place.first, size),
            Some(_) => (0..size.bytes()).rev().fold(0, |value, index| {
                value << 8 | self.load_at(place.byte(index), AccessSize::Byte)
            }),
        }
    }

    /// Writes resolved memory.
    pub(super) fn store_memory(&mut self, place: MemoryPlace, size: AccessSize, value: u64) {
        match place.split {
            None => self.store_at(place.first, size, value),
            Some(_) => {
                for index in 0..size.bytes() {
                    let byte = value >> (index * 8) & 0xff;
                    self.store_at(place.byte(index), AccessSize::Byte, byte);
                }
            }
        }
    }

    fn load_at(&mut self, address: GuestAddress, size: AccessSize) -> u64 {
        match self.memory.read_value(address, size) {
            Ok(value) => value,
            Err(_) => self.bus.read_memory(address, size) & size.mask(),
        }
    }

    fn store_at(&mut self, address: GuestAddress, size: AccessSize, value: u64) {
        let value = value & size.mask();
        if self.memory.write_value(address, size, value).is_err() {
            self.bus.write_memory(address, size, value);
        }
    }
}

impl MemoryPlace {
    /// Address of byte `index` of a split place.
    fn byte(&self, index: usize) -> GuestAddress {
        match self.split {
            Some((count, second)) if index >= count => second.offset((index - count) as u64),
            _ => self.first.offset(index as u64),
        }
    }
}

/// The segment of memory operand `index`: string destinations always use ES.
pub(super) fn operand_segment(instruction: &Instruction, index: u32) -> SegmentName {
    match instruction.op_kind(index) {
        OpKind::MemoryESDI | OpKind::MemoryESEDI | OpKind::MemoryESRDI => SegmentName::Es,
        _ => segment_name(instruction.memory_segment()),
    }
}
