//! Protocol `Echo`: a server that gives back what it was given.
//!
//! The system tests measure a call with it, and it is the example for declaring a protocol.

use alloc::vec::Vec;

use crate::protocol::protocol;

/// Most bytes that [`Repeat`] takes: its length stands in front of them in the message.
pub const REPEAT_BYTES_MAX: usize = crate::message::BODY_BYTES_MAX - 2;

protocol! {
    /// Gives back what it was given.
    protocol Echo { client EchoClient, server EchoServer, request EchoRequest }

    /// Why the server refuses.
    error EchoError {
        /// The sum is larger than the largest number.
        Overflow,
        /// The delay is longer than the server waits.
        TooLong,
    }

    /// Gives the bytes back.
    1 Repeat = fn repeat(bytes: Vec<u8>) -> Vec<u8>;

    /// Adds two numbers.
    2 Add = fn add(left: u64, right: u64) -> u64;

    /// Replies after a while; others are served meanwhile.
    3 Wait = fn wait(delay_us: u64) -> ();

    /// The caller's badge, as the server sees it.
    4 WhoAmI = fn who_am_i() -> u64;
}
