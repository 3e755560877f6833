//! Protocol `Doorbell`: a server that rings its clients' bells and keeps one for them.
//!
//! The system tests pass capabilities with it in both directions, and it is the example for declaring
//! that; [`crate::echo`] is the one for bytes.

use crate::passing::{WithCap, kind};
use crate::protocol::protocol;

/// Most times that [`Ring`] rings: nobody waits long for the server.
pub const TIMES_MAX: u32 = 1000;

protocol! {
    /// Rings bells and keeps one.
    protocol Doorbell { client DoorbellClient, server DoorbellServer, request DoorbellRequest }

    /// Why the server refuses.
    error DoorbellError {
        /// That is more often than the server rings.
        TooOften,
        /// There is no bell to give.
        NothingKept,
    }

    /// Signals `bell` so many times.
    1 Ring = fn ring(times: u32; bell: Notification) -> ();

    /// Keeps `bell`, in place of the one kept before.
    2 Keep = fn keep(; bell: Notification) -> ();

    /// Gives the bell that is kept, with how often it was rung.
    3 Give = fn give() -> WithCap<u32, kind::Notification>;

    /// Signals the bell that is kept.
    4 RingKept = fn ring_kept() -> ();
}
