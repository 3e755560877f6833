//! A whole server: it gives back what it is given, and waits without making others wait.
//!
//! docs/libcap.md explains it line by line. The system tests measure a call with it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::vec::Vec;

use libcap::executor::{Executor, Reactor};
use libcap::{Env, log};
use proto::echo::{Echo, EchoError, EchoServer};
use proto::protocol::Caller;

/// Longest wait that the server takes on.
const WAIT_US_MAX: u64 = 60_000_000;

struct Server<'r> {
    reactor: &'r Reactor,
    tsc_khz: u64,
}

impl EchoServer for Server<'_> {
    async fn repeat(&self, _: Caller, bytes: Vec<u8>) -> Result<Vec<u8>, EchoError> {
        Ok(bytes)
    }

    async fn add(&self, _: Caller, left: u64, right: u64) -> Result<u64, EchoError> {
        left.checked_add(right).ok_or(EchoError::Overflow)
    }

    async fn wait(&self, _: Caller, delay_us: u64) -> Result<(), EchoError> {
        if delay_us > WAIT_US_MAX {
            return Err(EchoError::TooLong);
        }
        let ticks = delay_us * self.tsc_khz / 1000;
        self.reactor.sleep_until(self.reactor.now() + ticks).await;
        Ok(())
    }

    async fn who_am_i(&self, caller: Caller) -> Result<u64, EchoError> {
        Ok(caller.0)
    }
}

libcap::program!(main);

fn main(mut env: Env) -> ! {
    log!("{} serves", env.program());
    let reactor = Reactor::new();
    let server = Server {
        reactor: &reactor,
        tsc_khz: env.tsc_khz(),
    };
    Executor::new(&reactor, env.events()).serve::<Echo, _>(&server)
}
