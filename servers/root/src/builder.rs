//! Builds one run of a program: address space, capabilities, threads, and the record that tells
//! the program what it has.
//!
//! The order is that of dependence: memory first, then capabilities, then the record, then the
//! threads, which run from the moment they are started. Whatever fails, the caller gives the
//! arena back and nothing is left.

mod caps;
mod guest;
mod memory;

use crate::address_space::AddressSpace;
use crate::badge;
use crate::elf;
use crate::error::BuildError;
use crate::fixed::Fixed;
use crate::kernel::{Kernel, Scheduling};
use crate::layout;
use crate::machine::Machine;
use crate::resources::{Arena, Resources};
use crate::run::{Run, Thread};
use alloc::vec::Vec;
use libcap::capability::{CNode, Refill, SchedContext, SchedParameters, Tcb, ThreadSpaces};
use proto::boot::{Manifest, Placement, Program};
use proto::root::Pid;
use proto::start::{NamedCap, NamedRegion, Region, StartInfo};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CapRights, ObjectType};

/// log2 of the slots of a program's CNode: 64 replies, 32 threads and every channel of a program
/// with many peers fit.
const CNODE_RADIX: u8 = 8;
/// log2 of the bytes of a scheduling context, for the refills of [`SPORADIC_REFILLS`].
const SCHED_CONTEXT_BITS: u32 = 8;
/// Refills beyond two of a thread whose budget is less than its period: how often it may stop and
/// go on in a period before its budget is rounded down.
const SPORADIC_REFILLS: u64 = 6;

/// What is to be built.
#[derive(Debug, Clone, Copy)]
pub struct Order<'a> {
    /// The system.
    pub manifest: &'a Manifest,
    /// What outlives runs.
    pub fixed: &'a Fixed,
    /// The machine.
    pub machine: &'a Machine,
    /// Which program.
    pub program: u16,
    /// Which instance of it.
    pub instance: u16,
    /// Number of the run.
    pub pid: Pid,
    /// The program's file.
    pub file: &'a [u8],
    /// What it is told.
    pub args: &'a [u8],
    /// Guest memory, a multiple of 2 MiB.
    pub guest_bytes: u64,
}

/// A run under construction.
struct Builder<'a, K> {
    order: Order<'a>,
    program: &'a Program,
    resources: &'a mut Resources<K>,
    arena: &'a mut Arena,
    space: AddressSpace,
    cnode: u64,
    caps: Vec<NamedCap>,
    regions: Vec<NamedRegion>,
    code: Vec<(u64, u64)>,
    threads: Vec<Thread>,
    /// Rings mapped so far, for the address of the next.
    rings: usize,
}

/// Builds and starts a run.
///
/// # Errors
/// Any [`BuildError`]; everything was given back.
pub fn build<K: Kernel>(order: Order<'_>, resources: &mut Resources<K>) -> Result<Run, BuildError> {
    let mut arena = Arena::default();
    let built = build_in(order, resources, &mut arena);
    match built {
        Ok((space, threads, caps, code)) => {
            let (pid, guest_bytes) = (order.pid, order.guest_bytes);
            Ok(Run {
                pid,
                arena,
                space,
                threads,
                caps,
                code,
                guest_bytes,
                cpu_us: 0,
            })
        }
        Err(error) => {
            arena.give_back(resources)?;
            Err(error)
        }
    }
}

type Parts = (AddressSpace, Vec<Thread>, Vec<NamedCap>, Vec<(u64, u64)>);

fn build_in<K: Kernel>(
    order: Order<'_>,
    resources: &mut Resources<K>,
    arena: &mut Arena,
) -> Result<Parts, BuildError> {
    let programs = &order.manifest.programs;
    let program = programs
        .get(usize::from(order.program))
        .ok_or(BuildError::BadManifest)?;
    let image = elf::read(order.file)?;
    let space = AddressSpace::new(arena, resources)?;
    let cnode = arena.make(resources, ObjectType::CapTable, u32::from(CNODE_RADIX))?;
    let mut builder = Builder {
        order,
        program,
        resources,
        arena,
        space,
        cnode,
        caps: Vec::new(),
        regions: Vec::new(),
        code: Vec::new(),
        threads: Vec::new(),
        rings: 0,
    };
    builder.map_image(&image)?;
    builder.make_threads()?;
    let heap = builder.map_heap()?;
    builder.give_caps()?;
    builder.give_channels()?;
    builder.give_devices()?;
    builder.map_archive()?;
    builder.build_guest()?;
    builder.write_start_info(heap)?;
    builder.start_threads(image.entry)?;
    Ok((builder.space, builder.threads, builder.caps, builder.code))
}

