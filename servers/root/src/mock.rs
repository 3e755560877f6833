//! A kernel that keeps books, for tests: which capabilities there are, what they are to, what is
//! mapped where. It refuses what the real one refuses, as far as root could get it wrong, and it
//! panics on what root must never do, such as a page that is writable and executable.

use crate::kernel::{Kernel, Mapping, Outcome, Scheduling};
use libcap::KernelError;
use libcap::capability::{
    CNode, Frame, GuestRoot, IoPort, IrqHandler, Notification, SchedContext, SchedParameters, Slot,
    Tcb, ThreadSpaces, Timer, Untyped, VSpace, Vcpu,
};
use sel4_sys::object::SLOT_BITS;
use sel4_sys::thread::UserContext;
use sel4_sys::{CPtr, CapRights, ObjectType, VmAttributes};
use std::collections::{BTreeMap, BTreeSet};

/// Pointer of root's large CNode and of its slot 0.
pub const NODE: CPtr = CPtr(0x500);
pub const BASE: u64 = 1 << 16;

pub type Id = usize;
/// A slot: the CNode object and the index in it.
type Place = (Id, u64);
/// Root's large CNode as an object.
const OWN_NODE: Id = 0;

#[derive(Debug, Clone)]
pub struct Object {
    pub kind: Option<ObjectType>,
    pub bits: u32,
    pub paddr: u64,
    device: bool,
    parent: Option<Id>,
    watermark: u64,
    pub content: Vec<u8>,
}

#[derive(Debug, Clone)]
pub struct Cap {
    pub object: Id,
    pub badge: u64,
    pub rights: CapRights,
    mapped: Option<(Id, u64)>,
}

/// A thread that was started.
#[derive(Debug, Clone, Default)]
pub struct Started {
    pub context: UserContext,
    pub running: bool,
    pub cpu: u16,
    pub priority: u8,
    pub fault_badge: u64,
}

#[derive(Debug, Default)]
pub struct MockKernel {
    pub objects: BTreeMap<Id, Object>,
    pub caps: BTreeMap<Place, Cap>,
    /// What is mapped in each address space (by the object of its root): address to frame and
    /// mapping.
    pub mappings: BTreeMap<Id, BTreeMap<u64, (Id, Mapping)>>,
    tables: BTreeSet<(Id, u32, u64)>,
    pub threads: BTreeMap<Id, Started>,
    budgets: BTreeMap<Id, u16>,
    pub bound: BTreeMap<Id, Id>,
    pub vcpus: BTreeMap<Id, (Id, Id)>,
    pub signals: Vec<u64>,
    ports: BTreeMap<u16, u16>,
    pub port_writes: Vec<(u16, u16)>,
    pub calls: usize,
    /// After so many calls each is refused.
    pub fail_after: Option<usize>,
    next: Id,
}

impl MockKernel {
    pub fn new() -> Self {
        Self {
            next: 1,
            ..Self::default()
        }
    }

    /// Memory of 2^`bits` bytes at `paddr`, in slot `index`.
    pub fn add_untyped(&mut self, paddr: u64, bits: u32, device: bool, index: u64) {
        let object = Object {
            kind: Some(ObjectType::Untyped),
            bits,
            paddr,
            device,
            parent: None,
            watermark: 0,
            content: Vec::new(),
        };
        self.insert((OWN_NODE, index), object);
    }

    fn insert(&mut self, place: Place, object: Object) {
        let id = self.next;
        self.next += 1;
        self.objects.insert(id, object);
        let cap = Cap {
            object: id,
            badge: 0,
            rights: CapRights::ALL,
            mapped: None,
        };
        assert!(self.caps.insert(place, cap).is_none());
    }

    /// The object of the capability at a pointer of root's.
    pub fn object_at(&self, cptr: CPtr) -> Id {
        self.cap_at(cptr).object
    }

    fn cap_at(&self, cptr: CPtr) -> &Cap {
        let place = (OWN_NODE, cptr.0.wrapping_sub(BASE));
        self.caps
            .get(&place)
            .unwrap_or_else(|| panic!("no capability at {cptr:?}"))
    }

    fn place(&self, slot: Slot) -> Place {
        let node = if slot.root.cptr() == NODE {
            OWN_NODE
        } else {
            self.object_at(slot.root.cptr())
        };
        (node, slot.index)
    }

    fn count_call(&mut self) -> Outcome<()> {
        self.calls += 1;
        match self.fail_after {
            Some(limit) if self.calls > limit => {
                Err(KernelError::NotEnoughMemory { bytes_left: 0 })
            }
            _ => Ok(()),
        }
    }

