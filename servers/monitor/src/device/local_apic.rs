//! The local APIC of one virtual CPU, in its xAPIC and x2APIC forms. Source: Intel SDM volume 3,
//! chapter "Advanced Programmable Interrupt Controller".
//!
//! It decides *which* interrupt its CPU would take next. Whether the CPU can take one now (flags,
//! shadows) is [`crate::machine`]'s question, and where messages go is [`crate::interrupts`]'.

mod messages;
pub mod register;
pub mod timer;
pub mod vector_set;

use serde::{Deserialize, Serialize};

use super::interrupt_message::{Delivery, InterruptMessage, Trigger};
use crate::time::{Ticks, TimeBase};
use register as reg;
use timer::{ApicTimer, TimerMode};
use vector_set::VectorSet;

/// Where the registers are after reset.
pub const DEFAULT_BASE: u64 = 0xfee0_0000;

/// APIC_BASE: this CPU started the machine.
const BASE_BOOTSTRAP: u64 = 1 << 8;
/// APIC_BASE: x2APIC mode.
const BASE_X2: u64 = 1 << 10;
/// APIC_BASE: enabled.
const BASE_ENABLED: u64 = 1 << 11;
/// APIC_BASE: address bits that can be written.
const BASE_ADDRESS: u64 = 0x000f_ffff_ffff_f000;

/// Integrated APIC, six local vector table entries.
const VERSION: u32 = 0x14 | 5 << 16;

const SPURIOUS_ENABLED: u32 = 1 << 8;
const LVT_MASKED: u32 = 1 << 16;

const ERROR_SEND_VECTOR: u32 = 1 << 5;
const ERROR_RECEIVE_VECTOR: u32 = 1 << 6;
const ERROR_REGISTER: u32 = 1 << 7;

/// Vectors below this are the CPU's own.
const FIRST_VECTOR: u8 = 16;

/// Local vector table entries: timer, thermal, performance, LINT0, LINT1, error.
const LVT_ENTRIES: usize = 6;
/// Writable bits of each.
const LVT_WRITABLE: [u32; LVT_ENTRIES] = [
    0x0007_00ff,
    0x0001_07ff,
    0x0001_07ff,
    0x0001_a7ff,
    0x0001_a7ff,
    0x0001_00ff,
];
const LVT_INDEX_LINT0: usize = 3;
const LVT_INDEX_ERROR: usize = 5;

/// What an access asks of the rest of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicEffect {
    /// Nothing.
    None,
    /// The timer's deadline changed.
    Timer,
    /// A level-triggered interrupt with this vector was finished: tell the I/O APIC.
    EndOfInterrupt(u8),
    /// Send this message.
    Send(InterruptMessage),
}

/// The access is not one that the mode allows: #GP in x2APIC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RegisterRefused;

/// In which form the registers are reachable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ApicMode {
    /// Not at all.
    Disabled,
    /// As memory.
    Memory,
    /// As MSRs.
    X2,
}

/// One local APIC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LocalApic {
    id: u32,
    base: u64,
    task_priority: u8,
    logical: u32,
    format: u32,
    spurious: u32,
    in_service: VectorSet,
    level_triggered: VectorSet,
    requested: VectorSet,
    errors: u32,
    errors_shown: u32,
    command: u64,
    lvt: [u32; LVT_ENTRIES],
    timer: ApicTimer,
}

impl LocalApic {
    /// The APIC of CPU `id` after power-on; CPU 0 is the bootstrap one.
    #[must_use]
    pub fn new(id: u32, base: TimeBase) -> Self {
        let bootstrap = if id == 0 { BASE_BOOTSTRAP } else { 0 };
        let mut apic = Self {
            id,
            base: DEFAULT_BASE | BASE_ENABLED | bootstrap,
            task_priority: 0,
            logical: 0,
            format: 0,
            spurious: 0,
            in_service: VectorSet::default(),
            level_triggered: VectorSet::default(),
            requested: VectorSet::default(),
            errors: 0,
            errors_shown: 0,
            command: 0,
            lvt: [0; LVT_ENTRIES],
            timer: ApicTimer::new(base),
        };
        apic.reset();
        apic
    }

