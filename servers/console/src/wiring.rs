//! Moves bytes between the switchboard, the devices and the rings.
//!
//! Owns the drivers and the far ends of the rings, and the order in which they are served. What the bytes
//! mean is [`crate::switchboard`]'s. Rings and ports are arguments, so the host can be all of them.
//!
//! Nothing here waits: each turn moves what can be moved. What cannot be moved yet (a full FIFO, a full
//! ring) is moved by the turn that the device's interrupt or the peer's signal causes.

use alloc::string::String;
use alloc::vec::Vec;

use crate::grid::Grid;
use crate::keyboard::Keyboard;
use crate::ports::Ports;
use crate::scancode::Typed;
use crate::screen::{Screen, Surface};
use crate::service::Pump;
use crate::switchboard::{Switchboard, Terminal};
use crate::uart::Uart;

/// Bytes moved from a ring at a time.
const CHUNK_BYTES: usize = 512;
/// Bytes taken from one ring in one turn: a writer that never stops must not keep the others waiting.
/// It is more than a ring holds, so a turn empties a ring whose writer is as fast as most.
const MAX_TURN_BYTES: usize = 8 * 1024;
/// Shortest time between two pictures: 25 a second. A scrolled page costs millions of instructions to
/// draw, and nobody reads the pictures between.
const PICTURE_INTERVAL_US: u64 = 40_000;

/// The reading end of a byte ring.
pub trait Source {
    /// Reads as many bytes as there are and fit; how many that is.
    fn read(&mut self, bytes: &mut [u8]) -> usize;
}

/// Both ends of a channel.
pub trait Duplex: Source {
    /// Writes as many bytes as fit; how many that is.
    fn write(&mut self, bytes: &[u8]) -> usize;
    /// How many bytes fit.
    fn room(&mut self) -> usize;
    /// Whether so much waits to be read that the other side may be out of room.
    fn is_crowded(&mut self) -> bool;
    /// Tells the other side that there are bytes, or room again.
    fn ring_bell(&mut self);
}

/// The screen with the picture of what it shows.
#[derive(Debug)]
pub struct Display<S> {
    screen: Screen,
    grid: Grid,
    surface: S,
    /// When the screen was drawn last; nothing was before the first time.
    drawn_us: Option<u64>,
    /// The grid changed since.
    stale: bool,
}

impl<S: Surface> Display<S> {
    /// A blank display.
    pub fn new(screen: Screen, surface: S) -> Self {
        let (columns, rows) = screen.size();
        Self {
            screen,
            grid: Grid::new(columns, rows),
            surface,
            drawn_us: None,
            stale: true,
        }
    }

    /// When the next picture is due; `None` if the last one is up to date.
    fn due_us(&self) -> Option<u64> {
        let next = self.drawn_us.map_or(0, |drawn| drawn + PICTURE_INTERVAL_US);
        self.stale.then_some(next)
    }

    /// Draws the picture if it is due.
    fn draw(&mut self, now_us: u64) {
        if self.due_us().is_some_and(|due| due <= now_us) {
            self.screen.draw(&mut self.grid, &mut self.surface);
            self.drawn_us = Some(now_us);
            self.stale = false;
        }
    }

    /// Columns and rows of characters.
    pub fn size(&self) -> (usize, usize) {
        self.screen.size()
    }
}

/// Devices and rings, joined to the switchboard.
#[derive(Debug)]
pub struct Wiring<P, S, L, D> {
    /// The ports of the devices.
    pub ports: P,
    /// The serial line, if there is one.
    pub uart: Option<Uart>,
    /// The keyboard, if there is one.
    pub keyboard: Option<Keyboard>,
    /// The screen, if there is one.
    pub display: Option<Display<S>>,
    /// The log rings, in the order of the switchboard's writers.
    pub logs: Vec<L>,
    /// The channel of each VM that can be; its index is the machine's.
    pub machines: Vec<Option<D>>,
}

impl<P: Ports, S: Surface, L: Source, D: Duplex> Wiring<P, S, L, D> {
    /// The terminals that there are.
    pub fn terminals(&self) -> Vec<Terminal> {
        let line = self.uart.as_ref().map(|_| Terminal::Line);
        let screen = self.display.as_ref().map(|_| Terminal::Screen);
        line.into_iter().chain(screen).collect()
    }

