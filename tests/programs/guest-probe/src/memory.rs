//! The guest's memory: pages of this program's own image, which it reads and writes in place.

use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::Frame;
use sel4_sys::{BootInfo, CPtr};

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Guest memory from address 0 on: room for code, tables and stacks of every scenario.
pub const RAM_PAGES: u64 = 64;
/// Page that the guest may only read.
pub const READ_ONLY: u64 = 0x3f000;
/// Index of the page at the reset vector.
pub const RESET_PAGE: u64 = RAM_PAGES;
/// Index of a page that is nowhere at first.
pub const SPARE_PAGE: u64 = RAM_PAGES + 1;
/// First address of a program's image.
const IMAGE_BASE: u64 = 0x40_0000;

const WORDS: usize = ((RAM_PAGES + 2) * PAGE / 8) as usize;

#[repr(C, align(4096))]
struct Ram([AtomicU64; WORDS]);

static RAM: Ram = Ram([const { AtomicU64::new(0) }; WORDS]);

fn word(address: u64) -> &'static AtomicU64 {
    &RAM.0[(address / 8) as usize]
}

/// The aligned word at `address`.
pub fn read(address: u64) -> u64 {
    word(address).load(Ordering::SeqCst)
}

/// Writes the aligned word at `address`.
pub fn write(address: u64, value: u64) {
    word(address).store(value, Ordering::SeqCst);
}

/// Writes bytes from `address` on.
pub fn write_bytes(address: u64, bytes: &[u8]) {
    for (at, byte) in (address..).zip(bytes) {
        let shift = at % 8 * 8;
        let others = read(at & !7) & !(0xff << shift);
        write(at & !7, others | u64::from(*byte) << shift);
    }
}

/// Clears all memory.
pub fn clear() {
    (0..WORDS as u64).for_each(|index| write(index * 8, 0));
}

/// The capability to page `index`, as the kernel gave it to this program.
pub fn frame(info: &BootInfo, index: u64) -> Frame {
    frame_of(info, RAM.0.as_ptr().addr() as u64 + index * PAGE)
}

/// The capability to the page of this program's image at `address`.
pub fn frame_of(info: &BootInfo, address: u64) -> Frame {
    Frame::from_cptr(CPtr(
        info.user_image_frames.start + (address - IMAGE_BASE) / PAGE,
    ))
}
