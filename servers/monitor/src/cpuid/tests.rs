use super::*;
use proptest::prelude::*;

/// A host with every bit of every leaf set, but plausible where numbers stand.
fn generous(vendor: &'static [u8; 12]) -> impl Fn(u32, u32) -> Leaf {
    move |leaf, subleaf| match leaf {
        0 => {
            let names = signature(0x20, vendor);
            // CPUID has the words of the vendor in another order than the hypervisor leaf.
            Leaf {
                eax: 0x20,
                ebx: names.ebx,
                edx: names.ecx,
                ecx: names.edx,
            }
        }
        1 => Leaf {
            eax: 0x0005_0654,
            ebx: 0xffff_08ff,
            ecx: u32::MAX,
            edx: u32::MAX,
        },
        4 if subleaf < 4 => Leaf {
            eax: (subleaf.max(1)) << 5 | 1,
            ..Leaf::default()
        },
        4 => Leaf::default(),
        0xd => match subleaf {
            0 => Leaf {
                eax: 0x2e7,
                ebx: 2688,
                ecx: 2696,
                edx: 0,
            },
            1 => Leaf {
                eax: 0xf,
                ..Leaf::default()
            },
            2 => Leaf {
                eax: 256,
                ebx: 576,
                ..Leaf::default()
            },
            5 => Leaf {
                eax: 64,
                ebx: 1088,
                ..Leaf::default()
            },
            6 => Leaf {
                eax: 512,
                ebx: 1152,
                ..Leaf::default()
            },
            7 => Leaf {
                eax: 1024,
                ebx: 1664,
                ..Leaf::default()
            },
            _ => Leaf {
                eax: 8,
                ebx: 2688,
                ..Leaf::default()
            },
        },
        0x8000_0000 => Leaf {
            eax: 0x8000_0020,
            ..Leaf::default()
        },
        0x8000_0008 => Leaf {
            eax: 0x3039_3034,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        },
        _ => Leaf {
            eax: u32::MAX,
            ebx: u32::MAX,
            ecx: u32::MAX,
            edx: u32::MAX,
        },
    }
}

fn table(vendor: &'static [u8; 12], vcpus: u32, index: u32) -> CpuidTable {
    let base = TimeBase::new(2_400_000).unwrap();
    CpuidTable::new(&generous(vendor), 0xe7, Topology { vcpus, index }, base)
}

fn ask(table: &CpuidTable, leaf: u32, subleaf: u32) -> Leaf {
    table.answer(leaf, subleaf, 0, || 0x7)
}

#[test]
fn features_that_nobody_emulates_are_hidden() {
    for vendor in [b"GenuineIntel", b"AuthenticAMD"] {
        let table = table(vendor, 1, 0);
        let one = ask(&table, 1, 0);
        assert_eq!(
            one.ecx & (1 << 3 | 1 << 5 | 1 << 17),
            0,
            "MONITOR, VMX, PCID"
        );
        assert_eq!(one.edx & (1 << 21 | 1 << 22), 0, "DS, ACPI");
        let seven = ask(&table, 7, 0);
        assert_eq!(
            seven.ebx & (1 << 1 | 1 << 2 | 1 << 10 | 1 << 11),
            0,
            "TSC_ADJUST, SGX, INVPCID, RTM"
        );
        assert_eq!(seven.ecx & (1 << 3 | 1 << 16), 0, "PKU, LA57");
        assert_eq!(
            seven.edx & (1 << 26 | 1 << 29),
            0,
            "IBRS, ARCH_CAPABILITIES"
        );
        assert_eq!(ask(&table, 0x8000_0001, 0).ecx & (1 << 2), 0, "SVM");
        assert_eq!(ask(&table, 0xa, 0), Leaf::default());
        assert_eq!(ask(&table, 0x8000_000a, 0), Leaf::default());
    }
}

#[test]
fn what_we_emulate_is_shown_whatever_the_host_has() {
    let bare = |_: u32, _: u32| Leaf::default();
    let base = TimeBase::new(1_000_000).unwrap();
    let table = CpuidTable::new(&bare, 0, Topology { vcpus: 1, index: 0 }, base);
    let ecx = ask(&table, 1, 0).ecx;
    assert_eq!(
        ecx,
        1 << 21 | 1 << 24 | 1 << 31,
        "x2APIC, TSC deadline, hypervisor"
    );
    assert_eq!(table.allowed_xcr0(), 0);
    assert_eq!(ask(&table, 0xd, 0).eax, 0);
}

#[test]
fn the_hypervisor_leaves_name_us_and_the_paravirtual_interface() {
    let table = table(b"GenuineIntel", 1, 0);
    let own = ask(&table, 0x4000_0000, 0);
    assert_eq!(&own.ebx.to_le_bytes(), b"Tess");
    assert_eq!(own.eax, 0x4000_0010);
    assert_eq!(ask(&table, 0x4000_0010, 0).eax, 2_400_000);
    let paravirtual = ask(&table, 0x4000_0100, 0);
    assert_eq!(&paravirtual.ebx.to_le_bytes(), b"KVMK");
    assert_eq!(ask(&table, paravirtual.eax, 0).eax & (1 << 3), 1 << 3);
    assert_eq!(ask(&table, 0x4000_0001, 0), Leaf::default());
}

