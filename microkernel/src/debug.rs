//! What a debug kernel prints and answers: seL4's debug system calls. A release kernel has none.

use core::fmt::{self, Write};

use sel4_sys::Syscall;

use crate::arch;
use crate::cap::Cap;
use crate::cap_type::cap_type;
use crate::config::DEBUG_SYSCALLS;
use crate::fault::Fault;
use crate::kernel::Kernel;
use crate::lookup;
use crate::object::{BufferUse, Tcb};
use crate::store::Ref;

/// The debug console as a text writer.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().for_each(arch::debug_put_char);
        Ok(())
    }
}

/// Prints formatted text on the debug console, in a debug kernel.
pub fn print(text: fmt::Arguments<'_>) {
    if DEBUG_SYSCALLS {
        // Console never fails.
        let _ = Console.write_fmt(text);
    }
}

/// Says that `tcb` stops for want of a fault handler.
pub fn unhandled_fault(tcb: Ref<Tcb>, fault: Fault) {
    let name = tcb.name.get();
    let end = name.iter().position(|b| *b == 0).unwrap_or(name.len());
    let name = core::str::from_utf8(&name[..end]).unwrap_or("?");
    let (ip, sp) = (tcb.restart_ip.get(), tcb.registers.rsp.get());
    print(format_args!(
        "thread {tcb:?} \"{name}\" has no fault handler for {fault:x?} at {ip:#x}, stack {sp:#x}\n"
    ));
}

/// Bytes of a thread's name, with the zero that ends it.
const NAME_BYTES: usize = 32;

impl Kernel {
    /// Serves a debug system call; whether it was one.
    pub(crate) fn handle_debug_syscall(&self, tcb: Ref<Tcb>, syscall: Syscall) -> bool {
        if !DEBUG_SYSCALLS {
            return false;
        }
        let argument = &tcb.registers.rdi;
        match syscall {
            Syscall::DebugPutChar => arch::debug_put_char(argument.get() as u8),
            Syscall::DebugHalt => arch::debug_halt(),
            Syscall::DebugCapIdentify => {
                let cap = lookup::lookup_cap(tcb, argument.get());
                argument.set(cap.map_or(0, |cap| cap_type(cap).number()));
            }
            Syscall::DebugNameThread => self.name_thread(tcb, argument.get()),
            Syscall::DebugDumpScheduler => self.dump_scheduler(),
            Syscall::DebugSnapshot => print(format_args!("DebugSnapshot: nothing to print\n")),
            Syscall::DebugSendIpi => {}
            Syscall::DebugGetThreadAffinity => {
                if let Ok(Cap::Thread { tcb: named }) = lookup::lookup_cap(tcb, argument.get()) {
                    argument.set(u64::from(named.node.get()));
                }
            }
            _ => return false,
        }
        true
    }

    fn name_thread(&self, tcb: Ref<Tcb>, address: u64) {
        let Ok(Cap::Thread { tcb: named }) = lookup::lookup_cap(tcb, address) else {
            return;
        };
        let Some(buffer) = tcb.ipc_buffer(BufferUse::Send) else {
            return;
        };
        let mut name = [0; NAME_BYTES];
        for (index, byte) in name.iter_mut().enumerate().take(NAME_BYTES - 1) {
            *byte = buffer.word(1 + index / 8).get().to_le_bytes()[index % 8];
            if *byte == 0 {
                break;
            }
        }
        named.name.set(name);
    }

    fn dump_scheduler(&self) {
        for node in self.nodes.iter().take(self.node_count.get()) {
            let current = node.current();
            let state = current.state.get();
            let priority = current.priority.get();
            print(format_args!(
                "runs {current:?} {state:?} priority {priority}\n"
            ));
            for queue in node.ready.iter().flat_map(|r| &r.queues) {
                for tcb in queue.iter() {
                    print(format_args!(
                        "ready {tcb:?} priority {}\n",
                        tcb.priority.get()
                    ));
                }
            }
        }
    }
}
