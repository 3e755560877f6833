//! The guests' code: guest.s, assembled into this program as data.

use core::arch::global_asm;
use core::slice;

global_asm!(include_str!("guest.s"), options(att_syntax));

/// Where the code is in the guest.
pub const CODE_BASE: u64 = 0x1000;

/// Declares labels of guest.s as functions that tell their guest-physical address.
macro_rules! labels {
    ($( $name:ident )+) => {
        mod symbol {
            // SAFETY: guest.s defines them; only their addresses are used.
            unsafe extern "C" {
                pub safe static guest_image: u8;
                pub safe static guest_image_end: u8;
                $( pub safe static $name: u8; )+
            }
        }

        $(
            /// Guest-physical address of the label.
            pub fn $name() -> u64 {
                CODE_BASE + offset(&raw const symbol::$name)
            }
        )+
    };
}

labels! {
    reset_vector port_io cpuid_and_msrs memory_faults memory_write memory_read_only
    memory_read_only_write memory_fetch interrupts interrupts_open interrupts_idle
    handler_interrupt handler_slow handler_nmi handler_fault handler_software real_spin odd_cr0 long_mode pae_paging
    page_fault handler_page_fault undefined handler_undefined handler_protection
    handler_long_interrupt vector_registers write_xcr0 write_key_rights read_key_rights own_msrs privileged hypercall_intel
    hypercall_amd read_twice spin count_cpuids mark_forever
    out_and_halt gdt
}

fn offset(symbol: *const u8) -> u64 {
    symbol.addr() as u64 - (&raw const symbol::guest_image).addr() as u64
}

/// The bytes that belong at [`CODE_BASE`].
pub fn image() -> &'static [u8] {
    let length = offset(&raw const symbol::guest_image_end) as usize;
    // SAFETY: the two symbols are the ends of one piece of read-only data of this program.
    unsafe { slice::from_raw_parts(&raw const symbol::guest_image, length) }
}
