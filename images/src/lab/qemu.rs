//! QEMU: the machine with AMD SVM (TCG emulates it with nested paging).

use super::desk::Desk;
use super::machine::{LabError, Machine, spawn};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// Debian's UEFI firmware: read-only code, and variables that a run may scribble on.
const OVMF_CODE: &str = "/usr/share/OVMF/OVMF_CODE_4M.fd";
const OVMF_VARIABLES: &str = "/usr/share/OVMF/OVMF_VARS_4M.fd";
/// Port of the isa-debug-exit device: writing `n` ends QEMU with exit code `2n + 1`.
pub const DEBUG_EXIT_PORT: u16 = 0xf4;

/// QEMU's own emulation, all CPUs in one thread. With a thread for each, a CPU that waits for a lock
/// spins while the host has stopped the thread that holds it; in one thread a `pause` lets the next
/// CPU run. On two host cores a guest in a VM boots twice as fast so, and many times on a busy host.
const EMULATION: &str = "tcg,thread=single";

/// A host thread for each CPU: slower, but what runs at the same time here does so there.
const PARALLEL_EMULATION: &str = "tcg,thread=multi";

/// The firmware of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Firmware {
    /// SeaBIOS.
    Bios,
    /// OVMF.
    Uefi,
}

/// What the machine boots from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// An image in the CD drive.
    Cdrom(PathBuf),
    /// The same image on a USB stick.
    UsbStick(PathBuf),
    /// A kernel that QEMU itself loads (PVH), with one boot module.
    Kernel {
        /// The kernel's ELF file.
        kernel: PathBuf,
        /// The boot module.
        module: Option<PathBuf>,
    },
}

/// A machine to be started.
#[derive(Clone, Debug)]
pub struct Qemu {
    firmware: Firmware,
    medium: Medium,
    cpus: u32,
    memory_mib: u32,
    cpu_model: String,
    accelerator: &'static str,
    graphics: &'static str,
    extra: Vec<String>,
}

impl Qemu {
    /// A machine with 2 CPUs, 2 GiB and no graphics card that boots from `medium` by BIOS.
    #[must_use]
    pub fn new(medium: Medium) -> Self {
        Self {
            firmware: Firmware::Bios,
            medium,
            cpus: 2,
            memory_mib: 2048,
            cpu_model: "max".to_owned(),
            accelerator: EMULATION,
            graphics: "none",
            extra: Vec::new(),
        }
    }

    /// A machine that boots the image at `path` from the CD drive.
    #[must_use]
    pub fn cdrom(path: &Path) -> Self {
        Self::new(Medium::Cdrom(path.to_owned()))
    }

    /// With this firmware.
    #[must_use]
    pub fn firmware(mut self, firmware: Firmware) -> Self {
        self.firmware = firmware;
        self
    }

    /// With this many CPUs.
    #[must_use]
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// With this much memory, in MiB.
    #[must_use]
    pub fn memory_mib(mut self, mib: u32) -> Self {
        self.memory_mib = mib;
        self
    }

    /// With this CPU model, as QEMU's `-cpu` takes it.
    #[must_use]
    pub fn cpu_model(mut self, model: &str) -> Self {
        model.clone_into(&mut self.cpu_model);
        self
    }

    /// With a VGA card, so that the boot loader finds a frame buffer.
    #[must_use]
    pub fn with_screen(mut self) -> Self {
        self.graphics = "std";
        self
    }

    /// Every guest instruction takes one nanosecond and idle time is skipped: two runs are alike
    /// to the instruction.
    #[must_use]
    pub fn counting_instructions(self) -> Self {
        self.argument("-icount").argument("shift=0,sleep=off")
    }

    /// With CPUs that run at the same time, for tests of what may go wrong then.
    #[must_use]
    pub fn in_parallel(mut self) -> Self {
        self.accelerator = PARALLEL_EMULATION;
        self
    }

    /// On the host's own CPU: KVM, which needs its nested virtualisation for VMs.
    #[must_use]
    pub fn on_kvm(mut self) -> Self {
        self.accelerator = "kvm";
        self.cpu_model("host")
    }

    /// With one more argument for QEMU.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.extra.push(argument.to_owned());
        self
    }

    /// Starts the machine under the control of a test.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start(&self) -> Result<Machine, LabError> {
        under_control(self.emulator("none")?)
    }

    /// Starts the machine with a screen and a keyboard that the test has at hand too.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn start_with_desk(&self) -> Result<(Machine, Desk), LabError> {
        let failed = |error: std::io::Error| LabError::new(format!("qemu: {error}"));
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        let emulator = self
            .clone()
            .with_screen()
            .emulator(&format!("tcp:127.0.0.1:{port}"));
        let mut emulator = emulator?;
        let desk = Desk::accept(&listener, &mut emulator).inspect_err(|_| {
            // Both fail only when it has already ended.
            let _ = emulator.kill();
            let _ = emulator.wait();
        })?;
        Ok((under_control(emulator)?, desk))
    }

    /// QEMU with COM1 on its pipes and its monitor there.
    fn emulator(&self, monitor: &str) -> Result<Child, LabError> {
        let mut command = self.command();
        command.args(["-serial", "stdio", "-monitor", monitor, "-no-reboot"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        spawn(&mut command)
    }

    /// Runs the machine with COM1 on this terminal until it ends; Ctrl-A X ends it.
    ///
    /// # Errors
    /// When QEMU cannot be started.
    pub fn run_here(&self) -> Result<ExitStatus, LabError> {
        let mut command = self.command();
        command.args(["-serial", "mon:stdio"]);
        let ended = spawn(&mut command)?.wait();
        ended.map_err(|error| LabError::new(format!("qemu: {error}")))
    }

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        command.args([
            "-M",
            "q35",
            "-accel",
            self.accelerator,
            "-cpu",
            &self.cpu_model,
        ]);
        command.args([
            "-smp",
            &self.cpus.to_string(),
            "-m",
            &self.memory_mib.to_string(),
        ]);
        command.args(["-nodefaults", "-vga", self.graphics, "-display", "none"]);
        command.args([
            "-device",
            &format!("isa-debug-exit,iobase={DEBUG_EXIT_PORT:#x},iosize=4"),
        ]);
        if self.firmware == Firmware::Uefi {
            let code = format!("if=pflash,format=raw,readonly=on,file={OVMF_CODE}");
            let variables = format!("if=pflash,format=raw,snapshot=on,file={OVMF_VARIABLES}");
            command.args(["-drive", &code, "-drive", &variables]);
        }
        match &self.medium {
            Medium::Cdrom(image) => {
                command.arg("-cdrom").arg(image);
            }
            Medium::UsbStick(image) => {
                let drive = format!(
                    "if=none,id=stick,format=raw,readonly=on,file={}",
                    image.display()
                );
                command.args(["-drive", &drive, "-device", "qemu-xhci"]);
                command.args(["-device", "usb-storage,drive=stick,bootindex=0"]);
            }
            Medium::Kernel { kernel, module } => {
                command.arg("-kernel").arg(kernel);
                if let Some(module) = module {
                    command.arg("-initrd").arg(module);
                }
            }
        }
        command.args(&self.extra);
        command
    }
}

/// The machine of an emulator whose pipes are its COM1.
fn under_control(mut emulator: Child) -> Result<Machine, LabError> {
    let pipes = emulator.stdin.take().zip(emulator.stdout.take());
    let (input, output) = pipes.ok_or_else(|| LabError::new("qemu has no pipes".into()))?;
    Ok(Machine::new(
        emulator,
        Box::new(input),
        Box::new(output),
        Box::new(()),
    ))
}
