//! What kind of capability a slot holds, for whoever received it and must know before using it.

use sel4_sys::CapType;

use crate::cap::{Cap, MapSpace, TableLevel};

/// The type of a capability.
#[must_use]
pub const fn cap_type(cap: Cap) -> CapType {
    match cap {
        Cap::Null => CapType::Null,
        Cap::Untyped(_) => CapType::Untyped,
        Cap::Endpoint(_) => CapType::Endpoint,
        Cap::Notification(_) => CapType::Notification,
        Cap::Reply { .. } => CapType::Reply,
        Cap::CNode(_) => CapType::CNode,
        Cap::Thread { .. } => CapType::Thread,
        Cap::IrqControl => CapType::IrqControl,
        Cap::IrqHandler { .. } => CapType::IrqHandler,
        Cap::Zombie(_) => CapType::Zombie,
        Cap::Domain => CapType::Domain,
        Cap::SchedContext { .. } => CapType::SchedContext,
        Cap::SchedControl { .. } => CapType::SchedControl,
        Cap::Frame(_) => CapType::Frame,
        Cap::Table(table) => match (table.space, table.level) {
            (MapSpace::Guest, TableLevel::PageTable) => CapType::GuestPageTable,
            (MapSpace::Guest, TableLevel::PageDirectory) => CapType::GuestPageDirectory,
            (MapSpace::Guest, TableLevel::Pdpt) => CapType::GuestPdpt,
            (_, TableLevel::PageTable) => CapType::PageTable,
            (_, TableLevel::PageDirectory) => CapType::PageDirectory,
            (_, TableLevel::Pdpt) => CapType::Pdpt,
        },
        Cap::Root(root) => match root.space {
            MapSpace::Guest => CapType::GuestRoot,
            _ => CapType::VSpace,
        },
        Cap::AsidControl => CapType::AsidControl,
        Cap::AsidPool { .. } => CapType::AsidPool,
        Cap::IoPort { .. } => CapType::IoPort,
        Cap::Vcpu { .. } => CapType::Vcpu,
        Cap::IoPortControl => CapType::IoPortControl,
        Cap::Timer { .. } => CapType::Timer,
    }
}