    fn children(&self, id: Id) -> bool {
        self.objects
            .values()
            .any(|object| object.parent == Some(id))
    }

    fn descends(&self, mut id: Id, from: Id) -> bool {
        while let Some(parent) = self.objects[&id].parent {
            if parent == from {
                return true;
            }
            id = parent;
        }
        false
    }

    /// Removes a capability, and its object if it was the last one.
    fn remove(&mut self, place: Place) {
        let Some(cap) = self.caps.remove(&place) else {
            return;
        };
        if let Some((space, vaddr)) = cap.mapped {
            self.mappings.entry(space).or_default().remove(&vaddr);
        }
        if self.caps.values().any(|other| other.object == cap.object) {
            return;
        }
        self.objects.remove(&cap.object);
        self.threads.remove(&cap.object);
        self.mappings.remove(&cap.object);
        self.tables.retain(|(space, _, _)| *space != cap.object);
        self.bound
            .retain(|thread, notification| *thread != cap.object && *notification != cap.object);
        let inside: Vec<Place> = self
            .caps
            .keys()
            .filter(|(node, _)| *node == cap.object)
            .copied()
            .collect();
        inside.into_iter().for_each(|place| self.remove(place));
    }

    fn map_in(
        &mut self,
        frame: Frame,
        space: CPtr,
        mapping: Mapping,
        levels: [u32; 3],
    ) -> Outcome<()> {
        self.count_call()?;
        let (frame_id, space_id) = (self.object_at(frame.cptr()), self.object_at(space));
        let bits = self.objects[&frame_id].bits;
        assert!(mapping.vaddr.is_multiple_of(1 << bits), "unaligned mapping");
        for span in levels.into_iter().filter(|span| *span > bits) {
            if !self
                .tables
                .contains(&(space_id, span, mapping.vaddr >> span))
            {
                panic!("no paging structure of {span} bits at {:#x}", mapping.vaddr);
            }
        }
        let taken = self.mappings.entry(space_id).or_default();
        assert!(
            !taken.contains_key(&mapping.vaddr),
            "{:#x} is taken",
            mapping.vaddr
        );
        taken.insert(mapping.vaddr, (frame_id, mapping));
        let cap = self
            .caps
            .get_mut(&(OWN_NODE, frame.cptr().0 - BASE))
            .expect("looked up");
        if cap.mapped.is_some() {
            return Err(KernelError::InvalidCapability { capability: 0 });
        }
        cap.mapped = Some((space_id, mapping.vaddr));
        Ok(())
    }
}

impl Kernel for MockKernel {
    fn retype(
        &mut self,
        untyped: Untyped,
        object: ObjectType,
        size_bits: u32,
        node: CNode,
        first: u64,
        count: u64,
    ) -> Outcome<()> {
        self.count_call()?;
        assert_eq!(node.cptr(), NODE);
        assert!((1..=256).contains(&count));
        let id = self.object_at(untyped.cptr());
        if !self.children(id) {
            self.objects.get_mut(&id).expect("looked up").watermark = 0;
        }
        let from = self.objects[&id].clone();
        let frame = matches!(object, ObjectType::SmallPage | ObjectType::LargePage);
        assert!(
            !from.device || frame || object == ObjectType::Untyped,
            "{object:?} of device memory"
        );
        let bits = object.size_bits(size_bits);
        let start = from.watermark.next_multiple_of(1 << bits);
        if start + (count << bits) > 1 << from.bits {
            return Err(KernelError::NotEnoughMemory { bytes_left: 0 });
        }
        for index in 0..count {
            if self.caps.contains_key(&(OWN_NODE, first + index)) {
                return Err(KernelError::DeleteFirst);
            }
            let object = Object {
                kind: Some(object),
                bits: if object == ObjectType::CapTable {
                    bits - SLOT_BITS
                } else {
                    bits
                },
                paddr: from.paddr + start + (index << bits),
                device: from.device,
                parent: Some(id),
                watermark: 0,
                content: Vec::new(),
            };
            self.insert((OWN_NODE, first + index), object);
        }
        self.objects.get_mut(&id).expect("looked up").watermark = start + (count << bits);
        Ok(())
    }

    fn copy(&mut self, to: Slot, from: Slot, rights: CapRights) -> Outcome<()> {
        let badge = self.caps.get(&self.place(from)).map_or(0, |cap| cap.badge);
        self.mint(to, from, rights, badge)
    }

