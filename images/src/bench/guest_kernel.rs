//! Wraps a program into a bzImage, so that a monitor boots it as it boots Linux: at its 64-bit
//! entry, with the first 4 GiB mapped. Source: Linux Documentation/arch/x86/boot.rst.

use crate::elf;

const SECTOR: usize = 512;
/// Boot sector and one sector of set-up code, of which only the header is there.
const SETUP_BYTES: usize = 2 * SECTOR;
/// Where the 64-bit entry is in the code.
const LONG_ENTRY: usize = 0x200;
/// What is put before the program: a jump at the entry. A page, so that the program stays aligned.
const PRELUDE_BYTES: usize = 0x1000;
/// Opcode of a near jump with a 32-bit displacement, and its length.
const JUMP: u8 = 0xe9;
const JUMP_BYTES: usize = 5;

/// Fields of the header: offset and bytes.
const HEADER: [(usize, &[u8]); 8] = [
    (0x1f1, &[1]),                      // sectors of set-up code
    (0x1fe, &[0x55, 0xaa]),             // boot flag
    (0x201, &[0x66]),                   // length of the header from its magic on
    (0x202, b"HdrS"),                   // magic
    (0x206, &0x20c_u16.to_le_bytes()),  // protocol version 2.12
    (0x211, &[1]),                      // loaded high
    (0x230, &0x1000_u32.to_le_bytes()), // alignment
    (0x234, &[1]),                      // relocatable: use the preferred address
];
/// Fields that come after the version that has them: there is a 64-bit entry; a command line's length.
const LATER: [(usize, &[u8]); 2] = [
    (0x236, &1_u16.to_le_bytes()),
    (0x238, &255_u32.to_le_bytes()),
];
const PREFERRED_ADDRESS: usize = 0x258;
const INIT_SIZE: usize = 0x260;

/// The bzImage of `program`, a static ELF file that runs where it is linked.
///
/// # Errors
/// A sentence, if it is no such file.
pub fn build(program: &[u8]) -> Result<Vec<u8>, String> {
    let image = elf::image(program).map_err(|fault| format!("the guest's program {fault}"))?;
    let refused = "the guest's program lies too low or begins outside of itself";
    let start = image.start.checked_sub(PRELUDE_BYTES).ok_or(refused)?;
    let entry = image.entry.checked_sub(start + LONG_ENTRY + JUMP_BYTES);
    let distance = entry.and_then(|distance| i32::try_from(distance).ok());
    let distance = distance.ok_or(refused)?;
    let length = PRELUDE_BYTES + image.bytes.len();

    let mut file = vec![0; SETUP_BYTES + PRELUDE_BYTES];
    let mut put = |at: usize, bytes: &[u8]| file[at..at + bytes.len()].copy_from_slice(bytes);
    for (at, bytes) in HEADER.into_iter().chain(LATER) {
        put(at, bytes);
    }
    put(PREFERRED_ADDRESS, &(start as u64).to_le_bytes());
    put(INIT_SIZE, &(length as u32).to_le_bytes());
    put(SETUP_BYTES + LONG_ENTRY, &[JUMP]);
    put(SETUP_BYTES + LONG_ENTRY + 1, &distance.to_le_bytes());
    file.extend(image.bytes);
    Ok(file)
}
