//! Capabilities: a plain value ([`Cap`]) and the 16 bytes that a slot holds ([`RawCap`]).
//!
//! Logic works with the enum; only this module knows the bits. Addresses are canonical kernel
//! addresses, of which 48 bits are kept. Word 0 is `type:6 | … | address`, word 1 the rest.

use crate::object::{
    AsidPool, Endpoint, Notification, Reply, SchedContext, Slot, Tcb, Timer, Vcpu,
};
use crate::store::{Ref, Table};

/// Rights of an endpoint, notification or frame capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// May send, or write.
    pub const WRITE: Self = Self(1);
    /// May receive, or read.
    pub const READ: Self = Self(2);
    /// May send capabilities and be replied to with them.
    pub const GRANT: Self = Self(4);
    /// May be replied to.
    pub const GRANT_REPLY: Self = Self(8);
    /// Everything.
    pub const ALL: Self = Self(15);
    /// Nothing.
    pub const NONE: Self = Self(0);

    /// From a CapRights word of the ABI; higher bits are ignored, as in seL4.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self((word & 15) as u8)
    }
    /// The four bits.
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0 as u64
    }
    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }
    /// Those in both.
    #[must_use]
    pub const fn masked_by(self, mask: Self) -> Self {
        Self(self.0 & mask.0)
    }
    /// Whether every right of `other` is here.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Size of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum FrameSize {
    /// 4 KiB.
    Small = 0,
    /// 2 MiB.
    Large = 1,
    /// 1 GiB.
    Huge = 2,
}

impl FrameSize {
    /// Base-2 logarithm of the size in bytes.
    #[must_use]
    pub const fn bits(self) -> u8 {
        match self {
            Self::Small => 12,
            Self::Large => 21,
            Self::Huge => 30,
        }
    }
    const fn from_bits(word: u64) -> Self {
        match word & 3 {
            0 => Self::Small,
            1 => Self::Large,
            _ => Self::Huge,
        }
    }
}

/// Level of a paging structure below the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum TableLevel {
    /// Page table: one entry maps 4 KiB.
    PageTable = 0,
    /// Page directory: one entry spans 2 MiB.
    PageDirectory = 1,
    /// Page-directory-pointer table: one entry spans 1 GiB.
    Pdpt = 2,
}

impl TableLevel {
    /// Address bits that the whole table spans.
    #[must_use]
    pub const fn span_bits(self) -> u8 {
        21 + 9 * self as u8
    }
    const fn from_bits(word: u64) -> Self {
        match word & 3 {
            0 => Self::PageTable,
            1 => Self::PageDirectory,
            _ => Self::Pdpt,
        }
    }
}

/// Number of an address space; 0 is no address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asid(u16);

impl Asid {
    /// From a 12-bit number; `None` for 0.
    #[must_use]
    pub const fn new(number: u16) -> Option<Self> {
        if number == 0 {
            None
        } else {
            Some(Self(number & 0xfff))
        }
    }
    /// The number, 1..=4095.
    #[must_use]
    pub const fn number(self) -> u16 {
        self.0
    }
}

/// Which translation a frame or table is mapped in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum MapSpace {
    /// A thread's virtual address space.
    Virtual = 0,
    /// A guest-physical address space.
    Guest = 1,
}

/// Where a frame or table is mapped: page-aligned address in the space of `asid`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapping {
    /// The address space.
    pub asid: Asid,
    /// Page-aligned address in it, below 2^48.
    pub address: u64,
}

/// A frame capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FrameCap {
    /// Kernel address of the memory.
    pub base: usize,
    /// Its size.
    pub size: FrameSize,
    /// Device memory: never cleared, no IPC buffer.
    pub device: bool,
    /// READ and WRITE.
    pub rights: Rights,
    /// Kind of space it is mapped in, meaningful with `mapping`.
    pub space: MapSpace,
    /// Where it is mapped through this capability.
    pub mapping: Option<Mapping>,
}

/// A paging-structure capability (virtual or guest).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableCap {
    /// The table.
    pub table: Ref<Table>,
    /// Its level.
    pub level: TableLevel,
    /// Which kind of space it serves.
    pub space: MapSpace,
    /// Where it is mapped.
    pub mapping: Option<Mapping>,
}