    /// What INIT does: everything but the identifier and APIC_BASE.
    pub fn reset(&mut self) {
        self.task_priority = 0;
        self.logical = 0;
        self.format = u32::MAX;
        self.spurious = 0xff;
        self.in_service = VectorSet::default();
        self.level_triggered = VectorSet::default();
        self.requested = VectorSet::default();
        self.errors = 0;
        self.errors_shown = 0;
        self.command = 0;
        self.lvt = [LVT_MASKED; LVT_ENTRIES];
        self.timer.stop();
    }

    /// Identifier.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.id
    }

    /// Mode that APIC_BASE chooses.
    #[must_use]
    pub fn mode(&self) -> ApicMode {
        match self.base & (BASE_ENABLED | BASE_X2) {
            0 => ApicMode::Disabled,
            BASE_ENABLED => ApicMode::Memory,
            _ => ApicMode::X2,
        }
    }

    /// APIC_BASE.
    #[must_use]
    pub fn base_register(&self) -> u64 {
        self.base
    }

    /// First address of the register page, when there is one.
    #[must_use]
    pub fn page(&self) -> Option<u64> {
        (self.mode() == ApicMode::Memory).then_some(self.base & BASE_ADDRESS)
    }

    /// Writes APIC_BASE.
    ///
    /// # Errors
    /// [`RegisterRefused`] for reserved bits and for changes of mode that the SDM forbids.
    pub fn set_base_register(&mut self, value: u64) -> Result<(), RegisterRefused> {
        let mode_bits = BASE_ENABLED | BASE_X2;
        if value & !(BASE_ADDRESS | BASE_BOOTSTRAP | mode_bits) != 0 {
            return Err(RegisterRefused);
        }
        match (self.base & mode_bits, value & mode_bits) {
            // x2APIC is entered from xAPIC and left only by disabling.
            (_, BASE_X2) | (0, 0xc00) | (0xc00, BASE_ENABLED) => return Err(RegisterRefused),
            (old, 0) if old != 0 => self.reset(),
            _ => {}
        }
        self.base = value & !BASE_BOOTSTRAP | self.base & BASE_BOOTSTRAP;
        Ok(())
    }

    fn software_enabled(&self) -> bool {
        self.base & BASE_ENABLED != 0 && self.spurious & SPURIOUS_ENABLED != 0
    }

    /// Reads a register, by its number.
    ///
    /// # Errors
    /// [`RegisterRefused`] if it cannot be read.
    pub fn read(&mut self, number: u8, now: Ticks) -> Result<u32, RegisterRefused> {
        let is_x2 = self.mode() == ApicMode::X2;
        Ok(match number {
            reg::ID if is_x2 => self.id,
            reg::ID => self.id << 24,
            reg::VERSION => VERSION,
            reg::TASK_PRIORITY => u32::from(self.task_priority),
            reg::ARBITRATION_PRIORITY if !is_x2 => 0,
            reg::PROCESSOR_PRIORITY => u32::from(self.processor_priority()),
            reg::LOGICAL_DESTINATION => self.logical_identifier(),
            reg::DESTINATION_FORMAT if !is_x2 => self.format,
            reg::SPURIOUS => self.spurious,
            0x10..=0x17 => self.in_service.register(number - reg::IN_SERVICE),
            0x18..=0x1f => self.level_triggered.register(number - reg::TRIGGER_MODE),
            0x20..=0x27 => self.requested.register(number - reg::REQUESTED),
            reg::ERROR_STATUS => self.errors_shown,
            reg::COMMAND => self.command as u32,
            reg::COMMAND_HIGH if !is_x2 => (self.command >> 32) as u32,
            reg::LVT_TIMER..=reg::LVT_ERROR => self.lvt[usize::from(number - reg::LVT_TIMER)],
            reg::INITIAL_COUNT => self.timer.initial(),
            reg::CURRENT_COUNT => self.timer.current(now),
            reg::DIVIDE => u32::from(self.timer.divide()),
            _ => {
                self.note_error(ERROR_REGISTER);
                return Err(RegisterRefused);
            }
        })
    }

    /// Writes a register, by its number. In x2APIC mode [`LocalApic::write_x2`] comes before.
    ///
    /// # Errors
    /// [`RegisterRefused`] if it cannot be written.
    pub fn write(
        &mut self,
        number: u8,
        value: u32,
        now: Ticks,
    ) -> Result<ApicEffect, RegisterRefused> {
        let is_x2 = self.mode() == ApicMode::X2;
        match number {
            reg::END_OF_INTERRUPT => return Ok(self.end_of_interrupt()),
            reg::TASK_PRIORITY => self.task_priority = value as u8,
            reg::ID | reg::ARBITRATION_PRIORITY if !is_x2 => {}
            reg::LOGICAL_DESTINATION if !is_x2 => self.logical = value & 0xff00_0000,
            reg::DESTINATION_FORMAT if !is_x2 => self.format = value | 0x0fff_ffff,
            reg::SPURIOUS => self.set_spurious(value),
            reg::ERROR_STATUS => self.errors_shown = core::mem::take(&mut self.errors),
            reg::COMMAND => {
                self.command = self.command & !0xffff_ffff | u64::from(value & !0x1000);
                let destination = (self.command >> 56) as u32;
                return Ok(self.send(destination));
            }
            reg::COMMAND_HIGH if !is_x2 => {
                self.command = self.command & 0xffff_ffff | u64::from(value & 0xff00_0000) << 32;
            }
            reg::LVT_TIMER..=reg::LVT_ERROR => {
                self.set_lvt(usize::from(number - reg::LVT_TIMER), value, now);
                return Ok(ApicEffect::Timer);
            }
            reg::INITIAL_COUNT => {
                self.timer.set_initial(value, now);
                return Ok(ApicEffect::Timer);
            }
            reg::DIVIDE => {
                self.timer.set_divide(value as u8, now);
                return Ok(ApicEffect::Timer);
            }
            _ => {
                self.note_error(ERROR_REGISTER);
                return Err(RegisterRefused);
            }
        }
        Ok(ApicEffect::None)
    }

    /// Writes an x2APIC register, which refuses reserved bits and takes the command in one piece.
    ///
    /// # Errors
    /// [`RegisterRefused`].
    pub fn write_x2(
        &mut self,
        number: u8,
        value: u64,
        now: Ticks,
    ) -> Result<ApicEffect, RegisterRefused> {
        let allowed: u64 = match number {
            reg::COMMAND => 0xffff_ffff_000c_cfff,
            reg::TASK_PRIORITY | reg::SELF_INTERRUPT => 0xff,
            reg::SPURIOUS => 0x13ff,
            reg::END_OF_INTERRUPT | reg::ERROR_STATUS => 0,
            reg::LVT_TIMER..=reg::LVT_ERROR => {
                u64::from(LVT_WRITABLE[usize::from(number - reg::LVT_TIMER)] | 0x5000)
            }
            reg::INITIAL_COUNT => 0xffff_ffff,
            reg::DIVIDE => 0xb,
            _ => return Err(RegisterRefused),
        };
        if value & !allowed != 0 {
            return Err(RegisterRefused);
        }
        match number {
            reg::COMMAND => {
                self.command = value;
                Ok(self.send((value >> 32) as u32))
            }
            reg::SELF_INTERRUPT => {
                self.accept(value as u8, Trigger::Edge);
                Ok(ApicEffect::None)
            }
            _ => self.write(number, value as u32, now),
        }
    }

    /// The whole interrupt command register, as x2APIC reads it.
    #[must_use]
    pub fn command(&self) -> u64 {
        self.command
    }

    fn set_spurious(&mut self, value: u32) {
        self.spurious = value & 0x3ff;
        if !self.software_enabled() {
            for entry in &mut self.lvt {
                *entry |= LVT_MASKED;
            }
        }
    }

    fn set_lvt(&mut self, index: usize, value: u32, now: Ticks) {
        let mut entry = value & LVT_WRITABLE[index];
        if !self.software_enabled() {
            entry |= LVT_MASKED;
        }
        self.lvt[index] = entry;
        if index == 0 {
            self.timer.set_mode(TimerMode::from_entry(entry), now);
        }
    }

    fn end_of_interrupt(&mut self) -> ApicEffect {
        let Some(vector) = self.in_service.highest() else {
            return ApicEffect::None;
        };
        self.in_service.remove(vector);
        if self.level_triggered.contains(vector) {
            ApicEffect::EndOfInterrupt(vector)
        } else {
            ApicEffect::None
        }
    }

    /// Notes an error, and raises the error interrupt.
    fn note_error(&mut self, error: u32) {
        let is_new = self.errors & error == 0;
        self.errors |= error;
        if is_new {
            self.raise_local(LVT_INDEX_ERROR);
        }
    }

    /// Raises a local interrupt with its entry's vector, unless masked.
    fn raise_local(&mut self, index: usize) {
        let entry = self.lvt[index];
        let vector = entry as u8;
        if entry & LVT_MASKED == 0 && vector >= FIRST_VECTOR {
            self.accept(vector, Trigger::Edge);
        }
    }

    /// Takes a fixed interrupt that arrived for this CPU.
    pub fn accept(&mut self, vector: u8, trigger: Trigger) {
        if !self.software_enabled() {
            return;
        }
        if vector < FIRST_VECTOR {
            self.note_error(ERROR_RECEIVE_VECTOR);
            return;
        }
        self.requested.insert(vector);
        match trigger {
            Trigger::Edge => self.level_triggered.remove(vector),
            Trigger::Level => self.level_triggered.insert(vector),
        }
    }

    /// Processor priority: the higher of the task's and of what is in service.
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let serving = self.in_service.highest().unwrap_or(0) & 0xf0;
        if self.task_priority & 0xf0 >= serving {
            self.task_priority
        } else {
            serving
        }
    }

    /// Task priority, as CR8 shows it.
    #[must_use]
    pub fn task_priority_class(&self) -> u8 {
        self.task_priority >> 4
    }

    /// Sets the task priority through CR8.
    pub fn set_task_priority_class(&mut self, class: u8) {
        self.task_priority = class << 4;
    }

    /// The interrupt that the CPU would take next.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        if !self.software_enabled() {
            return None;
        }
        let vector = self.requested.highest()?;
        (vector & 0xf0 > self.processor_priority() & 0xf0).then_some(vector)
    }

    /// The CPU takes `vector`, which [`LocalApic::pending`] gave.
    pub fn acknowledge(&mut self, vector: u8) {
        self.requested.remove(vector);
        self.in_service.insert(vector);
    }

    /// Whether the 8259 pair's output reaches this CPU.
    #[must_use]
    pub fn passes_external(&self) -> bool {
        if self.base & BASE_ENABLED == 0 {
            return self.base & BASE_BOOTSTRAP != 0;
        }
        let entry = self.lvt[LVT_INDEX_LINT0];
        entry & LVT_MASKED == 0 && Delivery::from_bits(u64::from(entry) >> 8) == Delivery::External
    }

    /// When the timer fires next.
    #[must_use]
    pub fn deadline(&self) -> Option<Ticks> {
        self.timer.deadline()
    }

    /// Lets the timer fire if it is due.
    pub fn advance(&mut self, now: Ticks) {
        if self.timer.advance(now) {
            self.raise_local(0);
        }
    }

    /// TSC_DEADLINE.
    #[must_use]
    pub fn tsc_deadline(&self) -> u64 {
        self.timer.tsc_deadline()
    }

    /// Writes TSC_DEADLINE: `value` as the guest wrote it, `deadline` the same in machine time.
    pub fn set_tsc_deadline(&mut self, value: u64, deadline: Ticks) {
        self.timer.set_tsc_deadline(value, deadline);
    }

    /// Sets up what firmware leaves on the bootstrap CPU: enabled, with the 8259 pair on LINT0 and
    /// NMI on LINT1.
    pub fn set_virtual_wire(&mut self) {
        self.spurious = SPURIOUS_ENABLED | 0xff;
        self.lvt[LVT_INDEX_LINT0] = 7 << 8;
        self.lvt[LVT_INDEX_LINT0 + 1] = 4 << 8;
    }
}

#[cfg(test)]
mod tests;
