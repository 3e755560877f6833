//! Where things are in a program's address space. One layout for every program.
//!
//! Everything that is not the image has a region of its own, with unmapped pages around each
//! stack and each IPC buffer, so that an overrun is a fault.

/// The start record's pages.
pub const START_INFO: u64 = 0x1000_0000;
/// IPC buffer pages, one for each thread.
const IPC_BUFFERS: u64 = 0x1100_0000;
const IPC_BUFFER_STEP: u64 = 0x2000;
/// Stacks, each at the upper end of its step.
const STACKS: u64 = 0x1200_0000;
const STACK_STEP: u64 = 0x20_0000;
/// Pages of the channels' rings.
const RINGS: u64 = 0x2000_0000;
const RING_STEP: u64 = 0x2000;
/// The frame buffer.
pub const FRAMEBUFFER: u64 = 0x3000_0000;
/// Most bytes of a frame buffer, twice what crate::machine lets through.
pub const FRAMEBUFFER_BYTES_MAX: u64 = 0x800_0000;
/// The heap.
pub const HEAP: u64 = 0x4000_0000;
/// The boot archive, at the same offset in 2 MiB as in physical memory.
pub const ARCHIVE: u64 = 0x1_0000_0000;
/// Guest memory.
pub const GUEST: u64 = 0x10_0000_0000;

/// Address of the IPC buffer page of thread `thread`.
#[must_use]
pub const fn ipc_buffer(thread: u16) -> u64 {
    IPC_BUFFERS + thread as u64 * IPC_BUFFER_STEP
}

/// First address above the stack of thread `thread`.
#[must_use]
pub const fn stack_top(thread: u16) -> u64 {
    STACKS + (thread as u64 + 1) * STACK_STEP
}

/// Address of ring page `index` of a program.
#[must_use]
pub const fn ring(index: usize) -> u64 {
    RINGS + index as u64 * RING_STEP
}

/// Guest-physical memory starts again here when it does not fit below [`GUEST_HOLE`].
pub const GUEST_HIGH: u64 = 0x1_0000_0000;
/// End of guest-physical memory below 4 GiB: what is above belongs to devices.
pub const GUEST_HOLE: u64 = 0xc000_0000;

/// Guest-physical address of byte `offset` of a guest's memory.
#[must_use]
pub const fn guest_physical(offset: u64) -> u64 {
    if offset < GUEST_HOLE {
        offset
    } else {
        offset - GUEST_HOLE + GUEST_HIGH
    }
}

const _: () = {
    // The limits of images/src/manifest/resolve/program.rs: 32 threads, stacks of 1 MiB, a heap
    // of 1 GiB.
    assert!(ipc_buffer(32) <= STACKS);
    assert!(stack_top(32) <= RINGS);
    assert!(RINGS + 0x1000 * RING_STEP <= FRAMEBUFFER);
    assert!(FRAMEBUFFER + FRAMEBUFFER_BYTES_MAX <= HEAP);
    assert!(HEAP + (1 << 30) <= ARCHIVE);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guest_memory_leaves_the_last_gigabyte_below_four_to_devices() {
        assert_eq!(guest_physical(0), 0);
        assert_eq!(guest_physical(GUEST_HOLE - 1), 0xbfff_ffff);
        assert_eq!(guest_physical(GUEST_HOLE), 0x1_0000_0000);
    }
}
