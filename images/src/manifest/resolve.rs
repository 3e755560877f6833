//! From names to indices, refusing whatever is wrong on the way.
//!
//! The checks of one program stand in [`program`], those between programs in [`wiring`].

mod program;
mod wiring;

use super::refusal::Refusal;
use super::source::{Device as SourceDevice, Source};
use super::{calls, quantity};
use proto::boot::{Callee, Device, Manifest, PortRange, Program, StartWhen};

/// Memory that root, the kernel and the kernel objects of the programs take, and that programs
/// cannot count on.
const SYSTEM_BYTES: u64 = 64 << 20;
/// Memory of a program beyond its heap and stacks: its image and its kernel objects. The largest
/// image has under 1 MiB.
const PROGRAM_BYTES: u64 = 2 << 20;
/// Names that capabilities and regions of every program already have.
const RESERVED: [&str; 6] = ["root", "self", "wake", "timer", "log", "boot"];

/// Checks `source` and resolves its names.
///
/// # Errors
/// The first [`Refusal`] found.
pub fn resolve(source: &Source) -> Result<Manifest, Refusal> {
    let program_names: Vec<&str> = source.program.iter().map(|p| p.name.as_str()).collect();
    let device_names: Vec<&str> = source.device.iter().map(|d| d.name.as_str()).collect();
    check_names("device", &device_names)?;
    check_names("program", &program_names)?;
    let devices = source
        .device
        .iter()
        .map(device)
        .collect::<Result<Vec<_>, _>>()?;
    check_overlaps(&devices)?;
    let resolved = source
        .program
        .iter()
        .map(|program| program::resolve(program, source));
    let programs = resolved.collect::<Result<Vec<_>, _>>()?;
    check_owners(&devices, &programs)?;
    check_calls(&programs)?;
    let channels = wiring::channels(source, &programs)?;
    wiring::check_bits(&programs, &devices, &channels)?;
    check_memory(source, &programs)?;
    Ok(Manifest {
        system: source.system.name.clone(),
        devices,
        programs,
        channels,
    })
}

fn check_names(what: &'static str, names: &[&str]) -> Result<(), Refusal> {
    for (index, name) in names.iter().enumerate() {
        if !is_good_name(name) || RESERVED.contains(name) {
            return Err(Refusal::BadName {
                what,
                name: (*name).to_owned(),
            });
        }
        if names[..index].contains(name) {
            return Err(Refusal::DuplicateName {
                what,
                name: (*name).to_owned(),
            });
        }
    }
    Ok(())
}

fn is_good_name(name: &str) -> bool {
    let letters = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.starts_with(|c: char| c.is_ascii_lowercase()) && name.chars().all(letters)
}

fn device(source: &SourceDevice) -> Result<Device, Refusal> {
    let name = source.name.clone();
    if source.ports.is_none() && source.interrupt.is_none() && !source.framebuffer {
        return Err(Refusal::EmptyDevice(name));
    }
    if let Some([first, last]) = source.ports.filter(|[first, last]| first > last) {
        return Err(Refusal::BackwardPorts {
            device: name,
            first,
            last,
        });
    }
    Ok(Device {
        name,
        ports: source.ports.map(|[first, last]| PortRange { first, last }),
        interrupt: source.interrupt,
        framebuffer: source.framebuffer,
    })
}

/// No port and no interrupt belongs to two devices.
fn check_overlaps(devices: &[Device]) -> Result<(), Refusal> {
    for (index, b) in devices.iter().enumerate() {
        for a in &devices[..index] {
            let what = if ports_overlap(a.ports, b.ports) {
                "a port"
            } else if a.interrupt.is_some() && a.interrupt == b.interrupt {
                "an interrupt"
            } else if a.framebuffer && b.framebuffer {
                "the frame buffer"
            } else {
                continue;
            };
            return Err(Refusal::Overlap {
                devices: [a.name.clone(), b.name.clone()],
                what,
            });
        }
    }
    Ok(())
}

fn ports_overlap(a: Option<PortRange>, b: Option<PortRange>) -> bool {
    a.zip(b)
        .is_some_and(|(a, b)| a.first <= b.last && b.first <= a.last)
}

/// Each device has one driver.
fn check_owners(devices: &[Device], programs: &[Program]) -> Result<(), Refusal> {
    for (index, device) in devices.iter().enumerate() {
        let grants = |program: &Program| {
            program
                .devices
                .iter()
                .filter(|grant| usize::from(grant.device) == index)
                .count()
        };
        let owners = programs.iter().flat_map(|program| {
            std::iter::repeat_n(
                &program.name,
                grants(program) * usize::from(program.instances),
            )
        });
        let owners: Vec<&String> = owners.take(2).collect();
        if let [a, b] = owners[..] {
            let owners = [a.clone(), b.clone()];
            return Err(Refusal::TwoOwners {
                device: device.name.clone(),
                owners,
            });
        }
    }
    Ok(())
}

/// Calls are free of cycles and end at programs that receive.
fn check_calls(programs: &[Program]) -> Result<(), Refusal> {
    let edges = call_edges(programs);
    if let Some(cycle) = calls::cycle(&edges) {
        let names = cycle.iter().map(|index| programs[*index].name.clone());
        return Err(Refusal::Cycle(names.collect()));
    }
    for (client, servers) in programs.iter().zip(&edges) {
        if let Some(server) = servers
            .iter()
            .find(|server| programs[**server].replies == 0)
        {
            return Err(Refusal::NotAServer {
                server: programs[*server].name.clone(),
                client: client.name.clone(),
            });
        }
    }
    Ok(())
}

/// Who calls whom, root left out.
#[must_use]
pub fn call_edges(programs: &[Program]) -> Vec<Vec<usize>> {
    let servers = |program: &Program| {
        let callee = |callee: &Callee| match callee {
            Callee::Root => None,
            Callee::Program(index) => Some(usize::from(*index)),
        };
        program.calls.iter().filter_map(callee).collect()
    };
    programs.iter().map(servers).collect()
}

/// What starts at boot fits in the smallest machine.
fn check_memory(source: &Source, programs: &[Program]) -> Result<(), Refusal> {
    let promised = quantity::size(&source.system.memory).ok_or_else(|| Refusal::OutOfRange {
        program: "system".to_owned(),
        key: "memory",
        value: format!("\"{}\"", source.system.memory),
        allowed: program::SIZE_FORM,
    })?;
    let at_boot = programs
        .iter()
        .filter(|program| program.start == StartWhen::AtBoot);
    let needed = at_boot
        .map(|p| PROGRAM_BYTES + p.heap_bytes + p.stack_bytes * u64::from(p.threads))
        .fold(SYSTEM_BYTES, u64::saturating_add);
    if needed > promised {
        return Err(Refusal::NotEnoughMemory { needed, promised });
    }
    Ok(())
}
