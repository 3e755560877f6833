//! Resetting the machine and switching it off.
//!
//! Both are port writes; which ports, the chipset's custom or the ACPI tables say. What returns
//! has not worked.

use crate::acpi::{self, Physical, SoftOff};
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::resources::{Arena, Resources};
use crate::supervisor::{Files, Log, Supervisor};
use libcap::capability::IoPort;

/// The reset control register of PC chipsets: bit 1 chooses a hard reset, bit 2 does it.
const RESET_CONTROL: u16 = 0xcf9;
/// The keyboard controller, whose command 0xfe pulses the CPU's reset line.
const KEYBOARD_CONTROLLER: u16 = 0x64;
const PULSE_RESET: u8 = 0xfe;
/// PM1 control: bit 0 says that ACPI is enabled, bits 10..12 are the sleep type, bit 13 sleeps.
const ACPI_ENABLED: u16 = 1;
const SLEEP_TYPE_SHIFT: u32 = 10;
const SLEEP_ENABLE: u16 = 1 << 13;
/// How often the firmware is asked whether it has handed over; it takes milliseconds.
const ENABLE_POLLS: u32 = 10_000;

/// Resets the machine. Returns if it goes on regardless.
pub fn reset<K: Kernel, F: Files, L: Log>(system: &mut Supervisor<K, F, L>) {
    let write = |system: &mut Supervisor<K, F, L>, port, values: &[u8]| {
        let Ok(ports) = ports(system, port, port) else {
            return;
        };
        for value in values {
            // The next means is tried whether this one was refused or did nothing.
            let _ = system.resources.kernel.port_out8(ports, port, *value);
        }
    };
    write(system, RESET_CONTROL, &[0x02, 0x06]);
    write(system, KEYBOARD_CONTROLLER, &[PULSE_RESET]);
}

/// Switches the machine off. Returns if it cannot.
pub fn off<K: Kernel, F: Files, L: Log>(system: &mut Supervisor<K, F, L>) {
    let Some(rsdp) = system.machine.rsdp else {
        return;
    };
    let spare = system.fixed.spare;
    let found = acpi::soft_off(
        &rsdp,
        &mut Tables {
            resources: &mut system.resources,
            spare,
        },
    );
    if let Some(soft_off) = found {
        // A refusal is as good as a machine that stays on: the caller says so.
        let _ = sleep(system, soft_off);
    }
}

fn sleep<K: Kernel, F: Files, L: Log>(
    system: &mut Supervisor<K, F, L>,
    soft_off: SoftOff,
) -> Result<(), BuildError> {
    let (pm1a, _) = soft_off.pm1a;
    let control = ports(system, pm1a, pm1a + 1)?;
    if let Some((port, value)) = soft_off.enable
        && system.resources.kernel.port_in16(control, pm1a)? & ACPI_ENABLED == 0
    {
        let command = ports(system, port, port)?;
        system.resources.kernel.port_out8(command, port, value)?;
        for _ in 0..ENABLE_POLLS {
            if system.resources.kernel.port_in16(control, pm1a)? & ACPI_ENABLED != 0 {
                break;
            }
        }
    }
    for (port, sleep_type) in [Some(soft_off.pm1a), soft_off.pm1b].into_iter().flatten() {
        let control = if port == pm1a {
            control
        } else {
            ports(system, port, port + 1)?
        };
        let value = SLEEP_ENABLE | u16::from(sleep_type) << SLEEP_TYPE_SHIFT;
        system.resources.kernel.port_out16(control, port, value)?;
    }
    Ok(())
}

/// The capability to a range of ports: a driver's, of which root holds the original, or a new one.
fn ports<K: Kernel, F: Files, L: Log>(
    system: &mut Supervisor<K, F, L>,
    first: u16,
    last: u16,
) -> Result<IoPort, BuildError> {
    let Supervisor {
        resources,
        manifest,
        fixed,
        ..
    } = system;
    let holds = manifest
        .devices
        .iter()
        .zip(&fixed.devices)
        .find_map(|(device, caps)| {
            device
                .ports
                .filter(|ports| ports.first <= first && last <= ports.last)?;
            caps.ports
        });
    let slot = match holds {
        Some(slot) => slot,
        None => {
            let slot = resources.cspace.take(1)?;
            resources
                .kernel
                .issue_ports(first, last, resources.cspace.slot(slot))?;
            slot
        }
    };
    Ok(IoPort::from_cptr(resources.cspace.cptr(slot)))
}

/// Firmware tables, read page by page out of device memory.
struct Tables<'a, K> {
    resources: &'a mut Resources<K>,
    spare: u64,
}

impl<K: Kernel> Physical for Tables<'_, K> {
    fn read(&mut self, paddr: u64, bytes: &mut [u8]) -> Option<()> {
        let mut rest = bytes;
        let mut at = paddr;
        while !rest.is_empty() {
            let offset = (at % 4096) as usize;
            let count = rest.len().min(4096 - offset);
            let (part, next) = rest.split_at_mut(count);
            let mut arena = Arena::default();
            let read = self.read_page(&mut arena, at - offset as u64, offset, part);
            arena.give_back(self.resources).ok()?;
            read.ok()?;
            rest = next;
            at = at.checked_add(count as u64)?;
        }
        Some(())
    }
}

impl<K: Kernel> Tables<'_, K> {
    fn read_page(
        &mut self,
        arena: &mut Arena,
        page: u64,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), BuildError> {
        let pages = arena.make_device_pages(self.resources, page, 4096)?;
        let (_, slot) = *pages.first().ok_or(BuildError::NoSuchMemory)?;
        let cspace = &self.resources.cspace;
        let (frame, spare) = (cspace.slot(slot), cspace.slot(self.spare));
        self.resources
            .kernel
            .read_frame(frame, spare, offset, bytes)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::supervisor::tests::system;

    #[test]
    fn a_reset_tries_the_chipset_and_then_the_keyboard_controller() {
        let (mut system, _) = system();
        reset(&mut system);
        let writes = &system.resources.kernel.port_writes;
        assert_eq!(*writes, [(0xcf9, 2), (0xcf9, 6), (0x64, 0xfe)]);
    }

    #[test]
    fn sleeping_enables_acpi_first_and_sets_both_registers() {
        let (mut system, _) = system();
        let soft_off = SoftOff {
            enable: Some((0xb2, 2)),
            pm1a: (0x604, 5),
            pm1b: Some((0x704, 1)),
        };
        sleep(&mut system, soft_off).unwrap();
        let writes = &system.resources.kernel.port_writes;
        assert_eq!(*writes, [(0xb2, 2), (0x604, 0x3400), (0x704, 0x2400)]);
    }

    #[test]
    fn a_machine_without_tables_stays_on() {
        let (mut system, _) = system();
        off(&mut system);
        system.machine.rsdp = Some([0; 36]);
        off(&mut system);
        assert_eq!(system.resources.kernel.port_writes, []);
    }

    #[test]
    fn a_drivers_ports_are_used_through_its_own_capability() {
        let (mut system, _) = system();
        let free = system.resources.cspace.free();
        ports(&mut system, 0x3f9, 0x3f9).unwrap();
        assert_eq!(system.resources.cspace.free(), free);
        ports(&mut system, 0x60, 0x60).unwrap();
        assert_eq!(system.resources.cspace.free(), free - 1);
    }
}
