//! The allow-lists: which feature bits of the host a guest may see, and which bits of CR4 and EFER
//! follow from them.

use super::{Leaf, Topology, Vendor};

/// Bits of a register, from their numbers.
const fn bits(numbers: &[u32]) -> u32 {
    let mut mask = 0;
    let mut index = 0;
    while index < numbers.len() {
        mask |= 1 << numbers[index];
        index += 1;
    }
    mask
}

/// Leaf 1 ECX: XSAVE.
pub const XSAVE: u32 = 1 << 26;
/// Leaf 1 ECX: the operating system enabled XSAVE.
pub const OSXSAVE: u32 = 1 << 27;
const X2APIC: u32 = 1 << 21;
const TSC_DEADLINE: u32 = 1 << 24;
const HYPERVISOR: u32 = 1 << 31;
/// FMA, AVX and F16C, which need AVX state.
const LEAF_1_AVX: u32 = bits(&[12, 28, 29]);

/// Leaf 1 ECX: SSE3, PCLMULQDQ, SSSE3, FMA, CMPXCHG16B, SSE4.1, SSE4.2, MOVBE, POPCNT, AES, XSAVE,
/// AVX, F16C, RDRAND.
const LEAF_1_ECX: u32 = bits(&[0, 1, 9, 12, 13, 19, 20, 22, 23, 25, 26, 28, 29, 30]);
/// Leaf 1 EDX: FPU, VME, DE, PSE, TSC, MSR, PAE, MCE, CX8, APIC, SEP, MTRR, PGE, MCA, CMOV, PAT,
/// PSE-36, CLFSH, MMX, FXSR, SSE, SSE2.
const LEAF_1_EDX: u32 = bits(&[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 15, 16, 17, 19, 23, 24, 25, 26,
]);
const HYPER_THREADING: u32 = 1 << 28;

/// Leaf 7 EBX: FSGSBASE, BMI1, SMEP, BMI2, ERMS, RDSEED, ADX, SMAP, CLFLUSHOPT, CLWB, SHA.
const LEAF_7_EBX: u32 = bits(&[0, 3, 7, 8, 9, 18, 19, 20, 23, 24, 29]);
/// AVX2.
const LEAF_7_EBX_AVX: u32 = 1 << 5;
/// AVX-512 F, DQ, IFMA, CD, BW, VL.
const LEAF_7_EBX_AVX512: u32 = bits(&[16, 17, 21, 28, 30, 31]);
/// UMIP, GFNI, RDPID.
const LEAF_7_ECX: u32 = bits(&[2, 8, 22]);
/// VAES, VPCLMULQDQ.
const LEAF_7_ECX_AVX: u32 = bits(&[9, 10]);
/// AVX-512 VBMI, VBMI2, VNNI, BITALG, VPOPCNTDQ.
const LEAF_7_ECX_AVX512: u32 = bits(&[1, 6, 11, 12, 14]);
/// Fast short REP MOVSB, SERIALIZE.
const LEAF_7_EDX: u32 = bits(&[4, 14]);

/// 0x80000001 ECX: LAHF, ABM, SSE4A, misaligned SSE, PREFETCHW.
const EXTENDED_1_ECX: u32 = bits(&[0, 5, 6, 7, 8]);
const COMPATIBLE_MULTICORE: u32 = 1 << 1;
/// 0x80000001 EDX: SYSCALL, NX, 1 GiB pages, RDTSCP, long mode.
const EXTENDED_1_EDX: u32 = bits(&[11, 20, 26, 27, 29]);
/// On AMD the register repeats leaf 1, and adds MMX extensions.
const EXTENDED_1_EDX_AMD: u32 = bits(&[
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 12, 13, 14, 15, 16, 17, 22, 23, 24,
]);

/// AVX state.
const XCR0_AVX: u64 = 1 << 2;
/// The three components of AVX-512.
const XCR0_AVX512: u64 = 0xe0;

/// Leaf 1.
pub fn leaf_1(host: Leaf, topology: Topology, xcr0: u64) -> Leaf {
    let mut ecx = host.ecx & LEAF_1_ECX;
    if xcr0 == 0 {
        ecx &= !XSAVE;
    }
    if xcr0 & XCR0_AVX == 0 {
        ecx &= !LEAF_1_AVX;
    }
    let mut edx = host.edx & LEAF_1_EDX;
    if topology.vcpus > 1 {
        edx |= HYPER_THREADING;
    }
    Leaf {
        eax: host.eax,
        ebx: host.ebx & 0xff00 | topology.vcpus << 16 | topology.index << 24,
        ecx: ecx | X2APIC | TSC_DEADLINE | HYPERVISOR,
        edx,
    }
}

