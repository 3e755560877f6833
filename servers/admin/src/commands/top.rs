//! `top`: who uses the CPUs, again and again.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use proto::boot::Manifest;
use proto::console::{Event, Wait};
use proto::root::{MachineInfo, MemoryUse, Pid, ProgramInfo};

use super::programs::{display_name, state};
use super::session::CLEAR_SCREEN;
use super::{options, usage};
use crate::failure::Failure;
use crate::filter::Flow;
use crate::machine::Machine;
use crate::stream::Stream;
use crate::table::{Column, Form, human_bytes, human_time, render};
use crate::vmadm::lifecycle::programs;

/// Seconds between two looks unless `-d` says otherwise.
const DEFAULT_SECONDS: u32 = 2;
/// Longest time between two looks that can be asked for, in seconds: an hour.
const MAX_SECONDS: u32 = 3600;
/// Back to the top without erasing, so that the picture does not flicker.
const HOME: &str = "\x1b[H";
/// Erases the rest of a line.
const ERASE_LINE: &str = "\x1b[K";
/// Erases what is below.
const ERASE_BELOW: &str = "\x1b[J";

/// One look at the system.
struct Sample {
    machine: MachineInfo,
    memory: MemoryUse,
    programs: Vec<ProgramInfo>,
}

/// `top [-d SECONDS] [-n TIMES]`.
pub(super) fn top<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    let options = options("top", arguments, "", "dn")?;
    if !options.operands().is_empty() {
        return Err(usage("top"));
    }
    let number = |name, default| match options.value(name) {
        None => Ok(default),
        Some(text) => text.parse::<u32>().map_err(|_| usage("top")),
    };
    let seconds = number('d', DEFAULT_SECONDS)?.clamp(1, MAX_SECONDS);
    let drawn = stream.is_terminal();
    // In a pipe once is enough unless more is asked for.
    let times = number('n', if drawn { u32::MAX } else { 1 })?;
    let rows = usize::from(stream.machine().console().size()?.rows);
    if drawn {
        stream.raw(CLEAR_SCREEN);
    }
    let mut before = sample(stream.machine())?;
    for _ in 0..times {
        if wait(stream, seconds * 1000)? {
            break;
        }
        let now = sample(stream.machine())?;
        let manifest = stream.machine().archive().manifest();
        let text = picture(manifest, &before, &now);
        if drawn {
            draw(stream, &text, rows);
        } else if stream.print(&text) == Flow::Stop {
            break;
        }
        before = now;
    }
    if drawn {
        stream.print("\n");
    }
    Ok(())
}

fn sample<M: Machine>(machine: &M) -> Result<Sample, Failure> {
    Ok(Sample {
        machine: machine.root().machine()?,
        memory: machine.root().memory()?,
        programs: programs(machine)?,
    })
}

/// Waits; whether the operator quit. Ctrl-C quits too.
fn wait<M: Machine>(stream: &mut Stream<M>, milliseconds: u32) -> Result<bool, Failure> {
    match stream.read(Wait::Milliseconds(milliseconds)) {
        Ok(Some(Event::Input(bytes))) => Ok(bytes.contains(&b'q')),
        Ok(_) => Ok(false),
        Err(Failure::Interrupted) => Ok(true),
        Err(error) => Err(error),
    }
}

fn draw<M: Machine>(stream: &mut Stream<M>, text: &str, rows: usize) {
    let mut screen = String::from(HOME);
    // The last row stays free, so that nothing scrolls.
    for line in text.lines().take(rows.saturating_sub(1)) {
        screen.push_str(line);
        screen.push_str(ERASE_LINE);
        screen.push_str("\r\n");
    }
    screen.push_str(ERASE_BELOW);
    stream.raw(screen.as_bytes());
}

fn picture(manifest: &Manifest, before: &Sample, now: &Sample) -> String {
    let elapsed_us = now
        .machine
        .uptime_us
        .saturating_sub(before.machine.uptime_us)
        .max(1);
    let mut used: Vec<(u64, &ProgramInfo)> = now
        .programs
        .iter()
        .map(|program| {
            (
                used_us(&before.programs, program.pid, program.cpu_us),
                program,
            )
        })
        .collect();
    used.sort_by(|(left, _), (right, _)| right.cmp(left));
    let busy_us: u64 = used.iter().map(|(used, _)| used).sum();
    let mut text = format!(
        "up {}  {} CPUs, {} busy  memory {} free of {}  (q quits)\n\n",
        human_time(now.machine.uptime_us),
        now.machine.cpus,
        percent(busy_us, elapsed_us),
        human_bytes(now.memory.free),
        human_bytes(now.memory.total),
    );
    let columns = [
        Column::number("pid", 4),
        Column::text("program", 12),
        Column::text("state", 10),
        Column::number("memory", 9),
        Column::number("cpu", 8),
        Column::number("%cpu", 6),
    ];
    let rows: Vec<Vec<String>> = used
        .iter()
        .map(|(used, program)| {
            Vec::from([
                program.pid.to_string(),
                display_name(manifest, program),
                state(program.state).0.into(),
                human_bytes(program.memory_bytes),
                human_time(program.cpu_us),
                percent(*used, elapsed_us),
            ])
        })
        .collect();
    text.push_str(&render(&columns, &rows, Form::Titled));
    text
}

/// What a run used since the look before; a run that began since then, all that it used.
fn used_us(before: &[ProgramInfo], pid: Pid, cpu_us: u64) -> u64 {
    let earlier = before.iter().find(|program| program.pid == pid);
    cpu_us.saturating_sub(earlier.map_or(0, |program| program.cpu_us))
}

/// Per cent of one CPU, with one decimal.
fn percent(used_us: u64, elapsed_us: u64) -> String {
    let tenths = u128::from(used_us) * 1000 / u128::from(elapsed_us);
    format!("{}.{}%", tenths / 10, tenths % 10)
}
