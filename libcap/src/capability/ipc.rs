//! Endpoints, notifications and reply objects.

use alloc::sync::Arc;

use proto::message::reply_label;
use proto::protocol::{CALLER_BIT, Transport};
use proto::{Malformed, Message};
use sel4_sys::{CPtr, MessageInfo, Syscall};

use super::capabilities;
use crate::inbox::{Inbox, Offer};
use crate::kernel::{self, Delivery, Request};

capabilities! {
    /// A rendezvous for messages: a server's own, or the way to one.
    Endpoint,
    /// A word of bits that wakes a waiting thread.
    Notification,
    /// Where the way back to a caller is kept while the server works.
    Reply,
}

/// Something that was received: a message through an endpoint or a signal of the bound
/// notification.
#[derive(Debug, Clone, Copy)]
pub struct Received(Delivery);

impl Received {
    /// The badge: of the sender's endpoint capability, or the notification's bits.
    #[must_use]
    pub const fn badge(&self) -> u64 {
        self.0.badge
    }

    /// The message's descriptor.
    #[must_use]
    pub const fn info(&self) -> MessageInfo {
        self.0.info
    }

    /// A word of the message; valid until the thread's next system call.
    #[must_use]
    pub fn word(&self, index: usize) -> u64 {
        self.0.word(index)
    }

    /// The bits, if it is a signal. A call always has the bit that root sets in every client's
    /// badge, so nobody can forge a signal by calling. The descriptor says nothing here: a signal
    /// leaves it as the system call passed it in.
    #[must_use]
    pub const fn signal(&self) -> Option<u64> {
        if self.0.badge & CALLER_BIT == 0 {
            Some(self.0.badge)
        } else {
            None
        }
    }

    /// The message, copied out of the registers and the IPC buffer, for a thread that takes no
    /// capabilities.
    ///
    /// # Errors
    /// The words are no message of a protocol, or a capability came with them.
    pub fn message(&self) -> Result<Message, Malformed> {
        read(&self.0, None)
    }

    /// The message, with the capability that landed in the slot offered.
    ///
    /// # Errors
    /// The words are no message of a protocol, or more came with them than one capability.
    pub fn message_with_cap(&self, offer: &mut Offer) -> Result<Message, Malformed> {
        read(&self.0, Some(offer))
    }
}

fn read(delivery: &Delivery, offer: Option<&mut Offer>) -> Result<Message, Malformed> {
    let info = delivery.info;
    let message = Message::from_words(info.label(), info.length(), |index| delivery.word(index));
    // The words are read, so the kernel may be asked about the capability. It is taken also if
    // they are nonsense, and deleted with it.
    let cap = match offer {
        Some(offer) => offer.accept(info)?,
        None if info.extra_caps() == 0 => None,
        None => return Err(Malformed),
    };
    let message = message?;
    Ok(match cap {
        Some(cap) => message.with_cap(cap),
        None => message,
    })
}

/// A system call that carries a message of a protocol.
fn carry(syscall: Syscall, target: CPtr, message: &Message, reply: CPtr) -> Delivery {
    let (registers, length) = kernel::place(message.words());
    if let Some(cap) = message.cap() {
        kernel::set_extra_cap(0, CPtr(cap.name().0.get()));
    }
    let info = MessageInfo::new(message.label(), length, message.cap().iter().count());
    kernel::system_call(Request {
        syscall,
        target,
        info,
        registers,
        reply,
    })
}

/// A system call that carries plain words.
fn carry_words(syscall: Syscall, target: CPtr, label: u64, words: &[u64]) -> Delivery {
    let (registers, length) = kernel::place(words.iter().copied());
    let info = MessageInfo::new(label, length, 0);
    kernel::system_call(Request {
        syscall,
        target,
        info,
        registers,
        reply: CPtr::NULL,
    })
}

/// A system call that only receives.
fn receive(syscall: Syscall, source: CPtr, reply: CPtr) -> Delivery {
    let info = MessageInfo::default();
    kernel::system_call(Request {
        syscall,
        target: source,
        info,
        registers: [0; 4],
        reply,
    })
}

impl Endpoint {
    /// Waits for a message or a signal; `reply` keeps the way back to the caller.
    #[must_use]
    pub fn receive(self, reply: Reply) -> Received {
        Received(receive(Syscall::Recv, self.cptr(), reply.cptr()))
    }

    /// Takes a message or a signal if one is there.
    #[must_use]
    pub fn poll(self, reply: Reply) -> Option<Received> {
        let delivery = receive(Syscall::NBRecv, self.cptr(), reply.cptr());
        // No client has badge 0, and no signal is without a bit.
        (delivery.badge != 0).then_some(Received(delivery))
    }

    /// Answers the caller behind `reply` and waits for the next one with the same object.
    #[must_use]
    pub fn reply_receive(self, reply: Reply, message: &Message) -> Received {
        Received(carry(
            Syscall::ReplyRecv,
            self.cptr(),
            message,
            reply.cptr(),
        ))
    }

    /// Calls with plain words, for what is no protocol. The answer's words from the fifth on are
    /// valid until the thread's next system call.
    #[must_use]
    pub fn call_words(self, label: u64, words: &[u64]) -> Received {
        Received(carry_words(Syscall::Call, self.cptr(), label, words))
    }
}

/// Calls whose replies carry no capabilities.
impl Transport for Endpoint {
    fn call(&self, request: &Message) -> Result<Message, Malformed> {
        kernel::set_receive_slot(CPtr::NULL, 0, 0);
        self.call_and_read(request, None)
    }
}

