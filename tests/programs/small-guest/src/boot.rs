//! The way in: start.s, what it calls, and what the monitor tells.

use core::arch::global_asm;
use core::panic::PanicInfo;
use core::str;

use crate::cpu;
use crate::serial::say;

global_asm!(include_str!("start.s"), options(att_syntax));

/// Where the start record has the address of the command line
/// (Xen public/arch-x86/hvm/start_info.h).
const COMMAND_LINE: u64 = 24;
/// Longest command line that is looked at.
const LONGEST: usize = 64;

/// The words after the kernel's name.
pub struct CommandLine {
    bytes: [u8; LONGEST],
    length: usize,
}

impl CommandLine {
    /// Reads it from where the start record says.
    fn read(record: u32) -> Self {
        let from = u64::from(cpu::read_memory(u64::from(record) + COMMAND_LINE));
        let mut line = Self {
            bytes: [0; LONGEST],
            length: 0,
        };
        while line.length < LONGEST {
            let byte = cpu::read_memory(from + line.length as u64) as u8;
            if byte == 0 {
                break;
            }
            line.bytes[line.length] = byte;
            line.length += 1;
        }
        line
    }

    /// Its words.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        let text = str::from_utf8(&self.bytes[..self.length]).unwrap_or_default();
        text.split_ascii_whitespace()
    }
}

// SAFETY: the name is start.s' and nothing else's.
#[unsafe(no_mangle)]
extern "sysv64" fn guest_main(index: u32, record: u32) -> ! {
    match index {
        0 => crate::first_cpu(&CommandLine::read(record)),
        _ => crate::second_cpu(),
    }
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say!("GUEST {info}");
    crate::end()
}
