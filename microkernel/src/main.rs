//! The kernel binary: the library with the hardware under it. It begins in arch/x86_64/boot.s.
#![no_std]
#![no_main]

use core::panic::PanicInfo;

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    microkernel::arch::panic(info)
}
