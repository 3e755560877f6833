//! Bochs: the machine with Intel VMX and EPT.
//!
//! Debian's Bochs is built with its debugger, which waits for the command `c` on standard input
//! and ends when that is closed, so the pipe to it is kept open. COM1 is a connection that Bochs
//! makes to a port of ours on the loopback interface.

use super::machine::{LabError, Machine, spawn};
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// How long Bochs may take to connect its COM1.
const CONNECT_LIMIT: Duration = Duration::from_secs(30);

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Bochs {
    image: PathBuf,
    directory: PathBuf,
    model: String,
    memory_mib: u32,
}

impl Bochs {
    /// A machine with Intel's VMX and 512 MiB that boots the image at `image` from CD. Its
    /// configuration and log go to a new directory in `directory`, removed after a good end.
    #[must_use]
    pub fn new(image: &Path, directory: &Path) -> Self {
        Self {
            image: image.to_owned(),
            directory: directory.to_owned(),
            model: "corei7_icelake_u".to_owned(),
            memory_mib: 512,
        }
    }

    /// With this CPU model; `ryzen` emulates AMD SVM.
    #[must_use]
    pub fn cpu_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.model);
        self
    }

    /// With this much memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// Starts the machine.
    ///
    /// # Errors
    /// When Bochs cannot be started or does not connect its COM1.
    pub fn start(&self) -> Result<Machine, LabError> {
        let failed = |error: std::io::Error| LabError::new(format!("bochs: {error}"));
        let directory = Directory::new(&self.directory).map_err(failed)?;
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let configuration = directory.0.join("bochsrc");
        std::fs::write(&configuration, self.configuration(&directory.0, port)).map_err(failed)?;
        let mut command = Command::new("bochs");
        command
            .arg("-q")
            .arg("-f")
            .arg(&configuration)
            .stdin(Stdio::piped());
        command.stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = spawn(&mut command)?;
        let debugger = child.stdin.take();
        let mut debugger = debugger.ok_or_else(|| LabError::new("bochs has no pipe".into()))?;
        debugger.write_all(b"c\n").map_err(failed)?;
        let serial = accept(&listener, &mut child);
        let serial = serial.inspect_err(|_| {
            let _ = child.kill();
            let _ = child.wait();
        })?;
        let input = Box::new(serial.try_clone().map_err(failed)?);
        Ok(Machine::new(
            child,
            input,
            Box::new(serial),
            Box::new((debugger, directory)),
        ))
    }

    fn configuration(&self, directory: &Path, port: u16) -> String {
        let Self {
            image,
            model,
            memory_mib,
            ..
        } = self;
        // `ips` is also the TSC's frequency. With more, waits for time would take long; with less, a
        // VM's timer, which has 24 MHz, would be too fast for it.
        // SeaBIOS, because GRUB's question for APM, which a multiboot 2 boot includes, jumps astray
        // in Bochs' own newest BIOS. Without the dummy sound driver Bochs aborts on a machine that has no sound card.
        format!(
            "cpu: model={model}, count=1, ips=60000000, reset_on_triple_fault=0\n\
             memory: guest={memory_mib}, host={memory_mib}\n\
             romimage: file=/usr/share/seabios/bios.bin\n\
             vgaromimage: file=/usr/share/bochs/VGABIOS-lgpl-latest\n\
             ata0: enabled=1\n\
             ata0-master: type=cdrom, path={}, status=inserted\n\
             boot: cdrom\n\
             com1: enabled=1, mode=socket-client, dev=127.0.0.1:{port}\n\
             display_library: rfb, options=\"timeout=0\"\n\
             sound: waveoutdrv=dummy, waveindrv=dummy, midioutdrv=dummy\n\
             clock: sync=none\n\
             log: {}\n\
             panic: action=fatal\n",
            image.display(),
            directory.join("log").display(),
        )
    }
}

/// Waits for Bochs to connect its COM1.
fn accept(listener: &TcpListener, child: &mut Child) -> Result<TcpStream, LabError> {
    let failed = |error: std::io::Error| LabError::new(format!("bochs: COM1: {error}"));
    listener.set_nonblocking(true).map_err(failed)?;
    let end = Instant::now() + CONNECT_LIMIT;
    loop {
        match listener.accept() {
            Ok((serial, _)) => {
                serial.set_nonblocking(false).map_err(failed)?;
                return Ok(serial);
            }
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(failed(error)),
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(LabError::new(format!("bochs ended: {status}")));
        }
        if Instant::now() > end {
            return Err(LabError::new("bochs did not connect its COM1".to_owned()));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A directory of one run, removed with it.
struct Directory(PathBuf);

impl Directory {
    fn new(parent: &Path) -> std::io::Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = parent.join(format!("bochs-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        // What is left behind costs disk space only.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
