//! The commands that create, change and show single VMs.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proto::monitor::VmStatus;
use proto::root::{ProgramInfo, ProgramState};
use serde_json::json;

use super::lifecycle::{self, halt, press_power, programs, refresh, uptime_us};
use super::object::{VmObject, VmState};
use super::settings::{self, BRAND, PayloadError, Problems, Settings};
use super::store::{LastRun, Run, Transition, VmRecord, VmStore};
use super::uuid::Uuid;
use crate::failure::{FAILURE, Failure, SUCCESS};
use crate::machine::Machine;
use crate::options::Options;
use crate::stream::Stream;

/// How long a guest may take to switch itself off, in seconds: vmadm's for hardware VMs.
const STOP_SECONDS: u64 = 180;
/// Longest such time that can be asked for: a day.
const MAX_STOP_SECONDS: u64 = 86_400;
/// How long a VM that starts may take until its guest runs, in seconds: to fill the guest's memory takes
/// one, on a slow emulator. After that the command no longer waits.
const START_SECONDS: u64 = 10;
/// How often a command that waits for a VM looks, in milliseconds.
const LOOK_MS: u32 = 200;
/// What `info` can show.
const INFO_TYPES: [&str; 2] = ["all", "monitor"];

/// Reads options, with vmadm's exit code for wrong ones.
pub(super) fn options(arguments: &[String], flags: &str, valued: &str) -> Result<Options, Failure> {
    Options::parse(arguments, flags, valued).map_err(|error| Failure::Usage(error.to_string()))
}

/// The VM that the first of `operands` names, up to date.
pub(super) fn target<M: Machine>(
    machine: &mut M,
    command: &str,
    operands: &[String],
) -> Result<Uuid, Failure> {
    let invalid = format!("Invalid or missing UUID for {command}");
    let Some(text) = operands.first() else {
        return Err(Failure::Usage(invalid));
    };
    let Ok(uuid) = Uuid::parse(text) else {
        let vms = machine.vms().all();
        let named = vms
            .iter()
            .find(|vm| vm.settings.alias.as_ref() == Some(text));
        return Err(Failure::Usage(match named {
            Some(vm) => format!("{invalid}; '{text}' is the alias of {}", vm.settings.uuid),
            None => invalid,
        }));
    };
    refresh(machine)?;
    match machine.vms().find(uuid) {
        Some(_) => Ok(uuid),
        None => Err(Failure::Failed(format!("VM {uuid} does not exist"))),
    }
}

/// The VM that a command with no other arguments is for.
pub(super) fn only_target<M: Machine>(
    machine: &mut M,
    command: &str,
    arguments: &[String],
) -> Result<Uuid, Failure> {
    let options = options(arguments, "", "")?;
    if let Some(extra) = options.operands().get(1) {
        return Err(Failure::Usage(format!(
            "Unexpected argument for {command}: {extra}"
        )));
    }
    target(machine, command, options.operands())
}

fn record<M: Machine>(machine: &mut M, uuid: Uuid) -> Result<&VmRecord, Failure> {
    machine
        .vms()
        .find(uuid)
        .ok_or_else(|| Failure::Failed(format!("VM {uuid} does not exist")))
}

/// The run of a VM that must have one.
pub(super) fn run_of<M: Machine>(
    machine: &mut M,
    action: &str,
    uuid: Uuid,
) -> Result<Run, Failure> {
    let run = record(machine, uuid)?.run;
    run.ok_or_else(|| Failure::Failed(format!("Unable to {action} VM {uuid}: it is not running")))
}

