//! The message: its one-word descriptor and the IPC buffer.

use core::mem::{align_of, offset_of, size_of};

/// Words that a message can carry, four of them in registers.
pub const MESSAGE_WORDS: usize = 120;
/// Message registers that travel in CPU registers (R10, R8, R9, R15).
pub const REGISTER_WORDS: usize = 4;
/// Capabilities that can travel with one message.
pub const EXTRA_CAPS: usize = 3;
/// log2 of the size and alignment of an IPC buffer in bytes.
pub const IPC_BUFFER_BITS: u32 = 10;

/// What a message is: label, length, capabilities. One word, in RSI.
///
/// Bits 0..6 length, 7..8 number of extra capabilities, 9..11 which of them were unwrapped
/// (output only), 12..63 label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct MessageInfo(u64);

impl MessageInfo {
    const LENGTH_MASK: u64 = 0x7f;
    const EXTRA_CAPS_SHIFT: u32 = 7;
    const EXTRA_CAPS_MASK: u64 = 0x3;
    const UNWRAPPED_SHIFT: u32 = 9;
    const UNWRAPPED_MASK: u64 = 0x7;
    const LABEL_SHIFT: u32 = 12;
    /// The largest label that fits its 52 bits.
    pub const LABEL_MAX: u64 = u64::MAX >> Self::LABEL_SHIFT;

    /// Packs a descriptor. Each part is cut to the width of its field; `capsUnwrapped` is 0.
    #[inline]
    #[must_use]
    pub const fn new(label: u64, length: usize, extra_caps: usize) -> Self {
        Self(
            label << Self::LABEL_SHIFT
                | (extra_caps as u64 & Self::EXTRA_CAPS_MASK) << Self::EXTRA_CAPS_SHIFT
                | length as u64 & Self::LENGTH_MASK,
        )
    }

    /// A word as it came from a register; every bit pattern is a descriptor.
    #[inline]
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word for RSI.
    #[inline]
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The label: an operation, an error code or a fault type.
    #[inline]
    #[must_use]
    pub const fn label(self) -> u64 {
        self.0 >> Self::LABEL_SHIFT
    }

    /// Words of the message, clipped to [`MESSAGE_WORDS`] as the kernel clips them.
    #[inline]
    #[must_use]
    pub const fn length(self) -> usize {
        let length = (self.0 & Self::LENGTH_MASK) as usize;
        if length > MESSAGE_WORDS {
            MESSAGE_WORDS
        } else {
            length
        }
    }

    /// Capabilities with the message, 0..=3.
    #[inline]
    #[must_use]
    pub const fn extra_caps(self) -> usize {
        (self.0 >> Self::EXTRA_CAPS_SHIFT & Self::EXTRA_CAPS_MASK) as usize
    }

    /// Bit i set: capability i was unwrapped to its badge.
    #[inline]
    #[must_use]
    pub const fn caps_unwrapped(self) -> u64 {
        self.0 >> Self::UNWRAPPED_SHIFT & Self::UNWRAPPED_MASK
    }

    /// The same descriptor with another `capsUnwrapped` bitmap.
    #[inline]
    #[must_use]
    pub const fn with_caps_unwrapped(self, bitmap: u64) -> Self {
        let cleared = self.0 & !(Self::UNWRAPPED_MASK << Self::UNWRAPPED_SHIFT);
        Self(cleared | (bitmap & Self::UNWRAPPED_MASK) << Self::UNWRAPPED_SHIFT)
    }
}

/// The page part that a thread shares with the kernel for the words that do not fit registers.
///
/// 1024 bytes, aligned to their size, inside one non-device frame.
#[derive(Debug, Clone)]
#[repr(C, align(1024))]
pub struct IpcBuffer {
    /// MessageInfo of the last message (written by user libraries only).
    pub tag: u64,
    /// Message registers; 0..3 travel in CPU registers and the kernel leaves them alone here.
    pub message: [u64; MESSAGE_WORDS],
    /// A word for the user's own use.
    pub user_data: u64,
    /// Capability pointers to send; badges of unwrapped capabilities on receipt.
    pub caps_or_badges: [u64; EXTRA_CAPS],
    /// Where a received capability goes: the CNode to resolve from.
    pub receive_cnode: u64,
    /// The index in it.
    pub receive_index: u64,
    /// The bits of the index that count.
    pub receive_depth: u64,
}

const _: () = {
    assert!(size_of::<IpcBuffer>() == 1 << IPC_BUFFER_BITS);
    assert!(align_of::<IpcBuffer>() == 1 << IPC_BUFFER_BITS);
    assert!(offset_of!(IpcBuffer, message) == 8);
    assert!(offset_of!(IpcBuffer, user_data) == 968);
    assert!(offset_of!(IpcBuffer, caps_or_badges) == 976);
    assert!(offset_of!(IpcBuffer, receive_cnode) == 1000);
    assert!(offset_of!(IpcBuffer, receive_index) == 1008);
    assert!(offset_of!(IpcBuffer, receive_depth) == 1016);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_a_descriptor_do_not_touch_each_other() {
        let info = MessageInfo::new(MessageInfo::LABEL_MAX, 120, 3).with_caps_unwrapped(5);
        assert_eq!(info.label(), MessageInfo::LABEL_MAX);
        assert_eq!(
            (info.length(), info.extra_caps(), info.caps_unwrapped()),
            (120, 3, 5)
        );
        assert_eq!(MessageInfo::new(1, 2, 0).word(), 0x1002);
    }

    #[test]
    fn a_length_beyond_the_buffer_is_clipped() {
        assert_eq!(MessageInfo::from_word(0x7f).length(), MESSAGE_WORDS);
        assert_eq!(MessageInfo::from_word(u64::MAX).length(), MESSAGE_WORDS);
    }
}
