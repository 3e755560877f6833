//! Where capabilities land that come with messages.
//!
//! Owns some slots of the program's own capability space. One of them is offered to the kernel with
//! each system call that receives; what landed there is identified and becomes part of the message,
//! and is deleted when nobody holds it any more ([`proto::passing`]). A program without an inbox
//! offers nothing, so nobody can fill its capability space.

use alloc::sync::Arc;
use core::num::NonZeroU64;
use core::sync::atomic::{AtomicU64, Ordering};

use proto::Malformed;
use proto::passing::{Attached, CapName, Keeper};
use proto::start::CapKind;
use sel4_sys::{CPtr, CapType, MessageInfo};

use crate::capability::{CNode, Slot};
use crate::kernel;

/// Most slots of an inbox: one bit each in the word of free ones. A server that holds more
/// capabilities of others than this at a time has lost count of them.
pub const SLOTS_MAX: u32 = 64;

/// Slots for received capabilities.
#[derive(Debug)]
pub struct Inbox {
    cnode: CNode,
    first: NonZeroU64,
    /// Bit n: slot `first + n` is free.
    free: AtomicU64,
}

impl Inbox {
    /// The empty slots from `first` on, `count` of them, of the program's own capability space, whose
    /// root is `cnode`.
    ///
    /// # Panics
    /// If there are more than [`SLOTS_MAX`].
    #[must_use]
    pub fn new(cnode: CNode, first: NonZeroU64, count: u32) -> Arc<Self> {
        assert!(count <= SLOTS_MAX, "{count} slots, more than {SLOTS_MAX}");
        let free = u64::MAX.checked_shr(SLOTS_MAX - count).unwrap_or(0);
        Arc::new(Self {
            cnode,
            first,
            free: AtomicU64::new(free),
        })
    }

    /// Offers a free slot to the next message that this thread receives. If there is none, a
    /// capability stays behind, and the message is malformed for want of it.
    #[must_use]
    pub fn offer(inbox: &Arc<Self>) -> Offer {
        let free = &inbox.free;
        let taken = free.fetch_update(Ordering::AcqRel, Ordering::Acquire, |free| {
            (free != 0).then(|| free & (free - 1))
        });
        let name = taken.ok().and_then(|before| {
            let name = inbox.first.checked_add(u64::from(before.trailing_zeros()));
            name.map(CapName)
        });
        match name.map(|name| inbox.slot(name)) {
            Some(slot) => {
                kernel::set_receive_slot(slot.root.cptr(), slot.index, u64::from(slot.depth));
            }
            None => kernel::set_receive_slot(CPtr::NULL, 0, 0),
        }
        Offer {
            inbox: Arc::clone(inbox),
            name,
        }
    }

    const fn slot(&self, name: CapName) -> Slot {
        self.cnode.slot(CPtr(name.0.get()))
    }

    fn release(&self, name: CapName) {
        let bit = name.0.get() - self.first.get();
        self.free.fetch_or(1 << bit, Ordering::AcqRel);
    }
}

impl Keeper for Inbox {
    /// # Panics
    /// If the program gave its inbox away.
    fn discard(&self, name: CapName) {
        self.slot(name).delete().expect("the inbox's own slot");
        self.release(name);
    }
}

/// A slot that is offered for one message.
#[derive(Debug)]
pub struct Offer {
    inbox: Arc<Inbox>,
    /// `None` if no slot was free, and after something landed.
    name: Option<CapName>,
}

impl Offer {
    /// Takes what came with the message that `info` describes.
    ///
    /// # Errors
    /// More came than one capability, or one of a kind that no message carries; it is deleted.
    pub(crate) fn accept(&mut self, info: MessageInfo) -> Result<Option<Attached>, Malformed> {
        let as_badges = info.caps_unwrapped().count_ones() as usize;
        let landed = info.extra_caps().saturating_sub(as_badges) > 0;
        let cap = match self.name.take_if(|_| landed) {
            Some(name) => Some(self.identify(name)?),
            None => None,
        };
        if as_badges == 0 && info.extra_caps() <= 1 {
            Ok(cap)
        } else {
            Err(Malformed)
        }
    }

