//! Gets the bytes of the instruction that exited, and decodes them.
//!
//! A kernel sits in the same few loops when it talks to a device, so both steps remember: the
//! translation of the last code page (held only as long as the page-table entries it rests on are
//! unchanged) and the last decoded instructions (held only as long as their bytes are unchanged).

use iced_x86::{Decoder, DecoderOptions, Instruction};
use libcap::vcpu::ExitRecord;

use super::EmulationError;
use crate::event::GuestException;
use crate::exit::AccessSize;
use crate::memory::{GuestAddress, GuestMemory, NoRam};
use crate::mode::CpuMode;
use crate::paging::{Intent, Translation, translate};

/// Longest x86 instruction.
pub const MAXIMUM_LENGTH: usize = 15;

/// Bytes at RIP, and how many of them could be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeBytes {
    bytes: [u8; 16],
    length: usize,
}

impl CodeBytes {
    /// The valid bytes, at most [`MAXIMUM_LENGTH`].
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// As many bytes as an instruction can have, from two words.
    fn whole(low: u64, high: u64) -> Self {
        let bytes = u128::from(low) | u128::from(high) << 64;
        Self {
            // The sixteenth byte belongs to no instruction: cleared, equal code compares equal.
            bytes: (bytes & (u128::MAX >> 8)).to_le_bytes(),
            length: MAXIMUM_LENGTH,
        }
    }

    /// Bytes from a slice; what is beyond the longest instruction is dropped.
    #[must_use]
    pub fn new(source: &[u8]) -> Self {
        let length = source.len().min(MAXIMUM_LENGTH);
        let mut bytes = [0; 16];
        bytes[..length].copy_from_slice(&source[..length]);
        Self { bytes, length }
    }
}

/// Entries of the instruction cache: enough for a driver's polling loop and its interrupt
/// handler, few enough to stay in the first-level cache.
const CACHED_INSTRUCTIONS: usize = 16;

#[derive(Clone, Copy)]
struct CachedInstruction {
    rip: u64,
    bits: u32,
    bytes: [u8; 16],
    instruction: Instruction,
}

#[derive(Clone, Copy)]
struct CachedPage {
    linear_page: u64,
    cr3: u64,
    translation: Translation,
}

impl CachedPage {
    /// Whether this is the page of `linear`, and still mapped as it was.
    fn holds(&self, memory: &GuestMemory, mode: &CpuMode, linear: u64) -> bool {
        self.linear_page == linear & !0xfff
            && self.cr3 == mode.cr3
            && self.translation.still_holds(memory)
    }
}

/// Fetches for one VCPU.
pub struct Fetcher {
    page: Option<CachedPage>,
    instructions: [Option<CachedInstruction>; CACHED_INSTRUCTIONS],
}

impl Default for Fetcher {
    fn default() -> Self {
        Self {
            page: None,
            instructions: [None; CACHED_INSTRUCTIONS],
        }
    }
}

impl Fetcher {
    /// The bytes at `rip`: those of the exit record if the CPU gave any, else from memory.
    ///
    /// # Errors
    /// A page fault for the guest, or code outside RAM.
    pub fn bytes(
        &mut self,
        memory: &GuestMemory,
        mode: &CpuMode,
        record: &ExitRecord,
        rip: u64,
    ) -> Result<CodeBytes, EmulationError> {
        if rip == record.rip() {
            let given = record.instruction_bytes();
            if !given.is_empty() {
                return Ok(CodeBytes::new(&given));
            }
        }
        self.bytes_from_memory(memory, mode, rip)
    }

    /// The first eight bytes at `rip`, where they can be had without a walk: the code page is the
    /// last one, and has as many. For instructions whose length is nearly known.
    #[inline]
    pub fn first_bytes(&self, memory: &GuestMemory, mode: &CpuMode, rip: u64) -> Option<u64> {
        let linear = mode.code_address(rip);
        let page = match &self.page {
            _ if linear & 0xfff > 0x1000 - 8 => return None,
            _ if !mode.is_paging() => GuestAddress(linear & !0xfff),
            Some(cached) if cached.holds(memory, mode, linear) => cached.translation.address,
            _ => return None,
        };
        memory
            .read_value(page.offset(linear & 0xfff), AccessSize::Qword)
            .ok()
    }

