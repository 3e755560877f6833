//! Runs one virtual CPU: decides, enters the guest, answers the exit, and so on until the VM ends.
//!
//! Everything that concerns this VCPU alone is here and needs no lock: registers, CPUID, most
//! MSRs, the instruction cache. Submodules answer the exits: [`exits`] the plain ones, [`msrs`]
//! RDMSR and WRMSR, [`instructions`] what has to be decoded.

mod exits;
mod instructions;
mod msrs;

use libcap::vcpu::{ExitRecord, Outcome, Refusal};
use sel4_sys::vcpu::exit_mode;
use sel4_sys::vcpu_field::interruptibility;
use sel4_sys::{Event, VcpuField};

use crate::boot::cpu_state::{InitialState, after_startup};
use crate::cpuid::{CpuidTable, HostCpuid, Topology};
use crate::emulate::fetch::Fetcher;
use crate::event::GuestException;
use crate::host::Host;
use crate::machine::{Decision, MachineLock, Readiness};
use crate::mode::CpuMode;
use crate::msr::MsrBank;
use crate::outcome::{FailureKind, VmEvent, VmFailure};
use crate::system_register::AllowedBits;
use crate::time::Ticks;
use crate::vcpu::{EntryRequest, Registers, Vcpu};
use crate::virtual_machine::VirtualMachine;

const RFLAGS_IF: u64 = 1 << 9;
const RFLAGS_TF: u64 = 1 << 8;
/// DR6.BS: a single step.
const DR6_SINGLE_STEP: u64 = 1 << 14;

/// The host CPU, as the guest's CPUs are cut from it.
#[derive(Clone, Copy)]
pub struct HostCpu<'a> {
    /// Its CPUID instruction.
    pub cpuid: HostCpuid<'a>,
    /// Components of extended state that the kernel saves.
    pub xcr0: u64,
}

/// Where what is known about the guest's interruptibility comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Knowledge {
    /// The last exit record, and what was done since.
    Record,
    /// The guest ran on since: the VCPU must be asked.
    Stale,
}

/// One VCPU and the thread that runs it.
pub struct Runner<'v, 'm, V, L, H> {
    vm: &'v VirtualMachine<'m, L, H>,
    index: usize,
    vcpu: V,
    cpuid: CpuidTable,
    allowed: AllowedBits,
    msrs: MsrBank,
    fetcher: Fetcher,
    record: ExitRecord,
    registers: Registers,
    knowledge: Knowledge,
    /// Registers changed since the exit.
    dirty: bool,
    /// An instruction was finished on the guest's behalf since the exit.
    completed: bool,
    /// To be injected at the next entry.
    event: Option<Event>,
    /// An interrupt waits for its window.
    window: bool,
    /// The machine must be asked before the next entry.
    look: bool,
    /// What the VCPU's timer is set to.
    timer_set: Option<Ticks>,
    /// The guest's TSC less machine time.
    tsc_adjust: u64,
}

impl<'v, 'm, V: Vcpu, L: MachineLock, H: Host> Runner<'v, 'm, V, L, H> {
    /// The runner of VCPU `index` of `vcpus`.
    pub fn new(
        vm: &'v VirtualMachine<'m, L, H>,
        index: usize,
        vcpus: usize,
        vcpu: V,
        host: HostCpu,
    ) -> Self {
        let topology = Topology {
            vcpus: vcpus as u32,
            index: index as u32,
        };
        let cpuid = CpuidTable::new(host.cpuid, host.xcr0, topology, vm.base());
        let allowed = AllowedBits {
            cr4: cpuid.allowed_cr4(),
            efer: cpuid.allowed_efer(),
            xcr0: cpuid.allowed_xcr0(),
            physical_bits: cpuid.physical_bits(),
        };
        Self {
            vm,
            index,
            vcpu,
            msrs: MsrBank::new(cpuid.vendor(), cpuid.physical_bits()),
            cpuid,
            allowed,
            fetcher: Fetcher::default(),
            record: ExitRecord::default(),
            registers: Registers::default(),
            knowledge: Knowledge::Stale,
            dirty: false,
            completed: false,
            event: None,
            window: false,
            look: true,
            timer_set: None,
            tsc_adjust: 0,
        }
    }

    /// Sets the VCPU's state before it runs.
    ///
    /// # Errors
    /// The end of the VM, if the kernel refuses it.
    pub fn set_state(&mut self, state: &InitialState) -> Result<(), VmEvent> {
        let offset = self.vm.host().tsc_offset().wrapping_add(self.tsc_adjust);
        let written = self
            .vcpu
            .write_fields(state)
            .and_then(|()| self.vcpu.write_fields(&[(VcpuField::TscOffset, offset)]));
        if written.is_err() {
            return Err(self.fail(FailureKind::FieldRefused));
        }
        self.knowledge = Knowledge::Stale;
        self.dirty = false;
        self.completed = false;
        self.event = None;
        Ok(())
    }

    /// Runs until the VM ends.
    pub fn run(&mut self) -> VmEvent {
        loop {
            if let Err(event) = self.step() {
                return event;
            }
        }
    }