#[test]
fn the_tsc_frequency_follows_from_the_crystal() {
    let table = table(b"GenuineIntel", 1, 0);
    let leaf = ask(&table, 0x15, 0);
    let hertz = u64::from(leaf.ecx) * u64::from(leaf.ebx) / u64::from(leaf.eax);
    assert_eq!(hertz, 2_400_000_000);
    assert_eq!(ask(&table, 0x16, 0).eax, 2400);
}

#[test]
fn topology_agrees_in_all_leaves() {
    for vcpus in 1..=4 {
        for index in 0..vcpus {
            let intel = table(b"GenuineIntel", vcpus, index);
            let one = ask(&intel, 1, 0);
            assert_eq!((one.ebx >> 24, one.ebx >> 16 & 0xff), (index, vcpus));
            assert_eq!(one.edx >> 28 & 1, u32::from(vcpus > 1));
            let cores = ask(&intel, 0xb, 1);
            assert_eq!((cores.ebx, cores.edx), (vcpus, index));
            assert!(1 << cores.eax >= vcpus);
            assert_eq!(ask(&intel, 0xb, 0).eax, 0);
            assert_eq!(
                ask(&intel, 0xb, 2),
                Leaf {
                    ecx: 2,
                    edx: index,
                    ..Leaf::default()
                }
            );
            assert_eq!(ask(&intel, 4, 0).eax >> 26, vcpus.next_power_of_two() - 1);
            let amd = table(b"AuthenticAMD", vcpus, index);
            assert_eq!(ask(&amd, 0x8000_0008, 0).ecx & 0xff, vcpus - 1);
        }
    }
}

#[test]
fn xsave_sizes_follow_what_the_guest_enabled() {
    let table = table(b"GenuineIntel", 1, 0);
    assert_eq!(table.allowed_xcr0(), 0xe7);
    assert_eq!(table.answer(0xd, 0, 0, || 0x3).ebx, 576);
    assert_eq!(table.answer(0xd, 0, 0, || 0x7).ebx, 832);
    assert_eq!(table.answer(0xd, 0, 0, || 0xe7).ebx, 2688);
    assert_eq!(ask(&table, 0xd, 0).ecx, 2688);
    assert_eq!(ask(&table, 0xd, 1).eax, 7, "no XSAVES");
    assert_eq!(ask(&table, 0xd, 9), Leaf::default());
}

#[test]
fn osxsave_mirrors_cr4() {
    let table = table(b"GenuineIntel", 1, 0);
    assert_eq!(ask(&table, 1, 0).ecx >> 27 & 1, 0);
    let enabled = table.answer(1, 0, CR4_OSXSAVE, || 0);
    assert_eq!(enabled.ecx >> 27 & 1, 1);
}

#[test]
fn without_avx_state_there_are_no_avx_features() {
    let base = TimeBase::new(1_000_000).unwrap();
    let host = generous(b"GenuineIntel");
    let table = CpuidTable::new(&host, 0x3, Topology { vcpus: 1, index: 0 }, base);
    assert_eq!(table.allowed_xcr0(), 3);
    assert_eq!(ask(&table, 7, 0).ebx & (1 << 5 | 1 << 16), 0);
    assert_eq!(ask(&table, 1, 0).ecx & (1 << 12 | 1 << 28), 0);
}

#[test]
fn control_bits_follow_from_features() {
    let table = table(b"GenuineIntel", 1, 0);
    let cr4 = table.allowed_cr4();
    assert_eq!(
        cr4 & (1 << 5 | 1 << 18 | 1 << 20 | 1 << 21),
        1 << 5 | 1 << 18 | 1 << 20 | 1 << 21
    );
    assert_eq!(
        cr4 & (1 << 12 | 1 << 13 | 1 << 17 | 1 << 22),
        0,
        "LA57, VMXE, PCIDE, PKE"
    );
    assert_eq!(table.allowed_efer(), 0xd01);
}

#[test]
fn the_enabled_state_is_told_from_its_size() {
    for (size, expected) in [(576, 0x3), (832, 0x7), (2688, 0xe7), (2696, 0xe7)] {
        let generous = generous(b"GenuineIntel");
        let host = move |leaf: u32, subleaf: u32| match (leaf, subleaf) {
            (0xd, 0) => Leaf {
                ebx: size,
                ..generous(0xd, 0)
            },
            _ => generous(leaf, subleaf),
        };
        assert_eq!(enabled_xcr0(&host), expected, "{size}");
    }
    let none = |_: u32, _: u32| Leaf::default();
    assert_eq!(enabled_xcr0(&none), 0);
}

proptest! {
    #[test]
    fn no_leaf_panics(leaf in prop_oneof![any::<u32>(), 0u32..0x40, 0x4000_0000u32..0x4000_0200, 0x8000_0000u32..0x8000_0020], subleaf: u32) {
        for vendor in [b"GenuineIntel", b"AuthenticAMD"] {
            let table = table(vendor, 2, 1);
            let _ = ask(&table, leaf, subleaf);
            let _ = ask(&table, leaf, subleaf & 0xf);
        }
    }
}
