//! Deleting capabilities and ending the objects whose last capability goes.
//!
//! A CNode or TCB dies in steps: its last capability becomes a zombie, which counts the slots
//! inside that may still be full; each step empties one of them. A dying container may hold the
//! last capability of another one, so that plain recursion would be as deep as a user likes.
//! Instead a container found inside is made a zombie, moved into its own first slot and left
//! there: nothing but the untyped memory it came from reaches it any more, and the slot it stood
//! in goes on with what that first slot held. The rest of it goes when that memory is revoked, as
//! in seL4. So the work is flat, every state between two steps is a proper capability space, and
//! a preempted deletion is simply started again.
//!
//! `derivation` keeps the list; what it means for a thread or an address space to end is in the
//! modules of those objects, called from here.

use crate::arch;
use crate::cap::{CNodeCap, Cap, ZombieCap, ZombieKind};
use crate::derivation;
use crate::fault::Preempted;
use crate::kernel::{IrqState, Kernel};
use crate::object::{Slot, Tcb};
use crate::store::Ref;

/// What is left when a capability's object has been finalised.
enum Remainder {
    /// Nothing: the slot can be emptied, and this is free afterwards.
    Nothing(Released),
    /// A container whose slots have to be emptied first.
    Zombie(ZombieCap),
}

/// What can be handed out again once no slot holds the capability.
enum Released {
    Nothing,
    Irq(u8),
    IoPorts { first: u16, last: u16 },
}

/// Where the slot is that a deletion empties.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In a capability space: it is empty in the end.
    Visible,
    /// In a container that a zombie is emptying.
    InZombie,
}

impl ZombieCap {
    fn of_cnode(node: CNodeCap) -> Self {
        Self {
            slots: node.slots,
            kind: ZombieKind::CNode { radix: node.radix },
            remaining: 1 << node.radix,
        }
    }

    fn of_thread(tcb: Ref<Tcb>) -> Self {
        Self {
            slots: Ref::from_address(tcb.address()),
            kind: ZombieKind::Tcb,
            remaining: Tcb::SLOTS as u64,
        }
    }

    /// Whether no slot of the container can be full but `own`, the one this zombie stands in.
    fn is_done(self, own: Ref<Slot>) -> bool {
        self.remaining == 0 || (self.remaining == 1 && self.slots == own)
    }
}

/// Deletes the capability in `slot`, and its object if it was the last one.
///
/// # Errors
/// `Preempted` with the work begun; the same call finishes it.
pub fn delete(kernel: &Kernel, slot: Ref<Slot>) -> Result<(), Preempted> {
    delete_at(kernel, slot, Place::Visible)
}

/// Deletes everything that was derived from the capability in `slot`.
///
/// # Errors
/// `Preempted` with the work begun; the same call finishes it.
pub fn revoke(kernel: &Kernel, slot: Ref<Slot>) -> Result<(), Preempted> {
    while let Some(child) = slot.next()
        && derivation::is_parent_of(slot, child)
    {
        delete(kernel, child)?;
        kernel.preemption_point()?;
    }
    Ok(())
}

/// Deletes the capability in `slot` in one step. It is not the last one of a CNode or TCB:
/// the slots of which this is used (interrupts) hold notifications.
pub fn delete_one(kernel: &Kernel, slot: Ref<Slot>) {
    if !slot.is_empty()
        && let Remainder::Nothing(released) = finalise(kernel, slot)
    {
        empty(kernel, slot, released);
    }
}

fn delete_at(kernel: &Kernel, slot: Ref<Slot>, place: Place) -> Result<(), Preempted> {
    while !slot.is_empty() {
        let zombie = match finalise(kernel, slot) {
            Remainder::Nothing(released) => {
                empty(kernel, slot, released);
                break;
            }
            Remainder::Zombie(zombie) => zombie,
        };
        if zombie.is_done(slot) {
            empty(kernel, slot, Released::Nothing);
            break;
        }
        slot.set_cap(Cap::Zombie(zombie));
        match place {
            Place::Visible => reduce_zombie(kernel, slot, zombie)?,
            Place::InZombie => {
                // The only container whose zombie could stand here in its own first slot is the
                // one being emptied, and that would be done.
                debug_assert!(zombie.slots != slot);
                let first = zombie.slots;
                derivation::swap(first, first.cap(), slot, slot.cap());
            }
        }
        kernel.preemption_point()?;
    }
    Ok(())
}

