//! The screen and the keyboard of an emulated machine, as somebody who sits before it has them.
//!
//! Owns the connection to QEMU's monitor, which presses keys and takes pictures. Separate from
//! [`Machine`](super::Machine), which is the serial line: most machines of the lab have no screen.

use super::machine::LabError;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Child;
use std::time::{Duration, Instant};

/// What the monitor prints when it waits for a command.
const PROMPT: &[u8] = b"(qemu) ";
/// How long the monitor may take: it answers at once unless the host is busy.
const LIMIT: Duration = Duration::from_secs(60);
/// How often a connection is looked for.
const POLL: Duration = Duration::from_millis(20);

/// The screen and the keyboard.
#[derive(Debug)]
pub struct Desk {
    monitor: TcpStream,
}

impl Desk {
    /// Waits for the monitor of `emulator` to connect to `listener`.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn accept(listener: &TcpListener, emulator: &mut Child) -> Result<Self, LabError> {
        let failed = |error: std::io::Error| LabError::new(format!("monitor: {error}"));
        listener.set_nonblocking(true).map_err(failed)?;
        let end = Instant::now() + LIMIT;
        let monitor = loop {
            match listener.accept() {
                Ok((monitor, _)) => break monitor,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(failed(error)),
            }
            let ended = emulator.try_wait().map_err(failed)?;
            if ended.is_some() || Instant::now() > end {
                return Err(LabError::new("the monitor did not connect".to_owned()));
            }
            std::thread::sleep(POLL);
        };
        monitor.set_nonblocking(false).map_err(failed)?;
        monitor.set_read_timeout(Some(LIMIT)).map_err(failed)?;
        let mut desk = Self { monitor };
        desk.wait_for_prompt()?;
        Ok(desk)
    }

    /// Types `text` on the keyboard, which has the US layout.
    ///
    /// # Errors
    /// When the machine has ended, or a character is not on the keyboard's list.
    pub fn type_text(&mut self, text: &str) -> Result<(), LabError> {
        for character in text.chars() {
            let key =
                key(character).ok_or_else(|| LabError::new(format!("no key for {character:?}")))?;
            self.command(&format!("sendkey {key}"))?;
        }
        Ok(())
    }

    /// Writes a picture of the screen to `file`, in the form PPM.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn take_picture(&mut self, file: &Path) -> Result<(), LabError> {
        self.command(&format!("screendump {}", file.display()))
    }

    fn command(&mut self, line: &str) -> Result<(), LabError> {
        let sent = self.monitor.write_all(format!("{line}\n").as_bytes());
        sent.map_err(|error| LabError::new(format!("monitor: {line}: {error}")))?;
        self.wait_for_prompt()
    }

    fn wait_for_prompt(&mut self) -> Result<(), LabError> {
        let mut read = Vec::new();
        while !read.ends_with(PROMPT) {
            let mut bytes = [0; 256];
            match self.monitor.read(&mut bytes) {
                Ok(count) if count > 0 => read.extend_from_slice(&bytes[..count]),
                Ok(_) => return Err(LabError::new("the monitor is gone".to_owned())),
                Err(error) => return Err(LabError::new(format!("monitor: {error}"))),
            }
        }
        Ok(())
    }
}

/// QEMU's name of the key, with shift where it needs that, that types a character.
fn key(character: char) -> Option<String> {
    let name = match character {
        'a'..='z' | '0'..='9' => character.to_string(),
        'A'..='Z' => format!("shift-{}", character.to_ascii_lowercase()),
        '\n' => "ret".to_owned(),
        ' ' => "spc".to_owned(),
        '-' => "minus".to_owned(),
        '_' => "shift-minus".to_owned(),
        '/' => "slash".to_owned(),
        '?' => "shift-slash".to_owned(),
        '.' => "dot".to_owned(),
        '$' => "shift-4".to_owned(),
        '|' => "shift-backslash".to_owned(),
        _ => return None,
    };
    Some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn characters_have_keys_or_are_refused() {
        assert_eq!(key('q').as_deref(), Some("q"));
        assert_eq!(key('Q').as_deref(), Some("shift-q"));
        assert_eq!(key('\n').as_deref(), Some("ret"));
        assert_eq!(key('\u{e4}'), None);
    }
}