    /// One round: look if there is something to look at, then enter the guest and answer its exit.
    ///
    /// # Errors
    /// How the VM ended.
    pub fn step(&mut self) -> Result<(), VmEvent> {
        let rung = self.vm.bell(self.index).answer();
        if (rung || self.look || self.window) && !self.decide()? {
            return Ok(());
        }
        let bell = self.vm.bell(self.index);
        if !bell.leave() {
            return Ok(());
        }
        let request = EntryRequest {
            registers: self.dirty.then_some(&self.registers),
            event: self.event,
            window: self.window,
            emulated: self.completed,
        };
        let outcome = self.vcpu.enter(&request, &mut self.record);
        bell.arrive();
        self.dirty = false;
        self.completed = false;
        self.event = None;
        match outcome {
            Outcome::Exit => {
                self.knowledge = Knowledge::Record;
                self.registers = Registers {
                    general: *self.record.registers(),
                    rip: self.record.rip(),
                    rflags: self.record.rflags(),
                };
                self.answer_exit()
            }
            Outcome::Notification(_) => {
                self.knowledge = Knowledge::Stale;
                self.look = true;
                Ok(())
            }
            Outcome::Refused(refusal) => Err(self.fail(match refusal {
                Refusal::NoVirtualisation => FailureKind::NoVirtualisation,
                Refusal::NoGuestRoot => FailureKind::EntryRefused(0),
                Refusal::InvalidState { field } => FailureKind::EntryRefused(field),
            })),
        }
    }

    /// Asks the machine what to do; true to enter the guest now.
    fn decide(&mut self) -> Result<bool, VmEvent> {
        self.look = false;
        let readiness = self.readiness();
        let now = self.vm.host().now();
        let index = self.index;
        let (decision, deadline) = self.vm.inspect(|machine| {
            let decision = machine.decide(index, now, readiness);
            (
                decision,
                machine.platform.interrupts.local(index).deadline(),
            )
        });
        self.set_timer(deadline, now);
        match decision {
            Decision::Enter { event, window } => {
                self.event = self.event.or(event);
                self.window = window;
                Ok(true)
            }
            Decision::Sleep => {
                let bell = self.vm.bell(index);
                if bell.leave() {
                    self.vm.host().sleep(index);
                    bell.arrive();
                }
                self.look = true;
                Ok(false)
            }
            Decision::Start(page) => {
                let signature = self.cpuid.answer(1, 0, 0, || 0).eax;
                self.set_state(&after_startup(page, signature))?;
                self.look = true;
                Ok(false)
            }
            Decision::Stop(event) => Err(event),
        }
    }

    /// A timer that fires too early only costs a look, so it is set again only for an earlier
    /// deadline, or when it has fired.
    fn set_timer(&mut self, deadline: Option<Ticks>, now: Ticks) {
        let Some(deadline) = deadline else { return };
        let is_set = self
            .timer_set
            .is_some_and(|set| set <= deadline && set > now);
        if !is_set {
            self.timer_set = Some(deadline);
            self.vm.host().set_vcpu_timer(self.index, deadline);
        }
    }

    /// What the VCPU could take now.
    fn readiness(&mut self) -> Readiness {
        if self.knowledge == Knowledge::Stale {
            let [rflags, state, pending] = self.vcpu.read_fields([
                VcpuField::Rflags,
                VcpuField::Interruptibility,
                VcpuField::PendingEvent,
            ]);
            return Readiness {
                interrupts_enabled: rflags & RFLAGS_IF != 0,
                in_shadow: state & interruptibility::SHADOW != 0,
                nmi_blocked: state & interruptibility::NMI_BLOCKED != 0,
                event_pending: self.event.is_some() || Event::from_word(pending).is_valid(),
            };
        }
        let mode = self.record.mode();
        Readiness {
            interrupts_enabled: self.registers.rflags & RFLAGS_IF != 0,
            // A finished instruction ends the shadow. One that was not finished leaves it, even
            // where a CPU forgets about it (QEMU 7.2 does not load it at VMRUN).
            in_shadow: mode & exit_mode::INTERRUPT_SHADOW != 0 && !self.completed,
            nmi_blocked: mode & exit_mode::NMI_BLOCKED != 0,
            event_pending: self.event.is_some() || self.record.pending_event().is_valid(),
        }
    }

    /// The instruction of `length` bytes was finished.
    fn complete(&mut self, mode: &CpuMode, length: u64) {
        self.registers.rip = mode.advance(self.registers.rip, length);
        self.finish();
    }

    /// The instruction was finished, and RIP is past it already.
    fn finish(&mut self) {
        self.dirty = true;
        self.completed = true;
        if self.registers.rflags & RFLAGS_TF != 0 {
            self.single_step();
        }
    }

    /// The trap that the CPU would have made after the instruction.
    fn single_step(&mut self) {
        let status = self.vcpu.read_field(VcpuField::Dr6) | DR6_SINGLE_STEP;
        // A status that was just read, with a defined bit, is not refused.
        let _ = self.vcpu.write_fields(&[(VcpuField::Dr6, status)]);
        let mode = CpuMode::of(&self.record);
        self.event = Some(GuestException::SingleStep.event(&mode));
    }

    /// The guest gets an exception instead of its instruction.
    fn raise(&mut self, mode: &CpuMode, exception: GuestException) {
        if let GuestException::PageFault { address, .. } = exception {
            // CR2 takes any value.
            let _ = self.vcpu.write_fields(&[(VcpuField::Cr2, address)]);
        }
        self.event = Some(exception.event(mode));
    }

    /// Ends the VM: the monitor cannot go on.
    fn fail(&self, kind: FailureKind) -> VmEvent {
        let event = VmEvent::Failed(VmFailure {
            vcpu: self.index,
            rip: self.registers.rip,
            kind,
        });
        self.vm.end(event);
        event
    }
}

#[cfg(test)]
mod tests;
