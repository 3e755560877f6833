//! An address space under construction: a program's, or a guest's physical one.
//!
//! Knows which paging structures are there and makes those that are missing. Both kinds have the
//! same four levels and differ only in the types of their objects.

use crate::error::BuildError;
use crate::kernel::{Kernel, Mapping};
use crate::resources::{Arena, Resources};
use alloc::collections::BTreeSet;
use libcap::capability::{Frame, GuestRoot, VSpace};
use sel4_sys::{CPtr, ObjectType};

/// Whose address space it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Program,
    Guest,
}

/// An address space.
#[derive(Debug)]
pub struct AddressSpace {
    root: CPtr,
    kind: Kind,
    /// Paging structures that are there: log2 of what one spans, and where.
    tables: BTreeSet<(u32, u64)>,
}

impl AddressSpace {
    /// An empty address space for a program.
    ///
    /// # Errors
    /// As [`Arena::make`].
    pub fn new<K: Kernel>(
        arena: &mut Arena,
        resources: &mut Resources<K>,
    ) -> Result<Self, BuildError> {
        Self::make(arena, resources, Kind::Program, ObjectType::Pml4)
    }

    /// An empty guest-physical address space.
    ///
    /// # Errors
    /// As [`Arena::make`].
    pub fn for_guest<K: Kernel>(
        arena: &mut Arena,
        resources: &mut Resources<K>,
    ) -> Result<Self, BuildError> {
        Self::make(arena, resources, Kind::Guest, ObjectType::GuestPml4)
    }

    /// Root's own address space. Only addresses in parts that have no paging structures yet may be
    /// mapped through it.
    #[must_use]
    pub const fn own(root: CPtr) -> Self {
        Self {
            root,
            kind: Kind::Program,
            tables: BTreeSet::new(),
        }
    }

    fn make<K: Kernel>(
        arena: &mut Arena,
        resources: &mut Resources<K>,
        kind: Kind,
        object: ObjectType,
    ) -> Result<Self, BuildError> {
        let slot = arena.make(resources, object, 0)?;
        let root = resources.cspace.cptr(slot);
        resources.kernel.assign_asid(root)?;
        Ok(Self {
            root,
            kind,
            tables: BTreeSet::new(),
        })
    }

    /// The program's VSpace.
    #[must_use]
    pub const fn vspace(&self) -> VSpace {
        VSpace::from_cptr(self.root)
    }

    /// The guest's root.
    #[must_use]
    pub const fn guest_root(&self) -> GuestRoot {
        GuestRoot::from_cptr(self.root)
    }

    /// Maps the frame of 2^`bits` bytes whose capability is in `slot`.
    ///
    /// # Errors
    /// As [`Arena::make`], and the kernel's refusal.
    pub fn map<K: Kernel>(
        &mut self,
        arena: &mut Arena,
        resources: &mut Resources<K>,
        (bits, slot): (u32, u64),
        mapping: Mapping,
    ) -> Result<(), BuildError> {
        self.prepare(arena, resources, bits, mapping.vaddr)?;
        let frame = Frame::from_cptr(resources.cspace.cptr(slot));
        match self.kind {
            Kind::Program => resources.kernel.map(frame, self.vspace(), mapping)?,
            Kind::Guest => resources
                .kernel
                .map_guest(frame, self.guest_root(), mapping)?,
        }
        Ok(())
    }

    /// Makes the paging structures that a frame of 2^`bits` bytes at `at` needs.
    ///
    /// # Errors
    /// As [`Arena::make`], and the kernel's refusal.
    pub fn prepare<K: Kernel>(
        &mut self,
        arena: &mut Arena,
        resources: &mut Resources<K>,
        bits: u32,
        at: u64,
    ) -> Result<(), BuildError> {
        let levels = match self.kind {
            Kind::Program => [
                (39, ObjectType::Pdpt),
                (30, ObjectType::PageDirectory),
                (21, ObjectType::PageTable),
            ],
            Kind::Guest => [
                (39, ObjectType::GuestPdpt),
                (30, ObjectType::GuestPageDirectory),
                (21, ObjectType::GuestPageTable),
            ],
        };
        for (span, object) in levels.into_iter().filter(|(span, _)| *span > bits) {
            if self.tables.contains(&(span, at >> span)) {
                continue;
            }
            let slot = arena.make(resources, object, 0)?;
            let table = resources.cspace.cptr(slot);
            resources.kernel.map_table(object, table, self.root, at)?;
            self.tables.insert((span, at >> span));
        }
        Ok(())
    }
}
