//! A machine in host memory that boots, and the smallest root task for it.

use std::cell::Cell;

use microkernel::boot::{Machine, PhysicalRange};

/// Bytes of the machine's memory.
pub const ARENA: usize = 4 << 20;
/// How it is aligned, so that every run finds it in the same pieces.
const ALIGNMENT: usize = ARENA;
/// Where the root task begins.
pub const ENTRY: u64 = 0x40_0010;

/// The machine's memory.
pub struct Memory(Vec<Cell<u64>>);

impl Memory {
    /// Clear memory.
    pub fn new() -> Self {
        Self(vec![Cell::new(0); (ARENA + ALIGNMENT) / size_of::<u64>()])
    }

    /// Address of its first byte.
    fn start(&self) -> u64 {
        (self.0.as_ptr().addr() as u64).next_multiple_of(ALIGNMENT as u64)
    }
}

/// A static ELF64 with a text page and a data page with 8 KiB of zeros behind it.
pub fn root_task() -> Vec<u8> {
    let mut file = vec![0u8; 0x3000];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    put(0, b"\x7fELF\x02\x01\x01");
    put(16, &2u16.to_le_bytes());
    put(18, &62u16.to_le_bytes());
    put(20, &1u32.to_le_bytes());
    put(24, &ENTRY.to_le_bytes());
    put(32, &64u64.to_le_bytes());
    put(52, &64u16.to_le_bytes());
    put(54, &56u16.to_le_bytes());
    put(56, &2u16.to_le_bytes());
    let segments = [
        (5u32, 0x1000u64, 0x40_0000u64, 0x20u64, 0x20u64),
        (6, 0x2000, 0x40_1000, 8, 0x2008),
    ];
    for (index, (flags, offset, address, in_file, in_memory)) in segments.into_iter().enumerate() {
        let at = 64 + index * 56;
        put(at, &1u32.to_le_bytes());
        put(at + 4, &flags.to_le_bytes());
        put(at + 8, &offset.to_le_bytes());
        put(at + 16, &address.to_le_bytes());
        put(at + 32, &in_file.to_le_bytes());
        put(at + 40, &in_memory.to_le_bytes());
    }
    put(0x1010, b"code");
    put(0x2000, b"data1234");
    file
}

/// A machine with the boot module `file` and so many CPUs.
pub fn machine_with(memory: &Memory, file: &[u8], nodes: usize) -> Machine {
    let start = memory.start();
    let module = start + ARENA as u64 - (1 << 20);
    microkernel::store::copy_to(module as usize, file);
    let range = |start, length| PhysicalRange {
        start,
        end: start + length,
    };
    Machine {
        ram: heapless::Vec::from_slice(&[range(start, ARENA as u64)]).unwrap(),
        kernel: range(start + 0x10000, 0x10000),
        modules: heapless::Vec::from_slice(&[range(module, file.len() as u64)]).unwrap(),
        tsc_khz: 1_000_000,
        nodes,
        ..Machine::default()
    }
}
