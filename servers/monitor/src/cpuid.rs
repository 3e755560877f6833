//! What CPUID tells the guest.
//!
//! Policy: the host's answers, cut to allow-lists ([`features`]), so that a feature whose state
//! nobody saves or whose registers nobody emulates is never seen. Topology, timing and the
//! hypervisor leaves are our own. Sources: Intel SDM volume 2, CPUID; AMD APM volume 3,
//! appendix E; Linux Documentation/virt/kvm/x86/cpuid.rst for the paravirtual leaves.
//!
//! The answers of one VCPU are computed once. CPUID is the exit that programs use to measure
//! virtual machines, and the only one that Linux makes thousands of at boot.

mod features;

use heapless::Vec;

pub use features::consistent_xcr0;

use crate::mode::CR4_OSXSAVE;
use crate::time::TimeBase;

/// Registers that CPUID sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "register names")]
pub struct Leaf {
    pub eax: u32,
    pub ebx: u32,
    pub ecx: u32,
    pub edx: u32,
}

/// The host's CPUID instruction.
pub type HostCpuid<'a> = &'a dyn Fn(u32, u32) -> Leaf;

/// Who made the CPU, as far as it matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vendor {
    /// Intel, and those who follow it.
    Intel,
    /// AMD and Hygon.
    Amd,
}

/// First hypervisor leaf.
const HYPERVISOR: u32 = 0x4000_0000;
/// Leaf with the frequencies of TSC and local APIC in kHz.
const HYPERVISOR_TIMING: u32 = 0x4000_0010;
/// Linux looks for the interface of KVM at every multiple of 0x100 from [`HYPERVISOR`] on.
const PARAVIRTUAL: u32 = 0x4000_0100;
/// First leaf of the extended range.
const EXTENDED: u32 = 0x8000_0000;
/// Highest extended leaf.
const EXTENDED_LAST: u32 = 0x8000_0008;

const SIGNATURE: &[u8; 12] = b"TesseraVMM\0\0";
const PARAVIRTUAL_SIGNATURE: &[u8; 12] = b"KVMKVMKVM\0\0\0";
/// No I/O delays needed; clock by shared page; that clock is the same on every VCPU.
const PARAVIRTUAL_FEATURES: u32 = 1 << 1 | 1 << 3 | 1 << 24;

/// Highest basic leaf that we ever answer.
const BASIC_LAST: u32 = 0x16;
const BASIC_LEAVES: usize = BASIC_LAST as usize + 1;
const EXTENDED_LEAVES: usize = (EXTENDED_LAST - EXTENDED) as usize + 1;
/// Cache levels that leaf 4 describes, with its end mark.
const CACHE_LEAVES: usize = 5;
/// Components of XCR0 that a guest may have: x87, SSE, AVX, and the three of AVX-512.
pub const XCR0_ALLOWED: u64 = 0xe7;
/// Sub-leaves of leaf 0xd: one for each bit of [`XCR0_ALLOWED`].
const STATE_LEAVES: usize = 8;
/// x87 and SSE state with the XSAVE header.
const LEGACY_STATE_BYTES: u32 = 576;

/// Our local APIC's clock, as leaf 0x15 calls it.
const CRYSTAL_HZ: u32 = crate::device::local_apic::timer::FREQUENCY_HZ as u32;

/// What the guest's CPUs are beside the host's.
#[derive(Clone, Copy, Debug)]
pub struct Topology {
    /// Number of VCPUs.
    pub vcpus: u32,
    /// Which one this is; also its APIC identifier.
    pub index: u32,
}

/// Answers of one VCPU.
#[derive(Clone, Debug)]
pub struct CpuidTable {
    vendor: Vendor,
    basic_last: u32,
    basic: [Leaf; BASIC_LEAVES],
    extended: [Leaf; EXTENDED_LEAVES],
    caches: Vec<Leaf, CACHE_LEAVES>,
    topology: [Leaf; 2],
    state: [Leaf; STATE_LEAVES],
    xcr0: u64,
    timing: Leaf,
}

