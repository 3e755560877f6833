//! The PS/2 keyboard behind its controller (ports 0x60 and 0x64, IRQ 1).
//!
//! Owns the controller's set-up and the draining of its buffer; what the codes mean is
//! [`crate::scancode`]'s.

use crate::ports::Ports;
use crate::scancode::{Decoder, SetTwo, Typed};

/// The keyboard's interrupt line.
pub const KEYBOARD_IRQ: u8 = 1;
/// The controller's data port.
pub const DATA: u16 = 0x60;
/// The controller's status (read) and command (write) port.
pub const STATUS: u16 = 0x64;

const STATUS_OUTPUT_FULL: u8 = 0x01;
const STATUS_INPUT_FULL: u8 = 0x02;
const STATUS_FROM_MOUSE: u8 = 0x20;
const COMMAND_READ_CONFIGURATION: u8 = 0x20;
const COMMAND_WRITE_CONFIGURATION: u8 = 0x60;
const COMMAND_DISABLE_MOUSE: u8 = 0xa7;
const COMMAND_DISABLE_KEYBOARD: u8 = 0xad;
const COMMAND_ENABLE_KEYBOARD: u8 = 0xae;
const CONFIGURATION_KEYBOARD_INTERRUPT: u8 = 0x01;
const CONFIGURATION_MOUSE_INTERRUPT: u8 = 0x02;
const CONFIGURATION_KEYBOARD_OFF: u8 = 0x10;
const CONFIGURATION_TRANSLATE: u8 = 0x40;
/// What floats on the bus where there is no controller.
const ABSENT: u8 = 0xff;

/// Status reads before the controller counts as dead. It answers within a millisecond and a port
/// read takes about one microsecond.
const MAX_POLLS: usize = 10_000;
/// Bytes taken for one interrupt: several key strokes.
const MAX_DRAIN: usize = 64;

/// There is no keyboard controller, or it does not answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyboardAbsent;

/// A keyboard that is set up.
#[derive(Debug)]
pub struct Keyboard {
    decoder: Decoder,
    /// Present if the controller refused to translate.
    set_two: Option<SetTwo>,
}

impl Keyboard {
    /// Sets the controller up: keyboard and its interrupt on, translation on, mouse off.
    ///
    /// # Errors
    /// [`KeyboardAbsent`] if nothing answers.
    pub fn new(ports: &mut impl Ports) -> Result<Self, KeyboardAbsent> {
        if ports.read(STATUS) == ABSENT {
            return Err(KeyboardAbsent);
        }
        command(ports, COMMAND_DISABLE_KEYBOARD)?;
        command(ports, COMMAND_DISABLE_MOUSE)?;
        for _ in 0..MAX_DRAIN {
            if ports.read(STATUS) & STATUS_OUTPUT_FULL == 0 {
                break;
            }
            ports.read(DATA);
        }
        let old = configuration(ports)?;
        let wanted = (old | CONFIGURATION_KEYBOARD_INTERRUPT | CONFIGURATION_TRANSLATE)
            & !(CONFIGURATION_MOUSE_INTERRUPT | CONFIGURATION_KEYBOARD_OFF);
        command(ports, COMMAND_WRITE_CONFIGURATION)?;
        wait_for(ports, STATUS_INPUT_FULL, 0)?;
        ports.write(DATA, wanted);
        let translates = configuration(ports)? & CONFIGURATION_TRANSLATE != 0;
        command(ports, COMMAND_ENABLE_KEYBOARD)?;
        Ok(Self {
            decoder: Decoder::default(),
            set_two: (!translates).then(SetTwo::default),
        })
    }

    /// Takes what the keyboard sent. As with the UART the interrupt is acknowledged before this call.
    pub fn interrupt(&mut self, ports: &mut impl Ports, mut typed: impl FnMut(Typed)) {
        for _ in 0..MAX_DRAIN {
            let status = ports.read(STATUS);
            if status == ABSENT || status & STATUS_OUTPUT_FULL == 0 {
                return;
            }
            let code = ports.read(DATA);
            if status & STATUS_FROM_MOUSE != 0 {
                continue;
            }
            let code = match &mut self.set_two {
                Some(set_two) => set_two.push(code),
                None => Some(code),
            };
            if let Some(code) = code {
                self.decoder.push(code, &mut typed);
            }
        }
    }
}