    fn mint(&mut self, to: Slot, from: Slot, rights: CapRights, badge: u64) -> Outcome<()> {
        self.count_call()?;
        let (to, from) = (self.place(to), self.place(from));
        if self.caps.contains_key(&to) {
            return Err(KernelError::DeleteFirst);
        }
        let source = self.caps.get(&from).ok_or(KernelError::IllegalOperation)?;
        if source.badge != 0 && source.badge != badge {
            return Err(KernelError::IllegalOperation);
        }
        let rights = rights.intersection(source.rights);
        let cap = Cap {
            object: source.object,
            badge,
            rights,
            mapped: None,
        };
        self.caps.insert(to, cap);
        Ok(())
    }

    fn delete(&mut self, slot: Slot) -> Outcome<()> {
        self.remove(self.place(slot));
        Ok(())
    }

    fn revoke(&mut self, slot: Slot) -> Outcome<()> {
        let id = self.caps[&self.place(slot)].object;
        let all: Vec<(Place, Id)> = self
            .caps
            .iter()
            .map(|(place, cap)| (*place, cap.object))
            .collect();
        let derived = all
            .into_iter()
            .filter(|(_, object)| self.descends(*object, id));
        let derived: Vec<Place> = derived.map(|(place, _)| place).collect();
        derived.into_iter().for_each(|place| self.remove(place));
        assert!(!self.children(id), "something survived its revocation");
        Ok(())
    }

    fn assign_asid(&mut self, space: CPtr) -> Outcome<()> {
        self.count_call()?;
        let id = self.object_at(space);
        self.mappings.insert(id, BTreeMap::new());
        Ok(())
    }

    fn map_table(&mut self, level: ObjectType, table: CPtr, space: CPtr, at: u64) -> Outcome<()> {
        self.count_call()?;
        assert_eq!(self.objects[&self.object_at(table)].kind, Some(level));
        let span = match level {
            ObjectType::Pdpt | ObjectType::GuestPdpt => 39,
            ObjectType::PageDirectory | ObjectType::GuestPageDirectory => 30,
            _ => 21,
        };
        assert!(
            self.tables
                .insert((self.object_at(space), span, at >> span)),
            "a table twice"
        );
        Ok(())
    }

    fn map(&mut self, frame: Frame, space: VSpace, mapping: Mapping) -> Outcome<()> {
        let executable = !mapping.attributes.contains(VmAttributes::EXECUTE_NEVER);
        let writable = mapping.rights.contains(CapRights::WRITE);
        assert!(
            !(writable && executable),
            "a page that is writable and executable"
        );
        self.map_in(frame, space.cptr(), mapping, [39, 30, 21])
    }

    fn map_guest(&mut self, frame: Frame, root: GuestRoot, mapping: Mapping) -> Outcome<()> {
        self.map_in(frame, root.cptr(), mapping, [39, 30, 21])
    }

    fn write_frame(&mut self, frame: Frame, offset: usize, bytes: &[u8]) -> Outcome<()> {
        self.count_call()?;
        assert!(
            self.cap_at(frame.cptr()).mapped.is_none(),
            "written while mapped"
        );
        let id = self.object_at(frame.cptr());
        let object = self.objects.get_mut(&id).expect("looked up");
        object.content.resize(1 << object.bits, 0);
        object.content[offset..offset + bytes.len()].copy_from_slice(bytes);
        Ok(())
    }