impl CpuidTable {
    /// The table of one VCPU. `host_xcr0` is what the host's kernel has enabled.
    #[must_use]
    pub fn new(host: HostCpuid, host_xcr0: u64, topology: Topology, base: TimeBase) -> Self {
        let vendor = vendor(host);
        let mut table = Self {
            vendor,
            basic_last: basic_last(host, vendor),
            basic: [Leaf::default(); BASIC_LEAVES],
            extended: [Leaf::default(); EXTENDED_LEAVES],
            caches: Vec::new(),
            topology: [Leaf::default(); 2],
            state: [Leaf::default(); STATE_LEAVES],
            xcr0: 0,
            timing: Leaf {
                eax: clamped(base.tsc_khz()),
                ebx: CRYSTAL_HZ / 1000,
                ..Leaf::default()
            },
        };
        table.fill_state(host, host_xcr0);
        table.fill_basic(host, topology, base);
        table.fill_extended(host, topology);
        table.fill_caches(host, topology);
        table.fill_topology(topology);
        table
    }

    /// The answer to CPUID with `leaf` in EAX and `subleaf` in ECX.
    ///
    /// `cr4` and `xcr0` are the guest's; XCR0 is asked for only where the answer needs it.
    #[inline]
    pub fn answer(&self, leaf: u32, subleaf: u32, cr4: u64, xcr0: impl FnOnce() -> u64) -> Leaf {
        if leaf <= self.basic_last {
            return self.basic_answer(leaf, subleaf, cr4, xcr0);
        }
        match leaf {
            HYPERVISOR => signature(HYPERVISOR_TIMING, SIGNATURE),
            HYPERVISOR_TIMING => self.timing,
            PARAVIRTUAL => signature(PARAVIRTUAL + 1, PARAVIRTUAL_SIGNATURE),
            // A const expression in a pattern needs its own arm.
            leaf if leaf == PARAVIRTUAL + 1 => Leaf {
                eax: PARAVIRTUAL_FEATURES,
                ..Leaf::default()
            },
            EXTENDED..=EXTENDED_LAST => self.extended[(leaf - EXTENDED) as usize],
            _ => Leaf::default(),
        }
    }

    fn basic_answer(&self, leaf: u32, subleaf: u32, cr4: u64, xcr0: impl FnOnce() -> u64) -> Leaf {
        let sub = subleaf as usize;
        match leaf {
            1 => {
                let mut answer = self.basic[1];
                if cr4 & CR4_OSXSAVE != 0 {
                    answer.ecx |= features::OSXSAVE;
                }
                answer
            }
            4 => self.caches.get(sub).copied().unwrap_or_default(),
            7 if subleaf != 0 => Leaf::default(),
            0xb => match self.topology.get(sub) {
                Some(level) => *level,
                // Invalid levels echo the number and still tell the identifier.
                None => Leaf {
                    ecx: subleaf & 0xff,
                    edx: self.topology[0].edx,
                    ..Leaf::default()
                },
            },
            0xd => self.state_answer(subleaf, xcr0),
            _ => self.basic[leaf as usize],
        }
    }

    fn state_answer(&self, subleaf: u32, xcr0: impl FnOnce() -> u64) -> Leaf {
        let Some(answer) = self.state.get(subleaf as usize) else {
            return Leaf::default();
        };
        match subleaf {
            0 => Leaf {
                ebx: self.state_bytes(xcr0()),
                ..*answer
            },
            1 if answer.eax != 0 => Leaf {
                ebx: self.compacted_bytes(xcr0()),
                ..*answer
            },
            _ => *answer,
        }
    }

    /// Components of XCR0 that the guest may enable; zero if there is no XSAVE.
    #[must_use]
    pub fn allowed_xcr0(&self) -> u64 {
        self.xcr0
    }

    /// Who made the CPU.
    #[must_use]
    pub fn vendor(&self) -> Vendor {
        self.vendor
    }

