//! Everything outside of the shell, as one argument.
//!
//! The shell reaches root and the console through their protocols' clients; on the host the same
//! clients talk to fakes. Time comes from root's answers and the console's timeouts.

use proto::boot::Archive;
use proto::console::ConsoleClient;
use proto::protocol::Transport;
use proto::root::RootClient;

use crate::vmadm::store::VmStore;

/// What the shell runs on.
pub trait Machine {
    /// What carries calls to root.
    type Root: Transport;
    /// What carries calls to the console server.
    type Console: Transport;
    /// Where VMs are kept.
    type Store: VmStore;

    /// The root task.
    fn root(&self) -> &RootClient<Self::Root>;
    /// The console server.
    fn console(&self) -> &ConsoleClient<Self::Console>;
    /// The files that the system was booted with.
    fn archive(&self) -> &Archive<'_>;
    /// The VMs.
    fn vms(&mut self) -> &mut Self::Store;
    /// Bits that nobody can guess, for identifiers.
    fn random(&mut self) -> u128;
}
