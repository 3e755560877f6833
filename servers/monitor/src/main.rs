//! The monitor: claims its VM's memory, VCPUs and console, loads the guest, and runs it.
//!
//! Thread 0 serves the devices' time, the console and the buttons; thread n + 1 runs VCPU n.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

use alloc::boxed::Box;
use alloc::format;

use libcap::capability::{Notification, Vcpu as VcpuCap};
use libcap::log;
use libcap::runtime::threads::run_others;
use libcap::{Endpoint, Env};
use monitor::boot::cpu_state::InitialState;
use monitor::boot::{BootFiles, load};
use monitor::cpuid::enabled_xcr0;
use monitor::interrupts::MAXIMUM_VCPUS;
use monitor::machine::Machine;
use monitor::memory::GuestMemory;
use monitor::native::{KernelHost, KernelVcpu, LockedMachine, host_cpuid};
use monitor::outcome::{ResetCause, VmEvent};
use monitor::runner::{HostCpu, Runner};
use monitor::time::TimeBase;
use monitor::virtual_machine::VirtualMachine;
use proto::boot::Archive;
use proto::monitor::{VmConfig, VmStatus, button};
use proto::root::{Ending, RootClient};

libcap::program!(main);

type Vm = VirtualMachine<'static, LockedMachine, KernelHost>;
type Root = RootClient<Endpoint>;

/// There is no wall clock in the system yet, so a guest's begins with the epoch.
const EPOCH_SECONDS: u32 = 0;

fn main(mut env: Env) -> ! {
    let root = RootClient::new(env.endpoint("root"));
    let config: VmConfig = env.decode_args();
    let vcpus = usize::from(config.vcpus);
    if !(1..=MAXIMUM_VCPUS).contains(&vcpus) {
        give_up(&root, VmStatus::BadConfiguration);
    }
    let wake = env.notification("wake");
    let threads: [VcpuThread; MAXIMUM_VCPUS] = core::array::from_fn(|index| VcpuThread {
        vcpu: env.claim(&format!("vcpu.{index}")),
        wake: env.notification(&format!("wake.{}", index + 1)),
    });
    report(&root, VmStatus::Loading);
    let wakes = threads.map(|thread| thread.wake);
    let (vm, state) = match build(&mut env, &config, &wakes[..vcpus]) {
        Ok(built) => built,
        Err(status) => give_up(&root, status),
    };
    report(&root, VmStatus::Running);
    log!("the guest starts");
    run_others(move |thread| {
        let index = thread as usize - 1;
        if index < vcpus {
            run_vcpu(vm, index, vcpus, threads[index].vcpu, &state);
        }
        // The VM is over, or has fewer VCPUs than the manifest allows.
        loop {
            let _ = threads[index].wake.wait();
        }
    });
    serve(vm, wake, &root)
}

/// What the manifest gives for each VCPU that a VM may have.
#[derive(Clone, Copy)]
struct VcpuThread {
    vcpu: VcpuCap,
    wake: Notification,
}

/// Builds the VM and loads its guest.
fn build(
    env: &mut Env,
    config: &VmConfig,
    wakes: &[Notification],
) -> Result<(&'static Vm, InitialState), VmStatus> {
    let vcpus = wakes.len();
    let words = env
        .region("ram")
        .into_words()
        .ok_or(VmStatus::BadConfiguration)?;
    let memory = GuestMemory::new(words);
    let archive = Archive::open(env.read_only("boot")).map_err(|_| VmStatus::BadConfiguration)?;
    let file = |path: &str| {
        // Large files: the loader looks at every field it uses.
        let entry = archive.entries().iter().find(|entry| entry.path == path);
        entry.and_then(|entry| archive.slice(entry).ok())
    };
    let kernel = file(&config.kernel).ok_or(VmStatus::NoKernel)?;
    let initrd = match &config.initrd {
        Some(path) => Some(file(path).ok_or(VmStatus::NoInitrd)?),
        None => None,
    };
    let files = BootFiles {
        kernel,
        initrd,
        command_line: &config.cmdline,
    };
    let state = load(&memory, &files, vcpus).map_err(|error| {
        log!("{} cannot be booted: {error:?}", config.kernel);
        VmStatus::BadKernel
    })?;
    let base = TimeBase::new(env.tsc_khz()).map_err(|_| VmStatus::BadConfiguration)?;
    let machine = Machine::new(vcpus, base, i64::from(EPOCH_SECONDS));
    let host = KernelHost::claim(env, wakes);
    let vm = VirtualMachine::new(
        memory,
        LockedMachine::new(machine),
        host,
        base,
        EPOCH_SECONDS,
    );
    Ok((Box::leak(Box::new(vm)), state))
}

/// Runs VCPU `index` until the VM ends. VCPU 0 starts the guest, the others wait for it.
fn run_vcpu(vm: &'static Vm, index: usize, vcpus: usize, cap: VcpuCap, state: &InitialState) {
    let host = HostCpu {
        cpuid: &host_cpuid,
        xcr0: enabled_xcr0(&host_cpuid),
    };
    let mut runner = Runner::new(vm, index, vcpus, KernelVcpu(cap), host);
    if index == 0 && runner.set_state(state).is_err() {
        // The VM ended by that, which the service thread reports.
        return;
    }
    runner.run();
}

/// Serves the devices' deadlines, the console and the buttons until the VM ends.
fn serve(vm: &'static Vm, wake: Notification, root: &Root) -> ! {
    loop {
        let bits = wake.wait();
        vm.host().pass_deadlines_on();
        if bits & button::POWER != 0 {
            vm.press_power_button();
        }
        if bits & button::RESET != 0 {
            vm.end(VmEvent::Reset(ResetCause::Requested));
        }
        if bits & button::STOP != 0 {
            vm.end(VmEvent::PowerOff);
        }
        if let Some(event) = vm.service() {
            log!("{event}");
            finish(root, event);
        }
    }
}

fn finish(root: &Root, event: VmEvent) -> ! {
    match event {
        VmEvent::PowerOff | VmEvent::DebugExit(_) => end(root, Ending::Finished),
        VmEvent::Reset(_) => end(root, Ending::WantsRestart),
        VmEvent::Failed(_) => give_up(root, VmStatus::Failed),
    }
}

fn report(root: &Root, status: VmStatus) {
    // A root that does not take the report is no reason not to run the guest.
    let _ = root.report(status.number());
}

fn give_up(root: &Root, status: VmStatus) -> ! {
    log!("the VM does not run: {status:?}");
    report(root, status);
    end(root, Ending::GaveUp)
}

/// Root ends this program and does not reply.
fn end(root: &Root, ending: Ending) -> ! {
    loop {
        let _ = root.finish(ending);
    }
}