    /// Serves the UART's interrupt, which was acknowledged before.
    pub fn serial_interrupt(&mut self, switchboard: &mut Switchboard) {
        if let Some(uart) = &mut self.uart {
            uart.interrupt(&mut self.ports, |byte| {
                switchboard.typed(Terminal::Line, Typed::Byte(byte));
            });
        }
    }

    /// Serves the keyboard's interrupt, which was acknowledged before.
    pub fn keyboard_interrupt(&mut self, switchboard: &mut Switchboard) {
        if let Some(keyboard) = &mut self.keyboard {
            keyboard.interrupt(&mut self.ports, |typed| {
                switchboard.typed(Terminal::Screen, typed);
            });
        }
    }

    /// Moves everything that can be moved.
    pub fn turn(&mut self, switchboard: &mut Switchboard, now_us: u64) {
        self.collect_logs(switchboard, now_us);
        for machine in 0..self.machines.len() {
            self.exchange(machine, switchboard);
        }
        if let Some(uart) = &mut self.uart
            && switchboard.has_output(Terminal::Line)
        {
            uart.send(&mut self.ports, || switchboard.next_output(Terminal::Line));
        }
        if let Some(display) = &mut self.display {
            while let Some(byte) = switchboard.next_output(Terminal::Screen) {
                display.grid.write(&[byte]);
                display.stale = true;
            }
            display.draw(now_us);
        }
    }

    fn collect_logs(&mut self, switchboard: &mut Switchboard, now_us: u64) {
        let mut bytes = [0; CHUNK_BYTES];
        for (writer, log) in self.logs.iter_mut().enumerate() {
            let mut moved = 0;
            while moved < MAX_TURN_BYTES {
                let count = log.read(&mut bytes);
                if count == 0 {
                    break;
                }
                switchboard.write_log(writer, &bytes[..count], now_us);
                moved += count;
            }
        }
    }

    /// What a VM wrote and what was typed for it.
    fn exchange(&mut self, machine: usize, switchboard: &mut Switchboard) {
        let Some(Some(channel)) = self.machines.get_mut(machine) else {
            return;
        };
        // A bell costs two switches between programs, so it rings only if somebody may wait for it.
        let mut news = channel.is_crowded();
        let mut bytes = [0; CHUNK_BYTES];
        let mut moved = 0;
        while moved < MAX_TURN_BYTES {
            let room = usize::try_from(switchboard.machine_room(machine)).unwrap_or(CHUNK_BYTES);
            let count = channel.read(&mut bytes[..room.min(CHUNK_BYTES)]);
            if count == 0 {
                break;
            }
            switchboard.write_machine(machine, &bytes[..count]);
            moved += count;
        }
        while channel.room() > 0 {
            let Some(byte) = switchboard.take_machine_input(machine) else {
                break;
            };
            channel.write(&[byte]);
            news = true;
        }
        if news {
            channel.ring_bell();
        }
    }
}

impl<P: Ports, S: Surface, L: Source, D: Duplex> Pump for Wiring<P, S, L, D> {
    fn pump(&mut self, switchboard: &mut Switchboard, now_us: u64) {
        self.turn(switchboard, now_us);
    }

    fn due_us(&self) -> Option<u64> {
        self.display.as_ref().and_then(Display::due_us)
    }
}

/// The names of the log channels among the names of regions, and the programs behind them: the ring of
/// `log.root` is region `log.root.rx`.
pub fn log_channels<'r>(regions: impl Iterator<Item = &'r str>) -> Vec<String> {
    let mut channels: Vec<String> = regions
        .filter_map(|region| region.strip_suffix(".rx"))
        .filter(|channel| channel.starts_with(LOG_PREFIX))
        .map(String::from)
        .collect();
    channels.sort();
    channels
}

/// What the names of log channels start with.
const LOG_PREFIX: &str = "log.";

