//! Answers to exits: each returns to the guest, raises an exception in it, or ends the VM.

use super::Runner;
use crate::event::GuestException;
use crate::exit::{Direction, Exit, MemoryAccess, PortAccess};
use crate::host::Host;
use crate::machine::MachineLock;
use crate::memory::GuestAddress;
use crate::mode::CpuMode;
use crate::outcome::{FailureKind, ResetCause, VmEvent};
use crate::system_register::write_xcr;
use crate::vcpu::{RAX, RBX, RCX, RDX, Vcpu};

/// The 32-bit PM timer register.
const PM_TIMER_PORT: u16 =
    crate::device::acpi_power::BASE_PORT + crate::device::acpi_power::TIMER_OFFSET;
/// What a hypercall answers: there are none.
const NO_HYPERCALL: u64 = u64::MAX;

impl<V: Vcpu, L: MachineLock, H: Host> Runner<'_, '_, V, L, H> {
    /// Answers the exit in the record.
    pub(super) fn answer_exit(&mut self) -> Result<(), VmEvent> {
        let exit = match Exit::decode(&self.record) {
            Ok(exit) => exit,
            Err(malformed) => return Err(self.fail(malformed.into())),
        };
        let mode = CpuMode::of(&self.record);
        match exit {
            Exit::Cpuid => self.after_length(&mode, &exit, Self::cpuid),
            Exit::Port(access) => self.port(&mode, &exit, access),
            Exit::MsrWrite(msr) => self.write_msr(&mode, &exit, msr),
            Exit::MsrRead(msr) => self.read_msr(&mode, &exit, msr),
            Exit::MemoryFault { access, address } => self.memory_fault(&mode, access, address),
            Exit::Halt => self.after_length(&mode, &exit, Self::halt),
            Exit::InterruptWindow | Exit::NmiWindow => {
                self.look = true;
                Ok(())
            }
            Exit::Pause | Exit::CacheFlush => self.after_length(&mode, &exit, |_, _| {}),
            Exit::Hypercall => self.after_length(&mode, &exit, |runner, _| {
                runner.registers.general[RAX] = NO_HYPERCALL;
            }),
            Exit::ControlRegister | Exit::DebugRegister => self.control(&mode),
            Exit::Xsetbv => self.xsetbv(&mode, &exit),
            Exit::Rdpmc => {
                self.raise(&mode, GuestException::GeneralProtection(0));
                Ok(())
            }
            // CPUID offers none of these.
            Exit::MonitorWait | Exit::VirtualisationInstruction => {
                self.raise(&mode, GuestException::InvalidOpcode);
                Ok(())
            }
            Exit::Shutdown => {
                let event = VmEvent::Reset(ResetCause::TripleFault);
                self.vm.end(event);
                Err(event)
            }
            Exit::InvalidState(raw) => Err(self.fail(FailureKind::InvalidState(raw))),
            Exit::Unrequested(reason) => {
                Err(self.fail(FailureKind::UnexpectedExit(reason.number())))
            }
            Exit::Unknown(raw) => Err(self.fail(FailureKind::UnexpectedExit(raw))),
        }
    }

    /// Does `action` and moves on past the instruction, once its length is known.
    pub(super) fn after_length(
        &mut self,
        mode: &CpuMode,
        exit: &Exit,
        action: impl FnOnce(&mut Self, &CpuMode),
    ) -> Result<(), VmEvent> {
        if let Some(length) = self.instruction_length(mode, exit)? {
            action(self, mode);
            self.complete(mode, length);
        }
        Ok(())
    }

    fn cpuid(&mut self, mode: &CpuMode) {
        let leaf = self.registers.general[RAX] as u32;
        let subleaf = self.registers.general[RCX] as u32;
        let vcpu = &mut self.vcpu;
        let answer = self.cpuid.answer(leaf, subleaf, mode.cr4, || {
            vcpu.read_field(sel4_sys::VcpuField::Xcr0)
        });
        let general = &mut self.registers.general;
        general[RAX] = u64::from(answer.eax);
        general[RBX] = u64::from(answer.ebx);
        general[RCX] = u64::from(answer.ecx);
        general[RDX] = u64::from(answer.edx);
    }

    fn halt(&mut self, _mode: &CpuMode) {
        let index = self.index;
        self.vm.inspect(|machine| machine.halt(index));
        self.look = true;
    }

    fn port(&mut self, mode: &CpuMode, exit: &Exit, access: PortAccess) -> Result<(), VmEvent> {
        if access.string {
            return self.emulate(mode, None);
        }
        let Some(length) = self.instruction_length(mode, exit)? else {
            return Ok(());
        };
        match access.direction {
            Direction::Out => self.port_out(access),
            Direction::In => self.port_in(access),
        }
        self.complete(mode, length);
        Ok(())
    }

    fn port_out(&mut self, access: PortAccess) {
        let value = self.registers.general[RAX] & access.size.mask();
        let (_, look) = self.vm.access(Some(self.index), |machine, now| {
            machine
                .platform
                .write_port(access.port, access.size, value, now);
        });
        self.look |= look;
    }

    fn port_in(&mut self, access: PortAccess) {
        let value = if access.port == PM_TIMER_PORT {
            u64::from(self.vm.pm_timer())
        } else {
            let (value, look) = self.vm.access(Some(self.index), |machine, now| {
                machine.platform.read_port(access.port, access.size, now)
            });
            self.look |= look;
            value
        };
        let mask = access.size.mask();
        let rax = &mut self.registers.general[RAX];
        *rax = match access.size {
            crate::exit::AccessSize::Byte | crate::exit::AccessSize::Word => {
                *rax & !mask | value & mask
            }
            _ => value & mask,
        };
    }

    fn memory_fault(
        &mut self,
        mode: &CpuMode,
        access: MemoryAccess,
        address: GuestAddress,
    ) -> Result<(), VmEvent> {
        let failure = match access {
            MemoryAccess::Fetch => Some(FailureKind::FetchOutsideRam(address)),
            MemoryAccess::TableWalk => Some(FailureKind::TablesOutsideRam(address)),
            _ if self.vm.memory().contains(address, 1) => Some(FailureKind::RamNotMapped(address)),
            _ if self.record.pending_event().is_valid() => {
                Some(FailureKind::DeliveryToDevice(address))
            }
            MemoryAccess::Read | MemoryAccess::Write => None,
        };
        match failure {
            Some(kind) => Err(self.fail(kind)),
            None => self.emulate(mode, Some(address)),
        }
    }

    fn xsetbv(&mut self, mode: &CpuMode, exit: &Exit) -> Result<(), VmEvent> {
        let index = self.registers.general[RCX];
        let value = self.registers.edx_eax();
        let writes = write_xcr(index, value, mode.privilege_level, &self.allowed);
        self.write_system_register(mode, exit, writes)
    }
}
