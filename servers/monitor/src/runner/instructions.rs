//! Exits whose instruction has to be looked at: its length, what it does to device memory, which
//! control register it means.

use super::Runner;
use crate::bus::Bus;
use crate::emulate::control::{ControlRegister, ControlRequest};
use crate::emulate::length::{known_length, plain_length};
use crate::emulate::{EmulationError, Emulator, Progress};
use crate::event::GuestException;
use crate::exit::{AccessSize, Exit};
use crate::host::Host;
use crate::machine::MachineLock;
use crate::memory::GuestAddress;
use crate::mode::CpuMode;
use crate::outcome::{FailureKind, VmEvent};
use crate::system_register::{FieldWrites, write_cr0, write_cr3, write_cr4};
use crate::vcpu::{Vcpu, debug_register};
use crate::virtual_machine::VirtualMachine;
use iced_x86::Instruction;
use sel4_sys::VcpuField;

/// Defined bits of DR6 and DR7 that can be written, and those that are always one.
const DR6_WRITABLE: u64 = 0xe00f;
const DR6_ONES: u64 = 0xffff_0ff0;
const DR7_WRITABLE: u64 = 0xffff_2bff;
const DR7_ONES: u64 = 0x400;

/// The devices, as an instruction of one VCPU reaches them.
struct VcpuBus<'v, 'm, L, H> {
    vm: &'v VirtualMachine<'m, L, H>,
    index: usize,
    look: bool,
}

impl<L: MachineLock, H: Host> Bus for VcpuBus<'_, '_, L, H> {
    fn read_memory(&mut self, address: GuestAddress, size: AccessSize) -> u64 {
        let (value, look) = self.vm.access(Some(self.index), |machine, now| {
            machine.platform.read_memory(self.index, address, size, now)
        });
        self.look |= look;
        value
    }

    fn write_memory(&mut self, address: GuestAddress, size: AccessSize, value: u64) {
        let ((), look) = self.vm.access(Some(self.index), |machine, now| {
            machine
                .platform
                .write_memory(self.index, address, size, value, now);
        });
        self.look |= look;
    }

    fn read_port(&mut self, port: u16, size: AccessSize) -> u64 {
        let (value, look) = self.vm.access(Some(self.index), |machine, now| {
            machine.platform.read_port(port, size, now)
        });
        self.look |= look;
        value
    }

    fn write_port(&mut self, port: u16, size: AccessSize, value: u64) {
        let ((), look) = self.vm.access(Some(self.index), |machine, now| {
            machine.platform.write_port(port, size, value, now);
        });
        self.look |= look;
    }
}

impl<V: Vcpu, L: MachineLock, H: Host> Runner<'_, '_, V, L, H> {
    /// Length of the instruction that exited. `None` if the guest has no such instruction there
    /// (any more): it got an exception, or runs what is there now.
    pub(super) fn instruction_length(
        &mut self,
        mode: &CpuMode,
        exit: &Exit,
    ) -> Result<Option<u64>, VmEvent> {
        if let Some(length) = self.record.instruction_length() {
            return Ok(Some(length));
        }
        let rip = self.registers.rip;
        let memory = self.vm.memory();
        let first_bytes = self.fetcher.first_bytes(&memory, mode, rip);
        if let Some(length) = first_bytes.and_then(|bytes| plain_length(bytes, exit)) {
            return Ok(Some(length));
        }
        let fetched = self.fetcher.bytes(&memory, mode, &self.record, rip);
        let code = match fetched {
            Ok(code) => code,
            Err(error) => return self.refuse(mode, error).map(|()| None),
        };
        let known = known_length(code.as_slice(), mode.code_size, exit);
        if known.is_some() || !matches!(exit, Exit::Port(_)) {
            return Ok(known);
        }
        match self.fetcher.decode(&memory, mode, rip, &code) {
            Ok(instruction) => Ok(Some(instruction.len() as u64)),
            Err(error) => self.refuse(mode, error).map(|()| None),
        }
    }

    /// The guest's exception, or the end of the VM.
    fn refuse(&mut self, mode: &CpuMode, error: EmulationError) -> Result<(), VmEvent> {
        match error {
            EmulationError::Exception(exception) => {
                self.raise(mode, exception);
                Ok(())
            }
            EmulationError::OutsideRam(address) => Err(self.fail(FailureKind::OutsideRam(address))),
            EmulationError::Unsupported => {
                let mut bytes = [0; 8];
                let rip = self.registers.rip;
                let memory = self.vm.memory();
                if let Ok(code) = self.fetcher.bytes(&memory, mode, &self.record, rip) {
                    let count = code.as_slice().len().min(bytes.len());
                    bytes[..count].copy_from_slice(&code.as_slice()[..count]);
                }
                Err(self.fail(FailureKind::UnsupportedInstruction { bytes }))
            }
        }
    }

    fn decode(&mut self, mode: &CpuMode) -> Result<Instruction, EmulationError> {
        let rip = self.registers.rip;
        let memory = self.vm.memory();
        let code = self.fetcher.bytes(&memory, mode, &self.record, rip)?;
        self.fetcher.decode(&memory, mode, rip, &code)
    }

