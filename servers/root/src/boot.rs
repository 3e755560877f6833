//! From the kernel's BootInfo to a supervisor that can start programs.

use crate::address_space::AddressSpace;
use crate::error::BuildError;
use crate::fixed::{DeviceMemory, Fixed};
use crate::kernel::{Kernel, Mapping};
use crate::machine::Machine;
use crate::native::{self, Native};
use crate::resources::{Arena, Resources};
use crate::run::Run;
use crate::serial::{self, Serial};
use crate::supervisor::{Log, Own, Supervisor};
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::Cell;
use core::fmt::{self, Write};
use libcap::Env;
use libcap::capability::{Endpoint, IoPort, Reply, Timer};
use libcap::ring::byte::Producer;
use proto::boot::{Archive, Callee, Manifest};
use proto::start::{NamedRegion, StartInfo};
use sel4_sys::{BootInfo, CPtr, CapRights, ObjectType, VmAttributes};

/// Where root maps things for itself: a part of its address space that its image is far from.
const OWN_BASE: u64 = 0x80_0000_0000;
const WINDOW: u64 = OWN_BASE;
const LOG_RING: u64 = OWN_BASE + 0x2000;
const ARCHIVE: u64 = OWN_BASE + 0x1_0000_0000;
const PAGE: u64 = 4096;
const LARGE_PAGE: u64 = 2 << 20;
/// Badge bit of root's timer.
pub const TIMER_BIT: u64 = 1 << 0;

/// Where root's log lines go: into the ring that console reads, and to the serial port as long as
/// console does not run.
#[derive(Debug)]
pub struct RootLog {
    serial: Option<Serial>,
    alone: Rc<Cell<bool>>,
}

impl Log for RootLog {
    fn line(&mut self, line: fmt::Arguments<'_>) {
        libcap::log::write_line(line);
        if let Some(serial) = self.serial.as_mut().filter(|_| self.alone.get()) {
            // A port that takes no bytes leaves nobody to tell.
            let _ = write!(serial, "root: {line}\r\n");
        }
    }
}

/// The supervisor, and what root serves with.
pub struct Booted {
    /// The system.
    pub supervisor: Supervisor<Native, Archive<'static>, RootLog>,
    /// Where requests and faults arrive.
    pub endpoint: Endpoint,
    /// The way back to the caller.
    pub reply: Reply,
    /// Wakes root for restarts.
    pub timer: Timer,
    /// Whether root has the serial port for itself.
    pub alone: Rc<Cell<bool>>,
}

/// The serial port, issued before anything else so that whatever fails can be told.
#[must_use]
pub fn first_words(info: &BootInfo) -> Option<Serial> {
    let slot = native::initial_slot(info.empty.start);
    let mut kernel = Native::new(info);
    kernel
        .issue_ports(serial::PORTS.0, serial::PORTS.1, slot)
        .ok()?;
    Some(Serial::new(IoPort::from_cptr(CPtr(info.empty.start))))
}

/// Takes the machine over and makes everything that outlives programs.
///
/// # Errors
/// Any [`BuildError`]: root cannot do its work then.
pub fn boot(info: &BootInfo, extra: &[u8], serial: Option<Serial>) -> Result<Booted, BuildError> {
    let machine = Machine::read(extra, info.nodes);
    let start = native::take_over(info)?;
    let mut resources = Resources {
        kernel: Native::new(info),
        cspace: start.cspace,
        memory: start.memory,
        devices: start.devices,
    };
    // Root's own objects are for good: the arena is never given back.
    let mut arena = Arena::default();
    let mut space = AddressSpace::own(native::own_vspace().cptr());
    space.prepare(&mut arena, &mut resources, 12, WINDOW)?;
    let module = machine.archive.ok_or(BuildError::NoSuchMemory)?;
    let memory = DeviceMemory::of_module(&mut arena, &mut resources, module)?;
    let mut regions = alloc::vec![region("window", WINDOW, PAGE, true)];
    regions.push(map_archive(
        &mut arena,
        &mut resources,
        &mut space,
        &memory,
    )?);
    let mut env = Env::new(StartInfo {
        regions,
        ..StartInfo::default()
    });
    resources
        .kernel
        .set_window(env.region("window").into_shared(), WINDOW);
    let archive = Archive::open(env.read_only("boot"))?;
    let manifest = archive.manifest().clone();
    let fixed = Fixed::new(
        &mut arena,
        &mut resources,
        &manifest,
        memory,
        machine.framebuffer,
    )?;
    attach_log(&mut arena, &mut resources, &mut space, &manifest, &fixed)?;
    let (timer, reply) = make_own_objects(&mut arena, &mut resources, &fixed)?;
    let endpoint = Endpoint::from_cptr(resources.cspace.cptr(fixed.root_endpoint));
    let own = Own {
        bytes: arena.bytes(),
        context: native::own_context(),
        cpu_us: 0,
    };
    let alone = Rc::new(Cell::new(true));
    let log = RootLog {
        serial,
        alone: Rc::clone(&alone),
    };
    let supervisor = Supervisor::new(resources, manifest, fixed, machine, own, archive, log);
    Ok(Booted {
        supervisor,
        endpoint,
        reply,
        timer,
        alone,
    })
}

