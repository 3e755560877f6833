//! When interrupts reach the guest, and how VCPUs wake each other.

use super::*;

#[test]
fn halt_sleeps_until_the_local_timer() {
    let mut exit = words(ExitReason::Hlt, 0);
    exit[exit::INSTRUCTION_LENGTH] = 1;
    exit[exit::MODE] |= exit_mode::INTERRUPT_SHADOW;
    let mut bench = Bench::new(&[exit]);
    let mut sleeps = 0;
    let (seen, result) = bench.run(4, |vm| {
        vm.inspect(|machine| {
            let apic = machine.platform.interrupts.local_mut(0);
            apic.write(0x32, 0xec, Ticks(0)).unwrap();
            apic.write(0x38, 1000, Ticks(0)).unwrap();
        });
        sleeps = vm.host().sleeps.get();
    });
    assert_eq!(result, Ok(()));
    let woken = seen[1];
    assert_eq!(
        woken.event,
        Some(Event::interrupt(0xec)),
        "the shadow of STI ended with HLT"
    );
    assert_eq!(woken.registers.unwrap().rip, CODE + 1);
    assert!(woken.emulated);
}

#[test]
fn an_interrupt_is_not_injected_into_a_shadow_or_over_another_event() {
    let mut shadow = words(ExitReason::InterruptWindow, 0);
    shadow[exit::MODE] |= exit_mode::INTERRUPT_SHADOW;
    let mut broken_off = words(ExitReason::InterruptWindow, 0);
    broken_off[exit::PENDING_EVENT] = Event::exception(14, Some(2)).word();
    for first in [shadow, broken_off] {
        let mut bench = Bench::new(&[first, words(ExitReason::InterruptWindow, 0)]);
        bench.script.fields.insert(VcpuField::Rflags, 2);
        let (seen, _) = bench.run(3, |vm| {
            vm.inspect(|machine| {
                let apic = machine.platform.interrupts.local_mut(0);
                apic.accept(0x50, crate::device::interrupt_message::Trigger::Edge);
            });
        });
        assert_eq!(
            (seen[0].event, seen[0].window),
            (None, true),
            "interrupts are off"
        );
        assert_eq!((seen[1].event, seen[1].window), (None, true));
        assert_eq!(
            (seen[2].event, seen[2].window),
            (Some(Event::interrupt(0x50)), false)
        );
    }
}

#[test]
fn after_a_notification_the_vcpu_is_asked_what_it_can_take() {
    let mut bench = Bench::new(&[]);
    bench.script.fields.insert(VcpuField::Rflags, RFLAGS_IF);
    bench
        .script
        .fields
        .insert(VcpuField::PendingEvent, Event::interrupt(0x40).word());
    let (seen, _) = bench.run(1, |vm| {
        vm.inspect(|machine| {
            let apic = machine.platform.interrupts.local_mut(0);
            apic.accept(0x50, crate::device::interrupt_message::Trigger::Edge);
        });
    });
    assert_eq!(
        (seen[0].event, seen[0].window),
        (None, true),
        "0x40 is not replaced"
    );
}

#[test]
fn an_interrupt_for_another_vcpu_rings_its_bell() {
    let mut exit = words(ExitReason::MsrWrite, 0x830);
    register(&mut exit, RAX, 0xfd);
    register(&mut exit, RDX, 1);
    let mut enable = words(ExitReason::MsrWrite, 0x1b);
    register(&mut enable, RAX, 0xfee0_0d00);
    let mut bench = Bench::new(&[enable, exit]).code(&[0x0f, 0x30]);
    bench.vcpus = 2;
    let mut script = core::mem::take(&mut bench.script);
    let vm = bench.vm();
    assert!(vm.bell(1).leave(), "the other thread is in its guest");
    vm.inspect(|machine| {
        machine
            .platform
            .interrupts
            .local_mut(1)
            .write(0x0f, 0x1ff, Ticks(0))
            .unwrap();
    });
    let mut runner = Runner::new(&vm, 0, 2, &mut script, host_cpu());
    runner.step().unwrap();
    runner.step().unwrap();
    assert_eq!(*vm.host().woken.borrow(), [1]);
    assert!(vm.bell(1).answer());
    assert!(vm.inspect(|machine| machine.platform.interrupts.has_maskable(1)));
}