/// The program that writes to a log channel.
pub fn writer(channel: &str) -> &str {
    channel.strip_prefix(LOG_PREFIX).unwrap_or(channel)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scancode::Typed;
    use alloc::collections::VecDeque;
    use proto::console::VirtualConsole;
    use std::cell::RefCell;
    use std::rc::Rc;

    /// A UART that is always ready, and no other device.
    #[derive(Default)]
    struct Line {
        scratch: u8,
        input: VecDeque<u8>,
        sent: Vec<u8>,
        configured: bool,
    }

    impl Ports for Line {
        fn read(&mut self, port: u16) -> u8 {
            match port - crate::uart::COM1 {
                0 => self.input.pop_front().unwrap_or(0),
                2 if self.input.is_empty() => 1,
                2 => 4,
                5 => 0x20 | u8::from(!self.input.is_empty()),
                7 => self.scratch,
                _ => 0,
            }
        }
        fn write(&mut self, port: u16, value: u8) {
            match port - crate::uart::COM1 {
                0 if self.configured => self.sent.push(value),
                4 => self.configured = true,
                7 => self.scratch = value,
                _ => {}
            }
        }
    }

    /// The two rings of a channel, `capacity` bytes each, and how often the bell rang.
    #[derive(Default, Clone)]
    struct Pipe {
        from: Rc<RefCell<VecDeque<u8>>>,
        to: Rc<RefCell<Vec<u8>>>,
        bells: Rc<RefCell<usize>>,
    }

    const PIPE_BYTES: usize = 16;

    impl Source for Pipe {
        fn read(&mut self, bytes: &mut [u8]) -> usize {
            let mut from = self.from.borrow_mut();
            let count = bytes.len().min(from.len());
            for (place, byte) in bytes.iter_mut().zip(from.drain(..count)) {
                *place = byte;
            }
            count
        }
    }

    impl Duplex for Pipe {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let count = bytes.len().min(self.room());
            self.to.borrow_mut().extend(&bytes[..count]);
            count
        }
        fn room(&mut self) -> usize {
            PIPE_BYTES - self.to.borrow().len()
        }
        fn is_crowded(&mut self) -> bool {
            self.from.borrow().len() >= PIPE_BYTES / 2
        }
        fn ring_bell(&mut self) {
            *self.bells.borrow_mut() += 1;
        }
    }

    struct NoSurface;
    impl Surface for NoSurface {
        fn write(&mut self, _: usize, _: &[u8]) {}
    }

    type TestWiring = Wiring<Line, NoSurface, Pipe, Pipe>;

    fn wiring() -> (TestWiring, Pipe, Pipe) {
        let (log, machine) = (Pipe::default(), Pipe::default());
        let mut ports = Line::default();
        let uart = Uart::new(&mut ports, crate::uart::COM1).unwrap();
        let wiring = Wiring {
            ports,
            uart: Some(uart),
            keyboard: None,
            display: None,
            logs: vec![log.clone()],
            machines: vec![None, Some(machine.clone())],
        };
        (wiring, log, machine)
    }

    fn switchboard(wiring: &TestWiring) -> Switchboard {
        Switchboard::new(&wiring.terminals(), ["root".into()])
    }

    fn turns(wiring: &mut TestWiring, switchboard: &mut Switchboard) -> String {
        for _ in 0..50 {
            wiring.turn(switchboard, 7);
        }
        String::from_utf8(core::mem::take(&mut wiring.ports.sent)).unwrap()
    }

    #[test]
    fn logs_are_collected_and_machines_are_heard() {
        let (mut wiring, log, machine) = wiring();
        let mut switchboard = switchboard(&wiring);
        log.from.borrow_mut().extend(b"hello\n");
        machine.from.borrow_mut().extend(b"booting");
        turns(&mut wiring, &mut switchboard);
        assert_eq!(switchboard.read_log(0).lines[0].text, "hello");
        assert_eq!(*machine.bells.borrow(), 0, "nobody waits for room");
        switchboard.attach(VirtualConsole::Machine(1)).unwrap();
        assert!(turns(&mut wiring, &mut switchboard).ends_with("booting"));
    }

    #[test]
    fn a_machine_that_may_wait_for_room_is_told() {
        let (mut wiring, _, machine) = wiring();
        let mut switchboard = switchboard(&wiring);
        machine.from.borrow_mut().extend([b'x'; PIPE_BYTES]);
        turns(&mut wiring, &mut switchboard);
        assert_eq!(*machine.bells.borrow(), 1);
    }

    #[test]
    fn typed_bytes_reach_the_machine_as_fast_as_it_takes_them() {
        let (mut wiring, _, machine) = wiring();
        let mut switchboard = switchboard(&wiring);
        switchboard.attach(VirtualConsole::Machine(1)).unwrap();
        for byte in 0..PIPE_BYTES as u8 + 4 {
            wiring.ports.input.push_back(byte | 0x40);
        }
        wiring.serial_interrupt(&mut switchboard);
        turns(&mut wiring, &mut switchboard);
        assert_eq!(machine.to.borrow().len(), PIPE_BYTES);
        machine.to.borrow_mut().clear();
        turns(&mut wiring, &mut switchboard);
        assert_eq!(*machine.to.borrow(), b"PQRS");
    }

    #[test]
    fn a_machine_that_is_watched_is_slowed_to_the_line() {
        let (mut wiring, _, machine) = wiring();
        let mut switchboard = switchboard(&wiring);
        switchboard.attach(VirtualConsole::Machine(1)).unwrap();
        machine.from.borrow_mut().extend([b'x'; 20_000]);
        wiring.turn(&mut switchboard, 0);
        let left = machine.from.borrow().len();
        assert!(left > 15_000, "{left} bytes stay in the ring");
        let mut shown = 0;
        while !machine.from.borrow().is_empty() {
            shown += turns(&mut wiring, &mut switchboard).matches('x').count();
        }
        for _ in 0..10 {
            shown += turns(&mut wiring, &mut switchboard).matches('x').count();
        }
        assert_eq!(shown, 20_000, "nothing is lost");
    }

    #[test]
    fn a_machine_that_writes_without_end_does_not_hold_the_turn() {
        struct Endless;
        impl Source for Endless {
            fn read(&mut self, bytes: &mut [u8]) -> usize {
                bytes.fill(b'x');
                bytes.len()
            }
        }
        impl Duplex for Endless {
            fn write(&mut self, bytes: &[u8]) -> usize {
                bytes.len()
            }
            fn room(&mut self) -> usize {
                usize::MAX
            }
            fn is_crowded(&mut self) -> bool {
                true
            }
            fn ring_bell(&mut self) {}
        }
        let mut wiring: Wiring<Line, NoSurface, Endless, Endless> = Wiring {
            ports: Line::default(),
            uart: None,
            keyboard: None,
            display: None,
            logs: vec![Endless],
            machines: vec![Some(Endless)],
        };
        let mut switchboard = Switchboard::new(&[], ["root".into()]);
        wiring.turn(&mut switchboard, 0);
        switchboard.typed(Terminal::Line, Typed::Byte(b'x'));
    }

    #[test]
    fn log_channels_are_found_by_their_names() {
        let regions = [
            "vm.0.rx",
            "log.root.rx",
            "log.monitor.1.rx",
            "screen.memory",
            "log.tx",
        ];
        let channels = log_channels(regions.into_iter());
        assert_eq!(channels, ["log.monitor.1", "log.root"]);
        assert_eq!(writer(&channels[0]), "monitor.1");
    }

    /// Counts what is drawn.
    #[derive(Default)]
    struct Counter(usize);

    impl Surface for Counter {
        fn write(&mut self, _: usize, _: &[u8]) {
            self.0 += 1;
        }
    }

    #[test]
    fn pictures_keep_their_distance_and_the_last_one_is_drawn() {
        let layout = crate::screen::PixelLayout {
            width: 320,
            height: 200,
            pitch_bytes: 320 * 4,
            bits_per_pixel: 32,
            channels: [(16, 8), (8, 8), (0, 8)],
        };
        let mut display = Display::new(Screen::new(layout).unwrap(), Counter::default());
        display.draw(1);
        let first = display.surface.0;
        assert!(first > 0);
        display.grid.write(b"x");
        display.stale = true;
        display.draw(PICTURE_INTERVAL_US);
        assert_eq!(display.surface.0, first);
        assert_eq!(display.due_us(), Some(1 + PICTURE_INTERVAL_US));
        display.draw(1 + PICTURE_INTERVAL_US);
        assert!(display.surface.0 > first);
        assert_eq!(display.due_us(), None);
    }
}
