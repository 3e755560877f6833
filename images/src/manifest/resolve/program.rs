//! One `[[program]]`: its numbers, and the names in it.

use crate::manifest::quantity;
use crate::manifest::refusal::Refusal;
use crate::manifest::source::{Program as Text, Restart as RestartText, Source};
use proto::boot::manifest::LAST_WAKE_BIT;
use proto::boot::{Authority, Callee, DeviceGrant, Placement, Program, Restart, StartWhen};

/// How a size is written.
pub const SIZE_FORM: &str = "a size such as \"4 MiB\"";
/// How a duration is written.
const TIME_FORM: &str = "a duration such as \"10 ms\"";
/// The kernel's shortest budget, in microseconds (docs/abi.md, seL4's MIN_BUDGET).
const SHORTEST_BUDGET_US: u64 = 20;
/// Longest period, in microseconds: what a refill of the kernel still holds without overflow.
const LONGEST_PERIOD_US: u64 = 3_600_000_000;
/// A heap below this cannot hold a server's tables.
const SMALLEST_HEAP: u64 = 64 << 10;
/// A program is built from one untyped of at most this size.
const LARGEST_HEAP: u64 = 1 << 30;
/// Stacks are between two pages and what fits beside the heap in the address space layout.
const STACKS: std::ops::RangeInclusive<u64> = 8 << 10..=1 << 20;
/// Most threads of a program: the shape of its capability space has room for as many.
const MOST_THREADS: u16 = 32;
/// Most instances: instance numbers are shown with two digits.
const MOST_INSTANCES: u16 = 64;
/// Most reply objects: one for each request in flight.
const MOST_REPLIES: u16 = 64;
/// Most virtual CPUs of one guest.
const MOST_VCPUS: u16 = 8;
/// Most guest memory: what the guest-physical map of the monitors is laid out for.
const MOST_GUEST: u64 = 64 << 30;
const PAGE: u64 = 4096;

/// Resolves `text`, whose names refer to `source`.
pub fn resolve(text: &Text, source: &Source) -> Result<Program, Refusal> {
    let budget_us = time(text, "budget", &text.budget)?;
    let period_us = text
        .period
        .as_deref()
        .map_or(Ok(budget_us), |p| time(text, "period", p))?;
    let stack = text.stack.as_deref().unwrap_or("64 KiB");
    let program = Program {
        name: text.name.clone(),
        image: format!("/bin/{}", text.package.as_ref().unwrap_or(&text.name)),
        start: start(text)?,
        instances: text.instances.unwrap_or(1),
        threads: text.threads.unwrap_or(1),
        priority: u8::try_from(text.priority).unwrap_or(0),
        placement: text.cpu.map_or(Placement::Spread, Placement::Cpu),
        budget_us,
        period_us,
        heap_bytes: size(text, "heap", &text.heap)?,
        stack_bytes: size(text, "stack", stack)?,
        replies: text.replies,
        timer_bit: text.timer,
        signal_bits: signals(text)?,
        calls: callees(text, source)?,
        authority: authority(text)?,
        devices: grants(text, source)?,
        boot_archive: text.archive,
        vcpus: text.vcpus,
        guest_bytes: text
            .guest
            .as_deref()
            .map_or(Ok(0), |guest| size(text, "guest", guest))?,
        restart: restart(text)?,
    };
    check_ranges(text, &program)?;
    Ok(program)
}

fn refuse<T>(
    text: &Text,
    key: &'static str,
    value: impl ToString,
    allowed: &'static str,
) -> Result<T, Refusal> {
    let program = text.name.clone();
    Err(Refusal::OutOfRange {
        program,
        key,
        value: value.to_string(),
        allowed,
    })
}

fn check_ranges(text: &Text, program: &Program) -> Result<(), Refusal> {
    if !(1..=254).contains(&text.priority) {
        return refuse(text, "priority", text.priority, "in 1..=254");
    }
    if !(1..=MOST_INSTANCES).contains(&program.instances) {
        return refuse(text, "instances", program.instances, "in 1..=64");
    }
    if !(1..=MOST_THREADS).contains(&program.threads) {
        return refuse(text, "threads", program.threads, "in 1..=32");
    }
    if program.replies > MOST_REPLIES {
        return refuse(text, "replies", program.replies, "at most 64");
    }
    if program.vcpus > MOST_VCPUS {
        return refuse(text, "vcpus", program.vcpus, "at most 8");
    }
    if program.vcpus >= program.threads {
        let (vcpus, threads) = (program.vcpus, program.threads);
        return Err(Refusal::TooFewThreads {
            program: text.name.clone(),
            vcpus,
            threads,
        });
    }
    if !(SHORTEST_BUDGET_US..=program.period_us).contains(&program.budget_us) {
        return refuse(
            text,
            "budget",
            quote(&text.budget),
            "between 20 us and the period",
        );
    }
    if program.period_us > LONGEST_PERIOD_US {
        return refuse(text, "period", quote(period(text)), "at most one hour");
    }
    if !pages(program.heap_bytes, SMALLEST_HEAP..=LARGEST_HEAP) {
        return refuse(
            text,
            "heap",
            quote(&text.heap),
            "whole pages between 64 KiB and 1 GiB",
        );
    }
    if !pages(program.stack_bytes, STACKS) {
        let stack = text.stack.as_deref().unwrap_or_default();
        return refuse(
            text,
            "stack",
            quote(stack),
            "whole pages between 8 KiB and 1 MiB",
        );
    }
    if program.guest_bytes > MOST_GUEST {
        let guest = text.guest.as_deref().unwrap_or_default();
        return refuse(text, "guest", quote(guest), "at most 64 GiB");
    }
    Ok(())
}