    fn bytes_from_memory(
        &mut self,
        memory: &GuestMemory,
        mode: &CpuMode,
        rip: u64,
    ) -> Result<CodeBytes, EmulationError> {
        let linear = mode.code_address(rip);
        let start = self.code_page(memory, mode, linear)?.offset(linear & 0xfff);
        let in_page = (0x1000 - (linear & 0xfff)) as usize;
        let outside = |refused: NoRam| EmulationError::OutsideRam(refused.address);
        if in_page >= 16 {
            let low = memory
                .read_value(start, AccessSize::Qword)
                .map_err(outside)?;
            let high = memory
                .read_value(start.offset(8), AccessSize::Qword)
                .map_err(outside)?;
            return Ok(CodeBytes::whole(low, high));
        }
        let first = in_page.min(MAXIMUM_LENGTH);
        let mut code = CodeBytes {
            bytes: [0; 16],
            length: first,
        };
        memory
            .read(start, &mut code.bytes[..first])
            .map_err(outside)?;
        if first < MAXIMUM_LENGTH {
            // The instruction may end before the page does, so a failure here is none yet.
            let next = mode.code_address(rip.wrapping_add(first as u64));
            let rest = translate(memory, mode, next, Intent::Fetch)
                .ok()
                .filter(|page| {
                    let rest = &mut code.bytes[first..MAXIMUM_LENGTH];
                    memory.read(page.address, rest).is_ok()
                });
            if rest.is_some() {
                code.length = MAXIMUM_LENGTH;
            }
        }
        Ok(code)
    }

    fn code_page(
        &mut self,
        memory: &GuestMemory,
        mode: &CpuMode,
        linear: u64,
    ) -> Result<GuestAddress, EmulationError> {
        let linear_page = linear & !0xfff;
        if let Some(cached) = &self.page
            && mode.is_paging()
            && cached.holds(memory, mode, linear)
        {
            return Ok(cached.translation.address);
        }
        let translation = translate(memory, mode, linear_page, Intent::Fetch)?;
        self.page = mode.is_paging().then_some(CachedPage {
            linear_page,
            cr3: mode.cr3,
            translation,
        });
        Ok(translation.address)
    }

    /// Decodes `code`, which was fetched at `rip`.
    ///
    /// # Errors
    /// #UD for bytes that are no instruction, a page fault when it goes on in a page that is not
    /// there.
    pub fn decode(
        &mut self,
        memory: &GuestMemory,
        mode: &CpuMode,
        rip: u64,
        code: &CodeBytes,
    ) -> Result<Instruction, EmulationError> {
        let bits = mode.code_size.bits();
        let slot = (rip ^ rip >> 4) as usize % CACHED_INSTRUCTIONS;
        if let Some(cached) = &self.instructions[slot]
            && cached.rip == rip
            && cached.bits == bits
            && code.length == MAXIMUM_LENGTH
            && cached.bytes == code.bytes
        {
            return Ok(cached.instruction);
        }
        let mut decoder = Decoder::with_ip(bits, code.as_slice(), rip, DecoderOptions::NONE);
        let instruction = decoder.decode();
        if instruction.is_invalid() {
            if code.length < MAXIMUM_LENGTH
                && decoder.last_error() == iced_x86::DecoderError::NoMoreBytes
            {
                let next = mode.code_address(rip.wrapping_add(code.length as u64));
                let page = translate(memory, mode, next, Intent::Fetch)?;
                return Err(EmulationError::OutsideRam(page.address));
            }
            return Err(GuestException::InvalidOpcode.into());
        }
        if code.length == MAXIMUM_LENGTH {
            self.instructions[slot] = Some(CachedInstruction {
                rip,
                bits,
                bytes: code.bytes,
                instruction,
            });
        }
        Ok(instruction)
    }
}
