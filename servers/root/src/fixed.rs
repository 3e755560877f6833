//! What outlives the runs of programs: endpoints, notifications, rings, device capabilities, the
//! boot archive.
//!
//! A peer's capabilities to these stay valid when a program is built anew, so a client's endpoint
//! leads to the next run, and a notification that came while nobody ran is not lost.

use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::machine::{Framebuffer, Module};
use crate::resources::{Arena, Resources};
use alloc::vec::Vec;
use proto::boot::{Callee, Channel, ChannelKind, Device, Manifest};
use sel4_sys::ObjectType;

const PAGE: u64 = 4096;

/// Frames of a range of physical memory.
#[derive(Debug, Default)]
pub struct DeviceMemory {
    /// First physical address, of a whole page.
    pub paddr: u64,
    /// Bytes, whole pages.
    pub bytes: u64,
    /// Size in bits and slot of each frame, by rising address.
    pub pages: Vec<(u32, u64)>,
}

/// Capabilities to one device, from which drivers get copies.
#[derive(Debug, Default)]
pub struct DeviceCaps {
    /// Its I/O ports.
    pub ports: Option<u64>,
    /// Its interrupt.
    pub interrupt: Option<u64>,
    /// Its memory.
    pub memory: Option<DeviceMemory>,
}

/// The rings of one channel, for one instance of the program that asked for it.
#[derive(Debug, Clone, Copy)]
pub struct Rings {
    /// Frame of the ring from `from` to `to`.
    pub forward: u64,
    /// Frame of the ring back; a log has none.
    pub backward: Option<u64>,
}

/// Everything that outlives runs.
#[derive(Debug, Default)]
pub struct Fixed {
    /// Endpoint of each program that serves.
    pub endpoints: Vec<Option<u64>>,
    /// Notification of each instance of each program.
    pub wakes: Vec<Vec<u64>>,
    /// Rings of each channel, for each instance of the program that asked.
    pub rings: Vec<Vec<Rings>>,
    /// Capabilities of each device.
    pub devices: Vec<DeviceCaps>,
    /// The boot archive.
    pub archive: DeviceMemory,
    /// Root's own endpoint.
    pub root_endpoint: u64,
    /// Root's own notification.
    pub root_wake: u64,
    /// The scratch slot for reading a frame.
    pub spare: u64,
}

impl Fixed {
    /// Makes everything for `manifest`. The archive's memory must be mapped nowhere else.
    ///
    /// # Errors
    /// Any of building's.
    pub fn new<K: Kernel>(
        arena: &mut Arena,
        resources: &mut Resources<K>,
        manifest: &Manifest,
        archive: DeviceMemory,
        framebuffer: Option<Framebuffer>,
    ) -> Result<Self, BuildError> {
        let mut fixed = Self {
            archive,
            root_endpoint: arena.make(resources, ObjectType::Endpoint, 0)?,
            root_wake: arena.make(resources, ObjectType::Notification, 0)?,
            spare: resources.cspace.take(1)?,
            ..Self::default()
        };
        for program in &manifest.programs {
            let endpoint = match program.replies {
                0 => None,
                _ => Some(arena.make(resources, ObjectType::Endpoint, 0)?),
            };
            fixed.endpoints.push(endpoint);
            let wake = |_| arena.make(resources, ObjectType::Notification, 0);
            fixed
                .wakes
                .push((0..program.instances).map(wake).collect::<Result<_, _>>()?);
        }
        for channel in &manifest.channels {
            let instances = instances(manifest, channel)?;
            let rings = |_| rings(arena, resources, channel.kind);
            fixed
                .rings
                .push((0..instances).map(rings).collect::<Result<_, _>>()?);
        }
        for device in &manifest.devices {
            fixed
                .devices
                .push(device_caps(arena, resources, device, framebuffer)?);
        }
        Ok(fixed)
    }
}

/// How many rings a channel has: one for each instance of the program that asked for it.
fn instances(manifest: &Manifest, channel: &Channel) -> Result<u16, BuildError> {
    match channel.from {
        Callee::Root => Ok(1),
        Callee::Program(index) => {
            let program = manifest.programs.get(usize::from(index));
            Ok(program.ok_or(BuildError::BadManifest)?.instances)
        }
    }
}

fn rings<K: Kernel>(
    arena: &mut Arena,
    resources: &mut Resources<K>,
    kind: ChannelKind,
) -> Result<Rings, BuildError> {
    let mut page = || arena.make(resources, ObjectType::SmallPage, 0);
    let forward = page()?;
    let backward = match kind {
        ChannelKind::Bytes => Some(page()?),
        ChannelKind::Log => None,
    };
    Ok(Rings { forward, backward })
}

fn device_caps<K: Kernel>(
    arena: &mut Arena,
    resources: &mut Resources<K>,
    device: &Device,
    framebuffer: Option<Framebuffer>,
) -> Result<DeviceCaps, BuildError> {
    let mut caps = DeviceCaps::default();
    if let Some(ports) = device.ports {
        let slot = arena.slot_for_copy(resources)?;
        resources
            .kernel
            .issue_ports(ports.first, ports.last, resources.cspace.slot(slot))?;
        caps.ports = Some(slot);
    }
    if let Some(pin) = device.interrupt {
        let slot = arena.slot_for_copy(resources)?;
        resources
            .kernel
            .issue_interrupt(pin, resources.cspace.slot(slot))?;
        caps.interrupt = Some(slot);
    }
    if let Some(framebuffer) = framebuffer.filter(|_| device.framebuffer) {
        let start = framebuffer.paddr & !(PAGE - 1);
        let bytes = (framebuffer.paddr + framebuffer.bytes() - start).next_multiple_of(PAGE);
        // A frame buffer that is not whole device memory is left alone: the system runs without.
        let pages = arena.make_device_pages(resources, start, bytes);
        caps.memory = pages.ok().map(|pages| DeviceMemory {
            paddr: start,
            bytes,
            pages,
        });
    }
    Ok(caps)
}

impl DeviceMemory {
    /// The memory of a boot module.
    ///
    /// # Errors
    /// As [`Arena::make_device_pages`].
    pub fn of_module<K: Kernel>(
        arena: &mut Arena,
        resources: &mut Resources<K>,
        module: Module,
    ) -> Result<Self, BuildError> {
        let bytes = module.bytes.next_multiple_of(PAGE);
        let pages = arena.make_device_pages(resources, module.paddr, bytes)?;
        Ok(Self {
            paddr: module.paddr,
            bytes,
            pages,
        })
    }
}
