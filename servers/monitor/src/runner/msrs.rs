//! RDMSR and WRMSR.

use super::Runner;
use crate::device::local_apic::{ApicMode, register};
use crate::event::GuestException;
use crate::exit::Exit;
use crate::host::Host;
use crate::machine::MachineLock;
use crate::memory::GuestAddress;
use crate::mode::CpuMode;
use crate::msr::{MsrOwner, classify};
use crate::outcome::VmEvent;
use crate::paravirtual_clock::{write_system_time, write_wall_clock};
use crate::system_register::{write_efer, write_pat};
use crate::time::Ticks;
use crate::vcpu::Vcpu;
use sel4_sys::VcpuField;

const GENERAL_PROTECTION: GuestException = GuestException::GeneralProtection(0);
/// Enables the paravirtual clock page.
const SYSTEM_TIME_ENABLED: u64 = 1;

impl<V: Vcpu, L: MachineLock, H: Host> Runner<'_, '_, V, L, H> {
    /// Answers RDMSR.
    pub(super) fn read_msr(
        &mut self,
        mode: &CpuMode,
        exit: &Exit,
        msr: u32,
    ) -> Result<(), VmEvent> {
        let Some(length) = self.instruction_length(mode, exit)? else {
            return Ok(());
        };
        match self.msr_value(mode, msr) {
            Ok(value) => {
                self.registers.set_edx_eax(value);
                self.complete(mode, length);
            }
            Err(exception) => self.raise(mode, exception),
        }
        Ok(())
    }

    /// Answers WRMSR.
    pub(super) fn write_msr(
        &mut self,
        mode: &CpuMode,
        exit: &Exit,
        msr: u32,
    ) -> Result<(), VmEvent> {
        let Some(length) = self.instruction_length(mode, exit)? else {
            return Ok(());
        };
        let value = self.registers.edx_eax();
        match self.set_msr(mode, msr, value) {
            Ok(()) => self.complete(mode, length),
            Err(exception) => self.raise(mode, exception),
        }
        Ok(())
    }

    fn msr_value(&mut self, mode: &CpuMode, msr: u32) -> Result<u64, GuestException> {
        let index = self.index;
        match classify(msr) {
            MsrOwner::Bank | MsrOwner::WallClock | MsrOwner::SystemTime => {
                self.msrs.read(msr).map_err(|_| GENERAL_PROTECTION)
            }
            MsrOwner::Field(field) => Ok(self.vcpu.read_field(field)),
            MsrOwner::Efer => Ok(mode.efer),
            MsrOwner::Pat => Ok(self.vcpu.read_field(VcpuField::Pat)),
            MsrOwner::Tsc => Ok(self.guest_tsc()),
            MsrOwner::ApicBase => Ok(self
                .vm
                .inspect(|machine| machine.platform.interrupts.local(index).base_register())),
            MsrOwner::TscDeadline => Ok(self
                .vm
                .inspect(|machine| machine.platform.interrupts.local(index).tsc_deadline())),
            MsrOwner::X2Apic(number) => self.x2apic_value(number),
        }
    }

    fn set_msr(&mut self, mode: &CpuMode, msr: u32, value: u64) -> Result<(), GuestException> {
        match classify(msr) {
            MsrOwner::Bank => self.msrs.write(msr, value).map_err(|_| GENERAL_PROTECTION),
            MsrOwner::Field(field) => self.write_fields(&[(field, value)]),
            MsrOwner::Efer => {
                let writes = write_efer(mode, value, &self.allowed)?;
                self.write_fields(&writes)
            }
            MsrOwner::Pat => {
                let writes = write_pat(value)?;
                self.write_fields(&writes)
            }
            MsrOwner::Tsc => self.set_guest_tsc(value),
            MsrOwner::ApicBase => self.set_apic_base(value),
            MsrOwner::TscDeadline => {
                self.set_tsc_deadline(value);
                Ok(())
            }
            MsrOwner::X2Apic(number) => self.set_x2apic(number, value),
            MsrOwner::WallClock => {
                let address = GuestAddress(value);
                let seconds = self.vm.epoch_seconds();
                write_wall_clock(&self.vm.memory(), address, seconds)
                    .map_err(|_| GENERAL_PROTECTION)?;
                self.msrs.write(msr, value).map_err(|_| GENERAL_PROTECTION)
            }
            MsrOwner::SystemTime => {
                if value & SYSTEM_TIME_ENABLED != 0 {
                    self.publish_time(GuestAddress(value & !SYSTEM_TIME_ENABLED))?;
                }
                self.msrs.write(msr, value).map_err(|_| GENERAL_PROTECTION)
            }
        }
    }

    fn guest_tsc(&self) -> u64 {
        self.vm.host().now().0.wrapping_add(self.tsc_adjust)
    }

    fn set_guest_tsc(&mut self, value: u64) -> Result<(), GuestException> {
        let adjust = value.wrapping_sub(self.vm.host().now().0);
        let offset = self.vm.host().tsc_offset().wrapping_add(adjust);
        self.write_fields(&[(VcpuField::TscOffset, offset)])?;
        self.tsc_adjust = adjust;
        Ok(())
    }

    fn publish_time(&self, address: GuestAddress) -> Result<(), GuestException> {
        let now = self.vm.host().now();
        let tsc = now.0.wrapping_add(self.tsc_adjust);
        write_system_time(&self.vm.memory(), address, self.vm.base(), now, tsc)
            .map_err(|_| GENERAL_PROTECTION)
    }

    fn set_apic_base(&mut self, value: u64) -> Result<(), GuestException> {
        let index = self.index;
        let changed = self.vm.inspect(|machine| {
            let apic = machine.platform.interrupts.local_mut(index);
            apic.set_base_register(value)
        });
        self.look = true;
        changed.map_err(|_| GENERAL_PROTECTION)
    }

    fn set_tsc_deadline(&mut self, value: u64) {
        let index = self.index;
        let now = self.vm.host().now();
        let guest_tsc = now.0.wrapping_add(self.tsc_adjust);
        // A value that has passed fires at once.
        let deadline = now.after(Ticks(value.saturating_sub(guest_tsc)));
        self.vm.inspect(|machine| {
            let apic = machine.platform.interrupts.local_mut(index);
            apic.set_tsc_deadline(value, deadline);
        });
        // The timer must be set, or fire.
        self.look = true;
    }

    fn x2apic_value(&mut self, number: u8) -> Result<u64, GuestException> {
        let index = self.index;
        let now = self.vm.host().now();
        self.vm
            .inspect(|machine| {
                let apic = machine.platform.interrupts.local_mut(index);
                if apic.mode() != ApicMode::X2 {
                    return None;
                }
                match number {
                    register::COMMAND => Some(apic.command()),
                    _ => apic.read(number, now).ok().map(u64::from),
                }
            })
            .ok_or(GENERAL_PROTECTION)
    }

    fn set_x2apic(&mut self, number: u8, value: u64) -> Result<(), GuestException> {
        let index = self.index;
        let (written, look) = self.vm.access(Some(index), |machine, now| {
            let interrupts = &mut machine.platform.interrupts;
            let apic = interrupts.local_mut(index);
            if apic.mode() != ApicMode::X2 {
                return Err(GENERAL_PROTECTION);
            }
            let effect = apic
                .write_x2(number, value, now)
                .map_err(|_| GENERAL_PROTECTION)?;
            interrupts.apply(index, effect);
            Ok(())
        });
        self.look |= look;
        written
    }
}
