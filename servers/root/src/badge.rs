//! Badges: who is behind a message that root receives.
//!
//! Bit 63 marks a caller (`proto::protocol::CALLER_BIT`), bit 62 a fault; anything else is a
//! signal of root's own notification.

use proto::protocol::{CALLER_BIT, Caller};
use proto::root::Pid;

/// Set in the badge of a fault endpoint.
const FAULT_BIT: u64 = 1 << 62;
/// Bits of a thread's number in a fault badge.
const THREAD_BITS: u32 = 16;
/// Bits of an instance number in a caller's number.
const INSTANCE_BITS: u32 = 16;

/// What a badge says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sender {
    /// A program calls.
    Client {
        /// Its index in the manifest.
        program: u16,
        /// Its instance.
        instance: u16,
    },
    /// A thread faulted.
    Faulter {
        /// Its run.
        pid: Pid,
        /// Its number.
        thread: u16,
    },
    /// A signal, with these bits.
    Signal(u64),
}

/// How an instance of a program is known to the servers that it calls.
#[must_use]
pub const fn caller(program: u16, instance: u16) -> Caller {
    Caller((program as u64) << INSTANCE_BITS | instance as u64)
}

/// Badge of the fault endpoint of a thread.
#[must_use]
pub const fn fault(pid: Pid, thread: u16) -> u64 {
    FAULT_BIT | (pid as u64) << THREAD_BITS | thread as u64
}

/// Who sent a message with this badge.
#[must_use]
pub const fn sender(badge: u64) -> Sender {
    if badge & CALLER_BIT != 0 {
        let (program, instance) = client(Caller::from_badge(badge));
        Sender::Client { program, instance }
    } else if badge & FAULT_BIT != 0 {
        let pid = ((badge & !FAULT_BIT) >> THREAD_BITS) as Pid;
        Sender::Faulter {
            pid,
            thread: badge as u16,
        }
    } else {
        Sender::Signal(badge)
    }
}

/// Program and instance of a caller.
#[must_use]
pub const fn client(caller: Caller) -> (u16, u16) {
    ((caller.0 >> INSTANCE_BITS) as u16, caller.0 as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn senders_are_told_apart() {
        let client = Sender::Client {
            program: 2,
            instance: 7,
        };
        assert_eq!(sender(caller(2, 7).badge()), client);
        let faulter = Sender::Faulter {
            pid: u32::MAX,
            thread: 31,
        };
        assert_eq!(sender(fault(u32::MAX, 31)), faulter);
        assert_eq!(sender(0b101), Sender::Signal(0b101));
    }
}
