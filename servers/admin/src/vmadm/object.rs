//! A VM as vmadm shows it: its settings, its state, and what follows from them, in vmadm's order.

use alloc::string::{String, ToString};

use serde::Serialize;
use serde_json::Value;

use super::settings::{BRAND, Metadata};
use super::store::{LastRun, Transition, VmRecord};
use super::uuid::Uuid;

/// vmadm's short name of the brand, in column `type`.
const TYPE: &str = "BHYV";

/// vmadm's states that a VM can be in here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VmState {
    /// It runs.
    Running,
    /// It was asked to stop and still runs.
    Stopping,
    /// It does not run.
    Stopped,
    /// Its monitor could not go on.
    Failed,
}

impl VmState {
    /// The state that a record is in.
    pub fn of(vm: &VmRecord) -> Self {
        match (&vm.run, vm.last_run) {
            (Some(run), _) if run.transition.is_some() => Self::Stopping,
            (Some(_), _) => Self::Running,
            (None, LastRun::Ended) => Self::Stopped,
            (None, LastRun::Failed) => Self::Failed,
        }
    }

    /// vmadm's name of it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Stopping => "stopping",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
        }
    }

    /// The name of the zone's state behind it.
    fn zone_state(self) -> &'static str {
        match self {
            Self::Running | Self::Stopping => "running",
            Self::Stopped | Self::Failed => "installed",
        }
    }
}

/// The JSON object of a VM. Field order is the order of output.
#[derive(Clone, Debug, Serialize)]
pub struct VmObject<'r> {
    zonename: Uuid,
    uuid: Uuid,
    brand: &'static str,
    r#type: &'static str,
    hvm: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    alias: Option<&'r str>,
    hostname: String,
    state: &'static str,
    zone_state: &'static str,
    autoboot: bool,
    ram: u64,
    vcpus: u64,
    kernel: &'r str,
    #[serde(skip_serializing_if = "Option::is_none")]
    initrd: Option<&'r str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cmdline: Option<&'r str>,
    owner_uuid: Uuid,
    billing_id: Uuid,
    tags: &'r Metadata,
    customer_metadata: &'r Metadata,
    internal_metadata: &'r Metadata,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    transition_to: Option<&'static str>,
    v: u8,
}

impl<'r> VmObject<'r> {
    /// The object of a record.
    pub fn new(vm: &'r VmRecord) -> Self {
        let settings = &vm.settings;
        let state = VmState::of(vm);
        let transition = vm.run.and_then(|run| run.transition);
        Self {
            zonename: settings.uuid,
            uuid: settings.uuid,
            brand: BRAND,
            r#type: TYPE,
            hvm: true,
            alias: settings.alias.as_deref(),
            hostname: settings
                .hostname
                .clone()
                .unwrap_or_else(|| settings.uuid.to_string()),
            state: state.name(),
            zone_state: state.zone_state(),
            autoboot: settings.autoboot,
            ram: settings.ram_mib,
            vcpus: settings.vcpus,
            kernel: &settings.kernel,
            initrd: settings.initrd.as_deref(),
            cmdline: settings.cmdline.as_deref(),
            owner_uuid: settings.owner_uuid,
            billing_id: settings.billing_id,
            tags: &settings.tags,
            customer_metadata: &settings.customer_metadata,
            internal_metadata: &settings.internal_metadata,
            pid: vm.run.map(|run| run.pid),
            transition_to: transition.map(|transition| match transition {
                Transition::Stop(_) => "stopped",
                Transition::Reboot(_) => "start",
            }),
            v: 1,
        }
    }

    /// The object as text with two blanks per level, as vmadm prints it.
    pub fn to_json(&self) -> String {
        // Serializing plain data with string keys cannot fail.
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// The object as a value to look things up in.
    pub fn to_value(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}
