//! Commands about programs: `caps`, `kill`, `ps`, `restart`.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proto::boot::Manifest;
use proto::root::{CapInfo, Death, Ending, Pid, ProgramInfo, ProgramState};

use super::{options, usage};
use crate::failure::Failure;
use crate::machine::Machine;
use crate::options::Options;
use crate::stream::Stream;
use crate::table::{Column, Form, human_bytes, human_time, render, select};
use crate::vmadm::lifecycle::programs;

/// Columns of `ps` without `-l`: all but the note.
const DEFAULT_COLUMNS: &str = "pid,program,state,pri,thr,memory,cpu,restarts";
/// Parts of root's list of capabilities read before it counts as endless.
const MAX_PARTS: usize = 10_000;
/// Name of root in lists; its number is 0.
const ROOT: (&str, Pid) = ("root", 0);

/// The name of a program as the operator uses it: with `.<instance>` where there can be several.
pub fn display_name(manifest: &Manifest, program: &ProgramInfo) -> String {
    let several = manifest
        .programs
        .iter()
        .any(|declared| declared.name == program.name && declared.instances > 1);
    if several {
        format!("{}.{}", program.name, program.instance)
    } else {
        program.name.clone()
    }
}

/// `ps [-Hlp] [-o COLUMN,..]`.
pub(super) fn ps<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = options("ps", arguments, "Hlp", "o")?;
    if !options.operands().is_empty() {
        return Err(usage("ps"));
    }
    let machine = stream.machine();
    let programs = programs(machine)?;
    let manifest = machine.archive().manifest();
    let rows = programs
        .iter()
        .map(|program| row(manifest, program))
        .collect();
    let columns = [
        Column::number("pid", 4),
        Column::text("program", 12),
        Column::text("state", 10),
        Column::number("pri", 3),
        Column::number("thr", 3),
        Column::number("memory", 9),
        Column::number("cpu", 8),
        Column::number("restarts", 8),
        Column::text("note", 4),
    ];
    let all = format!("{DEFAULT_COLUMNS},note");
    let names = match options.value('o') {
        Some(names) => names,
        None if options.has('l') => &all,
        None => DEFAULT_COLUMNS,
    };
    show(stream, &columns, rows, names, &options)
}

fn row(manifest: &Manifest, program: &ProgramInfo) -> Vec<String> {
    let (state, note) = state(program.state);
    Vec::from([
        program.pid.to_string(),
        display_name(manifest, program),
        state.into(),
        program.priority.to_string(),
        program.threads.to_string(),
        human_bytes(program.memory_bytes),
        human_time(program.cpu_us),
        program.restarts.to_string(),
        note,
    ])
}

/// A state in one word, and what else is to be said of it.
pub fn state(state: ProgramState) -> (&'static str, String) {
    match state {
        ProgramState::Running => ("running", String::new()),
        ProgramState::Restarting(ms) => ("restarting", format!("in {ms} ms")),
        ProgramState::Ended(ending) => match ending {
            Ending::Finished => ("finished", String::new()),
            Ending::WantsRestart => ("finished", "wants to be started again".into()),
            Ending::GaveUp => ("gave up", String::new()),
            Ending::Stopped => ("stopped", String::new()),
            Ending::Died(Death::Killed) => ("killed", String::new()),
            Ending::Died(death) => ("died", cause(death)),
            Ending::NotBuilt => ("not built", "no memory, or a damaged image".into()),
        },
    }
}

fn cause(death: Death) -> String {
    match death {
        Death::MemoryFault { ip, address } => {
            format!("memory fault at {address:#x}, ip {ip:#x}")
        }
        Death::Exception { ip, vector } => format!("exception {vector}, ip {ip:#x}"),
        Death::CapFault { ip, slot } => format!("no capability {slot:#x}, ip {ip:#x}"),
        Death::UnknownSyscall { ip, number } => {
            format!("unknown system call {number:#x}, ip {ip:#x}")
        }
        Death::OtherFault(label) => format!("fault {label}"),
        Death::Killed => String::new(),
    }
}