/// `create [-f FILE]`.
pub(super) fn create<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let payload = payload(stream, "create", arguments)?;
    let settings = match parse(stream.machine(), &payload) {
        Ok(settings) => settings,
        Err(error) => {
            let text = payload_error(&error);
            return Err(Failure::Failed(format!("Failed to create VM: {text}")));
        }
    };
    let (uuid, autoboot) = (settings.uuid, settings.autoboot);
    let vms = stream.machine().vms();
    if vms.find(uuid).is_some() {
        return Err(Failure::Failed(format!(
            "Failed to create VM: {uuid} exists already"
        )));
    }
    vms.add(VmRecord {
        settings,
        run: None,
        last_run: LastRun::Ended,
    });
    if autoboot && let Err(error) = bring_up(stream, uuid) {
        // Nothing is left of a VM that could not be created; an operator who lost patience keeps it.
        if error != Failure::Interrupted {
            stream.machine().vms().remove(uuid);
        }
        return Err(because("Failed to create VM", error));
    }
    stream.error(&format!("Successfully created VM {uuid}"));
    Ok(())
}

/// `validate create [-f FILE]`; 1 if the payload is wrong.
pub(super) fn validate<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<u8, Failure> {
    let Some((action, rest)) = arguments.split_first() else {
        return Err(Failure::Usage(
            "usage: vmadm validate create [-f FILE]".into(),
        ));
    };
    if action != "create" {
        return Err(Failure::Usage(format!("Cannot validate '{action}'")));
    }
    let payload = payload(stream, "validate", rest)?;
    match parse(stream.machine(), &payload) {
        Ok(_) => {
            stream.print(&format!("VALID create payload for {BRAND} brand VMs.\n"));
            Ok(SUCCESS)
        }
        Err(PayloadError::Invalid(problems)) => {
            let text = serde_json::to_string_pretty(&problems).unwrap_or_default();
            stream.print(&format!("{text}\n"));
            Ok(FAILURE)
        }
        Err(error) => Err(Failure::Failed(payload_error(&error))),
    }
}

/// The JSON that a command was given: a boot file, or what was piped to it.
fn payload<M: Machine>(
    stream: &mut Stream<M>,
    command: &str,
    arguments: &[String],
) -> Result<Vec<u8>, Failure> {
    let options = options(arguments, "", "f")?;
    if let Some(extra) = options.operands().first() {
        return Err(Failure::Usage(format!(
            "Unexpected argument for {command}: {extra}"
        )));
    }
    match options.value('f') {
        Some(path) => {
            let file = stream.machine().archive().file(path);
            match file {
                Ok(bytes) => Ok(bytes.into()),
                Err(_) => Err(Failure::Failed(format!("{path}: no such file"))),
            }
        }
        None => stream.take_input().ok_or_else(|| {
            Failure::Usage(format!(
                "Will not read JSON for {command} from the terminal; use -f FILE or a pipe"
            ))
        }),
    }
}

fn parse<M: Machine>(machine: &mut M, payload: &[u8]) -> Result<Settings, PayloadError> {
    let uuid = Uuid::random(machine.random());
    let archive = machine.archive();
    let exists = |path: &str| archive.entries().iter().any(|entry| entry.path == path);
    settings::parse(payload, uuid, exists)
}

fn payload_error(error: &PayloadError) -> String {
    match error {
        PayloadError::Json { line, column } => {
            format!("Invalid JSON at line {line}, column {column}")
        }
        PayloadError::NotAnObject => "The JSON is not an object".into(),
        PayloadError::Invalid(problems) => problems_in_words(problems),
    }
}

fn problems_in_words(problems: &Problems) -> String {
    let mut parts = Vec::new();
    if let Some(brand) = &problems.bad_brand {
        parts.push(format!("Invalid brand: {brand}"));
    }
    for (title, names) in [
        ("Invalid property", &problems.bad_properties),
        ("Invalid value for", &problems.bad_values),
        ("Missing", &problems.missing_properties),
    ] {
        if !names.is_empty() {
            parts.push(format!("{title}: {}", names.join(", ")));
        }
    }
    parts.join("; ")
}

/// `get UUID`.
pub(super) fn get<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let uuid = only_target(stream.machine(), "get", arguments)?;
    let text = VmObject::new(record(stream.machine(), uuid)?).to_json();
    stream.print(&format!("{text}\n"));
    Ok(())
}

