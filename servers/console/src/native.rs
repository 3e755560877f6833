//! What root gave the program, as the traits that the wiring works with.
//!
//! Owns the step from named capabilities and regions to devices and rings. Separate from the wiring so
//! that the wiring is tested with other ends, and from the program's main so that main stays a page.

use alloc::format;
use alloc::string::String;

use libcap::capability::{IoPort, IrqHandler};
use libcap::env::ByteChannel;
use libcap::region::SharedMemory;
use libcap::ring::byte::{CAPACITY, Consumer};
use libcap::{Env, log};
use proto::console::Dimensions;

use crate::keyboard::{self, Keyboard};
use crate::ports::Ports;
use crate::screen::{PixelLayout, Screen, Surface};
use crate::service::LINE_DIMENSIONS;
use crate::switchboard::MAX_MACHINES;
use crate::uart::{COM1, Uart};
use crate::wiring::{Display, Duplex, Source, Wiring};

/// The ports of both devices.
#[derive(Debug, Clone, Copy)]
pub struct DevicePorts {
    serial: Option<IoPort>,
    keyboard: Option<IoPort>,
}

impl DevicePorts {
    fn range(self, port: u16) -> Option<IoPort> {
        match port {
            keyboard::DATA | keyboard::STATUS => self.keyboard,
            _ => self.serial,
        }
    }
}

impl Ports for DevicePorts {
    fn read(&mut self, port: u16) -> u8 {
        // What a bus gives where nothing answers.
        const FLOATING: u8 = 0xff;
        let range = self.range(port);
        range.map_or(FLOATING, |range| range.read_u8(port).unwrap_or(FLOATING))
    }

    fn write(&mut self, port: u16, value: u8) {
        if let Some(range) = self.range(port) {
            // The ranges are the manifest's; a port outside of them has no device.
            let _ = range.write_u8(port, value);
        }
    }
}

/// The memory of the screen.
#[derive(Debug)]
pub struct FrameBuffer(SharedMemory);

impl Surface for FrameBuffer {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        // A layout larger than the memory shows less.
        let _ = self.0.write(offset as u64, bytes);
    }
}

/// A program's log.
#[derive(Debug)]
pub struct LogRing(Consumer<'static>);

impl Source for LogRing {
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.0.read(bytes).unwrap_or_else(|_| {
            self.0.resynchronise();
            0
        })
    }
}

/// The channel of a VM.
#[derive(Debug)]
pub struct Channel(ByteChannel);

impl Source for Channel {
    fn read(&mut self, bytes: &mut [u8]) -> usize {
        self.0.rx.read(bytes).unwrap_or_else(|_| {
            self.0.rx.resynchronise();
            0
        })
    }
}

impl Duplex for Channel {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.tx.write(bytes).unwrap_or(0)
    }

    fn room(&mut self) -> usize {
        self.0.tx.room().unwrap_or_else(|_| {
            self.0.tx.resynchronise();
            0
        })
    }

    fn is_crowded(&mut self) -> bool {
        self.0
            .rx
            .available()
            .is_ok_and(|waiting| waiting >= CAPACITY / 2)
    }

    fn ring_bell(&mut self) {
        self.0.wake.signal();
    }
}

/// The wiring of the program.
pub type Wired = Wiring<DevicePorts, FrameBuffer, LogRing, Channel>;

/// The screen that the boot loader set up, if it did.
fn display(env: &mut Env) -> Option<Display<FrameBuffer>> {
    if env.args().is_empty() {
        return None;
    }
    let mode: proto::boot::Screen = env.decode_args();
    let memory = env.region_optional("screen.memory")?;
    let channels = match mode.bits_per_pixel {
        16 => [(11, 5), (5, 6), (0, 5)],
        _ => [(16, 8), (8, 8), (0, 8)],
    };
    let layout = PixelLayout {
        width: mode.width,
        height: mode.height,
        pitch_bytes: mode.pitch_bytes,
        bits_per_pixel: mode.bits_per_pixel,
        channels,
    };
    match Screen::new(layout) {
        Ok(screen) => Some(Display::new(screen, FrameBuffer(memory.into_shared()))),
        Err(error) => {
            log!("warning: no picture: {error:?} of {layout:?}");
            None
        }
    }
}

/// Claims devices and rings and sets the devices up; `channels` are those of the log.
pub fn wire(env: &mut Env, channels: &[String]) -> Wired {
    let mut ports = DevicePorts {
        serial: env.claim_optional("com1.ports"),
        keyboard: env.claim_optional("keyboard.ports"),
    };
    let logs = channels
        .iter()
        .map(|channel| LogRing(Consumer::attach(env.ring_page(&format!("{channel}.rx")))))
        .collect();
    let machines = (0..MAX_MACHINES)
        .map(|machine| {
            let channel = format!("vm.{machine}");
            let ring = format!("{channel}.rx");
            let declared = env.region_names().any(|region| region == ring);
            declared.then(|| Channel(env.byte_channel(&channel)))
        })
        .collect();
    Wiring {
        uart: Uart::new(&mut ports, COM1).ok(),
        keyboard: Keyboard::new(&mut ports).ok(),
        display: display(env),
        ports,
        logs,
        machines,
    }
}

/// The size of the smallest terminal, for a shell that is shown on all of them.
pub fn dimensions(wired: &Wired) -> Dimensions {
    let screen = wired.display.as_ref().map(Display::size);
    match (screen, &wired.uart) {
        (Some((columns, rows)), None) => Dimensions {
            columns: columns as u16,
            rows: rows as u16,
        },
        (Some((columns, rows)), Some(_)) => Dimensions {
            columns: LINE_DIMENSIONS.columns.min(columns as u16),
            rows: LINE_DIMENSIONS.rows.min(rows as u16),
        },
        (None, _) => LINE_DIMENSIONS,
    }
}

/// The interrupts of both devices.
#[derive(Debug, Clone, Copy)]
pub struct Interrupts {
    serial: Option<IrqHandler>,
    keyboard: Option<IrqHandler>,
}

impl Interrupts {
    /// Claims the interrupts of the devices that there are.
    pub fn claim(env: &mut Env) -> Self {
        Self {
            serial: env.claim_optional("com1.irq"),
            keyboard: env.claim_optional("keyboard.irq"),
        }
    }

    /// Lets the serial line interrupt again.
    pub fn acknowledge_serial(self) {
        acknowledge(self.serial);
    }

    /// Lets the keyboard interrupt again.
    pub fn acknowledge_keyboard(self) {
        acknowledge(self.keyboard);
    }
}

fn acknowledge(interrupt: Option<IrqHandler>) {
    if let Some(interrupt) = interrupt {
        // It can only fail for a capability that is none, which `claim` excluded.
        let _ = interrupt.acknowledge();
    }
}