fn pages(bytes: u64, range: std::ops::RangeInclusive<u64>) -> bool {
    range.contains(&bytes) && bytes.is_multiple_of(PAGE)
}

fn period(text: &Text) -> &str {
    text.period.as_deref().unwrap_or(&text.budget)
}

fn quote(text: &str) -> String {
    format!("\"{text}\"")
}

fn size(text: &Text, key: &'static str, value: &str) -> Result<u64, Refusal> {
    quantity::size(value).map_or_else(|| refuse(text, key, quote(value), SIZE_FORM), Ok)
}

fn time(text: &Text, key: &'static str, value: &str) -> Result<u64, Refusal> {
    quantity::time_us(value).map_or_else(|| refuse(text, key, quote(value), TIME_FORM), Ok)
}

fn start(text: &Text) -> Result<StartWhen, Refusal> {
    match text.start.as_deref() {
        None | Some("boot") => Ok(StartWhen::AtBoot),
        Some("request") => Ok(StartWhen::OnRequest),
        Some(other) => refuse(text, "start", quote(other), "\"boot\" or \"request\""),
    }
}

fn authority(text: &Text) -> Result<Authority, Refusal> {
    match text.authority.as_deref() {
        None | Some("report") => Ok(Authority::Report),
        Some("observe") => Ok(Authority::Observe),
        Some("manage") => Ok(Authority::Manage),
        Some(other) => refuse(
            text,
            "authority",
            quote(other),
            "\"report\", \"observe\" or \"manage\"",
        ),
    }
}

fn signals(text: &Text) -> Result<u64, Refusal> {
    text.signals.iter().try_fold(0, |mask, bit| {
        if *bit > LAST_WAKE_BIT {
            return refuse(text, "signals", bit, "a bit in 0..=61");
        }
        Ok(mask | 1 << bit)
    })
}

fn callees(text: &Text, source: &Source) -> Result<Vec<Callee>, Refusal> {
    let callee = |name: &String| {
        if name == "root" {
            return Ok(Callee::Root);
        }
        find(
            text,
            "program",
            name,
            source.program.iter().map(|program| &program.name),
        )
        .map(Callee::Program)
    };
    text.calls.iter().map(callee).collect()
}

fn grants(text: &Text, source: &Source) -> Result<Vec<DeviceGrant>, Refusal> {
    let grant = |grant: &crate::manifest::source::Grant| {
        let names = source.device.iter().map(|device| &device.name);
        let index = find(text, "device", &grant.device, names)?;
        if source.device[usize::from(index)].interrupt.is_some() != grant.bit.is_some() {
            let (program, device) = (text.name.clone(), grant.device.clone());
            return Err(Refusal::InterruptBit { program, device });
        }
        Ok(DeviceGrant {
            device: index,
            bit: grant.bit,
        })
    };
    text.devices.iter().map(grant).collect()
}

/// Position of `name` among `names`.
fn find<'a>(
    text: &Text,
    what: &'static str,
    name: &str,
    mut names: impl Iterator<Item = &'a String>,
) -> Result<u16, Refusal> {
    let index = names.position(|other| other == name);
    index
        .and_then(|index| u16::try_from(index).ok())
        .ok_or_else(|| Refusal::UnknownName {
            program: text.name.clone(),
            what,
            name: name.to_owned(),
        })
}

fn restart(text: &Text) -> Result<Restart, Refusal> {
    let Some(RestartText {
        limit,
        backoff,
        calm,
    }) = &text.restart
    else {
        return Ok(Restart {
            limit: 0,
            backoff_ms: 0,
            calm_ms: 0,
        });
    };
    let millis = |key, value: &str| -> Result<u32, Refusal> {
        let long = "a duration such as \"10 ms\", at most 49 days";
        u32::try_from(time(text, key, value)? / 1000).or_else(|_| refuse(text, key, value, long))
    };
    Ok(Restart {
        limit: *limit,
        backoff_ms: millis("restart.backoff", backoff)?,
        calm_ms: millis("restart.calm", calm)?,
    })
}
