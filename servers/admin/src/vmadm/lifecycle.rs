//! Starting and stopping VMs, and finding out what became of them.
//!
//! A VM runs in a monitor, a program that root starts on request. Root knows what runs; a record here
//! knows which process that is. [`refresh`] brings the records up to date and does what is due:
//! the shell calls it before every command that looks at VMs, and while it waits for the operator.

use alloc::format;
use alloc::vec::Vec;

use proto::CallError;
use proto::boot::Manifest;
use proto::console::VirtualConsole;
use proto::monitor::button;
use proto::root::{Death, Ending, ProgramInfo, ProgramState, RootError};

use super::launch;
use super::settings::Settings;
use super::store::{LastRun, Run, Transition, VmRecord, VmStore};
use super::uuid::Uuid;
use libcap::log;

use crate::failure::Failure;
use crate::machine::Machine;

/// The program that runs a VM.
pub const MONITOR: &str = "monitor";
/// Guest memory comes in pieces of this size: large pages.
const GUEST_PAGE_BYTES: u64 = 2 * 1024 * 1024;
/// Parts of root's list read before it counts as endless: far more programs than a manifest can have.
const MAX_PARTS: usize = 1000;

/// Whether a VM that starts finds its console empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConsoleText {
    /// What another VM, or an earlier run, showed is forgotten.
    Cleared,
    /// A reboot: what it showed stays.
    Kept,
}

/// Every program that root knows.
///
/// # Errors
/// Root refused or is gone.
pub fn programs<M: Machine>(machine: &M) -> Result<Vec<ProgramInfo>, Failure> {
    let mut programs = Vec::new();
    let mut from = Some(0);
    for _ in 0..MAX_PARTS {
        let Some(next) = from else { break };
        let mut part = machine.root().list(next)?;
        programs.append(&mut part.programs);
        from = part.next;
    }
    Ok(programs)
}

/// Time since the system started, in microseconds.
///
/// # Errors
/// Root refused or is gone.
pub fn uptime_us<M: Machine>(machine: &M) -> Result<u64, Failure> {
    Ok(machine.root().machine()?.uptime_us)
}

/// Brings the records up to date: VMs whose monitor ended are stopped or failed, those that were to
/// start again do, and those that did not stop in time are stopped by force.
///
/// # Errors
/// Root refused or is gone.
pub fn refresh<M: Machine>(machine: &mut M) -> Result<(), Failure> {
    if machine.vms().all().iter().all(|vm| vm.run.is_none()) {
        return Ok(());
    }
    let now_us = uptime_us(machine)?;
    stop_overdue(machine, now_us)?;
    let programs = programs(machine)?;
    let running: Vec<(Uuid, Run)> = machine
        .vms()
        .all()
        .iter()
        .filter_map(|vm| Some((vm.settings.uuid, vm.run?)))
        .collect();
    for (uuid, run) in running {
        let monitor = programs
            .iter()
            .find(|program| program.name == MONITOR && program.instance == run.instance);
        match monitor.map(|program| (program.pid, program.state)) {
            Some((pid, ProgramState::Running | ProgramState::Restarting(_))) => {
                update(machine, uuid, |vm| vm.run = Some(Run { pid, ..run }));
            }
            Some((_, ProgramState::Ended(ending))) => ended(machine, uuid, run, ending),
            None => ended(machine, uuid, run, Ending::Stopped),
        }
    }
    Ok(())
}

/// Adds the VMs that run and are not known: those of a shell that died. What only that shell knew of
/// them is lost.
///
/// # Errors
/// Root refused or is gone.
pub fn recover<M: Machine>(machine: &mut M) -> Result<(), Failure> {
    for program in programs(machine)? {
        let runs = !matches!(program.state, ProgramState::Ended(_));
        if program.name != MONITOR || !runs {
            continue;
        }
        let started = machine.root().started_with(program.pid)?;
        let Some(settings) = launch::settings(&started.args, started.guest_bytes) else {
            continue;
        };
        if machine.vms().find(settings.uuid).is_some() {
            continue;
        }
        machine.vms().add(VmRecord {
            settings,
            run: Some(Run {
                pid: program.pid,
                instance: program.instance,
                transition: None,
            }),
            last_run: LastRun::Ended,
        });
    }
    Ok(())
}

fn stop_overdue<M: Machine>(machine: &mut M, now_us: u64) -> Result<(), Failure> {
    let overdue: Vec<Run> = machine
        .vms()
        .all()
        .iter()
        .filter_map(|vm| vm.run)
        .filter(|run| match run.transition {
            Some(Transition::Stop(deadline) | Transition::Reboot(deadline)) => deadline <= now_us,
            None => false,
        })
        .collect();
    for run in overdue {
        halt(machine, run)?;
    }
    Ok(())
}

