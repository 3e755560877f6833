//! What the capability space should be: an explicit tree of capabilities, with none of the
//! kernel's cleverness. Deleting an object deletes what is in it, at once and however deep.

use std::collections::{BTreeMap, BTreeSet};

use microkernel::cap::{CNodeCap, Cap, UntypedCap};
use microkernel::derivation::{self, Badges, same_object};
use microkernel::fault::{LookupFailure, SyscallError};
use microkernel::object::{Slot, Tcb};

/// Address of a slot.
pub type Place = usize;

/// A capability of the tree.
#[derive(Clone, Debug)]
pub struct Node {
    /// What it is.
    pub cap: Cap,
    /// Where it is.
    pub place: Place,
    /// Whether later copies of it are its children.
    original: bool,
    parent: Option<usize>,
}

/// All capabilities.
#[derive(Clone, Default)]
pub struct Model {
    nodes: BTreeMap<usize, Node>,
    last_id: usize,
}

/// How a slot is addressed from the root CNode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The slot itself.
    pub place: Place,
    /// The lowest `depth` bits name it.
    pub index: u64,
    /// Bits of `index`.
    pub depth: u64,
}

/// Whether something lives in a capability's memory. The kernel is asked: what a dying container
/// still holds there, the model does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memory {
    /// Nothing does, or it is not memory.
    Vacant,
    /// Something does.
    Occupied,
}

/// What a transfer makes of the source.
#[derive(Clone, Copy, Debug)]
pub enum Transfer {
    /// Copy with these rights.
    Copy(microkernel::cap::Rights),
    /// Mint with these rights and this data.
    Mint(microkernel::cap::Rights, u64),
    /// Move.
    Move,
    /// Mutate with this data.
    Mutate(u64),
}

/// Slots of a container at `base`.
fn slots(base: usize, count: usize) -> impl Iterator<Item = Place> {
    (0..count).map(move |index| base + index * size_of::<Slot>())
}

/// The slots in the object of a capability.
pub fn slots_of(cap: Cap) -> Vec<Place> {
    match cap {
        Cap::CNode(node) => slots(node.slots.address(), 1 << node.radix).collect(),
        Cap::Thread { tcb } => slots(tcb.address(), Tcb::SLOTS).collect(),
        _ => Vec::new(),
    }
}

impl Model {
    /// Adds a capability that comes from no other.
    pub fn add_root(&mut self, place: Place, cap: Cap) {
        self.add(place, cap, true, None);
    }

    fn add(&mut self, place: Place, cap: Cap, original: bool, parent: Option<usize>) {
        assert!(
            self.at(place).is_none(),
            "the model put two capabilities into one slot"
        );
        self.last_id += 1;
        self.nodes.insert(
            self.last_id,
            Node {
                cap,
                place,
                original,
                parent,
            },
        );
    }

    fn at(&self, place: Place) -> Option<usize> {
        self.nodes
            .iter()
            .find(|(_, node)| node.place == place)
            .map(|(&id, _)| id)
    }

    /// The capability in a slot.
    pub fn cap(&self, place: Place) -> Option<Cap> {
        self.at(place).map(|id| self.nodes[&id].cap)
    }

    /// All capabilities.
    pub fn nodes(&self) -> impl Iterator<Item = (usize, &Node)> {
        self.nodes.iter().map(|(&id, node)| (id, node))
    }

    /// Everything derived from a capability, by place.
    pub fn descendants(&self, ancestor: usize) -> BTreeSet<Place> {
        let is_descendant = |id: usize| {
            let mut next = self.nodes[&id].parent;
            while let Some(parent) = next {
                if parent == ancestor {
                    return true;
                }
                next = self.nodes[&parent].parent;
            }
            false
        };
        self.nodes()
            .filter(|(id, _)| is_descendant(*id))
            .map(|(_, node)| node.place)
            .collect()
    }