    /// Finishes the instruction at RIP. `reported` is the device address that the CPU named.
    pub(super) fn emulate(
        &mut self,
        mode: &CpuMode,
        reported: Option<GuestAddress>,
    ) -> Result<(), VmEvent> {
        let instruction = match self.decode(mode) {
            Ok(instruction) => instruction,
            Err(error) => return self.refuse(mode, error),
        };
        let mut bus = VcpuBus {
            vm: self.vm,
            index: self.index,
            look: false,
        };
        let progress = Emulator {
            registers: &mut self.registers,
            mode,
            memory: self.vm.memory(),
            segments: &mut self.vcpu,
            bus: &mut bus,
            reported,
        }
        .run(&instruction);
        self.look |= bus.look;
        match progress {
            Ok(Progress::Done) => {
                self.finish();
                Ok(())
            }
            Ok(Progress::Partial) => {
                self.dirty = true;
                Ok(())
            }
            Err(error) => {
                // A string instruction may have got some way.
                self.dirty = true;
                self.refuse(mode, error)
            }
        }
    }

    /// Answers an access to a control or debug register.
    pub(super) fn control(&mut self, mode: &CpuMode) -> Result<(), VmEvent> {
        let instruction = match self.decode(mode) {
            Ok(instruction) => instruction,
            Err(error) => return self.refuse(mode, error),
        };
        let mut bus = VcpuBus {
            vm: self.vm,
            index: self.index,
            look: false,
        };
        let request = Emulator {
            registers: &mut self.registers,
            mode,
            memory: self.vm.memory(),
            segments: &mut self.vcpu,
            bus: &mut bus,
            reported: None,
        }
        .control_request(&instruction);
        let request = match request {
            Ok(request) => request,
            Err(error) => return self.refuse(mode, error),
        };
        match self.control_access(mode, request) {
            Ok(()) => self.complete(mode, instruction.len() as u64),
            Err(exception) => self.raise(mode, exception),
        }
        Ok(())
    }

    fn control_access(
        &mut self,
        mode: &CpuMode,
        request: ControlRequest,
    ) -> Result<(), GuestException> {
        match request {
            ControlRequest::Finished => Ok(()),
            ControlRequest::Read { register, general } => {
                let value = match register {
                    ControlRegister::Cr0 => mode.cr0,
                    ControlRegister::Cr2 => self.vcpu.read_field(VcpuField::Cr2),
                    ControlRegister::Cr3 => mode.cr3,
                    ControlRegister::Cr4 => mode.cr4,
                    ControlRegister::Cr8 => self.task_priority(),
                };
                self.set_general(mode, general, value);
                Ok(())
            }
            ControlRequest::Write { register, value } => {
                let writes = match register {
                    ControlRegister::Cr0 => write_cr0(mode, value)?,
                    ControlRegister::Cr2 => FieldWrites::from_iter([(VcpuField::Cr2, value)]),
                    ControlRegister::Cr3 => write_cr3(mode, value, &self.allowed)?,
                    ControlRegister::Cr4 => write_cr4(mode, value, &self.allowed)?,
                    ControlRegister::Cr8 => return self.set_task_priority(value),
                };
                self.write_fields(&writes)
            }
            ControlRequest::ReadDebug { register, general } => {
                let value = self.vcpu.read_field(debug_field(register));
                self.set_general(mode, general, value);
                Ok(())
            }
            ControlRequest::WriteDebug { register, value } => {
                let is_control = register >= 6;
                if is_control && value >> 32 != 0 {
                    return Err(GuestException::GeneralProtection(0));
                }
                let value = match register {
                    6 => value & DR6_WRITABLE | DR6_ONES,
                    7 => value & DR7_WRITABLE | DR7_ONES,
                    _ => value,
                };
                self.write_fields(&[(debug_field(register), value)])
            }
        }
    }

    /// A general register as a MOV from a system register sets it: never 16 bits.
    fn set_general(&mut self, mode: &CpuMode, index: usize, value: u64) {
        self.registers.general[index & 15] = if mode.is_64_bit() {
            value
        } else {
            value & 0xffff_ffff
        };
    }

    fn task_priority(&mut self) -> u64 {
        let index = self.index;
        let class = self.vm.inspect(|machine| {
            machine
                .platform
                .interrupts
                .local(index)
                .task_priority_class()
        });
        u64::from(class)
    }

    fn set_task_priority(&mut self, value: u64) -> Result<(), GuestException> {
        if value > 0xf {
            return Err(GuestException::GeneralProtection(0));
        }
        let index = self.index;
        self.vm.inspect(|machine| {
            let apic = machine.platform.interrupts.local_mut(index);
            apic.set_task_priority_class(value as u8);
        });
        self.look = true;
        Ok(())
    }

    /// Writes fields with values of the guest's choice: what the kernel refuses is a #GP.
    pub(super) fn write_fields(
        &mut self,
        writes: &[(VcpuField, u64)],
    ) -> Result<(), GuestException> {
        self.vcpu
            .write_fields(writes)
            .map_err(|_| GuestException::GeneralProtection(0))
    }

    /// Carries out a system register write and moves on, or raises what forbids it.
    pub(super) fn write_system_register(
        &mut self,
        mode: &CpuMode,
        exit: &Exit,
        writes: Result<FieldWrites, GuestException>,
    ) -> Result<(), VmEvent> {
        let Some(length) = self.instruction_length(mode, exit)? else {
            return Ok(());
        };
        match writes.and_then(|writes| self.write_fields(&writes)) {
            Ok(()) => self.complete(mode, length),
            Err(exception) => self.raise(mode, exception),
        }
        Ok(())
    }
}

fn debug_field(register: u8) -> VcpuField {
    match register {
        6 => VcpuField::Dr6,
        7 => VcpuField::Dr7,
        index => debug_register(index),
    }
}
