//! The clock page that a guest shares with its monitor: TSC at a moment, nanoseconds at that
//! moment, and the scale between them. A guest that uses it calibrates nothing at boot.
//! Source: Linux Documentation/virt/kvm/x86/msr.rst.

use crate::memory::{GuestAddress, GuestMemory, NoRam};
use crate::time::{Ticks, TimeBase};

/// MSR with the address of the wall clock.
pub const MSR_WALL_CLOCK: u32 = 0x4b56_4d00;
/// MSR with the address of this VCPU's clock page; bit 0 enables it.
pub const MSR_SYSTEM_TIME: u32 = 0x4b56_4d01;

/// The clock is the same on every VCPU.
const FLAG_STABLE: u8 = 1 << 0;
/// Any even number but zero: the page is written once, before the guest looks.
const VERSION: u32 = 2;

/// Multiplier and shift that turn ticks into nanoseconds:
/// `ns = ((ticks << shift) * multiplier) >> 32`, with a negative shift going right.
fn scale(base: TimeBase) -> (u32, i8) {
    let mut ns_per_tick = (1_000_000u128 << 64) / u128::from(base.tsc_khz());
    let mut shift = 0i8;
    // The multiplier is a 0.32 fraction, best with its top bit set.
    while ns_per_tick >= 1 << 64 {
        ns_per_tick >>= 1;
        shift += 1;
    }
    while ns_per_tick < 1 << 63 {
        ns_per_tick <<= 1;
        shift -= 1;
    }
    ((ns_per_tick >> 32) as u32, shift)
}

/// Writes the clock page at `address` (bit 0 already cleared). `guest_tsc` is the guest's TSC at
/// machine time `now`.
///
/// # Errors
/// [`NoRam`].
pub fn write_system_time(
    memory: &GuestMemory,
    address: GuestAddress,
    base: TimeBase,
    now: Ticks,
    guest_tsc: u64,
) -> Result<(), NoRam> {
    let (multiplier, shift) = scale(base);
    let mut page = [0; 32];
    page[0..4].copy_from_slice(&VERSION.to_le_bytes());
    page[8..16].copy_from_slice(&guest_tsc.to_le_bytes());
    page[16..24].copy_from_slice(&base.ns_from_ticks(now).to_le_bytes());
    page[24..28].copy_from_slice(&multiplier.to_le_bytes());
    page[28] = shift as u8;
    page[29] = FLAG_STABLE;
    memory.write(address, &page)
}

/// Writes the wall clock at machine time zero.
///
/// # Errors
/// [`NoRam`].
pub fn write_wall_clock(
    memory: &GuestMemory,
    address: GuestAddress,
    epoch_seconds: u32,
) -> Result<(), NoRam> {
    let mut page = [0; 12];
    page[0..4].copy_from_slice(&VERSION.to_le_bytes());
    page[4..8].copy_from_slice(&epoch_seconds.to_le_bytes());
    memory.write(address, &page)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::AccessSize;
    use crate::memory::tests::ram;
    use proptest::prelude::*;

    /// What a guest computes from the scale.
    fn guest_ns(ticks: u64, multiplier: u32, shift: i8) -> u64 {
        let shifted = if shift < 0 {
            ticks >> -shift
        } else {
            ticks << shift
        };
        ((u128::from(shifted) * u128::from(multiplier)) >> 32) as u64
    }

    proptest! {
        #[test]
        fn the_scale_gives_nanoseconds(khz in crate::time::MINIMUM_TSC_KHZ..10_000_000u64, ticks in 0u64..1 << 40) {
            let base = TimeBase::new(khz).unwrap();
            let (multiplier, shift) = scale(base);
            let exact = base.ns_from_ticks(Ticks(ticks));
            let computed = guest_ns(ticks, multiplier, shift);
            // 31 bits of multiplier: one part in 2^30, and a few ns of rounding.
            prop_assert!(computed.abs_diff(exact) <= exact / (1 << 30) + 8, "{computed} {exact}");
        }
    }

    #[test]
    fn the_page_has_tsc_time_and_flags() {
        let words = ram(4096);
        let memory = GuestMemory::new(&words);
        let base = TimeBase::new(2_000_000).unwrap();
        write_system_time(&memory, GuestAddress(64), base, Ticks(4000), 9000).unwrap();
        let word = |offset: u64| {
            memory
                .read_value(GuestAddress(64 + offset), AccessSize::Qword)
                .unwrap()
        };
        assert_eq!((word(8), word(16)), (9000, 2000));
        assert_eq!(word(24) >> 40 & 0xff, 1);
    }

    #[test]
    fn a_page_outside_ram_is_refused() {
        let words = ram(4096);
        let memory = GuestMemory::new(&words);
        let base = TimeBase::new(2_000_000).unwrap();
        assert!(write_system_time(&memory, GuestAddress(4080), base, Ticks(0), 0).is_err());
        assert!(write_wall_clock(&memory, GuestAddress(u64::MAX), 0).is_err());
    }
}