    /// Every slot that can be addressed from the CNode `root`, by its shortest address.
    pub fn reachable(&self, root: CNodeCap) -> Vec<Address> {
        let mut seen = BTreeSet::new();
        let mut found: Vec<Address> = Vec::new();
        let mut queue = std::collections::VecDeque::from([(root, 0u64, 0u64)]);
        while let Some((node, prefix, depth)) = queue.pop_front() {
            let depth = depth + u64::from(node.guard_size + node.radix);
            if depth > 64 || !seen.insert(node.slots.address()) {
                continue;
            }
            for (index, place) in slots_of(Cap::CNode(node)).into_iter().enumerate() {
                let guarded = shift_in(prefix, node.guard_size, node.guard);
                let index = shift_in(guarded, node.radix, index as u64);
                found.push(Address {
                    place,
                    index,
                    depth,
                });
                if let Some(Cap::CNode(inner)) = self.cap(place) {
                    queue.push_back((inner, index, depth));
                }
            }
        }
        found
    }

    /// Deletes the capability in a slot.
    pub fn delete(&mut self, place: Place) {
        let mut doomed = vec![place];
        while let Some(place) = doomed.pop() {
            let Some(id) = self.at(place) else { continue };
            let node = self.nodes.remove(&id).expect("it was found");
            for child in self
                .nodes
                .values_mut()
                .filter(|child| child.parent == Some(id))
            {
                child.parent = node.parent;
            }
            if !self
                .nodes
                .values()
                .any(|other| same_object(node.cap, other.cap))
            {
                doomed.extend(slots_of(node.cap));
            }
        }
    }

    /// Deletes what was derived from the capability in a slot.
    pub fn revoke(&mut self, place: Place) {
        while let Some(id) = self.at(place) {
            let Some(&child) = self.descendants(id).first() else {
                break;
            };
            self.delete(child);
        }
    }

    /// Copy, Mint, Move or Mutate.
    pub fn transfer(
        &mut self,
        transfer: Transfer,
        (source, memory): (Address, Memory),
        destination: Address,
    ) -> Result<(), SyscallError> {
        if self.at(destination.place).is_some() {
            return Err(SyscallError::DeleteFirst);
        }
        let id = self.full(source)?;
        let old = self.nodes[&id].cap;
        let cap = match transfer {
            Transfer::Copy(rights) => copy_of(derivation::mask_rights(rights, old), memory)?,
            Transfer::Mint(rights, data) => {
                let masked = derivation::mask_rights(rights, old);
                copy_of(
                    derivation::update_data(Badges::Settable, data, masked),
                    memory,
                )?
            }
            Transfer::Move => old,
            Transfer::Mutate(data) => derivation::update_data(Badges::Kept, data, old),
        };
        if cap.is_null() {
            return Err(SyscallError::IllegalOperation);
        }
        match transfer {
            Transfer::Copy(_) | Transfer::Mint(..) => self.add_copy(id, cap, destination.place),
            Transfer::Move | Transfer::Mutate(_) => {
                let node = self.nodes.get_mut(&id).expect("it was found");
                (node.cap, node.place) = (cap, destination.place);
            }
        }
        Ok(())
    }

    /// Rotate without new guards: the pivot to the destination, the source to the pivot.
    pub fn rotate(
        &mut self,
        source: Address,
        pivot: Address,
        destination: Address,
    ) -> Result<(), SyscallError> {
        if pivot.place == source.place || pivot.place == destination.place {
            return Err(SyscallError::IllegalOperation);
        }
        if source.place != destination.place && self.at(destination.place).is_some() {
            return Err(SyscallError::DeleteFirst);
        }
        let moved = self.full(source)?;
        let turned = self.at(pivot.place).ok_or(missing(false, pivot))?;
        let change = |id| derivation::update_data(Badges::Kept, 0, self.nodes[&id].cap);
        let (moved_cap, turned_cap) = (change(moved), change(turned));
        if moved_cap.is_null() || turned_cap.is_null() {
            return Err(SyscallError::IllegalOperation);
        }
        for (id, cap, place) in [
            (moved, moved_cap, pivot.place),
            (turned, turned_cap, destination.place),
        ] {
            let node = self.nodes.get_mut(&id).expect("it was found");
            (node.cap, node.place) = (cap, place);
        }
        Ok(())
    }

