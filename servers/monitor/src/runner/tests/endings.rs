//! How a VM ends.

use super::*;

#[test]
fn a_triple_fault_is_a_reset_and_wakes_the_service() {
    let bench = Bench::new(&[]);
    let vm = bench.vm();
    let mut script = Script {
        exits: [words(ExitReason::Shutdown, 0)].into(),
        ..Script::default()
    };
    let mut runner = Runner::new(&vm, 0, 1, &mut script, host_cpu());
    let reset = VmEvent::Reset(ResetCause::TripleFault);
    assert_eq!(runner.run(), reset);
    assert_eq!(vm.host().service_wakes.get(), 1);
    assert_eq!(vm.service(), Some(reset));
}

#[test]
fn power_off_ends_every_vcpu() {
    let mut exit = words(ExitReason::Io, 0x604 | 2 << 16);
    exit[exit::INSTRUCTION_LENGTH] = 1;
    register(&mut exit, RAX, 0x3400);
    let bench = Bench::new(&[]);
    let vm = bench.vm();
    let mut script = Script {
        exits: [exit].into(),
        ..Script::default()
    };
    assert_eq!(
        Runner::new(&vm, 0, 1, &mut script, host_cpu()).run(),
        VmEvent::PowerOff
    );
    let mut other = Script::default();
    assert_eq!(
        Runner::new(&vm, 1, 2, &mut other, host_cpu()).run(),
        VmEvent::PowerOff
    );
}

#[test]
fn what_cannot_be_emulated_ends_the_vm_with_its_bytes() {
    let mut exit = words(ExitReason::MemoryFault, 2);
    exit[exit::GUEST_PHYSICAL] = 0xfee0_0000;
    register(&mut exit, RBX, 0xfee0_0000);
    // movups [rbx], xmm0
    let (_, result) = Bench::new(&[exit]).code(&[0x0f, 0x11, 0x03]).run(1, |_| {});
    let Err(VmEvent::Failed(failure)) = result else {
        panic!("it goes on: {result:?}");
    };
    assert_eq!((failure.vcpu, failure.rip), (0, CODE));
    assert!(
        matches!(failure.kind, FailureKind::UnsupportedInstruction { bytes } if bytes[..3] == [0x0f, 0x11, 0x03])
    );
}

#[test]
fn faults_that_no_emulation_can_answer_end_the_vm() {
    let cases = [
        (
            4,
            0xd000_0000,
            FailureKind::FetchOutsideRam(GuestAddress(0xd000_0000)),
        ),
        (
            8,
            0xd000_0000,
            FailureKind::TablesOutsideRam(GuestAddress(0xd000_0000)),
        ),
        (1, 0x2000, FailureKind::RamNotMapped(GuestAddress(0x2000))),
    ];
    for (qualification, address, kind) in cases {
        let mut exit = words(ExitReason::MemoryFault, qualification);
        exit[exit::GUEST_PHYSICAL] = address;
        let (_, result) = Bench::new(&[exit]).run(1, |_| {});
        let failure = VmFailure {
            vcpu: 0,
            rip: CODE,
            kind,
        };
        assert_eq!(result, Err(VmEvent::Failed(failure)));
    }
}
