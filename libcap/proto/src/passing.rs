//! Capabilities that go with a message, beside its bytes.
//!
//! Owns the value that stands for such a capability: [`Attached`] in a message, [`Passed`] where its
//! kind is known. A capability that was received owns the slot that it landed in: with the last copy of
//! the value the capability is deleted. So whoever refuses a message, or forgets it, leaves nothing
//! behind. Which slot that is, and how the kernel is asked, is the [`Keeper`]'s business; `libcap`
//! has the kernel's.

use alloc::sync::Arc;
use core::fmt;
use core::marker::PhantomData;
use core::num::NonZeroU64;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::message::{Malformed, Message};
use crate::protocol::Reply;
use crate::start::CapKind;

/// Most capabilities of a message: the kernel moves one into the receive slot and no second.
pub const CAPS_MAX: usize = 1;

/// Where a capability is in its holder's own capability space. Never 0, which is no capability, and
/// never in the bytes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct CapName(
    /// The capability pointer.
    pub NonZeroU64,
);

/// Kinds of capabilities that messages can carry, as types.
pub mod kind {
    use crate::start::CapKind;

    /// A kind of capability that a message can carry.
    pub trait Passable: 'static {
        /// The kind as a value.
        const KIND: CapKind;
    }

    macro_rules! passable {
        ($( $(#[$doc:meta])* $name:ident, )+) => {
            $(
                $(#[$doc])*
                #[derive(Debug, Clone, Copy, PartialEq, Eq)]
                pub enum $name {}

                impl Passable for $name {
                    const KIND: CapKind = CapKind::$name;
                }
            )+
        };
    }

    passable! {
        /// The way to a server.
        Endpoint,
        /// A bell of the sender's.
        Notification,
        /// Memory.
        Frame,
    }
}
use kind::Passable;

/// Who holds received capabilities, and deletes those that nobody needs any more.
pub trait Keeper: Send + Sync {
    /// Deletes the capability; its slot may receive the next.
    fn discard(&self, name: CapName);
}

/// A received capability that is still held.
struct Landed {
    name: CapName,
    keeper: Arc<dyn Keeper>,
}

impl Drop for Landed {
    fn drop(&mut self) {
        self.keeper.discard(self.name);
    }
}

/// A capability with a message.
#[derive(Clone)]
pub struct Attached {
    name: CapName,
    kind: CapKind,
    /// The hold on it, if it was received; what is lent stays its sender's.
    #[expect(dead_code, reason = "it does its work when it is dropped")]
    landed: Option<Arc<Landed>>,
}

impl Attached {
    /// A capability of the sender's: the receiver gets a copy.
    #[must_use]
    pub const fn lent(name: CapName, kind: CapKind) -> Self {
        Self {
            name,
            kind,
            landed: None,
        }
    }

    /// A capability that arrived, and is `keeper`'s to delete.
    #[must_use]
    pub fn received(name: CapName, kind: CapKind, keeper: Arc<dyn Keeper>) -> Self {
        Self {
            name,
            kind,
            landed: Some(Arc::new(Landed { name, keeper })),
        }
    }

    /// Where it is.
    #[must_use]
    pub const fn name(&self) -> CapName {
        self.name
    }

    /// What it is: as the sender says, or as the receiver's kernel said.
    #[must_use]
    pub const fn kind(&self) -> CapKind {
        self.kind
    }

    /// The capability as one of kind `K`.
    ///
    /// # Errors
    /// It is of another kind.
    pub fn typed<K: Passable>(&self) -> Result<Passed<K>, Malformed> {
        if self.kind != K::KIND {
            return Err(Malformed);
        }
        Ok(Passed {
            cap: self.clone(),
            kind: PhantomData,
        })
    }
}

/// Where it is and what it is; whose hold it is does not count.
impl PartialEq for Attached {
    fn eq(&self, other: &Self) -> bool {
        (self.name, self.kind) == (other.name, other.kind)
    }
}

impl Eq for Attached {}

impl fmt::Debug for Attached {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:?} {:#x}", self.kind, self.name.0)
    }
}

/// A capability of kind `K` that goes with a request or a reply.
///
/// A server that got one holds it as long as it keeps this value. The kernel said what kind it is,
/// but whoever gave it can take it back at any time.
pub struct Passed<K> {
    cap: Attached,
    kind: PhantomData<fn() -> K>,
}

impl<K: Passable> Passed<K> {
    /// A capability of the sender's.
    #[must_use]
    pub const fn lent(name: CapName) -> Self {
        Self {
            cap: Attached::lent(name, K::KIND),
            kind: PhantomData,
        }
    }
}

impl<K> Passed<K> {
    /// Where it is.
    #[must_use]
    pub const fn name(&self) -> CapName {
        self.cap.name
    }

    /// The capability as it goes with a message.
    #[must_use]
    pub fn attached(&self) -> Attached {
        self.cap.clone()
    }
}

impl<K> Clone for Passed<K> {
    fn clone(&self) -> Self {
        Self {
            cap: self.cap.clone(),
            kind: PhantomData,
        }
    }
}

impl<K> PartialEq for Passed<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cap == other.cap
    }
}

impl<K> Eq for Passed<K> {}

impl<K> fmt::Debug for Passed<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cap.fmt(formatter)
    }
}

/// A reply with a capability of kind `K`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WithCap<T, K> {
    /// What is in the bytes.
    pub value: T,
    /// What is beside them.
    pub cap: Passed<K>,
}

impl<T, K> Reply for WithCap<T, K>
where
    T: Serialize + DeserializeOwned + fmt::Debug + PartialEq,
    K: Passable + fmt::Debug + PartialEq,
{
    const CAP: Option<CapKind> = Some(K::KIND);

    fn encode(&self, label: u64) -> Result<Message, Malformed> {
        Ok(Message::encode(label, &self.value)?.with_cap(self.cap.attached()))
    }

    fn decode(message: &Message) -> Result<Self, Malformed> {
        let cap = message.cap().ok_or(Malformed)?.typed()?;
        let value = message.decode_body()?;
        Ok(Self { value, cap })
    }
}