/// `info UUID [TYPE,...]`.
pub(super) fn info<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let options = options(arguments, "", "")?;
    let machine = stream.machine();
    let uuid = target(machine, "info", options.operands())?;
    for wanted in options.operands()[1..]
        .iter()
        .flat_map(|word| word.split(','))
    {
        if !INFO_TYPES.contains(&wanted) {
            return Err(Failure::Usage(format!("Unknown info type: {wanted}")));
        }
    }
    let run = run_of(machine, "get info for", uuid)?;
    let monitor = programs(machine)?
        .into_iter()
        .find(|program| program.pid == run.pid);
    let text = serde_json::to_string_pretty(&json!({ "monitor": monitor.map(monitor_info) }));
    stream.print(&format!("{}\n", text.unwrap_or_default()));
    Ok(())
}

fn monitor_info(program: ProgramInfo) -> serde_json::Value {
    json!({
        "pid": program.pid,
        "instance": program.instance,
        "threads": program.threads,
        "memory_bytes": program.memory_bytes,
        "cpu_us": program.cpu_us,
        "restarts": program.restarts,
        "status": VmStatus::from_number(program.status).map_or("starting", status_in_words),
    })
}

/// `start UUID`.
pub(super) fn start<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let machine = stream.machine();
    let uuid = only_target(machine, "start", arguments)?;
    let vm = record(machine, uuid)?;
    if vm.run.is_some() {
        let state = VmState::of(vm).name();
        return Err(Failure::Failed(format!(
            "Unable to start VM {uuid}: it is {state}"
        )));
    }
    bring_up(stream, uuid)
        .map_err(|error| because(&format!("Unable to start VM {uuid}"), error))?;
    stream.error(&format!("Successfully started VM {uuid}"));
    Ok(())
}

/// Starts a VM and waits until its monitor says that the guest runs.
fn bring_up<M: Machine>(stream: &mut Stream<M>, uuid: Uuid) -> Result<(), Failure> {
    lifecycle::start(stream.machine(), uuid)?;
    let deadline_us = deadline(stream.machine(), START_SECONDS)?;
    while uptime_us(stream.machine())? < deadline_us {
        if is_up(stream.machine(), uuid)? {
            return Ok(());
        }
        stream.pause(LOOK_MS)?;
    }
    // It is slow, but nothing says that it failed.
    Ok(())
}

/// Whether the guest of a VM that was started runs already.
///
/// # Errors
/// It never will; its record says so too.
fn is_up<M: Machine>(machine: &mut M, uuid: Uuid) -> Result<bool, Failure> {
    let pid = run_of(machine, "start", uuid)?.pid;
    let monitor = programs(machine)?
        .into_iter()
        .find(|program| program.pid == pid);
    let Some(monitor) = monitor else {
        return Ok(false);
    };
    let failure = match VmStatus::from_number(monitor.status) {
        Some(VmStatus::Running) => return Ok(true),
        Some(VmStatus::Loading) | None => None,
        Some(failed) => Some(failed),
    };
    let ended = matches!(monitor.state, ProgramState::Ended(_));
    if failure.is_none() && !ended {
        return Ok(false);
    }
    refresh(machine)?;
    Err(Failure::Failed(match failure {
        Some(failed) => status_in_words(failed).into(),
        None => "its monitor ended".into(),
    }))
}

/// What a monitor's report says.
fn status_in_words(status: VmStatus) -> &'static str {
    match status {
        VmStatus::Loading => "loading",
        VmStatus::Running => "running",
        VmStatus::BadConfiguration => "its monitor does not take the configuration",
        VmStatus::NoKernel => "there is no such kernel",
        VmStatus::NoInitrd => "there is no such initrd",
        VmStatus::BadKernel => "the kernel cannot be booted, or not in so little memory",
        VmStatus::Failed => "the guest did what its monitor cannot answer",
    }
}