    fn read_frame(
        &mut self,
        frame: Slot,
        spare: Slot,
        offset: usize,
        bytes: &mut [u8],
    ) -> Outcome<()> {
        self.copy(spare, frame, CapRights::READ)?;
        let id = self.caps[&self.place(frame)].object;
        let content = &self.objects[&id].content;
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = content.get(offset + index).copied().unwrap_or(0);
        }
        self.delete(spare)
    }

    fn configure(
        &mut self,
        thread: Tcb,
        spaces: &ThreadSpaces,
        vaddr: u64,
        buffer: Frame,
    ) -> Outcome<()> {
        self.count_call()?;
        let cnode = self.object_at(spaces.cspace.cptr());
        let guard = spaces.cspace_data.guard_size();
        assert_eq!(
            guard + self.objects[&cnode].bits,
            64,
            "pointers are plain slot numbers"
        );
        let vspace = self.object_at(spaces.vspace.cptr());
        let frame = self.object_at(buffer.cptr());
        assert_eq!(
            self.mappings[&vspace][&vaddr].0, frame,
            "the buffer is mapped where it is said"
        );
        let id = self.object_at(thread.cptr());
        self.threads.insert(id, Started::default());
        Ok(())
    }

    fn schedule(&mut self, thread: Tcb, scheduling: Scheduling) -> Outcome<()> {
        self.count_call()?;
        let cpu = self.budgets[&self.object_at(scheduling.context.cptr())];
        let fault_badge = self.cap_at(scheduling.fault).badge;
        let id = self.object_at(thread.cptr());
        let thread = self.threads.get_mut(&id).expect("configured");
        (thread.priority, thread.cpu, thread.fault_badge) = (scheduling.priority, cpu, fault_badge);
        Ok(())
    }

    fn fill_budget(&mut self, cpu: u16, context: SchedContext, _: &SchedParameters) -> Outcome<()> {
        self.count_call()?;
        self.budgets.insert(self.object_at(context.cptr()), cpu);
        Ok(())
    }

    fn consumed_us(&mut self, _: SchedContext) -> Outcome<u64> {
        Ok(1000)
    }

    fn bind(&mut self, thread: Tcb, notification: Notification) -> Outcome<()> {
        self.count_call()?;
        let (thread, notification) = (
            self.object_at(thread.cptr()),
            self.object_at(notification.cptr()),
        );
        assert!(
            !self.bound.values().any(|bound| *bound == notification),
            "bound twice"
        );
        self.bound.insert(thread, notification);
        Ok(())
    }

    fn start(&mut self, thread: Tcb, context: &UserContext) -> Outcome<()> {
        self.count_call()?;
        let id = self.object_at(thread.cptr());
        let thread = self.threads.get_mut(&id).expect("configured");
        (thread.context, thread.running) = (*context, true);
        Ok(())
    }

    fn registers(&mut self, thread: Tcb) -> Outcome<UserContext> {
        Ok(self.threads[&self.object_at(thread.cptr())].context)
    }

    fn suspend(&mut self, thread: Tcb) -> Outcome<()> {
        let id = self.object_at(thread.cptr());
        self.threads.get_mut(&id).expect("configured").running = false;
        Ok(())
    }

    fn resume(&mut self, thread: Tcb) -> Outcome<()> {
        let id = self.object_at(thread.cptr());
        self.threads.get_mut(&id).expect("configured").running = true;
        Ok(())
    }

    fn issue_interrupt(&mut self, pin: u8, to: Slot) -> Outcome<()> {
        self.issue(u64::from(pin), to)
    }

    fn set_interrupt(&mut self, handler: IrqHandler, notification: Notification) -> Outcome<()> {
        self.object_at(handler.cptr());
        assert_ne!(
            self.cap_at(notification.cptr()).badge,
            0,
            "an interrupt without a badge"
        );
        self.count_call()
    }

    fn issue_ports(&mut self, first: u16, _last: u16, to: Slot) -> Outcome<()> {
        self.issue(u64::from(first), to)
    }

    fn port_in8(&mut self, _: IoPort, port: u16) -> Outcome<u8> {
        Ok(self.ports.get(&port).copied().unwrap_or(0) as u8)
    }

    fn port_in16(&mut self, _: IoPort, port: u16) -> Outcome<u16> {
        Ok(self.ports.get(&port).copied().unwrap_or(0))
    }

    fn port_out8(&mut self, ports: IoPort, port: u16, value: u8) -> Outcome<()> {
        self.port_out16(ports, port, u16::from(value))
    }

    fn port_out16(&mut self, ports: IoPort, port: u16, value: u16) -> Outcome<()> {
        self.object_at(ports.cptr());
        self.ports.insert(port, value);
        self.port_writes.push((port, value));
        Ok(())
    }

    fn bind_timer(&mut self, timer: Timer, notification: Notification) -> Outcome<()> {
        self.object_at(timer.cptr());
        assert_ne!(
            self.cap_at(notification.cptr()).badge,
            0,
            "a timer without a badge"
        );
        self.count_call()
    }

    fn bind_vcpu(&mut self, vcpu: Vcpu, thread: Tcb, root: GuestRoot) -> Outcome<()> {
        self.count_call()?;
        let pair = (self.object_at(thread.cptr()), self.object_at(root.cptr()));
        self.vcpus.insert(self.object_at(vcpu.cptr()), pair);
        Ok(())
    }

    fn signal(&mut self, notification: Notification) {
        self.signals.push(self.cap_at(notification.cptr()).badge);
    }
}

impl MockKernel {
    /// A capability that is made of no memory.
    fn issue(&mut self, number: u64, to: Slot) -> Outcome<()> {
        self.count_call()?;
        let place = self.place(to);
        let object = Object {
            kind: None,
            bits: 0,
            paddr: number,
            device: true,
            parent: None,
            watermark: 0,
            content: Vec::new(),
        };
        self.insert(place, object);
        Ok(())
    }
}
