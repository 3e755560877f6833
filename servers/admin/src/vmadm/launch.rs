//! The way between a VM's settings and what its monitor is told.
//!
//! Back as well as forth: a shell that was restarted learns from the monitors that run which VMs there
//! are. What the monitor need not know is lost then, until a pool keeps it.

use alloc::format;
use alloc::vec::Vec;

use proto::monitor::VmConfig;
use proto::root::ARGUMENT_BYTES_MAX;

use super::properties::MAX_VCPUS;
use super::settings::{Metadata, Settings};
use super::uuid::Uuid;
use crate::failure::Failure;

/// The arguments of the monitor of a VM.
///
/// # Errors
/// Alias, paths and command line together are too long for a message.
pub fn arguments(settings: &Settings) -> Result<Vec<u8>, Failure> {
    let config = VmConfig {
        uuid: settings.uuid.bits(),
        alias: settings.alias.clone(),
        vcpus: vcpus(settings.vcpus),
        kernel: settings.kernel.clone(),
        initrd: settings.initrd.clone(),
        cmdline: settings.cmdline.clone().unwrap_or_default(),
    };
    let bytes = postcard::to_allocvec(&config).ok();
    bytes
        .filter(|bytes| bytes.len() <= ARGUMENT_BYTES_MAX)
        .ok_or_else(|| {
            Failure::Failed(format!(
                "alias, kernel, initrd and cmdline have more than {ARGUMENT_BYTES_MAX} bytes"
            ))
        })
}

const _: () = assert!(MAX_VCPUS <= u8::MAX as u64);

fn vcpus(count: u64) -> u8 {
    // Within the limit by the check of the payload.
    u8::try_from(count).unwrap_or(u8::MAX)
}

/// The settings of a VM that runs, from its monitor's arguments and guest memory; `None` if the arguments
/// are not what a shell would give.
pub fn settings(arguments: &[u8], guest_bytes: u64) -> Option<Settings> {
    let (config, rest): (VmConfig, &[u8]) = postcard::take_from_bytes(arguments).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(Settings {
        uuid: Uuid::from_bits(config.uuid),
        alias: config.alias,
        hostname: None,
        autoboot: true,
        ram_mib: guest_bytes / (1024 * 1024),
        vcpus: u64::from(config.vcpus),
        kernel: config.kernel,
        initrd: config.initrd,
        cmdline: Some(config.cmdline).filter(|cmdline| !cmdline.is_empty()),
        owner_uuid: Uuid::NIL,
        billing_id: Uuid::NIL,
        tags: Metadata::new(),
        customer_metadata: Metadata::new(),
        internal_metadata: Metadata::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vmadm::settings::parse;
    use proptest::prelude::*;

    fn with_alias(alias: &str) -> Settings {
        let payload = format!(
            r#"{{"brand":"bhyve","alias":"{alias}","kernel":"/boot/k","initrd":"/boot/i",
                "cmdline":"{}","ram":512,"vcpus":4}}"#,
            "c".repeat(512)
        );
        parse(payload.as_bytes(), Uuid::from_bits(7), |_| true).unwrap()
    }

    #[test]
    fn a_running_vm_is_known_again() {
        let before = with_alias("web");
        let bytes = arguments(&before).unwrap();
        assert_eq!(settings(&bytes, 512 << 20), Some(before));
    }

    #[test]
    fn settings_that_fit_no_message_are_refused() {
        assert!(arguments(&with_alias(&"a".repeat(253))).is_ok());
        let mut long = with_alias("web");
        long.kernel = "k".repeat(400);
        assert!(arguments(&long).is_err());
    }

    proptest! {
        #[test]
        fn any_arguments_are_read_or_refused(
            bytes in proptest::collection::vec(any::<u8>(), 0..100),
            guest_bytes in any::<u64>(),
        ) {
            let _ = settings(&bytes, guest_bytes);
        }
    }
}