impl<K: Kernel> Builder<'_, K> {
    /// Makes each thread with its stack, IPC buffer and scheduling context.
    fn make_threads(&mut self) -> Result<(), BuildError> {
        let endpoint = self.resources.cspace.slot(self.order.fixed.root_endpoint);
        for index in 0..self.program.threads {
            let buffer = self.map_thread_memory(index)?;
            let tcb = self.arena.make(self.resources, ObjectType::Tcb, 0)?;
            let context =
                self.arena
                    .make(self.resources, ObjectType::SchedContext, SCHED_CONTEXT_BITS)?;
            let badge = badge::fault(self.order.pid, index);
            let rights = CapRights::CALL;
            let fault = self.arena.mint(self.resources, endpoint, rights, badge)?;
            let cspace = &self.resources.cspace;
            let thread = Thread {
                tcb: Tcb::from_cptr(cspace.cptr(tcb)),
                context: SchedContext::from_cptr(cspace.cptr(context)),
                buffer,
            };
            let spaces = ThreadSpaces {
                cspace: CNode::from_cptr(cspace.cptr(self.cnode)),
                cspace_data: CNodeData::new(0, 64 - u32::from(CNODE_RADIX)),
                vspace: self.space.vspace(),
            };
            let fault = cspace.cptr(fault);
            let frame = Run::frame(self.resources, buffer);
            let (cpu, budget) = (self.cpu(index), self.budget());
            let kernel = &mut self.resources.kernel;
            kernel.configure(thread.tcb, &spaces, layout::ipc_buffer(index), frame)?;
            kernel.fill_budget(cpu, thread.context, &budget)?;
            let scheduling = Scheduling {
                priority: self.program.priority,
                context: thread.context,
                fault,
            };
            kernel.schedule(thread.tcb, scheduling)?;
            self.threads.push(thread);
        }
        Ok(())
    }

    /// The CPU of a thread.
    fn cpu(&self, thread: u16) -> u16 {
        let wanted = match self.program.placement {
            Placement::Cpu(cpu) => cpu,
            Placement::Spread => self.order.instance.wrapping_add(thread),
        };
        wanted % self.order.machine.cpus
    }

    fn budget(&self) -> SchedParameters {
        let Program {
            budget_us,
            period_us,
            ..
        } = *self.program;
        let round_robin = budget_us == period_us;
        SchedParameters {
            budget_us,
            period_us,
            extra_refills: if round_robin { 0 } else { SPORADIC_REFILLS },
            badge: u64::from(self.order.pid),
            refill: if round_robin {
                Refill::Full
            } else {
                Refill::Sporadic
            },
        }
    }

    /// Writes the start record and maps its pages.
    fn write_start_info(&mut self, heap: Region) -> Result<(), BuildError> {
        let info = StartInfo {
            program: self.program.name.clone(),
            instance: u32::from(self.order.instance),
            threads: u32::from(self.program.threads),
            ipc_buffers: (0..self.program.threads).map(layout::ipc_buffer).collect(),
            heap,
            tsc_khz: self.order.machine.tsc_khz,
            caps: self.caps.clone(),
            regions: self.regions.clone(),
            args: self.order.args.to_vec(),
        };
        let bytes = info.encode().map_err(|_| BuildError::StartInfo)?;
        self.map_filled(layout::START_INFO, &bytes)
    }

    /// Starts every thread at `entry` with the registers that libcap's entry expects.
    fn start_threads(&mut self, entry: u64) -> Result<(), BuildError> {
        for (thread, index) in self.threads.iter().zip(0..) {
            let context = UserContext {
                rip: entry,
                rsp: layout::stack_top(index),
                rdi: layout::START_INFO,
                rsi: u64::from(index),
                fs_base: layout::ipc_buffer(index),
                ..UserContext::default()
            };
            self.resources.kernel.start(thread.tcb, &context)?;
        }
        Ok(())
    }
}
