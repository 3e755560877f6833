//! The end: what a kernel prints that cannot go on.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use super::console::print_line;

/// Somebody is printing his end already.
static PANICKED: AtomicBool = AtomicBool::new(false);

/// What `fatal_entry` in entry.s pushes, and the CPU before it.
#[repr(C)]
#[derive(Debug)]
pub struct Frame {
    rax: u64,
    rbx: u64,
    rcx: u64,
    rdx: u64,
    rsi: u64,
    rdi: u64,
    rbp: u64,
    r8: u64,
    r9: u64,
    r10: u64,
    r11: u64,
    r12: u64,
    r13: u64,
    r14: u64,
    r15: u64,
    vector: u64,
    code: u64,
    rip: u64,
    cs: u64,
    rflags: u64,
    rsp: u64,
    ss: u64,
}

/// An exception in the kernel, or one that nothing survives.
pub extern "C" fn fatal(frame: &Frame) -> ! {
    if !PANICKED.swap(true, Ordering::Relaxed) {
        // SAFETY: reading CR2 has no effect.
        let address = unsafe { x86::controlregs::cr2() };
        print_line!(
            "kernel: exception {} in the kernel, address {address:#x}",
            frame.vector
        );
        print_line!("{frame:#x?}");
    }
    debug_halt()
}

/// Prints why the kernel cannot go on, and stops. The lock is never given up again, so other CPUs
/// stop at their next entry.
pub fn panic(info: &PanicInfo<'_>) -> ! {
    if !PANICKED.swap(true, Ordering::Relaxed) {
        print_line!("kernel: {info}");
    }
    debug_halt()
}

/// Stops this CPU for good (DebugHalt).
pub fn debug_halt() -> ! {
    loop {
        // SAFETY: interrupts are off, so this is the last instruction but for NMIs.
        unsafe { x86::halt() };
    }
}