impl Endpoint {
    fn call_and_read(
        self,
        request: &Message,
        offer: Option<&mut Offer>,
    ) -> Result<Message, Malformed> {
        let delivery = carry(Syscall::Call, self.cptr(), request, CPtr::NULL);
        // Root writes nothing but this label for a server that died.
        if delivery.info.label() == reply_label::PEER_DIED {
            return Ok(Message::empty(reply_label::PEER_DIED));
        }
        read(&delivery, offer)
    }

    /// A transport for protocols whose replies carry capabilities, which land in `inbox`.
    #[must_use]
    pub const fn receiving(self, inbox: Arc<Inbox>) -> ReceivingEndpoint {
        ReceivingEndpoint {
            endpoint: self,
            inbox,
        }
    }
}

/// See [`Endpoint::receiving`].
#[derive(Debug, Clone)]
pub struct ReceivingEndpoint {
    endpoint: Endpoint,
    inbox: Arc<Inbox>,
}

impl Transport for ReceivingEndpoint {
    fn call(&self, request: &Message) -> Result<Message, Malformed> {
        let mut offer = Inbox::offer(&self.inbox);
        self.endpoint.call_and_read(request, Some(&mut offer))
    }
}

impl Notification {
    /// Sets the bits of this capability's badge and wakes who waits.
    pub fn signal(self) {
        // The kernel looks at the capability only; seL4's library sends one word as well.
        carry_words(Syscall::Send, self.cptr(), 0, &[0]);
    }

    /// As [`Notification::signal`] for a capability that came with a message: it does nothing if its
    /// giver took it back, where `signal` would be a fault or wait.
    pub fn try_signal(self) {
        carry_words(Syscall::NBSend, self.cptr(), 0, &[0]);
    }

    /// Waits until bits are set, and takes them.
    #[must_use]
    pub fn wait(self) -> u64 {
        receive(Syscall::Wait, self.cptr(), CPtr::NULL).badge
    }

    /// Takes the bits that are set, 0 if none is.
    #[must_use]
    pub fn poll(self) -> u64 {
        receive(Syscall::NBWait, self.cptr(), CPtr::NULL).badge
    }
}

impl Reply {
    /// Answers the caller. If it is gone, nothing happens.
    pub fn send(self, message: &Message) {
        carry(Syscall::Send, self.cptr(), message, CPtr::NULL);
    }

    /// Answers with plain words, as fault handlers do: label 0 resumes the thread.
    pub fn send_words(self, label: u64, words: &[u64]) {
        carry_words(Syscall::Send, self.cptr(), label, words);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};
    use proto::echo::EchoClient;
    use proto::protocol::{CallError, Caller};

    #[test]
    fn a_client_over_the_kernel_sends_length_and_bytes() {
        prepare(Answer {
            label: 0,
            words: vec![1, 42],
            ..Answer::default()
        });
        let client = EchoClient::new(Endpoint::from_cptr(CPtr(9)));
        assert_eq!(client.add(40, 2), Ok(42));
        let [recorded] = &take()[..] else {
            panic!("one call")
        };
        assert_eq!(recorded.request.syscall, Syscall::Call);
        assert_eq!(recorded.request.target, CPtr(9));
        assert_eq!(recorded.request.info, MessageInfo::new(2, 2, 0));
        assert_eq!(recorded.words, [2, 0x0228]);
    }

    #[test]
    fn a_long_message_goes_through_the_buffer() {
        let bytes: Vec<u8> = (0..=255).collect();
        let request = Message::from_body(1, &bytes).unwrap();
        let words: Vec<u64> = request.words().collect();
        prepare(Answer {
            label: 0,
            words: words.clone(),
            ..Answer::default()
        });
        let reply = Endpoint::from_cptr(CPtr(9)).call(&request).unwrap();
        assert_eq!(reply.body(), bytes);
        assert_eq!(take()[0].words, words);
    }

    #[test]
    fn a_dead_server_is_a_dead_peer_and_noise_is_malformed() {
        let client = EchoClient::new(Endpoint::from_cptr(CPtr(9)));
        prepare(Answer {
            label: reply_label::PEER_DIED,
            ..Answer::default()
        });
        assert_eq!(client.add(1, 2), Err(CallError::PeerDied));
        prepare(Answer {
            label: 0,
            words: vec![900, 1],
            ..Answer::default()
        });
        assert_eq!(client.add(1, 2), Err(CallError::Malformed));
    }

    #[test]
    fn a_call_with_an_empty_message_is_no_signal() {
        let endpoint = Endpoint::from_cptr(CPtr(1));
        let reply = Reply::from_cptr(CPtr(2));
        prepare(Answer {
            badge: Caller(4).badge(),
            ..Answer::default()
        });
        assert_eq!(endpoint.receive(reply).signal(), None);
        prepare(Answer {
            badge: 4,
            ..Answer::default()
        });
        assert_eq!(endpoint.receive(reply).signal(), Some(4));
        assert_eq!(take()[0].request.reply, CPtr(2));
    }

    #[test]
    fn a_signal_after_a_reply_is_told_by_its_badge_alone() {
        // The kernel leaves the descriptor of the reply in its register.
        prepare(Answer {
            badge: 4,
            words: vec![1, 42],
            ..Answer::default()
        });
        let message = Message::from_body(0, &[42]).unwrap();
        let received =
            Endpoint::from_cptr(CPtr(1)).reply_receive(Reply::from_cptr(CPtr(2)), &message);
        assert_eq!(received.signal(), Some(4));
    }

    #[test]
    fn polling_an_idle_endpoint_finds_nothing() {
        assert!(
            Endpoint::from_cptr(CPtr(1))
                .poll(Reply::from_cptr(CPtr(2)))
                .is_none()
        );
        assert_eq!(Notification::from_cptr(CPtr(3)).poll(), 0);
    }
}
