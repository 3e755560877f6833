//! A guest that does anything at all ends its own VM at worst.

use super::*;
use proptest::prelude::*;

/// Any exit, with a bias towards what reaches devices.
fn any_exit() -> impl Strategy<Value = [u64; exit::LENGTH]> {
    let reason = prop_oneof![
        4 => Just(ExitReason::Io.number()),
        4 => Just(ExitReason::MemoryFault.number()),
        2 => Just(ExitReason::MsrRead.number()),
        2 => Just(ExitReason::MsrWrite.number()),
        2 => Just(ExitReason::CrAccess.number()),
        1 => Just(ExitReason::Cpuid.number()),
        1 => Just(ExitReason::Hlt.number()),
        2 => 0u64..30,
    ];
    let address = prop_oneof![
        0xfee0_0000u64..0xfee0_1000,
        0xfec0_0000u64..0xfec0_0020,
        any::<u64>()
    ];
    let port = prop_oneof![0u64..0x1000, any::<u64>()];
    let msr = prop_oneof![
        0x800u64..0x840,
        0u64..0x1000,
        0xc000_0080u64..0xc000_0104,
        any::<u64>()
    ];
    let general = prop::array::uniform16(prop_oneof![any::<u64>(), 0u64..0x1_0000]);
    (
        reason,
        (address, port, msr),
        any::<[u64; 4]>(),
        general,
        0u64..128,
    )
        .prop_map(
            |(reason, (address, port, msr), [low, high, cr, rflags], general, mode)| {
                let mut words = words(ExitReason::Cpuid, 0);
                words[exit::REASON] = reason;
                words[exit::QUALIFICATION] = match reason {
                    3 => port & 0xffff | (1 << (low % 3)) << 16 | (high & 7) << 20,
                    4 | 5 => msr,
                    6 => low & 0x1f,
                    _ => low,
                };
                words[exit::GUEST_PHYSICAL] = address;
                words[exit::CR0] = cr & 0x7fff_ffff;
                words[exit::RFLAGS] = rflags;
                words[exit::MODE] = mode;
                words[exit::REGISTERS..].copy_from_slice(&general);
                words
            },
        )
}

/// Code bytes that decode to something, more often than random ones do.
fn any_code() -> impl Strategy<Value = Vec<u8>> {
    let start = prop::sample::select(vec![
        vec![0x0f, 0xa2],
        vec![0x0f, 0x30],
        vec![0x0f, 0x32],
        vec![0x0f, 0x22],
        vec![0x0f, 0x20],
        vec![0x89],
        vec![0x8b],
        vec![0xf3, 0xa4],
        vec![0xf3, 0x6c],
        vec![0xf3, 0x6e],
        vec![0x0f, 0x01],
        vec![],
    ]);
    (start, prop::collection::vec(any::<u8>(), 12)).prop_map(|(mut code, rest)| {
        code.extend(rest);
        code
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]
    #[test]
    fn no_exit_panics_or_hangs_the_monitor(
        exits in prop::collection::vec(any_exit(), 1..40),
        code in any_code(),
        second in any::<bool>(),
    ) {
        let mut bench = Bench::new(&exits).code(&code);
        bench.vcpus = if second { 2 } else { 1 };
        // A sleeping VCPU costs a round without an exit; the bound only ends the test.
        let (_, result) = bench.run(exits.len() * 3, |vm| {
            vm.host().input.borrow_mut().extend(0..40);
        });
        if let Err(VmEvent::Failed(failure)) = result {
            prop_assert_eq!(failure.vcpu, 0);
        }
    }
}
