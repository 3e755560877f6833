//! Privileged instructions: those that are the guest's own business, and those that exit.

use sel4_sys::vcpu::RegisterAccess;
use sel4_sys::{ExitReason, VcpuField as F};

use crate::bench::{Bench, Engine};
use crate::code;
use crate::failure::{Outcome, ensure_equal};
use crate::machine::{Machine, RAX, RBP, RBX, RDI, RSI};

/// MSRs that the kernel switches: no exit, and neither this program nor the kernel is disturbed.
pub fn own_msrs(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::own_msrs())?;
    machine.expect_mark(0x80)?;
    let wanted = [
        (F::Star, 0x0023_0010_0000_0000),
        (F::Lstar, 0x7abc_1111_2222),
        (F::Cstar, 0x7abc_3333_4444),
        (F::Fmask, 0x4_7700),
        (F::FsBase, 0x7abc_5555_6666),
        (F::GsBase, 0x7abc_7777_8888),
        (F::KernelGsBase, 0x7abc_9999_aaaa),
        (F::SysenterEsp, 0x7abc_bbbb_cccc),
    ];
    for (field, value) in wanted {
        ensure_equal!(machine.field(field)?, value, "{field:?}");
    }
    machine.vcpu.write_fields(&[(F::Lstar, 0x7000_dddd_eeee)])?;
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RBX), 0xdddd_eeee, "LSTAR as the monitor set it");
    ensure_equal!(
        machine.get(RAX),
        0x9999_aaaa,
        "KERNEL_GS_BASE as the guest set it"
    );
    machine.expect(ExitReason::Hlt)
}

fn expect_register(
    machine: &mut Machine,
    reason: ExitReason,
    register: u8,
    general: usize,
    write: u64,
) -> Outcome {
    machine.expect(reason)?;
    let access = RegisterAccess(machine.record.qualification());
    ensure_equal!(access.register(), register, "register");
    ensure_equal!(u64::from(access.is_write()), write, "direction");
    if access.general_register() != RegisterAccess::UNKNOWN {
        ensure_equal!(
            usize::from(access.general_register()),
            general,
            "general register"
        );
    }
    Ok(())
}

/// One exit for each.
pub fn instructions(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::privileged())?;
    expect_register(&mut machine, ExitReason::CrAccess, 8, RSI, 1)?;
    machine.skip(4)?;
    expect_register(&mut machine, ExitReason::CrAccess, 8, RDI, 0)?;
    machine.skip(4)?;
    expect_register(&mut machine, ExitReason::DrAccess, 7, RBP, 1)?;
    machine.skip(3)?;
    expect_register(&mut machine, ExitReason::DrAccess, 3, RBX, 0)?;
    machine.skip(3)?;
    for (reason, qualification, length) in [
        (ExitReason::Wbinvd, 0, 2),
        (ExitReason::Wbinvd, 0, 2),
        (ExitReason::Rdpmc, 0, 2),
        (ExitReason::Monitor, 0, 3),
        (ExitReason::Monitor, 1, 3),
    ] {
        machine.expect(reason)?;
        ensure_equal!(machine.record.qualification(), qualification, "{reason:?}");
        machine.skip(length)?;
    }
    let cr4 = machine.record.cr4();
    machine.expect_mark(0x89)?;
    ensure_equal!(machine.get(RBX), 0, "error code of #GP");
    ensure_equal!(machine.record.cr4(), cr4, "CR4");
    machine.expect(ExitReason::Hlt)
}

/// The vendor's hypercall exits, and so do its virtualisation instructions.
pub fn hypercall(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    let (rip, kind) = match bench.engine() {
        Engine::Vmx => (code::hypercall_intel(), 0),
        _ => (code::hypercall_amd(), 1),
    };
    machine.start_long(rip)?;
    machine.expect(ExitReason::Hypercall)?;
    ensure_equal!(machine.record.qualification(), kind, "kind");
    machine.skip(3)?;
    machine.expect(ExitReason::VirtualisationInstruction)?;
    ensure_equal!(machine.record.rip(), rip + 6, "RIP");
    Ok(())
}