fn wait_for(ports: &mut impl Ports, bit: u8, value: u8) -> Result<(), KeyboardAbsent> {
    for _ in 0..MAX_POLLS {
        if ports.read(STATUS) & bit == value {
            return Ok(());
        }
    }
    Err(KeyboardAbsent)
}

fn command(ports: &mut impl Ports, command: u8) -> Result<(), KeyboardAbsent> {
    wait_for(ports, STATUS_INPUT_FULL, 0)?;
    ports.write(STATUS, command);
    Ok(())
}

fn configuration(ports: &mut impl Ports) -> Result<u8, KeyboardAbsent> {
    command(ports, COMMAND_READ_CONFIGURATION)?;
    wait_for(ports, STATUS_OUTPUT_FULL, STATUS_OUTPUT_FULL)?;
    Ok(ports.read(DATA))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    struct Controller {
        output: VecDeque<(u8, u8)>,
        configuration: u8,
        writing: bool,
        can_translate: bool,
        answers: bool,
    }

    impl Default for Controller {
        fn default() -> Self {
            Self {
                output: VecDeque::from([(0, 0x1e)]),
                configuration: CONFIGURATION_MOUSE_INTERRUPT | CONFIGURATION_KEYBOARD_OFF,
                writing: false,
                can_translate: true,
                answers: true,
            }
        }
    }

    impl Ports for Controller {
        fn read(&mut self, port: u16) -> u8 {
            match port {
                STATUS => self
                    .output
                    .front()
                    .map_or(0, |(flags, _)| flags | STATUS_OUTPUT_FULL),
                _ => self.output.pop_front().map_or(0, |(_, code)| code),
            }
        }
        fn write(&mut self, port: u16, value: u8) {
            match (port, value) {
                (STATUS, COMMAND_READ_CONFIGURATION) if self.answers => {
                    self.output.push_back((0, self.configuration));
                }
                (STATUS, COMMAND_WRITE_CONFIGURATION) => self.writing = true,
                (DATA, value) if self.writing => {
                    self.writing = false;
                    self.configuration = value;
                    if !self.can_translate {
                        self.configuration &= !CONFIGURATION_TRANSLATE;
                    }
                }
                _ => {}
            }
        }
    }

    fn typed(keyboard: &mut Keyboard, controller: &mut Controller, codes: &[u8]) -> Vec<Typed> {
        let mut typed = Vec::new();
        controller
            .output
            .extend(codes.iter().map(|&code| (0, code)));
        keyboard.interrupt(controller, |stroke| typed.push(stroke));
        typed
    }

    #[test]
    fn set_up_turns_the_keyboard_on_and_the_mouse_off() {
        let mut controller = Controller::default();
        let mut keyboard = Keyboard::new(&mut controller).unwrap();
        assert_eq!(controller.configuration, 0x41);
        assert_eq!(
            typed(&mut keyboard, &mut controller, &[0x30, 0xb0]),
            [Typed::Byte(b'b')],
            "the stale code was dropped"
        );
    }

    #[test]
    fn a_controller_that_does_not_translate_is_understood() {
        let mut controller = Controller {
            can_translate: false,
            ..Controller::default()
        };
        let mut keyboard = Keyboard::new(&mut controller).unwrap();
        assert_eq!(
            typed(&mut keyboard, &mut controller, &[0x32, 0xf0, 0x32]),
            [Typed::Byte(b'b')]
        );
    }

    #[test]
    fn bytes_of_the_mouse_are_dropped() {
        let mut controller = Controller::default();
        let mut keyboard = Keyboard::new(&mut controller).unwrap();
        controller.output.push_back((STATUS_FROM_MOUSE, 0x30));
        assert_eq!(typed(&mut keyboard, &mut controller, &[]), []);
        assert!(controller.output.is_empty());
    }

    #[test]
    fn an_empty_bus_and_a_dead_controller_are_refused() {
        struct Nothing;
        impl Ports for Nothing {
            fn read(&mut self, _: u16) -> u8 {
                ABSENT
            }
            fn write(&mut self, _: u16, _: u8) {
                panic!("written to");
            }
        }
        assert_eq!(Keyboard::new(&mut Nothing).err(), Some(KeyboardAbsent));
        let mut dead = Controller {
            answers: false,
            ..Controller::default()
        };
        assert_eq!(Keyboard::new(&mut dead).err(), Some(KeyboardAbsent));
    }
}
