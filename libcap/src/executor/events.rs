//! Where an event loop's calls and signals come from.

use alloc::sync::Arc;

use proto::protocol::Caller;
use proto::{Malformed, Message};
use sel4_sys::CPtr;

use super::REPLIES_MAX;
use crate::capability::{Endpoint, Notification, Received, Reply, Timer};
use crate::inbox::{Inbox, Offer};
use crate::kernel;

/// Something that arrived.
#[derive(Debug)]
pub enum Incoming {
    /// Bits of the bound notification.
    Signal(u64),
    /// A call; the reply object that was offered holds the way back.
    Call {
        /// Who calls.
        caller: Caller,
        /// What it says.
        message: Result<Message, Malformed>,
    },
}

/// Whether to wait for something to arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// Until something arrives.
    Block,
    /// Not at all.
    Poll,
}

/// The outside of an event loop: the kernel, or a test's script.
pub trait Events {
    /// How many reply objects there are; they are numbered from 0.
    fn replies(&self) -> usize;

    /// The time-stamp counter.
    fn now(&mut self) -> u64;

    /// Makes a signal arrive when the time-stamp counter reaches `deadline`, at the latest.
    fn set_deadline(&mut self, deadline: u64);

    /// Takes what arrives: a signal, or with a `reply` object also a call. `None` only if nothing
    /// is there and `patience` is `Poll`.
    fn receive(&mut self, reply: Option<usize>, patience: Patience) -> Option<Incoming>;

    /// Answers the caller behind a reply object.
    fn reply(&mut self, reply: usize, message: &Message);

    /// Answers, then waits for what arrives, with the same reply object.
    fn reply_and_receive(&mut self, reply: usize, message: &Message) -> Incoming;
}

/// Calls and signals from the kernel.
#[derive(Debug)]
pub struct KernelEvents {
    endpoint: Option<Endpoint>,
    wake: Notification,
    replies: heapless::Vec<Reply, REPLIES_MAX>,
    timer: Option<Timer>,
    /// What the timer is armed for, `None` if it may have fired.
    armed: Option<u64>,
    /// Where capabilities land that come with calls.
    inbox: Option<Arc<Inbox>>,
}

impl KernelEvents {
    /// Calls through `endpoint`, kept in `replies`; signals of `wake`, which is bound to this
    /// thread; time by `timer`, which signals `wake`.
    #[must_use]
    pub const fn new(
        endpoint: Option<Endpoint>,
        wake: Notification,
        replies: heapless::Vec<Reply, REPLIES_MAX>,
        timer: Option<Timer>,
    ) -> Self {
        Self {
            endpoint,
            wake,
            replies,
            timer,
            armed: None,
            inbox: None,
        }
    }

    /// Takes capabilities that come with calls into `inbox`. Without one, none is taken.
    #[must_use]
    pub fn with_inbox(self, inbox: Arc<Inbox>) -> Self {
        Self {
            inbox: Some(inbox),
            ..self
        }
    }

    /// Says where a capability lands that comes with the next call.
    fn offer(&self) -> Option<Offer> {
        match &self.inbox {
            Some(inbox) => Some(Inbox::offer(inbox)),
            None => {
                // A call of this thread's may have left another slot there.
                kernel::set_receive_slot(CPtr::NULL, 0, 0);
                None
            }
        }
    }

    fn signal(&mut self, bits: u64) -> Incoming {
        // It may have been the timer's.
        self.armed = None;
        Incoming::Signal(bits)
    }

    fn incoming(&mut self, received: &Received, offer: Option<Offer>) -> Incoming {
        match received.signal() {
            Some(bits) => self.signal(bits),
            None => Incoming::Call {
                caller: Caller::from_badge(received.badge()),
                message: match offer {
                    Some(mut offer) => received.message_with_cap(&mut offer),
                    None => received.message(),
                },
            },
        }
    }
}

impl Events for KernelEvents {
    fn replies(&self) -> usize {
        self.replies.len()
    }

    fn now(&mut self) -> u64 {
        kernel::time_stamp()
    }

    /// # Panics
    /// If the program holds no timer but sleeps.
    fn set_deadline(&mut self, deadline: u64) {
        if self.armed != Some(deadline) {
            let timer = self.timer.expect("a program that sleeps is given a timer");
            timer.arm(deadline).expect("root bound the timer");
            self.armed = Some(deadline);
        }
    }