/// A root of a virtual (PML4) or guest-physical address space.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RootCap {
    /// The top table.
    pub table: Ref<Table>,
    /// `Virtual` or `Guest`.
    pub space: MapSpace,
    /// Its identifier, once a pool assigned one.
    pub asid: Option<Asid>,
}

/// A CNode capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CNodeCap {
    /// First slot.
    pub slots: Ref<Slot>,
    /// Base-2 logarithm of the number of slots, 1..=58.
    pub radix: u8,
    /// Bits of guard, with `radix` at most 64.
    pub guard_size: u8,
    /// Guard value.
    pub guard: u64,
}

/// An untyped capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedCap {
    /// Kernel address of the memory; not mapped for device memory.
    pub base: usize,
    /// Base-2 logarithm of its size, 4..=47.
    pub size_bits: u8,
    /// Device memory.
    pub device: bool,
    /// Bytes handed out so far: the watermark, a multiple of 16.
    pub watermark: u64,
}

/// An endpoint capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EndpointCap {
    /// The endpoint.
    pub endpoint: Ref<Endpoint>,
    /// Badge; 0 is none.
    pub badge: u64,
    /// All four rights.
    pub rights: Rights,
}

/// A notification capability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotificationCap {
    /// The notification.
    pub notification: Ref<Notification>,
    /// Badge; 0 is none.
    pub badge: u64,
    /// READ (wait) and WRITE (signal).
    pub rights: Rights,
}

/// What a zombie was: a CNode or TCB whose slots are being emptied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ZombieKind {
    /// A TCB and its five slots.
    Tcb,
    /// A CNode of 2^radix slots.
    CNode {
        /// Its radix.
        radix: u8,
    },
}

/// A half-deleted container: `remaining` of its slots may still hold capabilities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ZombieCap {
    /// First slot (a TCB begins with its slots).
    pub slots: Ref<Slot>,
    /// What it was.
    pub kind: ZombieKind,
    /// Slots not yet known to be empty.
    pub remaining: u64,
}

/// A capability as a plain value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each variant is the seL4 object of that name")]
pub enum Cap {
    Null,
    Untyped(UntypedCap),
    Endpoint(EndpointCap),
    Notification(NotificationCap),
    Reply {
        reply: Ref<Reply>,
        can_grant: bool,
    },
    CNode(CNodeCap),
    Thread {
        tcb: Ref<Tcb>,
    },
    SchedContext {
        context: Ref<SchedContext>,
        size_bits: u8,
    },
    SchedControl {
        node: u8,
    },
    IrqControl,
    IrqHandler {
        irq: u8,
    },
    Zombie(ZombieCap),
    Domain,
    Frame(FrameCap),
    Table(TableCap),
    Root(RootCap),
    AsidControl,
    AsidPool {
        pool: Ref<AsidPool>,
        base: u16,
    },
    IoPortControl,
    IoPort {
        first: u16,
        last: u16,
    },
    Vcpu {
        vcpu: Ref<Vcpu>,
    },
    Timer {
        timer: Ref<Timer>,
    },
}

/// Type numbers of the packed form. Only this module and the fast path use them.
pub mod tag {
    #![expect(missing_docs, reason = "one number for each variant of Cap")]
    pub const NULL: u64 = 0;
    pub const UNTYPED: u64 = 1;
    pub const ENDPOINT: u64 = 2;
    pub const NOTIFICATION: u64 = 3;
    pub const REPLY: u64 = 4;
    pub const CNODE: u64 = 5;
    pub const THREAD: u64 = 6;
    pub const SCHED_CONTEXT: u64 = 7;
    pub const SCHED_CONTROL: u64 = 8;
    pub const IRQ_CONTROL: u64 = 9;
    pub const IRQ_HANDLER: u64 = 10;
    pub const ZOMBIE: u64 = 11;
    pub const DOMAIN: u64 = 12;
    pub const FRAME: u64 = 13;
    pub const TABLE: u64 = 14;
    pub const ROOT: u64 = 15;
    pub const ASID_CONTROL: u64 = 16;
    pub const ASID_POOL: u64 = 17;
    pub const IO_PORT_CONTROL: u64 = 18;
    pub const IO_PORT: u64 = 19;
    pub const VCPU: u64 = 20;
    pub const TIMER: u64 = 21;
}