    fn full(&self, source: Address) -> Result<usize, SyscallError> {
        self.at(source.place).ok_or(missing(true, source))
    }

    /// A copy is the child of an original, and the sibling of another copy.
    fn add_copy(&mut self, source: usize, cap: Cap, place: Place) {
        let node = self.nodes.get_mut(&source).expect("the source exists");
        let original = match (node.cap, cap) {
            (Cap::Endpoint(old), Cap::Endpoint(new)) => old.badge != new.badge,
            (Cap::Notification(old), Cap::Notification(new)) => old.badge != new.badge,
            (Cap::Untyped(_), _) => true,
            _ => false,
        };
        let parent = if node.original {
            Some(source)
        } else {
            node.parent
        };
        if let Cap::Untyped(untyped) = &mut node.cap {
            untyped.watermark = 1 << untyped.size_bits;
        }
        self.add(place, cap, original, parent);
    }

    /// Puts a copy where no invocation of these tests can: into a slot of a thread.
    pub fn equip(&mut self, (source, memory): (Place, Memory), destination: Place) -> Option<Cap> {
        let id = self.at(source)?;
        let cap = copy_of(self.nodes[&id].cap, memory).ok()?;
        if cap.is_null() || self.at(destination).is_some() {
            return None;
        }
        self.add_copy(id, cap, destination);
        Some(cap)
    }

    /// Where Retype puts objects of 2^`size_bits` bytes.
    pub fn retype_base(
        &self,
        untyped: UntypedCap,
        memory: Memory,
        size_bits: u8,
        count: u64,
    ) -> Result<usize, SyscallError> {
        let used = if memory == Memory::Occupied {
            untyped.watermark
        } else {
            0
        };
        let bytes_left = (1u64 << untyped.size_bits) - used;
        if bytes_left >> size_bits < count {
            return Err(SyscallError::NotEnoughMemory { bytes_left });
        }
        Ok((untyped.base + used as usize).next_multiple_of(1 << size_bits))
    }

    /// Takes over the capabilities that Retype made of the untyped in slot `source`.
    pub fn adopt(&mut self, source: Place, watermark: u64, made: &[(Place, Cap)]) {
        let id = self
            .at(source)
            .expect("Retype of a capability the model does not know");
        if let Some(Node {
            cap: Cap::Untyped(untyped),
            ..
        }) = self.nodes.get_mut(&id)
        {
            untyped.watermark = watermark;
        }
        for &(place, cap) in made {
            self.add(place, cap, true, Some(id));
        }
    }
}

/// What a copy is, or why there can be none. Nothing is mapped in these tests.
fn copy_of(cap: Cap, memory: Memory) -> Result<Cap, SyscallError> {
    match cap {
        Cap::IrqControl | Cap::IoPortControl => Ok(Cap::Null),
        Cap::Table(_) | Cap::Root(_) => Err(SyscallError::IllegalOperation),
        Cap::Untyped(_) if memory == Memory::Occupied => Err(SyscallError::RevokeFirst),
        _ => Ok(cap),
    }
}

/// The refusal of an empty slot.
fn missing(was_source: bool, at: Address) -> SyscallError {
    let failure = LookupFailure::MissingCapability {
        bits_left: at.depth as u8,
    };
    SyscallError::FailedLookup {
        was_source,
        failure,
    }
}

/// Appends the lowest `bits` bits of `value`.
fn shift_in(prefix: u64, bits: u8, value: u64) -> u64 {
    if bits == 0 {
        prefix
    } else {
        prefix << (bits - 1) << 1 | value
    }
}
