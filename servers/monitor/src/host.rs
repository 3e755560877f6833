//! What a virtual machine needs from the system around it: time, sleep, timers, a console.
//!
//! On Tessera these are the kernel's timers and notifications and a byte ring; in tests they are
//! plain values. The virtual machine calls nothing else.

use crate::time::Ticks;

/// The system around one VM. Called by all of its threads.
pub trait Host {
    /// Machine time.
    fn now(&self) -> Ticks;

    /// Machine time at which the host's TSC is zero, negated: what is added to the host's TSC to
    /// give the guest's.
    fn tsc_offset(&self) -> u64;

    /// Makes VCPU `index`'s thread return from the guest or from [`Host::sleep`].
    fn wake(&self, index: usize);

    /// Sleeps as VCPU `index`'s thread, until woken or until its timer fires. May return early.
    fn sleep(&self, index: usize);

    /// Wakes VCPU `index`'s thread at `deadline`. Replaces an earlier call.
    fn set_vcpu_timer(&self, index: usize, deadline: Ticks);

    /// Wakes the service thread at `deadline`. Replaces an earlier call. Called with the machine
    /// locked, so that the last call is the last decision.
    fn set_platform_timer(&self, deadline: Ticks);

    /// Wakes the service thread now.
    fn wake_service(&self);

    /// Sends a byte to the console; false if there is no room now. Called with the machine
    /// locked, so one at a time.
    fn write_console(&self, byte: u8) -> bool;

    /// Bytes were written: tell the console. Called without the lock.
    fn flush_console(&self);

    /// A byte from the console, if one waits. Called with the machine locked.
    fn read_console(&self) -> Option<u8>;
}