/// Leaf 7, sub-leaf 0.
pub fn leaf_7(host: Leaf, xcr0: u64) -> Leaf {
    let (mut ebx, mut ecx) = (LEAF_7_EBX, LEAF_7_ECX);
    if xcr0 & XCR0_AVX != 0 {
        ebx |= LEAF_7_EBX_AVX;
        ecx |= LEAF_7_ECX_AVX;
    }
    if xcr0 & XCR0_AVX512 == XCR0_AVX512 {
        ebx |= LEAF_7_EBX_AVX512;
        ecx |= LEAF_7_ECX_AVX512;
    }
    Leaf {
        eax: 0,
        ebx: host.ebx & ebx,
        ecx: host.ecx & ecx,
        edx: host.edx & LEAF_7_EDX,
    }
}

/// Leaf 0x80000001.
pub fn extended_1(host: Leaf, vendor: Vendor, topology: Topology) -> Leaf {
    let mut ecx = host.ecx & EXTENDED_1_ECX;
    let mut edx = EXTENDED_1_EDX;
    if vendor == Vendor::Amd {
        edx |= EXTENDED_1_EDX_AMD;
        if topology.vcpus > 1 {
            ecx |= COMPATIBLE_MULTICORE;
        }
    }
    Leaf {
        eax: host.eax,
        ebx: 0,
        ecx,
        edx: host.edx & edx,
    }
}

/// Leaf 0x80000008: address widths and AMD's number of cores.
pub fn extended_8(host: Leaf, vendor: Vendor, topology: Topology) -> Leaf {
    let physical = (host.eax & 0xff).clamp(36, 46);
    let cores = topology.vcpus - 1;
    let identifier_bits = topology.vcpus.next_power_of_two().trailing_zeros();
    Leaf {
        eax: physical | 48 << 8,
        ebx: 0,
        ecx: if vendor == Vendor::Amd {
            cores | identifier_bits << 12
        } else {
            0
        },
        edx: 0,
    }
}

/// XCR0 with only such components as may be enabled together.
pub fn consistent_xcr0(xcr0: u64) -> u64 {
    if xcr0 & 0b11 != 0b11 {
        return 0;
    }
    let mut allowed = 0b11 | xcr0 & XCR0_AVX;
    if xcr0 & (XCR0_AVX | XCR0_AVX512) == XCR0_AVX | XCR0_AVX512 {
        allowed |= XCR0_AVX512;
    }
    allowed
}

/// Bits of CR4 that go with the features of leaves 1 and 7.
pub fn allowed_cr4(leaf_1: &Leaf, leaf_7: &Leaf) -> u64 {
    // Bit of CR4, and the feature that brings it.
    let by_leaf_1_edx = [
        (0, 1),
        (1, 1),
        (2, 4),
        (3, 2),
        (4, 3),
        (5, 6),
        (6, 7),
        (7, 13),
        (9, 24),
        (10, 25),
    ];
    let by_leaf_7_ebx = [(16, 0), (20, 7), (21, 20)];
    let from = |register: u32, pairs: &[(u32, u32)]| {
        pairs
            .iter()
            .filter(|(_, feature)| register & 1 << feature != 0)
            .fold(0, |mask, (bit, _)| mask | 1u64 << bit)
    };
    let mut mask = from(leaf_1.edx, &by_leaf_1_edx) | from(leaf_7.ebx, &by_leaf_7_ebx);
    mask |= from(leaf_7.ecx, &[(11, 2)]) | from(leaf_1.ecx, &[(18, 26)]);
    // Performance counters: the bit exists, the counters do not.
    mask | 1 << 8
}

/// Bits of EFER that go with the features of leaf 0x80000001.
pub fn allowed_efer(extended_1: &Leaf) -> u64 {
    [(0, 11), (8, 29), (10, 29), (11, 20)]
        .iter()
        .filter(|(_, feature)| extended_1.edx & 1 << feature != 0)
        .fold(0, |mask, (bit, _)| mask | 1u64 << bit)
}