fn show<M: Machine>(
    stream: &mut Stream<M>,
    columns: &[Column],
    rows: Vec<Vec<String>>,
    names: &str,
    options: &Options,
) -> Result<(), Failure> {
    let (columns, rows) = select(columns, rows, names).map_err(Failure::Usage)?;
    let form = if options.has('p') {
        Form::Parsable
    } else if options.has('H') {
        Form::Untitled
    } else {
        Form::Titled
    };
    stream.print(&render(&columns, &rows, form));
    Ok(())
}

/// `caps [-Hp] [-o COLUMN,..] [PROGRAM]`.
pub(super) fn caps<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let options = options("caps", arguments, "Hp", "o")?;
    let machine = stream.machine();
    let programs = programs(machine)?;
    let manifest = machine.archive().manifest();
    let wanted = match options.operands() {
        [] => None,
        [name] if name == ROOT.0 => Some(ROOT.1),
        [name] => Some(find(manifest, &programs, name)?.pid),
        _ => return Err(usage("caps")),
    };
    let holder = |pid: Pid| {
        let program = programs.iter().find(|program| program.pid == pid);
        match program {
            Some(program) => display_name(manifest, program),
            None if pid == ROOT.1 => ROOT.0.into(),
            None => pid.to_string(),
        }
    };
    let rows = capabilities(machine)?
        .into_iter()
        .filter(|cap| wanted.is_none_or(|pid| pid == cap.pid))
        .map(|cap| Vec::from([holder(cap.pid), cap.name, format!("{:?}", cap.kind)]))
        .collect();
    let columns = [
        Column::text("program", 12),
        Column::text("name", 24),
        Column::text("kind", 4),
    ];
    let names = options.value('o').unwrap_or("program,name,kind");
    show(stream, &columns, rows, names, &options)
}

fn capabilities<M: Machine>(machine: &M) -> Result<Vec<CapInfo>, Failure> {
    let mut caps = Vec::new();
    let mut from = Some(0);
    for _ in 0..MAX_PARTS {
        let Some(next) = from else { break };
        let mut part = machine.root().caps(next)?;
        caps.append(&mut part.caps);
        from = part.next;
    }
    Ok(caps)
}

/// The program that the operator means: by number, by name, or by name and instance.
fn find<'p>(
    manifest: &Manifest,
    programs: &'p [ProgramInfo],
    name: &str,
) -> Result<&'p ProgramInfo, Failure> {
    let number = name.parse::<Pid>().ok();
    let named: Vec<&ProgramInfo> = programs
        .iter()
        .filter(|program| {
            Some(program.pid) == number
                || program.name == name
                || display_name(manifest, program) == name
        })
        .collect();
    match named.as_slice() {
        [] => Err(Failure::Failed(format!("{name}: no such program"))),
        [program] => Ok(program),
        _ => {
            let names: Vec<String> = named
                .iter()
                .map(|program| display_name(manifest, program))
                .collect();
            Err(Failure::Failed(format!(
                "{name}: which one? {}",
                names.join(", ")
            )))
        }
    }
}

/// Finds every program named before anything is done to one.
fn find_all<M: Machine>(
    stream: &mut Stream<M>,
    command: &str,
    names: &[String],
) -> Result<Vec<Pid>, Failure> {
    if names.is_empty() {
        return Err(usage(command));
    }
    let machine = stream.machine();
    let programs = programs(machine)?;
    let manifest = machine.archive().manifest();
    names
        .iter()
        .map(|name| Ok(find(manifest, &programs, name)?.pid))
        .collect()
}

/// `kill PROGRAM|PID...`.
pub(super) fn kill<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    for pid in find_all(stream, "kill", arguments)? {
        stream.machine().root().kill(pid)?;
    }
    Ok(())
}

/// `restart PROGRAM|PID...`.
pub(super) fn restart<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    for pid in find_all(stream, "restart", arguments)? {
        stream.machine().root().restart(pid)?;
    }
    Ok(())
}