/// Maps the boot archive for root itself.
fn map_archive(
    arena: &mut Arena,
    resources: &mut Resources<Native>,
    space: &mut AddressSpace,
    memory: &DeviceMemory,
) -> Result<NamedRegion, BuildError> {
    let first = ARCHIVE + memory.paddr % LARGE_PAGE;
    let mut vaddr = first;
    for (bits, slot) in &memory.pages {
        let frame = resources.cspace.slot(*slot);
        let copy = arena.copy(resources, frame, CapRights::READ)?;
        let (rights, attributes) = (CapRights::READ, VmAttributes::EXECUTE_NEVER);
        space.map(
            arena,
            resources,
            (*bits, copy),
            Mapping {
                vaddr,
                rights,
                attributes,
            },
        )?;
        vaddr += 1 << bits;
    }
    Ok(region("boot", first, memory.bytes, false))
}

/// Sends root's log into its ring to console, if the manifest has one.
fn attach_log(
    arena: &mut Arena,
    resources: &mut Resources<Native>,
    space: &mut AddressSpace,
    manifest: &Manifest,
    fixed: &Fixed,
) -> Result<(), BuildError> {
    let own = |channel: &&proto::boot::Channel| channel.from == Callee::Root;
    let Some(channel) = manifest.channels.iter().find(own) else {
        return Ok(());
    };
    let index = manifest.channels.iter().position(|other| other == channel);
    let rings = index
        .and_then(|index| fixed.rings.get(index))
        .and_then(|rings| rings.first());
    let peer = fixed
        .wakes
        .get(usize::from(channel.to))
        .and_then(|wakes| wakes.first());
    let (rings, peer) = rings.zip(peer).ok_or(BuildError::BadManifest)?;
    let frame = resources.cspace.slot(rings.forward);
    let copy = arena.copy(resources, frame, CapRights::READ_WRITE)?;
    let (rights, attributes) = (CapRights::READ_WRITE, VmAttributes::EXECUTE_NEVER);
    space.map(
        arena,
        resources,
        (12, copy),
        Mapping {
            vaddr: LOG_RING,
            rights,
            attributes,
        },
    )?;
    let from = resources.cspace.slot(*peer);
    let wake = arena.mint(resources, from, CapRights::WRITE, 1 << channel.to_bit)?;
    let regions: Vec<_> = [region("log.tx", LOG_RING, PAGE, true)].into();
    let mut env = Env::new(StartInfo {
        regions,
        ..StartInfo::default()
    });
    let ring = Producer::attach(env.ring_page("log.tx"));
    libcap::log::attach_ring(ring, Run::notification(resources, wake));
    Ok(())
}

/// Root's timer, signalling its notification, which is bound to its thread; its reply object.
fn make_own_objects(
    arena: &mut Arena,
    resources: &mut Resources<Native>,
    fixed: &Fixed,
) -> Result<(Timer, Reply), BuildError> {
    let from = resources.cspace.slot(fixed.root_wake);
    let badged = arena.mint(resources, from, CapRights::WRITE, TIMER_BIT)?;
    let timer = arena.make(resources, ObjectType::Timer, 0)?;
    let timer = Timer::from_cptr(resources.cspace.cptr(timer));
    let notification = Run::notification(resources, badged);
    resources.kernel.bind_timer(timer, notification)?;
    let wake = Run::notification(resources, fixed.root_wake);
    resources.kernel.bind(native::own_thread(), wake)?;
    let reply = arena.make(resources, ObjectType::Reply, 0)?;
    Ok((timer, Reply::from_cptr(resources.cspace.cptr(reply))))
}

fn region(name: &str, vaddr: u64, length: u64, writable: bool) -> NamedRegion {
    NamedRegion {
        name: name.into(),
        vaddr,
        length,
        paddr: None,
        writable,
    }
}