    fn receive(&mut self, reply: Option<usize>, patience: Patience) -> Option<Incoming> {
        let (Some(endpoint), Some(reply)) = (self.endpoint, reply) else {
            return match patience {
                Patience::Block => {
                    let bits = self.wake.wait();
                    Some(self.signal(bits))
                }
                Patience::Poll => match self.wake.poll() {
                    0 => None,
                    bits => Some(self.signal(bits)),
                },
            };
        };
        let reply = self.replies[reply];
        let offer = self.offer();
        let received = match patience {
            Patience::Block => Some(endpoint.receive(reply)),
            Patience::Poll => endpoint.poll(reply),
        };
        received.map(|received| self.incoming(&received, offer))
    }

    fn reply(&mut self, reply: usize, message: &Message) {
        self.replies[reply].send(message);
    }

    fn reply_and_receive(&mut self, reply: usize, message: &Message) -> Incoming {
        let endpoint = self
            .endpoint
            .expect("replies go to callers of the endpoint");
        let offer = self.offer();
        let received = endpoint.reply_receive(self.replies[reply], message);
        self.incoming(&received, offer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};
    use sel4_sys::{CPtr, Syscall};

    fn events() -> KernelEvents {
        let replies = [CPtr(30), CPtr(31)]
            .map(Reply::from_cptr)
            .into_iter()
            .collect();
        let endpoint = Endpoint::from_cptr(CPtr(20));
        let timer = Timer::from_cptr(CPtr(22));
        KernelEvents::new(
            Some(endpoint),
            Notification::from_cptr(CPtr(21)),
            replies,
            Some(timer),
        )
    }

    /// System call, target and reply object of everything asked since the last time.
    fn asked() -> Vec<(Syscall, u64, u64)> {
        take()
            .iter()
            .map(|call| {
                (
                    call.request.syscall,
                    call.request.target.0,
                    call.request.reply.0,
                )
            })
            .collect()
    }

    #[test]
    fn calls_are_received_with_the_reply_object_offered() {
        let mut events = events();
        prepare(Answer {
            badge: Caller(5).badge(),
            label: 1,
            words: vec![1, 9],
            ..Answer::default()
        });
        let incoming = events.receive(Some(1), Patience::Block);
        let Some(Incoming::Call { caller, message }) = incoming else {
            panic!("{incoming:?}")
        };
        assert_eq!(caller, Caller(5));
        assert_eq!(message.unwrap().body(), [9]);
        assert_eq!(asked(), [(Syscall::Recv, 20, 31)]);
    }

    #[test]
    fn without_a_reply_object_only_signals_are_waited_for() {
        let mut events = events();
        prepare(Answer {
            badge: 6,
            ..Answer::default()
        });
        let incoming = events.receive(None, Patience::Block);
        assert!(
            matches!(incoming, Some(Incoming::Signal(6))),
            "{incoming:?}"
        );
        assert!(events.receive(None, Patience::Poll).is_none());
        assert!(events.receive(Some(0), Patience::Poll).is_none());
        assert_eq!(
            asked(),
            [
                (Syscall::Wait, 21, 0),
                (Syscall::NBWait, 21, 0),
                (Syscall::NBRecv, 20, 30)
            ]
        );
    }

    #[test]
    fn a_reply_goes_out_with_the_next_wait() {
        let mut events = events();
        prepare(Answer {
            badge: 1,
            ..Answer::default()
        });
        events.reply_and_receive(0, &Message::empty(0));
        events.reply(1, &Message::empty(0));
        assert_eq!(
            asked(),
            [(Syscall::ReplyRecv, 20, 30), (Syscall::Send, 31, 0)]
        );
    }

    #[test]
    fn the_timer_is_armed_again_only_after_it_may_have_fired() {
        let mut events = events();
        events.set_deadline(100);
        events.set_deadline(100);
        assert_eq!(asked().len(), 1);
        prepare(Answer {
            badge: 1,
            ..Answer::default()
        });
        let _ = events.receive(Some(0), Patience::Block);
        events.set_deadline(100);
        assert_eq!(asked(), [(Syscall::Recv, 20, 30), (Syscall::Call, 22, 0)]);
    }
}
