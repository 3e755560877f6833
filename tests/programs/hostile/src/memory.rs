//! Objects out of two pieces of memory: one that lasts, and one that each round revokes.

use libcap::capability::{CNode, Capability, Frame, Untyped};
use libcap::runtime::BootEnv;
use sel4_sys::{BootInfo, CPtr, CapRights, InitialSlot, ObjectType};

/// Base-2 logarithm of the bytes that a round may use.
const ROUND_BITS: u32 = 23;
/// First address of a program's image, and bytes of its pages.
const IMAGE_BASE: u64 = 0x40_0000;
const PAGE: u64 = 4096;

/// Makes objects and knows which slots are empty.
pub struct Memory {
    info: &'static BootInfo,
    lasting: Untyped,
    round: Untyped,
    root: CNode,
    /// First slot of a round.
    first: u64,
    next: u64,
    /// From here downward slots of things that last.
    kept: u64,
}

impl Memory {
    /// Takes the largest memory that there is.
    pub fn new(env: BootEnv) -> Self {
        let info = env.boot_info;
        let (slot, _) = info
            .untyped()
            .filter(|(_, untyped)| untyped.is_device == 0)
            .max_by_key(|(_, untyped)| untyped.size_bits)
            .expect("there is memory");
        let mut memory = Self {
            info,
            lasting: Untyped::from_cptr(CPtr(slot)),
            round: Untyped::from_cptr(CPtr::NULL),
            root: CNode::from_cptr(InitialSlot::CNode.cptr()),
            first: info.empty.start,
            next: info.empty.start,
            kept: info.empty.end,
        };
        memory.round = memory.keep(ObjectType::Untyped, ROUND_BITS);
        memory
    }

    /// CPUs of the machine.
    pub const fn cpus(&self) -> u64 {
        self.info.nodes
    }

    /// Slot of the control of a CPU's time.
    pub const fn sched_control(&self, cpu: u64) -> CPtr {
        CPtr(self.info.sched_control.start + cpu)
    }

    /// The slot that a pointer of this program names.
    pub const fn slot(&self, cptr: CPtr) -> libcap::capability::Slot {
        self.root.slot(cptr)
    }

    /// An empty slot for something that lasts.
    pub fn kept_slot(&mut self) -> CPtr {
        self.kept -= 1;
        CPtr(self.kept)
    }

    /// An object that lasts.
    pub fn keep<C: Capability>(&mut self, object: ObjectType, size_bits: u32) -> C {
        let slot = self.kept_slot();
        let made = self.lasting.retype(object, size_bits, self.root, slot.0, 1);
        made.expect("there is room");
        C::from_cptr(slot)
    }

    /// An object of this round.
    pub fn make(&mut self, object: ObjectType, size_bits: u32) -> CPtr {
        let slot = CPtr(self.next);
        let made = self.round.retype(object, size_bits, self.root, slot.0, 1);
        made.expect("there is room");
        self.next += 1;
        slot
    }

    /// A copy, for this round, of the capability to the page of this program at `address`.
    pub fn own_page(&mut self, address: u64) -> Frame {
        let original = CPtr(self.info.user_image_frames.start + (address - IMAGE_BASE) / PAGE);
        let slot = CPtr(self.next);
        let copied = self
            .slot(slot)
            .copy_from(self.slot(original), CapRights::ALL);
        copied.expect("a page of the image");
        self.next += 1;
        Frame::from_cptr(slot)
    }

    /// Deletes everything of this round, however long that takes.
    pub fn revoke_all(&mut self) {
        self.slot(self.round.cptr()).revoke().expect("a slot");
        // Copies of this program's own pages are not children of that memory.
        for slot in self.first..self.next {
            self.slot(CPtr(slot)).delete().expect("a slot");
        }
        self.next = self.first;
    }
}
