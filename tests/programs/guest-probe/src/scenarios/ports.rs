//! Ports that the guest uses without the monitor.

use libcap::KernelError;
use sel4_sys::ExitReason;

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure};
use crate::machine::Machine;

/// A port exits, then it does not, then it exits again: disabled, and revoked.
pub fn pass_through(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    let ports = bench.ports(0x80, 0x80)?;
    machine.start_real(code::out_and_halt())?;
    let refused = machine.vcpu.enable_io_port(ports, 0x80, 0x81);
    ensure!(
        matches!(refused, Err(KernelError::InvalidCapability { .. })),
        "more ports than the capability has: {refused:?}"
    );
    machine.vcpu.enable_io_port(ports, 0x80, 0x80)?;
    machine.expect(ExitReason::Hlt)?;
    machine.vcpu.disable_io_port(0x80, 0x80)?;
    machine.start_real(code::out_and_halt())?;
    machine.expect_mark(0x80)?;
    machine.vcpu.enable_io_port(ports, 0x80, 0x80)?;
    machine.start_real(code::out_and_halt())?;
    machine.expect(ExitReason::Hlt)?;
    bench.revoke(ports)?;
    machine.start_real(code::out_and_halt())?;
    machine.expect_mark(0x80)?;
    bench.delete(ports)
}
