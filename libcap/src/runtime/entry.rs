//! How a program starts: from the registers that root set to `main`.

use core::slice;

use proto::start::StartInfo;

use super::{heap, threads};
use crate::env::Env;
use crate::log;
use crate::ring::byte::Producer;

/// Names the main function of a program: `fn main(env: Env) -> !`.
///
/// Defines `_start`, where root lets every thread begin: RDI = address of the start record, RSI =
/// number of the thread, RSP = top of its stack, FS base = page of its IPC buffer.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        #[allow(unsafe_code, reason = "the entry point of the program")]
        const _: () = {
            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn _start() -> ! {
                ::core::arch::naked_asm!(
                    "xor ebp, ebp",
                    "call {begin}",
                    "ud2",
                    begin = sym begin,
                )
            }

            extern "C" fn begin(record: u64, thread: u64) -> ! {
                // SAFETY: these are the registers that root set.
                unsafe { $crate::runtime::begin(record, thread, $main) }
            }
        };
    };
}

/// Where [`program!`](crate::program!) goes on.
///
/// # Safety
/// `record` is the address of a start record that stays mapped and unchanged; the thread's FS
/// base is the page of its IPC buffer; each `thread` number comes here once.
pub unsafe fn begin(record: u64, thread: u64, main: fn(Env) -> !) -> ! {
    if thread != 0 {
        threads::run(thread);
    }
    // SAFETY: the caller vouches for the record.
    let bytes = unsafe { record_bytes(record) };
    let heap = StartInfo::decode_heap(bytes).expect("root writes a start record");
    // SAFETY: root mapped the heap for this program, which begins here and nowhere else.
    unsafe { heap::add(heap.vaddr, heap.length) };
    let mut env = Env::new(StartInfo::decode(bytes).expect("root writes a start record"));
    if let Some(wake) = env.claim_optional("log.wake") {
        log::attach_ring(Producer::attach(env.ring_page("log.tx")), wake);
    }
    main(env)
}

/// The start record as bytes.
///
/// # Safety
/// As for [`begin`].
unsafe fn record_bytes(record: u64) -> &'static [u8] {
    let start = record as *const u8;
    // SAFETY: every record begins with its length.
    let first_bytes = unsafe { start.cast::<[u8; 4]>().read() };
    let length = StartInfo::encoded_length(first_bytes).expect("root writes a start record");
    // SAFETY: the record has that many bytes.
    unsafe { slice::from_raw_parts(start, length) }
}
