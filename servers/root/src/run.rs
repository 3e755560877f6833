//! One run of a program: everything that was built for it and goes when it ends.

use crate::address_space::AddressSpace;
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::resources::{Arena, Resources};
use alloc::vec::Vec;
use libcap::capability::{Frame, Notification, SchedContext, Tcb};
use proto::root::Pid;
use proto::start::NamedCap;

/// A thread of a run.
#[derive(Debug, Clone, Copy)]
pub struct Thread {
    /// The thread.
    pub tcb: Tcb,
    /// Its scheduling context.
    pub context: SchedContext,
    /// Slot of the frame of its IPC buffer page.
    pub buffer: u64,
}

/// A run of a program.
#[derive(Debug)]
pub struct Run {
    /// Its number.
    pub pid: Pid,
    /// Its memory and slots.
    pub arena: Arena,
    /// Its address space.
    pub space: AddressSpace,
    /// Its threads, the main thread first.
    pub threads: Vec<Thread>,
    /// What it was told of its capabilities.
    pub caps: Vec<NamedCap>,
    /// Pages of its code: address and slot of the frame.
    pub code: Vec<(u64, u64)>,
    /// Bytes of guest memory, part of the arena.
    pub guest_bytes: u64,
    /// CPU time that was read from the scheduling contexts so far, in microseconds.
    pub cpu_us: u64,
}

impl Run {
    /// CPU time of the run so far, in microseconds.
    pub fn cpu_us<K: Kernel>(&mut self, resources: &mut Resources<K>) -> u64 {
        for thread in &self.threads {
            // A context that cannot be read adds nothing; the next time tells.
            self.cpu_us += resources.kernel.consumed_us(thread.context).unwrap_or(0);
        }
        self.cpu_us
    }

    /// Memory of the run, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.arena.bytes()
    }

    /// Bytes of the program's code at `vaddr`, if all of them are code.
    pub fn read_code<K: Kernel>(
        &self,
        resources: &mut Resources<K>,
        spare: u64,
        vaddr: u64,
        bytes: &mut [u8],
    ) -> Option<()> {
        for (byte, address) in bytes.iter_mut().zip(vaddr..) {
            let page = address & !0xfff;
            let (_, slot) = self.code.iter().find(|(start, _)| *start == page)?;
            let (frame, spare) = (resources.cspace.slot(*slot), resources.cspace.slot(spare));
            let into = core::slice::from_mut(byte);
            resources
                .kernel
                .read_frame(frame, spare, (address & 0xfff) as usize, into)
                .ok()?;
        }
        Some(())
    }

    /// The frame of a slot.
    #[must_use]
    pub fn frame<K>(resources: &Resources<K>, slot: u64) -> Frame {
        Frame::from_cptr(resources.cspace.cptr(slot))
    }

    /// The notification of a slot.
    #[must_use]
    pub fn notification<K>(resources: &Resources<K>, slot: u64) -> Notification {
        Notification::from_cptr(resources.cspace.cptr(slot))
    }

    /// Ends the run: destroys its objects and gives everything back.
    ///
    /// # Errors
    /// The kernel's refusal, which only a broken kernel gives.
    pub fn end<K: Kernel>(self, resources: &mut Resources<K>) -> Result<(), BuildError> {
        self.arena.give_back(resources)
    }
}