/// A failure with what it was the reason of. An interruption stays one.
fn because(what: &str, error: Failure) -> Failure {
    match error {
        Failure::Interrupted => error,
        _ => Failure::Failed(format!("{what}: {error}")),
    }
}

/// `delete UUID`.
pub(super) fn delete<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let machine = stream.machine();
    let uuid = only_target(machine, "delete", arguments)?;
    if let Some(run) = record(machine, uuid)?.run {
        halt(machine, run)?;
    }
    machine.vms().remove(uuid);
    stream.error(&format!("Successfully deleted VM {uuid}"));
    Ok(())
}

/// `stop UUID [-F] [-t SECONDS]`.
pub(super) fn stop<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let (uuid, run, request) = ending(stream.machine(), "stop", arguments)?;
    match request {
        Request::Force => force(stream, run)?,
        Request::Within(seconds) => {
            let deadline = deadline(stream.machine(), seconds)?;
            press_power(stream.machine(), uuid, run, Transition::Stop(deadline))?;
        }
    }
    wait_until(stream, uuid, |vm| vm.run.is_none())?;
    stream.error(&format!("Successfully completed stop for VM {uuid}"));
    Ok(())
}

/// `reboot UUID [-F] [-t SECONDS]`.
pub(super) fn reboot<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let (uuid, run, request) = ending(stream.machine(), "reboot", arguments)?;
    match request {
        Request::Force => {
            force(stream, run)?;
            wait_until(stream, uuid, |vm| vm.run.is_none())?;
            lifecycle::start(stream.machine(), uuid)?;
        }
        Request::Within(seconds) => {
            let deadline = deadline(stream.machine(), seconds)?;
            press_power(stream.machine(), uuid, run, Transition::Reboot(deadline))?;
            wait_until(stream, uuid, |vm| {
                vm.run.is_none_or(|now| now.transition.is_none())
            })?;
        }
    }
    if record(stream.machine(), uuid)?.run.is_none() {
        return Err(Failure::Failed(format!(
            "Unable to reboot VM {uuid}: it did not start again"
        )));
    }
    stream.error(&format!("Successfully completed reboot for VM {uuid}"));
    Ok(())
}

/// How a VM is to be ended.
enum Request {
    /// At once.
    Force,
    /// By its guest, within so many seconds.
    Within(u64),
}

/// The arguments of `stop` and `reboot`.
fn ending<M: Machine>(
    machine: &mut M,
    command: &str,
    arguments: &[String],
) -> Result<(Uuid, Run, Request), Failure> {
    let options = options(arguments, "F", "t")?;
    let seconds = match options.value('t') {
        None => STOP_SECONDS,
        Some(text) => text
            .parse()
            .ok()
            .filter(|&seconds| seconds <= MAX_STOP_SECONDS)
            .ok_or_else(|| Failure::Usage(format!("Not a number of seconds: {text}")))?,
    };
    let uuid = target(machine, command, options.operands())?;
    let run = run_of(machine, command, uuid)?;
    let request = if options.has('F') {
        Request::Force
    } else {
        Request::Within(seconds)
    };
    Ok((uuid, run, request))
}

fn deadline<M: Machine>(machine: &M, seconds: u64) -> Result<u64, Failure> {
    Ok(uptime_us(machine)?.saturating_add(seconds * 1_000_000))
}

fn force<M: Machine>(stream: &mut Stream<M>, run: Run) -> Result<(), Failure> {
    halt(stream.machine(), run)
}

/// Waits until a VM's record is as wanted. Root ends what does not come to it by its deadline, so this ends.
fn wait_until<M: Machine>(
    stream: &mut Stream<M>,
    uuid: Uuid,
    done: impl Fn(&VmRecord) -> bool,
) -> Result<(), Failure> {
    loop {
        refresh(stream.machine())?;
        if done(record(stream.machine(), uuid)?) {
            return Ok(());
        }
        stream.pause(LOOK_MS)?;
    }
}
