//! Every message of the system, one module per server.
//!
//! Owns the form of everything that one program says to another: the protocols, the record that
//! a program starts with ([`start`]) and the boot archive ([`boot`]). Its neighbours are the
//! servers, which implement the traits, and `libcap`, which carries the messages. It is separate
//! so that a client depends on what a server says and never on the server.
//!
//! # Declaring a protocol
//!
//! A protocol is one module `src/<server>.rs` with one `protocol!` in it ([`echo`] is the
//! example, and [`doorbell`] the one with capabilities):
//!
//! ```text
//! protocol! {
//!     /// What the server is for.
//!     protocol Disk { client DiskClient, server DiskServer, request DiskRequest }
//!
//!     /// Why it refuses.
//!     error DiskError {
//!         /// No such sector.
//!         OutOfRange,
//!     }
//!
//!     /// The number of sectors.
//!     1 Capacity = fn capacity() -> u64;
//!
//!     /// Sends `count` sectors into the ring.
//!     2 Read = fn read(first: u64, count: u32) -> u32;
//! }
//! ```
//!
//! Behind the arguments, after a semicolon, stands the capability that goes with a request, and a
//! reply with one is a [`passing::WithCap`]:
//!
//! ```text
//!     /// Signals `bell` when the sectors are there; the frame is the caller's to map.
//!     3 Watch = fn watch(first: u64; bell: Notification) -> WithCap<u32, kind::Frame>;
//! ```
//!
//! What follows from it:
//!
//! - `DiskClient::new(transport)` with one method for each operation, returning
//!   `Result<Reply, CallError<DiskError>>`. On the kernel the transport is `libcap`'s
//!   `Endpoint`; under `cargo test` it is a [`host::HostChannel`].
//! - the same methods as futures, with `DiskClient::new(Awaited(transport))`, whose transport is one
//!   of `libcap`'s calling threads; and again a host channel.
//! - trait `DiskServer`: `async fn read(&self, caller: Caller, first: u64, count: u32) ->
//!   Result<u32, DiskError>`. A method may wait (`.await`); the executor of `libcap` keeps its
//!   reply object with it and serves others meanwhile. State is behind `&self`, in cells.
//! - `impl Serve<Disk>` for every `DiskServer`, which [`protocol::dispatch`] uses.
//!
//! Rules: numbers rise and are never used again; error variants are only ever appended;
//! argument types are plain data (`serde`), own what they hold, and use `serde(with)` nowhere.
//! A request and a reply have at most [`message::BODY_BYTES_MAX`] bytes, so lists are asked for in
//! parts and bulk data goes through a ring. Capabilities are never numbers in a message: they stand
//! beside its bytes, at most one in each direction, of exactly the declared kind.
//!
//! Every protocol has a function in `tests/wire.rs` that gives one exchange for each operation;
//! the bytes are frozen in `tests/wire/<protocol>.hex`, and the same test feeds the decoders
//! random and damaged bytes. A test fails for a protocol that is not listed there.
#![cfg_attr(not(test), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

mod body;
pub mod boot;
pub mod console;
pub mod doorbell;
pub mod echo;
pub mod host;
pub mod message;
pub mod monitor;
pub mod passing;
pub mod protocol;
pub mod root;
pub mod start;

pub use message::{Malformed, Message};
pub use protocol::{CallError, Caller, Serve, Transport};
