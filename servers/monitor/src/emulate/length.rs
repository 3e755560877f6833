//! Lengths of instructions that exit by themselves and have no operand bytes.
//!
//! Not every CPU tells the length of the instruction that exited. For CPUID, HLT, RDMSR and their
//! like it follows from the opcode, so the hot exits do without the decoder.

use crate::exit::Exit;
use crate::mode::CodeWidth;

/// The opcode of `exit`'s instruction, if it is one of those.
fn opcode(exit: &Exit) -> Option<&'static [&'static [u8]]> {
    Some(match exit {
        Exit::Cpuid => &[&[0x0f, 0xa2]],
        Exit::Halt => &[&[0xf4]],
        Exit::MsrRead(_) => &[&[0x0f, 0x32]],
        Exit::MsrWrite(_) => &[&[0x0f, 0x30]],
        Exit::Hypercall => &[&[0x0f, 0x01, 0xc1], &[0x0f, 0x01, 0xd9]],
        Exit::Xsetbv => &[&[0x0f, 0x01, 0xd1]],
        Exit::CacheFlush => &[&[0x0f, 0x09], &[0x0f, 0x08]],
        Exit::MonitorWait => &[&[0x0f, 0x01, 0xc8], &[0x0f, 0x01, 0xc9]],
        Exit::Pause => &[&[0x90]],
        Exit::Rdpmc => &[&[0x0f, 0x33]],
        _ => return None,
    })
}

/// The same from the first eight bytes as a word, for the commonest form: no prefix.
#[must_use]
#[inline]
pub fn plain_length(first_bytes: u64, exit: &Exit) -> Option<u64> {
    let (opcode, length) = match exit {
        Exit::Cpuid => (0xa20f, 2),
        Exit::Halt => (0xf4, 1),
        Exit::MsrRead(_) => (0x320f, 2),
        Exit::MsrWrite(_) => (0x300f, 2),
        _ => return None,
    };
    let mask = (1 << (length * 8)) - 1;
    (first_bytes & mask == opcode).then_some(length)
}

/// Length of the instruction that caused `exit`, or `None` if `code` does not start with it.
#[must_use]
pub fn known_length(code: &[u8], width: CodeWidth, exit: &Exit) -> Option<u64> {
    let opcodes = opcode(exit)?;
    // Nearly always there is no prefix.
    let prefixes = match code.first() {
        Some(0x0f | 0xf4 | 0x90) => 0,
        _ => prefix_count(code, width),
    };
    let rest = code.get(prefixes..)?;
    opcodes
        .iter()
        .find(|opcode| rest.starts_with(opcode))
        .map(|opcode| (prefixes + opcode.len()) as u64)
}

fn prefix_count(code: &[u8], width: CodeWidth) -> usize {
    code.iter()
        .take_while(|&&byte| {
            matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf2 | 0xf3)
                || width == CodeWidth::Bits64 && byte & 0xf0 == 0x40
        })
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LONG: CodeWidth = CodeWidth::Bits64;

    #[test]
    fn plain_instructions_have_their_opcode_length() {
        assert_eq!(
            known_length(&[0x0f, 0xa2, 0x90], LONG, &Exit::Cpuid),
            Some(2)
        );
        assert_eq!(known_length(&[0xf4], LONG, &Exit::Halt), Some(1));
        assert_eq!(
            known_length(&[0x0f, 0x30], LONG, &Exit::MsrWrite(0)),
            Some(2)
        );
        assert_eq!(
            known_length(&[0x0f, 0x01, 0xd9], LONG, &Exit::Hypercall),
            Some(3)
        );
        assert_eq!(known_length(&[0xf3, 0x90], LONG, &Exit::Pause), Some(2));
    }

    #[test]
    fn prefixes_count() {
        assert_eq!(
            known_length(&[0x66, 0x48, 0x0f, 0xa2], LONG, &Exit::Cpuid),
            Some(4)
        );
        // Without long mode 0x48 is DEC, not a prefix.
        assert_eq!(
            known_length(&[0x48, 0x0f, 0xa2], CodeWidth::Bits32, &Exit::Cpuid),
            None
        );
    }

    #[test]
    fn other_bytes_are_not_taken_for_the_instruction() {
        assert_eq!(known_length(&[0x90, 0x90], LONG, &Exit::Cpuid), None);
        assert_eq!(known_length(&[], LONG, &Exit::Cpuid), None);
        assert_eq!(known_length(&[0x0f], LONG, &Exit::Cpuid), None);
    }

    proptest! {
        #[test]
        fn the_plain_length_is_the_known_one(mut code in proptest::array::uniform8(any::<u8>()), kind in 0usize..5) {
            let exits = [Exit::Cpuid, Exit::Halt, Exit::MsrRead(0), Exit::MsrWrite(0), Exit::Pause];
            let starts: [&[u8]; 5] = [&[0x0f, 0xa2], &[0xf4], &[0x0f, 0x32], &[0x0f, 0x30], &[]];
            code[..starts[kind].len()].copy_from_slice(starts[kind]);
            for exit in exits {
                if let Some(length) = plain_length(u64::from_le_bytes(code), &exit) {
                    prop_assert_eq!(known_length(&code, LONG, &exit), Some(length));
                }
            }
        }

        #[test]
        fn a_length_never_exceeds_the_bytes(code in proptest::collection::vec(any::<u8>(), 0..16)) {
            for exit in [Exit::Cpuid, Exit::Halt, Exit::Hypercall, Exit::Pause] {
                if let Some(length) = known_length(&code, LONG, &exit) {
                    prop_assert!(length as usize <= code.len());
                }
            }
        }
    }
}
