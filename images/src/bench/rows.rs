//! The rows of the table, and what others need for the same in the same emulator.
//!
//! The figures of others were measured on QEMU 7.2 TCG under `-cpu max -icount shift=0,sleep=off`:
//! seL4's by sel4bench (MCS, release, fast path, kernel and user page tables apart), KVM's by a
//! bare program on /dev/kvm of Debian's 6.1 kernel with mitigations off, QEMU-KVM's with the same
//! guest kernel in 256 MiB (that kernel needs 1,652 million of them without a VM).

/// Somebody else's figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Whose.
    pub name: &'static str,
    /// Instructions.
    pub value: u64,
}

/// A row of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// What it says.
    pub name: &'static str,
    /// The figures that are added up to its value, as the measuring program names them.
    pub figures: &'static [&'static str],
    /// What it stands beside.
    pub peer: Option<Peer>,
}

const fn row(name: &'static [&'static str; 1], peer: Option<Peer>) -> Row {
    Row {
        name: name[0],
        figures: name,
        peer,
    }
}

const fn sel4(value: u64) -> Option<Peer> {
    Some(Peer {
        name: "seL4",
        value,
    })
}

/// KVM's, which answers CPUID and the IPI in the kernel and the others in user space.
const fn kvm(value: u64) -> Option<Peer> {
    Some(Peer { name: "KVM", value })
}

/// All rows, in the order of the table. A bare exit is one to a program that only lets the guest go
/// on; KVM's figure for the write to unmapped memory includes decoding the instruction.
pub const ROWS: [Row; 31] = [
    row(&["Call 0 words"], sel4(227)),
    row(&["ReplyRecv 0 words"], sel4(296)),
    Row {
        name: "Call and ReplyRecv 0 words",
        figures: &["Call 0 words", "ReplyRecv 0 words"],
        peer: sel4(227 + 296),
    },
    row(&["Call 0 words, same address space"], sel4(231)),
    row(&["ReplyRecv 0 words, same address space"], sel4(300)),
    row(&["Call 0 words, FPU in use"], sel4(237)),
    row(&["ReplyRecv 0 words, FPU in use"], sel4(308)),
    row(&["Call 4 words"], None),
    row(&["ReplyRecv 4 words"], None),
    row(&["Call 10 words"], sel4(1040)),
    row(&["ReplyRecv 10 words"], sel4(1246)),
    row(&["Send"], sel4(899)),
    row(&["Recv that waits"], None),
    row(&["Signal to a waiting higher thread"], None),
    row(&["Wait that waits"], None),
    row(&["Fault to its handler"], None),
    row(&["Handler's answer to the faulting thread"], None),
    row(&["Null system call"], sel4(104)),
    row(&["VM exit, CPUID, bare"], kvm(2700)),
    row(&["VM exit, port write, bare"], kvm(2985)),
    row(&["VM exit, write to unmapped memory, bare"], None),
    row(&["VM exit, HLT and injected interrupt, bare"], kvm(6329)),
    row(&["1000 instructions in a VM"], None),
    row(&["VM exit, CPUID"], kvm(2700)),
    row(&["VM exit, port write"], kvm(2985)),
    row(&["VM exit, port read"], None),
    row(&["VM exit, MMIO write"], kvm(4983)),
    row(&["VM exit, MMIO read"], kvm(5423)),
    row(&["VM exit, HLT and injected interrupt"], kvm(6329)),
    row(&["VM exit, self-IPI, interrupt and EOI"], kvm(7708)),
    row(
        &["VM start to the guest's /init"],
        Some(Peer {
            name: "QEMU-KVM",
            value: 2_045_000_000,
        }),
    ),
];
