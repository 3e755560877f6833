//! The kernel's side of a VM: its timers, notifications and VCPUs behind the traits that the
//! machine is written against.

use libcap::Env;
use libcap::capability::{Notification, Timer, Vcpu as VcpuCap};
use libcap::env::ByteChannel;
use libcap::kernel::time_stamp;
use libcap::lock::Mutex;
use libcap::vcpu::{Entry, ExitRecord, Outcome, enter};
use sel4_sys::VcpuField;

use crate::cpuid::Leaf;
use crate::deadlines::Deadlines;
use crate::host::Host;
use crate::interrupts::MAXIMUM_VCPUS;
use crate::machine::{Machine, MachineLock};
use crate::time::Ticks;
use crate::vcpu::{EntryRequest, FieldRefused, Vcpu};

/// The machine behind a lock that gives up the CPU when it is held for long.
#[derive(Debug)]
pub struct LockedMachine(Mutex<Machine>);

impl LockedMachine {
    /// Puts the lock around `machine`.
    #[must_use]
    pub const fn new(machine: Machine) -> Self {
        Self(Mutex::new(machine))
    }
}

impl MachineLock for LockedMachine {
    fn with<R>(&self, action: impl FnOnce(&mut Machine) -> R) -> R {
        action(&mut self.0.lock())
    }
}

/// What one VCPU's thread is woken by.
#[derive(Debug)]
struct VcpuWake {
    notification: Notification,
    /// Its own timer, which signals the notification. Without one the service thread's timer is
    /// used, and the service thread passes the signal on.
    timer: Option<Timer>,
}

/// The kernel as the system around one VM.
#[derive(Debug)]
pub struct KernelHost {
    /// Host time at machine time zero.
    origin: u64,
    vcpus: heapless::Vec<VcpuWake, MAXIMUM_VCPUS>,
    service_timer: Timer,
    /// What the service thread's timer serves. It is armed with the lock held.
    deadlines: Mutex<Deadlines>,
    console: Mutex<ByteChannel>,
    console_bell: Notification,
}

impl KernelHost {
    /// Claims timers and console of a VM whose VCPUs' threads are woken by `wakes`. Machine time
    /// begins now.
    ///
    /// # Panics
    /// If the manifest gives the program less.
    pub fn claim(env: &mut Env, wakes: &[Notification]) -> Self {
        let console = env.byte_channel("console");
        let vcpus = wakes
            .iter()
            .zip(1..)
            .map(|(&notification, thread)| VcpuWake {
                notification,
                timer: env.claim_optional(&alloc::format!("timer.{thread}")),
            });
        Self {
            vcpus: vcpus.take(MAXIMUM_VCPUS).collect(),
            origin: time_stamp(),
            service_timer: env.claim("timer"),
            deadlines: Mutex::default(),
            console_bell: console.wake,
            console: Mutex::new(console),
        }
    }

    fn host_time(&self, moment: Ticks) -> u64 {
        self.origin.saturating_add(moment.0)
    }

    /// Changes the deadlines, and arms the service thread's timer accordingly before anybody else can.
    fn with_deadlines<R>(&self, action: impl FnOnce(&mut Deadlines) -> R) -> R {
        let mut deadlines = self.deadlines.lock();
        let result = action(&mut deadlines);
        if let Some(deadline) = deadlines.next() {
            self.service_timer
                .arm(deadline)
                .expect("root bound the timer");
        }
        result
    }

    /// What the service thread does after its timer fired: passes on what is due for VCPUs without
    /// a timer of their own.
    pub fn pass_deadlines_on(&self) {
        let due = self.with_deadlines(|deadlines| deadlines.take_due(time_stamp()));
        for index in due.iter() {
            self.wake(index);
        }
    }
}

impl Host for KernelHost {
    fn now(&self) -> Ticks {
        Ticks(time_stamp().wrapping_sub(self.origin))
    }

    fn tsc_offset(&self) -> u64 {
        self.origin.wrapping_neg()
    }

    fn wake(&self, index: usize) {
        if let Some(vcpu) = self.vcpus.get(index) {
            vcpu.notification.signal();
        }
    }

    fn sleep(&self, index: usize) {
        if let Some(vcpu) = self.vcpus.get(index) {
            // Which bits came does not matter: there is one reason to look, and any wakes.
            let _ = vcpu.notification.wait();
        }
    }

    fn set_vcpu_timer(&self, index: usize, deadline: Ticks) {
        let Some(vcpu) = self.vcpus.get(index) else {
            return;
        };
        let deadline = self.host_time(deadline);
        match vcpu.timer {
            Some(timer) => timer.arm(deadline).expect("root bound the timer"),
            None => self.with_deadlines(|deadlines| deadlines.set_vcpu(index, deadline)),
        }
    }

    fn set_platform_timer(&self, deadline: Ticks) {
        let deadline = self.host_time(deadline);
        self.with_deadlines(|deadlines| deadlines.set_platform(deadline));
    }

    fn wake_service(&self) {
        self.with_deadlines(Deadlines::call_service);
    }

    fn write_console(&self, byte: u8) -> bool {
        let mut console = self.console.lock();
        match console.tx.write(&[byte]) {
            Ok(written) => written == 1,
            // The console damaged its ring: what was in it is lost, the VM goes on.
            Err(_) => {
                console.tx.resynchronise();
                false
            }
        }
    }

    fn flush_console(&self) {
        self.console_bell.signal();
    }

    fn read_console(&self) -> Option<u8> {
        let mut byte = [0];
        let mut console = self.console.lock();
        match console.rx.read(&mut byte) {
            Ok(1) => Some(byte[0]),
            Ok(_) => None,
            Err(_) => {
                console.rx.resynchronise();
                None
            }
        }
    }
}

/// The kernel's VCPU. Only the thread that it is bound to enters it.
#[derive(Clone, Copy, Debug)]
pub struct KernelVcpu(pub VcpuCap);

impl Vcpu for KernelVcpu {
    #[inline]
    fn enter(&mut self, request: &EntryRequest, record: &mut ExitRecord) -> Outcome {
        let mut entry = Entry::resume();
        if let Some(registers) = request.registers {
            entry = entry
                .with_registers(registers.rip, &registers.general)
                .with_rflags(registers.rflags);
        }
        if let Some(event) = request.event {
            entry = entry.with_event(event);
        }
        if request.window {
            entry = entry.until_interrupt_window();
        }
        if request.emulated {
            entry = entry.after_emulation();
        }
        enter(&entry, record)
    }

    fn read_fields<const N: usize>(&mut self, fields: [VcpuField; N]) -> [u64; N] {
        self.0
            .read_fields(fields)
            .expect("all fields of a VCPU can be read")
    }

    fn write_fields(&mut self, pairs: &[(VcpuField, u64)]) -> Result<(), FieldRefused> {
        self.0.write_fields(pairs).map_err(|_| FieldRefused)
    }
}

/// The CPU's own CPUID instruction.
#[must_use]
pub fn host_cpuid(leaf: u32, subleaf: u32) -> Leaf {
    let answer = core::arch::x86_64::__cpuid_count(leaf, subleaf);
    Leaf {
        eax: answer.eax,
        ebx: answer.ebx,
        ecx: answer.ecx,
        edx: answer.edx,
    }
}
