//! How the root task starts: the kernel gives it registers and a BootInfo, but no stack, no heap
//! and no way to its IPC buffer.

use core::cell::UnsafeCell;
use core::mem::MaybeUninit;
use core::slice;

use proto::start::{IMAGE_FIRST, IPC_BUFFER_POINTER_OFFSET};
use sel4_sys::boot_info::{BOOT_INFO_FRAME_BYTES, extra_records};
use sel4_sys::{BootInfo, CPtr, ExtraRecord};

use super::heap;
use crate::capability::Frame;
use crate::{kernel, log};

/// Bytes of the root task's stack: its deepest path holds a few messages of 1 KiB and a page of
/// manifest at a time. Its lowest page is never mapped while `main` runs.
pub const STACK_BYTES: usize = 128 << 10;

/// Bytes of a page.
const PAGE_BYTES: u64 = 4096;

/// Memory in the program's image, for its stack and heap.
#[repr(C, align(4096))]
pub struct StaticMemory<const BYTES: usize>(UnsafeCell<MaybeUninit<[u8; BYTES]>>);

// SAFETY: only its address is ever taken; who uses the memory is said where that is done.
unsafe impl<const BYTES: usize> Sync for StaticMemory<BYTES> {}

impl<const BYTES: usize> StaticMemory<BYTES> {
    /// The memory. It takes no room in the file.
    #[must_use]
    #[expect(
        clippy::new_without_default,
        reason = "a default could not be a constant"
    )]
    pub const fn new() -> Self {
        Self(UnsafeCell::new(MaybeUninit::uninit()))
    }

    /// Its first address.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.0.get().addr() as u64
    }
}

/// What the kernel tells the root task.
#[derive(Debug, Clone, Copy)]
pub struct BootEnv {
    /// The BootInfo page.
    pub boot_info: &'static BootInfo,
    /// The extra records behind it ([`extra_records`] walks them).
    pub extra: &'static [u8],
}

impl BootEnv {
    /// The body of the first extra record of this kind.
    #[must_use]
    pub fn record(&self, record: ExtraRecord) -> Option<&'static [u8]> {
        extra_records(self.extra)
            .find(|(id, _)| *id == record.number())
            .map(|(_, body)| body)
    }
}

/// Names the main function of the root task, `fn main(env: BootEnv) -> !`, and the bytes of its
/// heap, which are part of its image.
///
/// Defines `_start`, where the kernel lets it begin: RDI = address of the BootInfo, everything
/// else 0.
#[macro_export]
macro_rules! root_task {
    ($main:path, heap_bytes = $heap_bytes:expr) => {
        #[allow(unsafe_code, reason = "the entry point of the program")]
        const _: () = {
            use $crate::runtime::{STACK_BYTES, StaticMemory};

            static STACK: StaticMemory<STACK_BYTES> = StaticMemory::new();
            static HEAP: StaticMemory<{ $heap_bytes }> = StaticMemory::new();

            #[unsafe(no_mangle)]
            #[unsafe(naked)]
            extern "C" fn _start() -> ! {
                ::core::arch::naked_asm!(
                    "lea rsp, [rip + {stack} + {bytes}]",
                    "xor ebp, ebp",
                    "call {begin}",
                    "ud2",
                    stack = sym STACK,
                    bytes = const STACK_BYTES,
                    begin = sym begin,
                )
            }

            extern "C" fn begin(boot_info: u64) -> ! {
                // SAFETY: this is the register that the kernel set, this is the stack that
                // `_start` chose, and the heap is used nowhere else.
                unsafe {
                    $crate::runtime::begin_root_task(
                        boot_info,
                        STACK.address(),
                        HEAP.address(),
                        $heap_bytes as u64,
                        $main,
                    )
                }
            }
        };
    };
}

/// Where [`root_task!`](crate::root_task!) goes on.
///
/// # Safety
/// `boot_info` is the address that the kernel passed; the stack begins at `stack_vaddr`, on a page of
/// its own, and is hardly used yet; the heap's memory is nobody else's.
pub unsafe fn begin_root_task(
    boot_info: u64,
    stack_vaddr: u64,
    heap_vaddr: u64,
    heap_bytes: u64,
    main: fn(BootEnv) -> !,
) -> ! {
    // SAFETY: the kernel filled the page, and nobody writes to it any more.
    let info = unsafe { &*(boot_info as *const BootInfo) };
    let buffer_page = info.ipc_buffer;
    let pointer = (buffer_page + IPC_BUFFER_POINTER_OFFSET) as *mut u64;
    // SAFETY: the IPC buffer is at the start of a writable page of its own.
    unsafe { pointer.write(buffer_page) };
    kernel::set_thread_pointer(buffer_page);
    guard_stack(info, stack_vaddr);
    // SAFETY: the caller's contract.
    unsafe { heap::add(heap_vaddr, heap_bytes) };
    let extra = (boot_info + BOOT_INFO_FRAME_BYTES) as *const u8;
    let extra_length = usize::try_from(info.extra_length).expect("usize has 64 bits");
    let extra = if extra_length == 0 {
        &[]
    } else {
        // SAFETY: the kernel mapped that many bytes right behind the BootInfo page.
        unsafe { slice::from_raw_parts(extra, extra_length) }
    };
    let env = BootEnv {
        boot_info: info,
        extra,
    };
    if is_debug_kernel(&env) {
        log::attach_debug_port();
    }
    main(env)
}

/// Unmaps the stack's lowest page, so that a stack that runs over is a fault and does not write to
/// what lies below it. The stack is part of the image, whose frames the kernel lists in order.
fn guard_stack(info: &BootInfo, stack_vaddr: u64) {
    let page = (stack_vaddr - IMAGE_FIRST) / PAGE_BYTES;
    let frame = Frame::from_cptr(CPtr(info.user_image_frames.start + page));
    frame
        .unmap()
        .expect("the kernel lists every page of the image");
}

/// Whether the kernel has a debug port, from the fourth word of its machine record.
fn is_debug_kernel(env: &BootEnv) -> bool {
    const DEBUG_OFFSET: usize = core::mem::offset_of!(sel4_sys::boot_info::MachineRecord, debug);
    let word = env
        .record(ExtraRecord::Machine)
        .and_then(|record| record.get(DEBUG_OFFSET..)?.first_chunk::<8>());
    word.is_some_and(|word| u64::from_le_bytes(*word) == 1)
}
