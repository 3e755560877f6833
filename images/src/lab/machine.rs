//! One running emulator and the line to its COM1.

use std::fmt;
use std::io::{Read, Write};
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How much of the end of the transcript an error shows, in bytes: two or three screens.
const SHOWN_BYTES: usize = 6000;
/// How often a wait for the emulator's end looks.
const POLL: Duration = Duration::from_millis(20);

/// Why a machine did not do what was expected. Shows the end of what it printed.
#[derive(Debug)]
pub struct LabError {
    what: String,
    transcript: String,
}

impl LabError {
    /// An error before the machine printed anything.
    #[must_use]
    pub fn new(what: String) -> Self {
        Self {
            what,
            transcript: String::new(),
        }
    }
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}; the machine printed:\n{}",
            self.what, self.transcript
        )
    }
}

impl std::error::Error for LabError {}

/// A running emulator. It is killed when this value is dropped.
pub struct Machine {
    child: Child,
    input: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    transcript: Vec<u8>,
    /// Everything before was already waited for.
    cursor: usize,
    /// Whatever must live as long as the emulator, and be cleaned up after it.
    _keep: Box<dyn Send>,
}

impl Machine {
    /// A machine whose serial line is `input` and `output`. `keep` is dropped after it.
    pub(super) fn new(
        child: Child,
        input: Box<dyn Write + Send>,
        mut output: Box<dyn Read + Send>,
        keep: Box<dyn Send>,
    ) -> Self {
        let (sender, receiver) = channel();
        // Ends when the emulator closes its side or the machine is dropped.
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(count) = output.read(&mut buffer) {
                if count == 0 || sender.send(buffer[..count].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            input,
            output: receiver,
            transcript: Vec::new(),
            cursor: 0,
            _keep: keep,
        }
    }

    /// Waits until the machine has printed `text` since the last wait. Returns what it printed
    /// since then, `text` included.
    ///
    /// # Errors
    /// When `timeout` passes or the machine ends first.
    pub fn wait_for(&mut self, text: &str, timeout: Duration) -> Result<String, LabError> {
        self.wait_for_any(&[text], timeout)
            .map(|(_, printed)| printed)
    }

    /// Waits for whichever of `texts` comes first. Returns its index and what was printed.
    ///
    /// # Errors
    /// When `timeout` passes or the machine ends first.
    pub fn wait_for_any(
        &mut self,
        texts: &[&str],
        timeout: Duration,
    ) -> Result<(usize, String), LabError> {
        let end = Instant::now() + timeout;
        loop {
            if let Some((index, stop)) = self.find(texts) {
                let printed = lossy(&self.transcript[self.cursor..stop]);
                self.cursor = stop;
                return Ok((index, printed));
            }
            match self
                .output
                .recv_timeout(end.saturating_duration_since(Instant::now()))
            {
                Ok(bytes) => self.transcript.extend(bytes),
                Err(RecvTimeoutError::Timeout) => {
                    let seconds = timeout.as_secs();
                    return Err(self.error(format!("no {texts:?} within {seconds} s")));
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(self.error(format!("the machine ended before {texts:?}")));
                }
            }
        }
    }

    /// Index of the text that appears first after the cursor, and the offset behind it.
    fn find(&self, texts: &[&str]) -> Option<(usize, usize)> {
        let rest = &self.transcript[self.cursor..];
        let found = texts.iter().enumerate().filter_map(|(index, text)| {
            let at = rest
                .windows(text.len())
                .position(|window| window == text.as_bytes())?;
            Some((index, self.cursor + at + text.len()))
        });
        found.min_by_key(|(_, stop)| *stop)
    }

    /// Types `text` into the machine's COM1.
    ///
    /// # Errors
    /// When the machine has ended.
    pub fn send(&mut self, text: &str) -> Result<(), LabError> {
        let sent = self
            .input
            .write_all(text.as_bytes())
            .and_then(|()| self.input.flush());
        sent.map_err(|error| self.error(format!("typing {text:?}: {error}")))
    }

    /// Types `text` and Enter, then waits for `answer`. Returns what was printed.
    ///
    /// # Errors
    /// As [`Self::send`] and [`Self::wait_for`].
    pub fn ask(&mut self, text: &str, answer: &str, timeout: Duration) -> Result<String, LabError> {
        self.send(&format!("{text}\r"))?;
        self.wait_for(answer, timeout)
    }

    /// Waits until the emulator ends by itself. Returns its exit code, and takes in what it
    /// printed last.
    ///
    /// # Errors
    /// When `timeout` passes first.
    pub fn wait_for_end(&mut self, timeout: Duration) -> Result<Option<i32>, LabError> {
        let end = Instant::now() + timeout;
        loop {
            while let Ok(bytes) = self.output.try_recv() {
                self.transcript.extend(bytes);
            }
            match self.child.try_wait() {
                Ok(Some(status)) => {
                    while let Ok(bytes) = self.output.recv_timeout(POLL) {
                        self.transcript.extend(bytes);
                    }
                    return Ok(status.code());
                }
                Ok(None) if Instant::now() < end => std::thread::sleep(POLL),
                Ok(None) => {
                    let seconds = timeout.as_secs();
                    return Err(self.error(format!("still running after {seconds} s")));
                }
                Err(error) => return Err(self.error(error.to_string())),
            }
        }
    }

    /// Everything that the machine has printed and that was taken in so far.
    #[must_use]
    pub fn transcript(&self) -> String {
        lossy(&self.transcript)
    }

    fn error(&self, what: String) -> LabError {
        let start = self.transcript.len().saturating_sub(SHOWN_BYTES);
        LabError {
            what,
            transcript: lossy(&self.transcript[start..]),
        }
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail only when the emulator has already ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Starts `command`, or says which program could not be started.
pub(super) fn spawn(command: &mut Command) -> Result<Child, LabError> {
    command.spawn().map_err(|error| {
        let program = command.get_program().to_string_lossy();
        LabError::new(format!(
            "{program}: {error}; `make setup` installs the emulators"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Stdio;

    const LONG: Duration = Duration::from_secs(20);

    fn shell(script: &str) -> Machine {
        let mut command = Command::new("sh");
        command
            .args(["-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut child = spawn(&mut command).expect("sh");
        let input = Box::new(child.stdin.take().expect("piped"));
        let output = Box::new(child.stdout.take().expect("piped"));
        Machine::new(child, input, output, Box::new(()))
    }

    #[test]
    fn waits_type_and_read_on_from_where_they_were() {
        let mut machine = shell("echo one; read line; echo got $line; exit 3");
        assert_eq!(machine.wait_for("ne", LONG).expect("one"), "one");
        machine.send("two\n").expect("it reads");
        assert_eq!(machine.wait_for("two", LONG).expect("echo"), "\ngot two");
        assert_eq!(machine.wait_for_end(LONG).expect("it ends"), Some(3));
    }

    #[test]
    fn the_first_of_several_texts_wins() {
        let mut machine = shell("echo panic: prompt");
        let (index, _) = machine
            .wait_for_any(&["prompt", "panic"], LONG)
            .expect("both");
        assert_eq!(index, 1);
    }

    #[test]
    fn a_machine_that_ends_or_hangs_is_an_error_with_its_words() {
        let error = shell("echo last words")
            .wait_for("prompt", LONG)
            .expect_err("ended");
        assert!(error.to_string().contains("ended before"), "{error}");
        assert!(error.to_string().contains("last words"), "{error}");
        let mut machine = shell("sleep 60");
        let error = machine
            .wait_for("prompt", Duration::from_millis(50))
            .expect_err("hangs");
        assert!(error.to_string().contains("within"), "{error}");
    }
}
