//! Commands about the machine as a whole: `halt`, `mem`, `reboot`, `uptime`, `version`.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use proto::root::Virtualisation;

use super::no_arguments;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::stream::Stream;
use crate::table::{Column, Form, human_bytes, human_time, render};
use crate::vmadm::lifecycle::refresh;
use crate::vmadm::store::VmStore;

/// `halt`.
pub(super) fn halt<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("halt", arguments)?;
    stream.print("Halting.\n");
    stream.flush();
    Ok(stream.machine().root().halt()?)
}

/// `reboot`.
pub(super) fn reboot<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("reboot", arguments)?;
    stream.print("Rebooting.\n");
    stream.flush();
    Ok(stream.machine().root().reboot()?)
}

/// `mem`.
pub(super) fn mem<M: Machine>(stream: &mut Stream<M>, arguments: &[String]) -> Result<(), Failure> {
    no_arguments("mem", arguments)?;
    let memory = stream.machine().root().memory()?;
    let columns = [
        Column::text("what", 12),
        Column::number("size", 10),
        Column::number("share", 5),
    ];
    let row = |name: &str, bytes: u64| {
        let share = (u128::from(bytes) * 100)
            .checked_div(u128::from(memory.total))
            .unwrap_or(0);
        Vec::from([name.into(), human_bytes(bytes), format!("{share}%")])
    };
    let rows: Vec<Vec<String>> = Vec::from([
        row("total", memory.total),
        row("programs", memory.programs),
        row("guests", memory.guests),
        row("boot files", memory.archive),
        row("free", memory.free),
        row("largest free", memory.largest_free),
    ]);
    stream.print(&render(&columns, &rows, Form::Titled));
    Ok(())
}

/// `uptime`.
pub(super) fn uptime<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("uptime", arguments)?;
    let machine = stream.machine();
    refresh(machine)?;
    let info = machine.root().machine()?;
    let vms = machine.vms().all();
    let running = vms.iter().filter(|vm| vm.run.is_some()).count();
    let text = format!(
        "up {}, {} CPUs, {} of {} VMs running\n",
        human_time(info.uptime_us),
        info.cpus,
        running,
        vms.len()
    );
    stream.print(&text);
    Ok(())
}

/// `version`.
pub(super) fn version<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    no_arguments("version", arguments)?;
    let machine = stream.machine();
    let info = machine.root().machine()?;
    let guests = match info.virtualisation {
        Virtualisation::None => "no virtualisation",
        Virtualisation::Svm => "AMD SVM with nested paging",
        Virtualisation::Vmx => "Intel VMX with EPT",
    };
    let text = format!(
        "{} {} x86_64, {} CPUs, {guests}\n",
        machine.archive().manifest().system,
        env!("CARGO_PKG_VERSION"),
        info.cpus
    );
    stream.print(&text);
    Ok(())
}