    /// Bits of CR4 that the guest may set.
    #[must_use]
    pub fn allowed_cr4(&self) -> u64 {
        features::allowed_cr4(&self.basic[1], &self.basic[7])
    }

    /// Bits of EFER that the guest may set.
    #[must_use]
    pub fn allowed_efer(&self) -> u64 {
        features::allowed_efer(&self.extended[1])
    }

    /// Width of a physical address.
    #[must_use]
    pub fn physical_bits(&self) -> u32 {
        self.extended[8].eax & 0xff
    }

    fn fill_basic(&mut self, host: HostCpuid, topology: Topology, base: TimeBase) {
        let first = host(0, 0);
        self.basic[0] = Leaf {
            eax: self.basic_last,
            ..first
        };
        self.basic[1] = features::leaf_1(host(1, 0), topology, self.xcr0);
        self.basic[2] = if self.vendor == Vendor::Intel {
            host(2, 0)
        } else {
            Leaf::default()
        };
        // The local APIC's timer never stops.
        self.basic[6] = Leaf {
            eax: 1 << 2,
            ..Leaf::default()
        };
        self.basic[7] = features::leaf_7(host(7, 0), self.xcr0);
        let khz = clamped(base.tsc_khz());
        self.basic[0x15] = Leaf {
            eax: CRYSTAL_HZ / 1000,
            ebx: khz,
            ecx: CRYSTAL_HZ,
            edx: 0,
        };
        self.basic[0x16] = Leaf {
            eax: khz / 1000,
            ebx: khz / 1000,
            ecx: 100,
            edx: 0,
        };
    }

    fn fill_extended(&mut self, host: HostCpuid, topology: Topology) {
        let host_last = host(EXTENDED, 0).eax;
        let ask = |leaf: u32| {
            if leaf <= host_last {
                host(leaf, 0)
            } else {
                Leaf::default()
            }
        };
        let first = host(0, 0);
        let names = if self.vendor == Vendor::Amd {
            first
        } else {
            Leaf::default()
        };
        self.extended[0] = Leaf {
            eax: EXTENDED_LAST,
            ..names
        };
        self.extended[1] = features::extended_1(ask(EXTENDED + 1), self.vendor, topology);
        for leaf in 2..=6 {
            self.extended[leaf] = ask(EXTENDED + leaf as u32);
        }
        // The TSC runs at one rate, always: machine time is counted in it.
        self.extended[7] = Leaf {
            edx: 1 << 8,
            ..Leaf::default()
        };
        self.extended[8] = features::extended_8(ask(EXTENDED + 8), self.vendor, topology);
    }

    fn fill_caches(&mut self, host: HostCpuid, topology: Topology) {
        if self.vendor != Vendor::Intel || host(0, 0).eax < 4 {
            return;
        }
        for subleaf in 0..CACHE_LEAVES as u32 - 1 {
            let mut cache = host(4, subleaf);
            if cache.eax & 0x1f == 0 {
                break;
            }
            let level = cache.eax >> 5 & 7;
            let sharing = if level >= 3 {
                topology.vcpus.next_power_of_two() - 1
            } else {
                0
            };
            let cores = topology.vcpus.next_power_of_two() - 1;
            cache.eax = cache.eax & 0x3fff | sharing << 14 | cores << 26;
            // The loop is one shorter than the vector.
            let _ = self.caches.push(cache);
        }
    }

    fn fill_topology(&mut self, topology: Topology) {
        let core_bits = topology.vcpus.next_power_of_two().trailing_zeros();
        self.topology = [
            // One thread per core.
            Leaf {
                eax: 0,
                ebx: 1,
                ecx: 1 << 8,
                edx: topology.index,
            },
            Leaf {
                eax: core_bits,
                ebx: topology.vcpus,
                ecx: 2 << 8 | 1,
                edx: topology.index,
            },
        ];
    }

