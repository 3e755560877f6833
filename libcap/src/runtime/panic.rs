//! How a program ends when it is at its wits' end.
//!
//! The message goes into the log and behind the thread's IPC buffer, where root finds it; then an
//! exception stops the thread. Root sees the fault and restarts the program.

use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, Ordering};

use proto::start::PANIC_MESSAGE_OFFSET;

use crate::kernel;
use crate::log::{self, LINE_BYTES_MAX, Line};

static PANICKING: AtomicBool = AtomicBool::new(false);

const _: () = assert!(LINE_BYTES_MAX <= proto::start::PANIC_MESSAGE_BYTES_MAX);

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // Whatever panics while it says why would come here again and again.
    if !PANICKING.swap(true, Ordering::Relaxed) {
        let message = info.message();
        let line = match info.location() {
            Some(location) => Line::new(format_args!("panic at {location}: {message}")),
            None => Line::new(format_args!("panic: {message}")),
        };
        leave_message(line.text().as_bytes());
        log::write_last_line(&line);
    }
    kernel::stop()
}

/// Writes the last words where root looks for them.
fn leave_message(text: &[u8]) {
    let offset = PANIC_MESSAGE_OFFSET as usize;
    let length = (text.len() as u32).to_le_bytes();
    kernel::buffer_page_bytes(offset + length.len(), text);
    kernel::buffer_page_bytes(offset, &length);
}

/// The prebuilt `core` and `alloc` of the target unwind and so name this function. Nothing calls
/// it: panics end the program.
#[unsafe(no_mangle)]
extern "C" fn rust_eh_personality() {}

/// As [`rust_eh_personality`].
#[unsafe(no_mangle)]
extern "C" fn _Unwind_Resume() -> ! {
    kernel::stop()
}
