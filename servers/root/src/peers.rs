//! Tells clients that their server died.
//!
//! A caller whose call a dead server had received, or that was still waiting to be received,
//! would wait for a reply that never comes. Such a thread shows in its registers: it stands on a
//! `syscall` instruction as a Call to the dead server's endpoint. It is stopped, looked at again,
//! given the answer `PEER_DIED`, and goes on behind the instruction. A thread whose call returned
//! does not look like that, because the answer to a call sets RDI to zero.

use crate::kernel::Kernel;
use crate::resources::Resources;
use crate::run::Run;
use libcap::capability::Tcb;
use proto::message::reply_label;
use proto::start::CapKind;
use sel4_sys::thread::UserContext;
use sel4_sys::{MessageInfo, Syscall};

/// The instruction `syscall`.
const SYSCALL: [u8; 2] = [0x0f, 0x05];

/// Answers every call of `client` to the server of this name. Returns how many there were.
pub fn tell<K: Kernel>(
    client: &Run,
    server: &str,
    spare: u64,
    resources: &mut Resources<K>,
) -> usize {
    let endpoint = client
        .caps
        .iter()
        .find(|cap| cap.kind == CapKind::Endpoint && cap.name == server);
    let Some(endpoint) = endpoint else {
        return 0;
    };
    let told = client
        .threads
        .iter()
        .filter(|thread| answer(client, thread.tcb, endpoint.slot, spare, resources).is_some());
    told.count()
}

/// Answers the thread's call if it is in one to `slot`. A thread that cannot be read is left alone.
fn answer<K: Kernel>(
    client: &Run,
    thread: Tcb,
    slot: u64,
    spare: u64,
    resources: &mut Resources<K>,
) -> Option<()> {
    let context = resources.kernel.registers(thread).ok()?;
    if !is_call(client, &context, slot, spare, resources) {
        return None;
    }
    resources.kernel.suspend(thread).ok()?;
    let mut context = resources.kernel.registers(thread).ok()?;
    if !is_call(client, &context, slot, spare, resources) {
        // It was answered in between, or had not made the call yet.
        resources.kernel.resume(thread).ok()?;
        return None;
    }
    context.rip += SYSCALL.len() as u64;
    // One word, MR0: the body has no bytes.
    context.rsi = MessageInfo::new(reply_label::PEER_DIED, 1, 0).word();
    context.r10 = 0;
    context.rdi = 0;
    resources.kernel.start(thread, &context).ok()
}

fn is_call<K: Kernel>(
    client: &Run,
    context: &UserContext,
    slot: u64,
    spare: u64,
    resources: &mut Resources<K>,
) -> bool {
    let mut instruction = [0; 2];
    context.rdx == Syscall::Call.number()
        && context.rdi == slot
        && client
            .read_code(resources, spare, context.rip, &mut instruction)
            .is_some()
        && instruction == SYSCALL
}
