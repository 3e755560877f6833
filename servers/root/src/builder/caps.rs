//! Capabilities of a run: what the manifest says, and nothing else.

use super::memory::Use;
use super::{Builder, CNODE_RADIX};
use crate::badge;
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::layout;
use crate::run::Run;
use alloc::format;
use alloc::string::String;
use libcap::capability::{CNode, IrqHandler, Slot, Timer};
use proto::boot::{Callee, Channel, DeviceGrant};
use proto::start::{CapKind, NamedCap, NamedRegion};
use sel4_sys::{CapRights, ObjectType, VmAttributes};

impl<K: Kernel> Builder<'_, K> {
    /// Copies the capability in `from` into the program's next free slot.
    pub(super) fn give(
        &mut self,
        name: impl Into<String>,
        kind: CapKind,
        from: Slot,
        rights: CapRights,
    ) -> Result<(), BuildError> {
        let slot = self.next_slot()?;
        self.resources.kernel.copy(slot, from, rights)?;
        self.caps.push(NamedCap {
            name: name.into(),
            kind,
            slot: slot.index,
        });
        Ok(())
    }

    /// Copies the capability in `from` with a badge.
    fn give_badged(
        &mut self,
        name: impl Into<String>,
        kind: CapKind,
        from: u64,
        rights: CapRights,
        badge: u64,
    ) -> Result<(), BuildError> {
        let slot = self.next_slot()?;
        let from = self.resources.cspace.slot(from);
        self.resources.kernel.mint(slot, from, rights, badge)?;
        self.caps.push(NamedCap {
            name: name.into(),
            kind,
            slot: slot.index,
        });
        Ok(())
    }

    /// The program's next free slot. Slot 0 stays empty: it is the null capability.
    fn next_slot(&self) -> Result<Slot, BuildError> {
        let index = self.caps.len() as u64 + 1;
        if index >= 1 << CNODE_RADIX {
            return Err(BuildError::BadManifest);
        }
        let node = CNode::from_cptr(self.resources.cspace.cptr(self.cnode));
        Ok(node.slot_at_depth(index, CNODE_RADIX))
    }

    /// Its own endpoint and notifications, replies, timer, and the servers that it calls.
    pub(super) fn give_caps(&mut self) -> Result<(), BuildError> {
        let fixed = self.order.fixed;
        let program = usize::from(self.order.program);
        let endpoint = fixed
            .endpoints
            .get(program)
            .ok_or(BuildError::BadManifest)?;
        if let Some(endpoint) = endpoint {
            let from = self.resources.cspace.slot(*endpoint);
            self.give("self", CapKind::Endpoint, from, CapRights::READ)?;
        }
        let wake = self.wake_of(Callee::Program(self.order.program), self.order.instance)?;
        let notification = Run::notification(self.resources, wake);
        self.resources
            .kernel
            .bind(self.threads[0].tcb, notification)?;
        let from = self.resources.cspace.slot(wake);
        self.give("wake", CapKind::Notification, from, CapRights::READ)?;
        for index in 0..self.program.replies {
            let slot = self.arena.make(self.resources, ObjectType::Reply, 0)?;
            let from = self.resources.cspace.slot(slot);
            self.give(
                format!("reply.{index}"),
                CapKind::Reply,
                from,
                CapRights::ALL,
            )?;
        }
        self.give_timer(wake)?;
        self.give_thread_wakes()?;
        let caller = badge::caller(self.order.program, self.order.instance);
        for callee in &self.program.calls {
            let (name, endpoint) = match callee {
                Callee::Root => ("root", Some(fixed.root_endpoint)),
                Callee::Program(index) => {
                    let server = self.order.manifest.programs.get(usize::from(*index));
                    let server = server.ok_or(BuildError::BadManifest)?;
                    (server.name.as_str(), fixed.endpoints[usize::from(*index)])
                }
            };
            let endpoint = endpoint.ok_or(BuildError::BadManifest)?;
            self.give_badged(
                name,
                CapKind::Endpoint,
                endpoint,
                CapRights::CALL,
                caller.badge(),
            )?;
        }
        Ok(())
    }

    fn give_timer(&mut self, wake: u64) -> Result<(), BuildError> {
        let Some(bit) = self.program.timer_bit else {
            return Ok(());
        };
        let badged = self.badged_wake(wake, bit)?;
        let slot = self.arena.make(self.resources, ObjectType::Timer, 0)?;
        let timer = Timer::from_cptr(self.resources.cspace.cptr(slot));
        let notification = Run::notification(self.resources, badged);
        self.resources.kernel.bind_timer(timer, notification)?;
        let from = self.resources.cspace.slot(slot);
        self.give("timer", CapKind::Timer, from, CapRights::ALL)
    }

    /// Every thread but the first gets a notification of its own, by which others wake it.
    fn give_thread_wakes(&mut self) -> Result<(), BuildError> {
        for index in 1..self.program.threads {
            let slot = self
                .arena
                .make(self.resources, ObjectType::Notification, 0)?;
            let notification = Run::notification(self.resources, slot);
            let tcb = self.threads[usize::from(index)].tcb;
            self.resources.kernel.bind(tcb, notification)?;
            let rights = CapRights::READ_WRITE;
            self.give_badged(
                format!("wake.{index}"),
                CapKind::Notification,
                slot,
                rights,
                1,
            )?;
        }
        Ok(())
    }

    /// Both ends of the program's channels: the ring pages, and the bell of the other end.
    pub(super) fn give_channels(&mut self) -> Result<(), BuildError> {
        let own = Callee::Program(self.order.program);
        let manifest = self.order.manifest;
        for (channel, index) in manifest.channels.iter().zip(0..) {
            if channel.from == own {
                let instance = self.order.instance;
                self.give_channel(&channel.from_name, channel, index, instance, End::From)?;
            }
            if channel.to == self.order.program {
                let instances = self
                    .order
                    .fixed
                    .rings
                    .get(index)
                    .map_or(0, alloc::vec::Vec::len);
                for instance in 0..instances as u16 {
                    let name = channel.to_name(instance);
                    self.give_channel(&name, channel, index, instance, End::To)?;
                }
            }
        }
        Ok(())
    }

    fn give_channel(
        &mut self,
        name: &str,
        channel: &Channel,
        index: usize,
        instance: u16,
        end: End,
    ) -> Result<(), BuildError> {
        let rings = self
            .order
            .fixed
            .rings
            .get(index)
            .and_then(|all| all.get(usize::from(instance)));
        let rings = *rings.ok_or(BuildError::BadManifest)?;
        let (tx, rx, peer, bit) = match end {
            End::From => {
                let peer = self.wake_of(Callee::Program(channel.to), 0)?;
                (Some(rings.forward), rings.backward, peer, channel.to_bit)
            }
            End::To => {
                let peer = self.wake_of(channel.from, instance)?;
                (rings.backward, Some(rings.forward), peer, channel.from_bit)
            }
        };
        for (end, slot) in [("tx", tx), ("rx", rx)] {
            if let Some(slot) = slot {
                self.map_ring(name, end, slot)?;
            }
        }
        let (name, kind) = (format!("{name}.wake"), CapKind::Notification);
        self.give_badged(name, kind, peer, CapRights::WRITE, 1 << bit)
    }

    /// The devices that the program drives.
    pub(super) fn give_devices(&mut self) -> Result<(), BuildError> {
        let program = self.program;
        for grant in &program.devices {
            self.give_device(*grant)?;
        }
        Ok(())
    }

    fn give_device(&mut self, grant: DeviceGrant) -> Result<(), BuildError> {
        let fixed = self.order.fixed;
        let index = usize::from(grant.device);
        let device = self
            .order
            .manifest
            .devices
            .get(index)
            .ok_or(BuildError::BadManifest)?;
        let caps = fixed.devices.get(index).ok_or(BuildError::BadManifest)?;
        let name = device.name.as_str();
        if let Some(ports) = caps.ports {
            let from = self.resources.cspace.slot(ports);
            self.give(
                format!("{name}.ports"),
                CapKind::IoPort,
                from,
                CapRights::ALL,
            )?;
        }
        if let Some((interrupt, bit)) = caps.interrupt.zip(grant.bit) {
            let wake = self.wake_of(Callee::Program(self.order.program), self.order.instance)?;
            let badged = self.badged_wake(wake, bit)?;
            let handler = IrqHandler::from_cptr(self.resources.cspace.cptr(interrupt));
            let notification = Run::notification(self.resources, badged);
            // Acknowledged too: the run before may have died between an interrupt and its end.
            self.resources.kernel.set_interrupt(handler, notification)?;
            let from = self.resources.cspace.slot(interrupt);
            self.give(
                format!("{name}.irq"),
                CapKind::IrqHandler,
                from,
                CapRights::ALL,
            )?;
        }
        if let Some(memory) = &caps.memory {
            let write_combining = VmAttributes::WRITE_COMBINING;
            let vaddr =
                self.map_device_memory(memory, layout::FRAMEBUFFER, Use::Write, write_combining)?;
            let paddr = self
                .order
                .machine
                .framebuffer
                .map_or(memory.paddr, |fb| fb.paddr);
            self.regions.push(NamedRegion {
                name: format!("{name}.memory"),
                vaddr: vaddr + (paddr - memory.paddr),
                length: memory.bytes - (paddr - memory.paddr),
                paddr: Some(paddr),
                writable: true,
            });
        }
        Ok(())
    }

    /// Slot of the notification of an instance.
    fn wake_of(&self, owner: Callee, instance: u16) -> Result<u64, BuildError> {
        let fixed = self.order.fixed;
        let wake = match owner {
            Callee::Root => Some(&fixed.root_wake),
            Callee::Program(index) => fixed
                .wakes
                .get(usize::from(index))
                .and_then(|instances| instances.get(usize::from(instance))),
        };
        wake.copied().ok_or(BuildError::BadManifest)
    }

    /// A capability of root's to a notification, by which the kernel itself sets `bit`.
    fn badged_wake(&mut self, wake: u64, bit: u8) -> Result<u64, BuildError> {
        let from = self.resources.cspace.slot(wake);
        self.arena
            .mint(self.resources, from, CapRights::WRITE, 1 << bit)
    }
}

/// An end of a channel.
#[derive(Clone, Copy)]
enum End {
    From,
    To,
}
