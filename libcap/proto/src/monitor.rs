//! What the monitor of a VM is told, and what it reports: configuration, buttons, status.
//!
//! Not a protocol: nobody calls a monitor. The shell hands a [`VmConfig`] to root, which puts it into
//! the monitor's start record as its arguments; signals go through root too
//! ([`signal`](struct@crate::root::Signal)). Guest memory is not in it: the monitor finds it as its
//! region `ram`.

use alloc::string::String;
use serde::{Deserialize, Serialize};

/// Bits of a monitor's `wake` that root passes on from whoever may manage.
pub mod button {
    /// The guest's power button is pressed.
    pub const POWER: u64 = 1 << 2;
    /// The guest's reset button is pressed.
    pub const RESET: u64 = 1 << 3;
    /// The machine is switched off at once.
    pub const STOP: u64 = 1 << 4;
}

/// A VM, as far as its monitor must know it. The longest one fits
/// [`ARGUMENT_BYTES_MAX`](crate::root::ARGUMENT_BYTES_MAX) because the shell limits its strings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmConfig {
    /// Its identifier.
    pub uuid: u128,
    /// Its name for people.
    pub alias: Option<String>,
    /// Virtual CPUs, 1 to 4.
    pub vcpus: u8,
    /// The kernel: a path in the boot archive.
    pub kernel: String,
    /// The initial RAM disk: a path in the boot archive.
    pub initrd: Option<String>,
    /// The kernel's command line, without an end.
    pub cmdline: String,
}

/// How a VM is: the number that its monitor reports to root.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VmStatus {
    /// Its memory is filled.
    Loading,
    /// It runs.
    Running,
    /// The configuration cannot be: the number of VCPUs, or what the manifest gives.
    BadConfiguration,
    /// The archive has no such kernel.
    NoKernel,
    /// The archive has no such RAM disk.
    NoInitrd,
    /// The kernel cannot be booted, or not in so little memory.
    BadKernel,
    /// The guest did something that its monitor cannot answer; the log says what.
    Failed,
}

impl VmStatus {
    /// Every status.
    pub const ALL: [Self; 7] = [
        Self::Loading,
        Self::Running,
        Self::BadConfiguration,
        Self::NoKernel,
        Self::NoInitrd,
        Self::BadKernel,
        Self::Failed,
    ];

    /// The number in the report; 0 stands for a monitor that has not reported yet.
    #[must_use]
    pub fn number(self) -> u32 {
        let position = Self::ALL.iter().position(|status| *status == self);
        position.map_or(0, |position| position as u32 + 1)
    }

    /// The status with this number.
    #[must_use]
    pub fn from_number(number: u32) -> Option<Self> {
        let position = usize::try_from(number.checked_sub(1)?).ok()?;
        Self::ALL.get(position).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_has_its_own_number() {
        for (index, status) in VmStatus::ALL.into_iter().enumerate() {
            assert_eq!(status.number(), index as u32 + 1);
            assert_eq!(VmStatus::from_number(status.number()), Some(status));
        }
        assert_eq!(VmStatus::from_number(0), None);
        assert_eq!(VmStatus::from_number(8), None);
    }

    /// A monitor and a shell of different builds must not meet, but a change of this form is to be
    /// seen.
    #[test]
    fn the_bytes_are_frozen() {
        let config = VmConfig {
            uuid: 300,
            alias: Some("web".into()),
            vcpus: 2,
            kernel: "/boot/k".into(),
            initrd: None,
            cmdline: "quiet".into(),
        };
        let bytes = postcard::to_allocvec(&config).unwrap();
        assert_eq!(bytes, b"\xac\x02\x01\x03web\x02\x07/boot/k\x00\x05quiet");
        assert_eq!(postcard::from_bytes(&bytes), Ok(config));
    }
}
