//! Port accesses.

use super::{
    COM1_IRQ, COM1_PORT, DEBUG_EXIT_PORT, MachineRequest, Platform, RESET_PORT, RTC_IRQ, SCI_IRQ,
};
use crate::device::acpi_power::{BASE_PORT, PORTS, PowerRequest, TIMER_OFFSET};
use crate::device::keyboard_controller::ResetLine;
use crate::device::pic::PicPort;
use crate::exit::AccessSize;
use crate::time::Ticks;

/// Register of the 8259 pair at a port.
fn pic_port(port: u16) -> Option<PicPort> {
    Some(match port {
        0x20 => PicPort::FirstCommand,
        0x21 => PicPort::FirstData,
        0xa0 => PicPort::SecondCommand,
        0xa1 => PicPort::SecondData,
        0x4d0 => PicPort::FirstLevel,
        0x4d1 => PicPort::SecondLevel,
        _ => return None,
    })
}

impl Platform {
    /// Reads `size` bytes from `port`.
    pub fn read_port(&mut self, port: u16, size: AccessSize, now: Ticks) -> u64 {
        match port {
            0xcf8 if size == AccessSize::Dword => u64::from(self.pci.read_address()),
            0xcfc..=0xcff if usize::from(port - 0xcfc) + size.bytes() <= 4 => {
                self.pci.read_data((port - 0xcfc) as u8, size)
            }
            _ if is_power_port(port) => self.read_power(port - BASE_PORT, size, now),
            _ if size == AccessSize::Byte => u64::from(self.read_byte(port, now)),
            _ => self.read_as_bytes(port, size, now),
        }
    }

    /// Writes `size` bytes to `port`.
    pub fn write_port(&mut self, port: u16, size: AccessSize, value: u64, now: Ticks) {
        match port {
            DEBUG_EXIT_PORT => self.note(MachineRequest::DebugExit(value as u32)),
            0xcf8 if size == AccessSize::Dword => self.pci.write_address(value as u32),
            0xcfc..=0xcff if usize::from(port - 0xcfc) + size.bytes() <= 4 => {
                self.pci.write_data((port - 0xcfc) as u8, size, value);
            }
            _ if is_power_port(port) => self.write_power(port - BASE_PORT, size, value, now),
            _ if size == AccessSize::Byte => self.write_byte(port, value as u8, now),
            _ => self.write_as_bytes(port, size, value, now),
        }
    }

    /// An ISA bus splits wide accesses for 8-bit devices.
    fn read_as_bytes(&mut self, port: u16, size: AccessSize, now: Ticks) -> u64 {
        (0..size.bytes() as u16).rev().fold(0, |value, index| {
            let byte = self.read_byte(port.wrapping_add(index), now);
            value << 8 | u64::from(byte)
        })
    }

    fn write_as_bytes(&mut self, port: u16, size: AccessSize, value: u64, now: Ticks) {
        for index in 0..size.bytes() as u16 {
            let byte = (value >> (index * 8)) as u8;
            self.write_byte(port.wrapping_add(index), byte, now);
        }
    }

    fn read_byte(&mut self, port: u16, now: Ticks) -> u8 {
        if let Some(register) = pic_port(port) {
            return self.interrupts.pic().read(register);
        }
        match port {
            0x40..=0x42 => self.pit.read_channel(usize::from(port - 0x40), now),
            0x60 => self.keyboard.read_data(),
            0x61 => self.pit.read_system_control(now),
            0x64 => self.keyboard.read_status(),
            0x71 => {
                self.timers_touched = true;
                let value = self.clock.read(now);
                self.interrupts.set_isa_line(RTC_IRQ, self.clock.line());
                value
            }
            0x92 => self.system_control,
            RESET_PORT => self.reset_control,
            COM1_PORT..=0x3ff => {
                // A byte that was read makes room for the next.
                self.console_touched |= port == COM1_PORT;
                let value = self.uart.read((port - COM1_PORT) as u8);
                self.interrupts.set_isa_line(COM1_IRQ, self.uart.line());
                value
            }
            _ => 0xff,
        }
    }

    fn write_byte(&mut self, port: u16, value: u8, now: Ticks) {
        if let Some(register) = pic_port(port) {
            self.interrupts.pic().write(register, value);
            self.interrupts.pic_changed();
            return;
        }
        match port {
            0x40..=0x42 => {
                let channel = usize::from(port - 0x40);
                self.pit.write_channel(channel, value, now);
                self.follow_timer(now);
            }
            0x43 => {
                self.pit.write_control(value, now);
                self.follow_timer(now);
            }
            0x60 => {
                let line = self.keyboard.write_data(value);
                self.note_reset_line(line);
            }
            0x61 => self.pit.write_system_control(value, now),
            0x64 => {
                let line = self.keyboard.write_command(value);
                self.note_reset_line(line);
            }
            0x70 => self.clock.select(value),
            0x71 => {
                self.timers_touched = true;
                self.clock.write(value, now);
                self.interrupts.set_isa_line(RTC_IRQ, self.clock.line());
            }
            0x92 => {
                self.system_control = value & !1;
                if value & 1 != 0 {
                    self.note(MachineRequest::Reset);
                }
            }
            RESET_PORT => {
                self.reset_control = value & 0x0a;
                if value & 0x04 != 0 {
                    self.note(MachineRequest::Reset);
                }
            }
            COM1_PORT..=0x3ff => {
                // Sent bytes, an emptied FIFO and an ended loopback can move bytes.
                self.console_touched |= matches!(port - COM1_PORT, 0 | 2 | 4);
                self.uart.write((port - COM1_PORT) as u8, value);
                self.interrupts.set_isa_line(COM1_IRQ, self.uart.line());
            }
            _ => {}
        }
    }

    /// A reprogrammed timer moves its line at once.
    fn follow_timer(&mut self, now: Ticks) {
        self.timers_touched = true;
        self.interrupts
            .set_isa_line(super::PIT_IRQ, self.pit.line(now));
    }

    fn note_reset_line(&mut self, line: ResetLine) {
        if line == ResetLine::Pulled {
            self.note(MachineRequest::Reset);
        }
    }

    fn read_power(&mut self, offset: u16, size: AccessSize, now: Ticks) -> u64 {
        if offset >= TIMER_OFFSET {
            let shift = u32::from(offset - TIMER_OFFSET) * 8;
            return u64::from(self.power.timer(now))
                .checked_shr(shift)
                .unwrap_or(0)
                & size.mask();
        }
        let even = offset & !1;
        let low = u64::from(self.power.read(even, now));
        let high = u64::from(self.power.read(even + 2, now));
        (low | high << 16) >> ((offset & 1) * 8) & size.mask()
    }

    fn write_power(&mut self, offset: u16, size: AccessSize, value: u64, now: Ticks) {
        self.timers_touched = true;
        // Byte writes to these registers do not occur outside of tests of firmware.
        if offset & 1 != 0 || size == AccessSize::Byte {
            return;
        }
        for (index, part) in [value, value >> 16].into_iter().enumerate() {
            if index == 1 && size == AccessSize::Word {
                break;
            }
            let request = self
                .power
                .write(offset + index as u16 * 2, part as u16, now);
            if request == PowerRequest::Off {
                self.note(MachineRequest::PowerOff);
            }
        }
        self.interrupts.set_isa_line(SCI_IRQ, self.power.line());
    }
}

fn is_power_port(port: u16) -> bool {
    (BASE_PORT..BASE_PORT + PORTS).contains(&port)
}