/// Bits 0..5 of word 0 hold the type, bits 6..15 small fields, bits 16..63 a 48-bit address.
const TAG_MASK: u64 = 0x3f;
const ADDRESS_SHIFT: u32 = 16;
/// Where the four rights of an endpoint or notification capability are.
const RIGHTS_SHIFT: u32 = 6;

/// A packed capability, as a slot holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct RawCap(pub [u64; 2]);

const fn pack_address(address: usize) -> u64 {
    (address as u64) << ADDRESS_SHIFT
}

/// Sign extension restores the canonical address.
const fn address(word: u64) -> usize {
    ((word as i64) >> ADDRESS_SHIFT) as usize
}

const fn field(word: u64, shift: u32, bits: u32) -> u64 {
    (word >> shift) & ((1 << bits) - 1)
}

/// Bits 0..11 asid, 12..47 address >> 12.
fn pack_mapping(mapping: Option<Mapping>) -> u64 {
    mapping.map_or(0, |m| {
        u64::from(m.asid.number()) | (m.address & 0xffff_ffff_f000)
    })
}

fn mapping(word: u64) -> Option<Mapping> {
    let asid = Asid::new(field(word, 0, 12) as u16)?;
    Some(Mapping {
        asid,
        address: word & 0xffff_ffff_f000,
    })
}

fn space(word: u64) -> MapSpace {
    match word {
        0 => MapSpace::Virtual,
        _ => MapSpace::Guest,
    }
}

impl RawCap {
    /// The null capability.
    pub const NULL: Self = Self([0; 2]);

    /// The type number.
    #[inline(always)]
    #[must_use]
    pub const fn tag(self) -> u64 {
        self.0[0] & TAG_MASK
    }

    /// The address in word 0, as the fast path needs it.
    #[inline(always)]
    #[must_use]
    pub const fn address(self) -> usize {
        address(self.0[0])
    }

    /// The four rights of an endpoint or notification capability, as the fast path needs them.
    #[inline(always)]
    #[must_use]
    pub const fn rights(self) -> Rights {
        Rights::from_word(self.0[0] >> RIGHTS_SHIFT)
    }

    /// Whether this is an endpoint capability with `right`, as the fast path asks.
    #[inline(always)]
    #[must_use]
    pub const fn is_endpoint_with(self, right: Rights) -> bool {
        let right = right.bits() << RIGHTS_SHIFT;
        self.0[0] & (TAG_MASK | right) == tag::ENDPOINT | right
    }

    /// The endpoint capability that this is, if it is one. Messages ask for the kinds that they
    /// know in this way, which costs less than the value of any kind.
    #[inline(always)]
    #[must_use]
    pub fn endpoint(self) -> Option<EndpointCap> {
        (self.tag() == tag::ENDPOINT).then(|| EndpointCap {
            endpoint: Ref::from_address(self.address()),
            badge: self.0[1],
            rights: self.rights(),
        })
    }

    /// The notification capability that this is, if it is one.
    #[inline(always)]
    #[must_use]
    pub fn notification(self) -> Option<NotificationCap> {
        (self.tag() == tag::NOTIFICATION).then(|| NotificationCap {
            notification: Ref::from_address(self.address()),
            badge: self.0[1],
            rights: self.rights(),
        })
    }

    /// The reply object that this names, if it is a reply capability, and GRANT if its answers may
    /// carry capabilities.
    #[inline(always)]
    #[must_use]
    pub fn reply(self) -> Option<(Ref<Reply>, Rights)> {
        let rights = if field(self.0[0], 6, 1) == 1 {
            Rights::GRANT
        } else {
            Rights::NONE
        };
        (self.tag() == tag::REPLY).then(|| (Ref::from_address(self.address()), rights))
    }

    /// The frame capability that this is, if it is one.
    #[inline(always)]
    #[must_use]
    pub fn frame(self) -> Option<FrameCap> {
        let [w0, w1] = self.0;
        (self.tag() == tag::FRAME).then(|| FrameCap {
            base: address(w0),
            size: FrameSize::from_bits(w0 >> 6),
            device: field(w0, 8, 1) == 1,
            rights: Rights::from_word(field(w0, 9, 2)),
            space: space(field(w0, 11, 2)),
            mapping: mapping(w1),
        })
    }