    fn fill_state(&mut self, host: HostCpuid, host_xcr0: u64) {
        let has_state = host(1, 0).ecx & features::XSAVE != 0 && host(0, 0).eax >= 0xd;
        if !has_state {
            return;
        }
        let leaf = host(0xd, 0);
        let supported = u64::from(leaf.eax) | u64::from(leaf.edx) << 32;
        self.xcr0 = features::consistent_xcr0(host_xcr0 & supported & XCR0_ALLOWED);
        for index in 2..STATE_LEAVES {
            if self.xcr0 & 1 << index != 0 {
                self.state[index] = host(0xd, index as u32);
            }
        }
        self.state[0] = Leaf {
            eax: self.xcr0 as u32,
            ebx: 0,
            ecx: self.state_bytes(self.xcr0),
            edx: 0,
        };
        // XSAVEOPT, XSAVEC and XGETBV with ECX = 1, but no supervisor state.
        self.state[1] = Leaf {
            eax: host(0xd, 1).eax & 0b111,
            ..Leaf::default()
        };
    }

    /// Bytes of the XSAVE area for `components`.
    fn state_bytes(&self, components: u64) -> u32 {
        self.components(components)
            .map(|leaf| leaf.ebx.saturating_add(leaf.eax))
            .fold(LEGACY_STATE_BYTES, u32::max)
    }

    /// Bytes of the compacted XSAVE area for `components`.
    fn compacted_bytes(&self, components: u64) -> u32 {
        self.components(components)
            .fold(LEGACY_STATE_BYTES, |end, leaf| {
                let aligned = if leaf.ecx & 2 != 0 {
                    end.next_multiple_of(64)
                } else {
                    end
                };
                aligned.saturating_add(leaf.eax)
            })
    }

    fn components(&self, mask: u64) -> impl Iterator<Item = &Leaf> {
        let wanted = move |index: &usize| mask & 1 << index != 0;
        (2..STATE_LEAVES)
            .filter(wanted)
            .map(|index| &self.state[index])
    }
}

fn clamped(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn vendor(host: HostCpuid) -> Vendor {
    let Leaf { ebx, .. } = host(0, 0);
    // "Auth" of AuthenticAMD, "Hygo" of HygonGenuine.
    if ebx == u32::from_le_bytes(*b"Auth") || ebx == u32::from_le_bytes(*b"Hygo") {
        Vendor::Amd
    } else {
        Vendor::Intel
    }
}

/// AMD's CPUs have no leaf above 0xd that we could answer.
fn basic_last(host: HostCpuid, vendor: Vendor) -> u32 {
    match vendor {
        Vendor::Intel => BASIC_LAST,
        Vendor::Amd => host(0, 0).eax.clamp(7, 0xd),
    }
}

fn signature(last: u32, text: &[u8; 12]) -> Leaf {
    let word = |at: usize| u32::from_le_bytes([text[at], text[at + 1], text[at + 2], text[at + 3]]);
    Leaf {
        eax: last,
        ebx: word(0),
        ecx: word(4),
        edx: word(8),
    }
}

/// The XCR0 that the host's kernel has enabled, told from CPUID alone: leaf 0xd gives the size of
/// the state that is enabled, and the sets of components that kernels enable differ in size.
#[must_use]
pub fn enabled_xcr0(host: HostCpuid) -> u64 {
    let uses_xsave = host(1, 0).ecx & features::OSXSAVE != 0;
    if !uses_xsave || host(0, 0).eax < 0xd {
        return 0;
    }
    let leaf = host(0xd, 0);
    let end_of = |components: u64| {
        (2..STATE_LEAVES as u32)
            .filter(|index| components & 1 << index != 0)
            .map(|index| {
                let component = host(0xd, index);
                component.ebx.saturating_add(component.eax)
            })
            .fold(LEGACY_STATE_BYTES, u32::max)
    };
    [0xe7, 0x07, 0x03]
        .into_iter()
        .find(|&set| u64::from(leaf.eax) & set == set && end_of(set) <= leaf.ebx)
        .unwrap_or(0)
}

#[cfg(test)]
mod tests;