/// Notes that a VM's monitor ended, and starts the VM again if it was to.
fn ended<M: Machine>(machine: &mut M, uuid: Uuid, run: Run, ending: Ending) {
    let last_run = match ending {
        Ending::Finished | Ending::WantsRestart | Ending::Stopped => LastRun::Ended,
        Ending::Died(Death::Killed) => LastRun::Ended,
        Ending::GaveUp | Ending::Died(_) | Ending::NotBuilt => LastRun::Failed,
    };
    update(machine, uuid, |vm| {
        vm.run = None;
        vm.last_run = last_run;
    });
    let again = match run.transition {
        Some(Transition::Reboot(_)) => true,
        Some(Transition::Stop(_)) => false,
        None => ending == Ending::WantsRestart,
    };
    if again && launch(machine, uuid, run.instance, ConsoleText::Kept).is_err() {
        // Nobody waits for an answer here; the state says it.
        update(machine, uuid, |vm| vm.last_run = LastRun::Failed);
    }
}

fn update<M: Machine>(machine: &mut M, uuid: Uuid, change: impl FnOnce(&mut VmRecord)) {
    if let Some(vm) = machine.vms().find_mut(uuid) {
        change(vm);
    }
}

/// Starts a VM that does not run.
///
/// # Errors
/// Every monitor is taken, or root refused.
pub fn start<M: Machine>(machine: &mut M, uuid: Uuid) -> Result<(), Failure> {
    let instance = free_instance(machine)?;
    launch(machine, uuid, instance, ConsoleText::Cleared)
}

fn launch<M: Machine>(
    machine: &mut M,
    uuid: Uuid,
    instance: u16,
    text: ConsoleText,
) -> Result<(), Failure> {
    let Some(vm) = machine.vms().find(uuid) else {
        return Err(Failure::Failed(format!("VM {uuid} does not exist")));
    };
    log!("VM {uuid} asked for");
    let settings = vm.settings.clone();
    let arguments = launch::arguments(&settings)?;
    if text == ConsoleText::Cleared {
        machine.console().clear(VirtualConsole::Machine(instance))?;
    }
    let pid = machine
        .root()
        .start(MONITOR.into(), instance, guest_bytes(&settings), arguments)?;
    update(machine, uuid, |vm| {
        vm.last_run = LastRun::Ended;
        vm.run = Some(Run {
            pid,
            instance,
            transition: None,
        });
    });
    Ok(())
}

/// Guest memory of a VM, in bytes.
pub fn guest_bytes(settings: &Settings) -> u64 {
    (settings.ram_mib * 1024 * 1024).next_multiple_of(GUEST_PAGE_BYTES)
}

/// The first instance of the monitor that nothing runs in.
fn free_instance<M: Machine>(machine: &mut M) -> Result<u16, Failure> {
    let instances = instances(machine.archive().manifest());
    if instances == 0 {
        return Err(Failure::Failed("the manifest has no monitor".into()));
    }
    let programs = programs(machine)?;
    let vms = machine.vms().all();
    (0..instances)
        .find(|&instance| {
            let taken = vms
                .iter()
                .any(|vm| vm.run.is_some_and(|run| run.instance == instance));
            let busy = programs.iter().any(|program| {
                program.name == MONITOR
                    && program.instance == instance
                    && !matches!(program.state, ProgramState::Ended(_))
            });
            !taken && !busy
        })
        .ok_or_else(|| {
            Failure::Failed(format!("{instances} VMs are running; there can be no more"))
        })
}

fn instances(manifest: &Manifest) -> u16 {
    let monitor = manifest.find(MONITOR);
    monitor
        .and_then(|index| manifest.programs.get(usize::from(index)))
        .map_or(0, |program| program.instances)
}

/// Stops a VM's monitor by force. One that is gone already is no error.
///
/// # Errors
/// Root refused or is gone.
pub fn halt<M: Machine>(machine: &M, run: Run) -> Result<(), Failure> {
    match machine.root().stop(run.pid) {
        Err(CallError::Server(RootError::NotRunning | RootError::NotFound)) => Ok(()),
        outcome => Ok(outcome?),
    }
}

/// Presses a VM's power button and notes where it is going.
///
/// # Errors
/// Root refused or is gone.
pub fn press_power<M: Machine>(
    machine: &mut M,
    uuid: Uuid,
    run: Run,
    transition: Transition,
) -> Result<(), Failure> {
    machine.root().signal(run.pid, button::POWER)?;
    update(machine, uuid, |vm| {
        if let Some(run) = &mut vm.run {
            run.transition = Some(transition);
        }
    });
    Ok(())
}