    /// The root of an address space that this is, if it is one.
    #[inline(always)]
    #[must_use]
    pub fn root(self) -> Option<RootCap> {
        let [w0, w1] = self.0;
        (self.tag() == tag::ROOT).then(|| RootCap {
            table: Ref::from_address(address(w0)),
            space: space(field(w0, 11, 2)),
            asid: Asid::new(w1 as u16),
        })
    }

    /// The CNode capability that this is, if it is one: address resolution needs nothing else.
    #[inline(always)]
    #[must_use]
    pub fn cnode(self) -> Option<CNodeCap> {
        let [w0, w1] = self.0;
        (self.tag() == tag::CNODE).then(|| CNodeCap {
            slots: Ref::from_address(address(w0)),
            radix: field(w0, 6, 6) as u8,
            guard_size: (w1 & 0x3f) as u8,
            guard: w1 >> 6,
        })
    }

    /// Radix and guard, if this is a CNode that resolves exactly 64 bits.
    #[inline(always)]
    #[must_use]
    pub const fn direct_cnode(self) -> Option<(u8, u64)> {
        let [w0, w1] = self.0;
        // Both are below 64, and the radix is not 0: their sum is 64 if its low bits are 0.
        let bits = (w0 >> 6).wrapping_add(w1);
        if w0 & TAG_MASK != tag::CNODE || bits & 0x3f != 0 {
            return None;
        }
        Some((field(w0, 6, 6) as u8, w1 >> 6))
    }

    /// The value that these bits stand for.
    #[must_use]
    pub fn unpack(self) -> Cap {
        let [w0, w1] = self.0;
        let at = address(w0);
        match self.tag() {
            tag::UNTYPED => Cap::Untyped(UntypedCap {
                base: at,
                size_bits: field(w0, 6, 6) as u8,
                device: field(w0, 12, 1) == 1,
                watermark: w1,
            }),
            tag::ENDPOINT => self.endpoint().map_or(Cap::Null, Cap::Endpoint),
            tag::NOTIFICATION => self.notification().map_or(Cap::Null, Cap::Notification),
            tag::REPLY => Cap::Reply {
                reply: Ref::from_address(at),
                can_grant: field(w0, 6, 1) == 1,
            },
            tag::CNODE => self.cnode().map_or(Cap::Null, Cap::CNode),
            tag::THREAD => Cap::Thread {
                tcb: Ref::from_address(at),
            },
            tag::SCHED_CONTEXT => Cap::SchedContext {
                context: Ref::from_address(at),
                size_bits: field(w0, 6, 6) as u8,
            },
            tag::SCHED_CONTROL => Cap::SchedControl { node: w1 as u8 },
            tag::IRQ_CONTROL => Cap::IrqControl,
            tag::IRQ_HANDLER => Cap::IrqHandler { irq: w1 as u8 },
            tag::ZOMBIE => Cap::Zombie(ZombieCap {
                slots: Ref::from_address(at),
                kind: match field(w0, 6, 6) as u8 {
                    0 => ZombieKind::Tcb,
                    radix => ZombieKind::CNode { radix },
                },
                remaining: w1,
            }),
            tag::DOMAIN => Cap::Domain,
            _ => self.unpack_memory(),
        }
    }

    /// The second half of `unpack`: memory, ports and Tessera's additions.
    fn unpack_memory(self) -> Cap {
        let [w0, w1] = self.0;
        let at = address(w0);
        match self.tag() {
            tag::FRAME => self.frame().map_or(Cap::Null, Cap::Frame),
            tag::TABLE => Cap::Table(TableCap {
                table: Ref::from_address(at),
                level: TableLevel::from_bits(w0 >> 6),
                space: space(field(w0, 11, 2)),
                mapping: mapping(w1),
            }),
            tag::ROOT => self.root().map_or(Cap::Null, Cap::Root),
            tag::ASID_CONTROL => Cap::AsidControl,
            tag::ASID_POOL => Cap::AsidPool {
                pool: Ref::from_address(at),
                base: w1 as u16,
            },
            tag::IO_PORT_CONTROL => Cap::IoPortControl,
            tag::IO_PORT => Cap::IoPort {
                first: w1 as u16,
                last: (w1 >> 16) as u16,
            },
            tag::VCPU => Cap::Vcpu {
                vcpu: Ref::from_address(at),
            },
            tag::TIMER => Cap::Timer {
                timer: Ref::from_address(at),
            },
            _ => Cap::Null,
        }
    }
}

