//! What two worlds must have in common that saw the same, one of them with the fast path.

use std::collections::BTreeMap;

use microkernel::cap::Cap;
use microkernel::fault::Fault;
use microkernel::object::{QueueEnds, Tcb, ThreadState};
use microkernel::store::Ref;

use crate::world::{CPUS, World};

/// Registers that a system call loses: RCX and R11, by their place in TCB.ReadRegisters.
const LOST: [usize; 2] = [5, 13];

/// Objects by address, named by the slot that they were first found in.
struct Names(BTreeMap<usize, u64>);

impl Names {
    fn of(world: &World) -> Self {
        let mut names = BTreeMap::new();
        for (number, slot) in world.slots().enumerate() {
            if let Some(address) = object(slot.cap()) {
                names.entry(address).or_insert(number as u64);
            }
        }
        for (cpu, node) in world.kernel.nodes.iter().enumerate().take(CPUS) {
            if let Some(idle) = node.idle.get() {
                names.insert(idle.address(), u64::MAX - cpu as u64);
            }
        }
        Self(names)
    }

    /// An object to which no capability is left has no name.
    fn name<T>(&self, object: Option<Ref<T>>) -> String {
        match object {
            None => "-".to_owned(),
            Some(object) => match self.0.get(&object.address()) {
                Some(number) => format!("#{number}"),
                None => "?".to_owned(),
            },
        }
    }

    fn queue(&self, queue: &QueueEnds) -> Vec<String> {
        queue.iter().map(|tcb| self.name(Some(tcb))).collect()
    }

    fn thread(&self, tcb: Ref<Tcb>) -> String {
        let mut registers = tcb.registers.all().map(core::cell::Cell::get);
        LOST.into_iter().for_each(|index| registers[index] = 0);
        let waits = matches!(
            tcb.state.get(),
            ThreadState::BlockedOnSend | ThreadState::BlockedOnReceive
        );
        let endpoint = tcb.blocking.get().endpoint.filter(|_| waits);
        format!(
            "{:?} {registers:x?} again at {:#x} reply {} time {} endpoint {} fault {}",
            tcb.state.get(),
            tcb.restart_ip.get(),
            self.name(tcb.reply.get()),
            self.name(tcb.sched_context.get()),
            self.name(endpoint),
            tcb.fault.get() != Fault::Null,
        )
    }

    fn describe(&self, cap: Cap) -> String {
        match cap {
            Cap::Thread { tcb } => self.thread(tcb),
            Cap::Endpoint(e) => format!("{:?}", self.queue(&e.endpoint.queue)),
            Cap::Notification(n) => format!(
                "{:?} {} {:x}",
                self.queue(&n.notification.queue),
                n.notification.active.get(),
                n.notification.badge.get()
            ),
            Cap::Reply { reply, .. } => format!(
                "of {} below {} above {} time {}",
                self.name(reply.tcb.get()),
                self.name(reply.below.get()),
                self.name(reply.above.get()),
                self.name(reply.sched_context.get())
            ),
            Cap::SchedContext { context, .. } => format!(
                "of {} stack {} used {}",
                self.name(context.tcb.get()),
                self.name(context.reply.get()),
                context.consumed.get()
            ),
            _ => String::new(),
        }
    }
}

/// The address of the object that a capability names, of those that messages change.
fn object(cap: Cap) -> Option<usize> {
    match cap {
        Cap::Thread { tcb } => Some(tcb.address()),
        Cap::Endpoint(e) => Some(e.endpoint.address()),
        Cap::Notification(n) => Some(n.notification.address()),
        Cap::Reply { reply, .. } => Some(reply.address()),
        Cap::SchedContext { context, .. } => Some(context.address()),
        _ => None,
    }
}

/// Everything that messages change, without addresses: a line for each capability and CPU.
pub fn snapshot(world: &World) -> Vec<String> {
    let names = Names::of(world);
    let mut lines: Vec<String> = world
        .slots()
        .map(|slot| names.describe(slot.cap()))
        .collect();
    for node in world.kernel.nodes.iter().take(CPUS) {
        lines.push(format!(
            "runs {} on {} with {:?}",
            names.name(node.current.get()),
            names.name(node.current_context.get()),
            node.action.get(),
        ));
        let ready = node.ready.iter().flat_map(|domain| &domain.queues);
        let queued: Vec<String> = ready.flat_map(|queue| names.queue(queue)).collect();
        lines.push(format!(
            "ready {queued:?} waiting {:?}",
            names.queue(&node.release)
        ));
    }
    lines
}
