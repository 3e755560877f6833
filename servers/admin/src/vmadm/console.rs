//! `vmadm console`: the operator's terminal becomes the VM's, until Ctrl-] or the VM's end.
//!
//! The console server joins the terminal with the VM; this command only waits. Once in a while it looks
//! whether the VM still runs, because the console server does not know that.

use alloc::format;
use alloc::string::String;

use proto::CallError;
use proto::console::{Event, VirtualConsole, Wait};

use super::actions::{only_target, run_of};
use super::lifecycle::refresh;
use super::object::VmState;
use super::store::{Run, VmStore};
use super::uuid::Uuid;
use crate::failure::Failure;
use crate::machine::Machine;
use crate::stream::Stream;

/// How often it looks whether the VM still runs, in milliseconds.
const LOOK_MS: u32 = 1000;
/// How long the last words of a VM may take to the terminal, in milliseconds.
const LAST_WORDS_MS: u32 = 300;
/// How often the console server may die before the command gives up: root restarts it more slowly each
/// time.
const MAX_DEATHS: u32 = 3;

/// `console UUID`.
pub(super) fn console<M: Machine>(
    stream: &mut Stream<M>,
    arguments: &[String],
) -> Result<(), Failure> {
    let uuid = only_target(stream.machine(), "console", arguments)?;
    let run = run_of(stream.machine(), "connect to the console of", uuid)?;
    stream.print(&format!(
        "[Connected to the console of VM {uuid}; Ctrl-] leaves it]\n"
    ));
    stream.flush();
    let outcome = attached(stream, uuid, run);
    // Whatever happened, the shell's console comes back.
    let detached = stream.machine().console().detach();
    let reason = outcome?;
    detached?;
    stream.print(&format!("[{reason}]\n"));
    Ok(())
}

/// Waits until the console is left; why it was.
fn attached<M: Machine>(stream: &mut Stream<M>, uuid: Uuid, run: Run) -> Result<String, Failure> {
    let mut instance = run.instance;
    let mut deaths = 0;
    attach(stream, instance)?;
    loop {
        match stream.machine().console().read(Wait::Milliseconds(LOOK_MS)) {
            Ok(Event::Detached) => return Ok(format!("Left the console of VM {uuid}")),
            Ok(Event::Input(bytes)) => stream.keep_typed(&bytes),
            Ok(Event::Notice(notice)) => stream.error(&notice),
            Ok(Event::TimedOut) => {}
            Err(CallError::PeerDied) if deaths < MAX_DEATHS => {
                // The new console shows the shell.
                deaths += 1;
                attach(stream, instance)?;
            }
            Err(error) => return Err(error.into()),
        }
        let machine = stream.machine();
        refresh(machine)?;
        let vm = machine.vms().find(uuid);
        match vm.and_then(|vm| vm.run) {
            Some(run) if run.instance != instance => {
                instance = run.instance;
                attach(stream, instance)?;
            }
            Some(_) => {}
            None => {
                let state = vm.map_or("gone", |vm| VmState::of(vm).name());
                let text = format!("VM {uuid} is {state}");
                last_words(stream);
                return Ok(text);
            }
        }
    }
}

fn attach<M: Machine>(stream: &mut Stream<M>, instance: u16) -> Result<(), Failure> {
    let console = VirtualConsole::Machine(instance);
    Ok(stream.machine().console().attach(console)?)
}

/// Lets the terminal show what the VM wrote last.
fn last_words<M: Machine>(stream: &mut Stream<M>) {
    let wait = Wait::Milliseconds(LAST_WORDS_MS);
    if let Ok(Event::Input(bytes)) = stream.machine().console().read(wait) {
        stream.keep_typed(&bytes);
    }
}