/// Empties the last slot of the zombie in `slot` that may be full.
fn reduce_zombie(kernel: &Kernel, slot: Ref<Slot>, zombie: ZombieCap) -> Result<(), Preempted> {
    let last = zombie.slots.element(zombie.remaining as usize - 1);
    delete_at(kernel, last, Place::InZombie)?;
    // If the zombie stood in its own last slot, it has moved from here to its first one.
    if slot.cap() == Cap::Zombie(zombie) {
        slot.set_cap(Cap::Zombie(ZombieCap {
            remaining: zombie.remaining - 1,
            ..zombie
        }));
    }
    Ok(())
}

fn empty(kernel: &Kernel, slot: Ref<Slot>, released: Released) {
    let is_port = matches!(slot.cap(), Cap::IoPort { .. });
    derivation::remove(slot);
    if is_port {
        // It may have been a VCPU's, whose guest must not use the ports a moment longer.
        arch::note_removed_port();
    }
    match released {
        Released::Nothing => {}
        Released::Irq(irq) => kernel.set_irq_state(irq, IrqState::Inactive),
        Released::IoPorts { first, last } => kernel.release_io_ports(first, last),
    }
}

/// Takes the object of the capability in `slot` out of use, as far as this capability keeps
/// it in use.
fn finalise(kernel: &Kernel, slot: Ref<Slot>) -> Remainder {
    let cap = slot.cap();
    match cap {
        Cap::Zombie(zombie) => return Remainder::Zombie(zombie),
        Cap::Root(_) | Cap::AsidPool { .. } => kernel.forget_spaces(),
        // Each capability of a frame has its own mapping, so whether it is the last is no matter.
        Cap::Frame(frame) => {
            kernel.unmap_frame(frame);
            return Remainder::Nothing(Released::Nothing);
        }
        _ => {}
    }
    if derivation::is_final(slot) {
        finalise_last(kernel, cap)
    } else {
        Remainder::Nothing(Released::Nothing)
    }
}

/// The end of an object.
fn finalise_last(kernel: &Kernel, cap: Cap) -> Remainder {
    match cap {
        Cap::CNode(node) => return Remainder::Zombie(ZombieCap::of_cnode(node)),
        Cap::Thread { tcb } => {
            kernel.finalise_tcb(tcb);
            return Remainder::Zombie(ZombieCap::of_thread(tcb));
        }
        Cap::IrqHandler { irq } => {
            delete_one(kernel, kernel.irq_slot(irq));
            return Remainder::Nothing(Released::Irq(irq));
        }
        Cap::IoPort { first, last } => {
            return Remainder::Nothing(Released::IoPorts { first, last });
        }
        Cap::Endpoint(e) => kernel.cancel_all_ipc(e.endpoint),
        Cap::Notification(n) => {
            kernel.unbind_notification_object(n.notification);
            kernel.cancel_all_signals(n.notification);
        }
        Cap::Reply { reply, .. } => kernel.finalise_reply(reply),
        Cap::SchedContext { context, .. } => kernel.finalise_sched_context(context),
        Cap::Timer { timer } => kernel.finalise_timer(timer),
        Cap::Vcpu { vcpu } => kernel.finalise_vcpu(vcpu),
        Cap::Table(table) => kernel.unmap_table(table),
        Cap::Root(root) => kernel.delete_asid(root),
        Cap::AsidPool { pool, base } => kernel.delete_asid_pool(base, pool),
        _ => {}
    }
    Remainder::Nothing(Released::Nothing)
}
