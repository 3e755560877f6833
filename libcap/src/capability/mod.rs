//! Capabilities as types: each kind of kernel object with the invocations that it has.
//!
//! A value of these types is a name (a capability pointer), not the capability: it can be
//! copied, and the capability dies by [`Slot::delete`]. Each method is one invocation; its
//! arguments are in the order of seL4's object reference and of docs/abi.md.

use core::num::NonZeroU64;

use proto::passing::{CapName, Passed, kind};
use proto::start::CapKind;
use sel4_sys::CPtr;

mod cnode;
mod interrupt;
mod io_port;
mod ipc;
mod memory;
mod paging;
mod scheduling;
mod thread;
mod virtual_machine;

pub use cnode::{CNode, Slot};
pub use interrupt::{IoApicPin, IrqControl, IrqHandler, MsiSource, Polarity, Trigger};
pub use io_port::{IoPort, IoPortControl};
pub use ipc::{Endpoint, Notification, Received, ReceivingEndpoint, Reply};
pub use memory::{Frame, Untyped};
pub use paging::{
    AsidControl, AsidPool, IoPageTable, IoSpace, PageDirectory, PageTable, Pdpt, VSpace,
};
pub use scheduling::{Cancelled, Refill, SchedContext, SchedControl, SchedParameters, Timer};
pub use thread::{Tcb, ThreadSpaces};
pub use virtual_machine::{GuestPageDirectory, GuestPageTable, GuestPdpt, GuestRoot, Vcpu};

/// A kind of capability that a program can be given by name.
pub trait Capability: Copy {
    /// What the start record calls it.
    const KIND: CapKind;

    /// The capability in slot `cptr`. The type is a claim that the kernel checks at each use.
    fn from_cptr(cptr: CPtr) -> Self;

    /// Where it is.
    fn cptr(self) -> CPtr;
}

/// Declares capability types.
macro_rules! capabilities {
    ($( $(#[$doc:meta])* $name:ident, )+) => {
        $(
            $(#[$doc])*
            #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
            pub struct $name(sel4_sys::CPtr);

            impl $name {
                /// The capability in slot `cptr`. The type is a claim that the kernel checks at
                /// each use.
                #[must_use]
                pub const fn from_cptr(cptr: sel4_sys::CPtr) -> Self {
                    Self(cptr)
                }

                /// Where it is.
                #[must_use]
                pub const fn cptr(self) -> sel4_sys::CPtr {
                    self.0
                }
            }
        )+
    };
}
use capabilities;

/// Ties capability types to their kinds in the start record.
macro_rules! kinds {
    ($( $name:ident, )+) => {
        $(
            impl Capability for $name {
                const KIND: CapKind = CapKind::$name;

                fn from_cptr(cptr: CPtr) -> Self {
                    $name::from_cptr(cptr)
                }

                fn cptr(self) -> CPtr {
                    $name::cptr(self)
                }
            }
        )+
    };
}

kinds! {
    Endpoint, Notification, Reply, Tcb, CNode, Untyped, Frame, VSpace, SchedContext, SchedControl,
    IrqHandler, IrqControl, IoPort, IoPortControl, IoSpace, AsidPool, AsidControl, Vcpu, GuestRoot,
    Timer,
}

/// Lets capability types go with messages, and come out of them.
macro_rules! passable {
    ($( $name:ident, )+) => {
        $(
            /// Lends it for a message; the receiver gets a copy.
            ///
            /// # Panics
            /// If it is the null capability.
            impl From<$name> for Passed<kind::$name> {
                fn from(cap: $name) -> Self {
                    let name = NonZeroU64::new(cap.cptr().0);
                    Self::lent(CapName(name.expect("a capability that exists")))
                }
            }

            /// Names a capability that was passed. It is there as long as the passed value is.
            impl From<&Passed<kind::$name>> for $name {
                fn from(passed: &Passed<kind::$name>) -> Self {
                    Self::from_cptr(CPtr(passed.name().0.get()))
                }
            }
        )+
    };
}

passable! { Endpoint, Notification, Frame, }