fn raw(tag: u64, fields: u64, at: usize, w1: u64) -> RawCap {
    RawCap([tag | fields << 6 | pack_address(at), w1])
}

fn table_fields(level: TableLevel, space: MapSpace) -> u64 {
    level as u64 | (space as u64) << 5
}

impl Cap {
    /// The bits of this value.
    #[must_use]
    pub fn pack(self) -> RawCap {
        match self {
            Cap::Null => RawCap::NULL,
            Cap::Untyped(u) => {
                let fields = u64::from(u.size_bits) | u64::from(u.device) << 6;
                raw(tag::UNTYPED, fields, u.base, u.watermark)
            }
            Cap::Endpoint(e) => raw(
                tag::ENDPOINT,
                e.rights.bits(),
                e.endpoint.address(),
                e.badge,
            ),
            Cap::Notification(n) => raw(
                tag::NOTIFICATION,
                n.rights.bits(),
                n.notification.address(),
                n.badge,
            ),
            Cap::Reply { reply, can_grant } => {
                raw(tag::REPLY, u64::from(can_grant), reply.address(), 0)
            }
            Cap::CNode(c) => {
                let w1 = u64::from(c.guard_size) | c.guard << 6;
                raw(tag::CNODE, u64::from(c.radix), c.slots.address(), w1)
            }
            Cap::Thread { tcb } => raw(tag::THREAD, 0, tcb.address(), 0),
            Cap::SchedContext { context, size_bits } => raw(
                tag::SCHED_CONTEXT,
                u64::from(size_bits),
                context.address(),
                0,
            ),
            Cap::SchedControl { node } => raw(tag::SCHED_CONTROL, 0, 0, u64::from(node)),
            Cap::IrqControl => raw(tag::IRQ_CONTROL, 0, 0, 0),
            Cap::IrqHandler { irq } => raw(tag::IRQ_HANDLER, 0, 0, u64::from(irq)),
            Cap::Zombie(z) => {
                let fields = match z.kind {
                    ZombieKind::Tcb => 0,
                    ZombieKind::CNode { radix } => u64::from(radix),
                };
                raw(tag::ZOMBIE, fields, z.slots.address(), z.remaining)
            }
            Cap::Domain => raw(tag::DOMAIN, 0, 0, 0),
            other => other.pack_memory(),
        }
    }

    /// The second half of `pack`: memory, ports and Tessera's additions.
    fn pack_memory(self) -> RawCap {
        match self {
            Cap::Frame(f) => {
                let fields = f.size as u64
                    | u64::from(f.device) << 2
                    | (f.rights.bits() & 3) << 3
                    | (f.space as u64) << 5;
                raw(tag::FRAME, fields, f.base, pack_mapping(f.mapping))
            }
            Cap::Table(t) => {
                let fields = table_fields(t.level, t.space);
                raw(
                    tag::TABLE,
                    fields,
                    t.table.address(),
                    pack_mapping(t.mapping),
                )
            }
            Cap::Root(r) => {
                let asid = r.asid.map_or(0, |a| u64::from(a.number()));
                raw(tag::ROOT, (r.space as u64) << 5, r.table.address(), asid)
            }
            Cap::AsidControl => raw(tag::ASID_CONTROL, 0, 0, 0),
            Cap::AsidPool { pool, base } => raw(tag::ASID_POOL, 0, pool.address(), u64::from(base)),
            Cap::IoPortControl => raw(tag::IO_PORT_CONTROL, 0, 0, 0),
            Cap::IoPort { first, last } => {
                raw(tag::IO_PORT, 0, 0, u64::from(first) | u64::from(last) << 16)
            }
            Cap::Vcpu { vcpu } => raw(tag::VCPU, 0, vcpu.address(), 0),
            Cap::Timer { timer } => raw(tag::TIMER, 0, timer.address(), 0),
            _ => RawCap::NULL,
        }
    }

    /// Whether this is the null capability.
    #[must_use]
    pub const fn is_null(self) -> bool {
        matches!(self, Cap::Null)
    }
}
