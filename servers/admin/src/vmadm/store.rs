//! Where VMs are kept.
//!
//! For now in the shell's memory; a pool will take its place behind the same trait. What runs is not
//! kept here twice: a record names the process of its monitor, and root says what that does.

use alloc::vec::Vec;

use proto::root::Pid;

use super::settings::Settings;
use super::uuid::Uuid;

/// How the last run of a VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRun {
    /// There was none, or it ended as somebody wanted.
    Ended,
    /// It failed.
    Failed,
}

/// What a VM is on its way to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transition {
    /// It is to stop; at this time since boot, in microseconds, it is stopped by force.
    Stop(u64),
    /// As `Stop`, and then to start again.
    Reboot(u64),
}

/// A VM that has a monitor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// The monitor's process.
    pub pid: Pid,
    /// The monitor's instance number, which is also its console's.
    pub instance: u16,
    /// Where it is going.
    pub transition: Option<Transition>,
}

/// One VM.
#[derive(Clone, Debug, PartialEq)]
pub struct VmRecord {
    /// What it is to be.
    pub settings: Settings,
    /// Its monitor, while it has one.
    pub run: Option<Run>,
    /// How the last run ended.
    pub last_run: LastRun,
}

/// Keeps VMs.
pub trait VmStore {
    /// All of them, in the order in which they were created.
    fn all(&self) -> &[VmRecord];
    /// One of them.
    fn find(&self, uuid: Uuid) -> Option<&VmRecord> {
        self.all().iter().find(|vm| vm.settings.uuid == uuid)
    }
    /// One of them, to change it.
    fn find_mut(&mut self, uuid: Uuid) -> Option<&mut VmRecord>;
    /// Adds one, whose identifier no other has.
    fn add(&mut self, vm: VmRecord);
    /// Forgets one.
    fn remove(&mut self, uuid: Uuid);
}

/// A store that lasts as long as the shell.
#[derive(Debug, Default)]
pub struct MemoryStore {
    vms: Vec<VmRecord>,
}

impl VmStore for MemoryStore {
    fn all(&self) -> &[VmRecord] {
        &self.vms
    }

    fn find_mut(&mut self, uuid: Uuid) -> Option<&mut VmRecord> {
        self.vms.iter_mut().find(|vm| vm.settings.uuid == uuid)
    }

    fn add(&mut self, vm: VmRecord) {
        self.vms.push(vm);
    }

    fn remove(&mut self, uuid: Uuid) {
        self.vms.retain(|vm| vm.settings.uuid != uuid);
    }
}