    /// What landed in the slot.
    fn identify(&self, name: CapName) -> Result<Attached, Malformed> {
        let kind = match self.inbox.slot(name).identify() {
            Ok(CapType::Endpoint) => CapKind::Endpoint,
            Ok(CapType::Notification) => CapKind::Notification,
            Ok(CapType::Frame) => CapKind::Frame,
            // Nothing, if its giver took it back already.
            Ok(_) | Err(_) => {
                self.inbox.discard(name);
                return Err(Malformed);
            }
        };
        let keeper: Arc<dyn Keeper> = self.inbox.clone();
        Ok(Attached::received(name, kind, keeper))
    }
}

/// What was offered and not taken is free again.
impl Drop for Offer {
    fn drop(&mut self) {
        if let Some(name) = self.name {
            self.inbox.release(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capability::Notification;
    use crate::capability::{Endpoint, Received, Reply};
    use crate::executor::{Events, Incoming, KernelEvents, Patience};
    use crate::kernel::recorder::{Answer, Recorded, prepare, take};
    use proptest::prelude::*;
    use proto::Message;
    use proto::doorbell::DoorbellClient;
    use proto::protocol::{CallError, Caller};
    use sel4_sys::{InvocationLabel, Syscall};

    const FIRST: u64 = 50;

    fn inbox(count: u32) -> Arc<Inbox> {
        let first = NonZeroU64::new(FIRST).expect("not 0");
        Inbox::new(CNode::from_cptr(CPtr(2)), first, count)
    }

    fn free(inbox: &Inbox) -> u32 {
        inbox.free.load(Ordering::Acquire).count_ones()
    }

    /// What the kernel answers next: a message with these capabilities.
    fn arrives(caps: usize, unwrapped: u64) {
        prepare(Answer {
            badge: Caller(1).badge(),
            label: 2,
            words: vec![0],
            caps,
            unwrapped,
        });
    }

    /// What the kernel answers when it is asked what is in a slot.
    fn is(cap_type: u64) {
        prepare(Answer {
            words: vec![cap_type],
            ..Answer::default()
        });
    }

    fn labels(recorded: &[Recorded]) -> Vec<u64> {
        let infos = recorded.iter().map(|call| call.request.info);
        infos.map(MessageInfo::label).collect()
    }

    fn receive(inbox: &Arc<Inbox>) -> Result<Message, Malformed> {
        let mut offer = Inbox::offer(inbox);
        let received: Received = Endpoint::from_cptr(CPtr(20)).receive(Reply::from_cptr(CPtr(30)));
        received.message_with_cap(&mut offer)
    }

    const IDENTIFY: u64 = InvocationLabel::CNodeIdentify.number();
    const DELETE: u64 = InvocationLabel::CNodeDelete.number();

    #[test]
    fn a_capability_lands_in_a_free_slot_and_is_deleted_with_its_message() {
        let inbox = inbox(2);
        arrives(1, 0);
        is(6);
        let message = receive(&inbox).unwrap();
        let cap = message.cap().unwrap();
        assert_eq!(
            (cap.name().0.get(), cap.kind()),
            (FIRST, CapKind::Notification)
        );
        assert_eq!(free(&inbox), 1);
        let asked = take();
        assert_eq!(asked[0].receive_slot, (CPtr(2), FIRST));
        assert_eq!(labels(&asked), [0, IDENTIFY]);
        drop(message);
        let [deleted] = &take()[..] else {
            panic!("one invocation")
        };
        assert_eq!(deleted.request.info.label(), DELETE);
        assert_eq!(deleted.words[0], FIRST);
        assert_eq!(free(&inbox), 2);
    }

    #[test]
    fn a_message_without_a_capability_gives_the_slot_back() {
        let inbox = inbox(1);
        for _ in 0..2 {
            arrives(0, 0);
            assert!(receive(&inbox).unwrap().cap().is_none());
            assert_eq!(take().len(), 1);
        }
        assert_eq!(free(&inbox), 1);
    }

    #[test]
    fn what_no_message_carries_is_deleted_at_once() {
        let inbox = inbox(1);
        for cap_type in [0, 2, 10] {
            arrives(1, 0);
            is(cap_type);
            assert_eq!(receive(&inbox), Err(Malformed));
            assert_eq!(labels(&take()), [0, IDENTIFY, DELETE]);
        }
        assert_eq!(free(&inbox), 1);
    }

    #[test]
    fn a_full_inbox_offers_no_slot() {
        let inbox = inbox(0);
        arrives(0, 0);
        assert!(receive(&inbox).unwrap().cap().is_none());
        assert_eq!(take()[0].receive_slot, (CPtr::NULL, 0));
    }

    #[test]
    fn an_event_loop_takes_capabilities_only_into_an_inbox() {
        let (endpoint, wake) = (
            Endpoint::from_cptr(CPtr(20)),
            Notification::from_cptr(CPtr(21)),
        );
        let replies = || core::iter::once(Reply::from_cptr(CPtr(30))).collect();
        let inbox = inbox(1);
        let mut taking =
            KernelEvents::new(Some(endpoint), wake, replies(), None).with_inbox(Arc::clone(&inbox));
        arrives(1, 0);
        is(6);
        let Some(Incoming::Call { message, .. }) = taking.receive(Some(0), Patience::Block) else {
            panic!("a call")
        };
        assert!(message.is_ok_and(|message| message.cap().is_some()));
        take();
        let mut refusing = KernelEvents::new(Some(endpoint), wake, replies(), None);
        arrives(0, 0);
        let _ = refusing.receive(Some(0), Patience::Block);
        assert_eq!(take()[0].receive_slot, (CPtr::NULL, 0));
    }

    #[test]
    fn a_client_lends_one_capability_and_holds_what_it_is_given() {
        let inbox = inbox(1);
        let client =
            DoorbellClient::new(Endpoint::from_cptr(CPtr(9)).receiving(Arc::clone(&inbox)));
        prepare(Answer {
            words: vec![0],
            ..Answer::default()
        });
        assert_eq!(client.keep(Notification::from_cptr(CPtr(77))), Ok(()));
        let [asked] = &take()[..] else {
            panic!("one call")
        };
        assert_eq!(asked.request.syscall, Syscall::Call);
        assert_eq!(
            (asked.request.info.extra_caps(), &asked.caps[..]),
            (1, &[CPtr(77)][..])
        );
        prepare(Answer {
            words: vec![1, 5],
            caps: 1,
            ..Answer::default()
        });
        is(6);
        let given = client.give().unwrap();
        let bell = Notification::from(&given.cap);
        assert_eq!((given.value, bell.cptr()), (5, CPtr(FIRST)));
        take();
        // Of another kind.
        drop(given);
        prepare(Answer {
            words: vec![1, 5],
            caps: 1,
            ..Answer::default()
        });
        is(4);
        assert_eq!(client.give(), Err(CallError::Malformed));
        assert_eq!(free(&inbox), 1);
    }

    proptest! {
        /// Whatever the kernel may say of a message: no slot is lost, and nothing is held that the
        /// message does not have.
        #[test]
        fn no_slot_is_lost_whatever_arrives(
            arrivals in prop::collection::vec(
                (0_usize..=3, 0_u64..8, prop::sample::select(CapType::ALL), prop::collection::vec(any::<u64>(), 0..4)),
                0..40,
            )
        ) {
            let inbox = inbox(3);
            let mut held = Vec::new();
            for (caps, unwrapped, cap_type, words) in arrivals {
                // The kernel counts those that it unwrapped and at most one more, of a free slot.
                let unwrapped = unwrapped & ((1 << caps) - 1);
                let most = unwrapped.count_ones() as usize + usize::from(held.len() < 3);
                let caps = caps.min(most);
                let landed = caps > unwrapped.count_ones() as usize;
                prepare(Answer { badge: Caller(1).badge(), label: 1, words, caps, unwrapped });
                if landed {
                    is(cap_type.number());
                }
                if let Ok(message) = receive(&inbox) && message.cap().is_some() {
                    prop_assert!(landed && caps == 1);
                    held.push(message);
                }
                prop_assert_eq!(free(&inbox) as usize + held.len(), 3);
                take();
            }
            drop(held);
            prop_assert_eq!(free(&inbox), 3);
            take();
        }
    }
}
