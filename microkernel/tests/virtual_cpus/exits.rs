//! What exits mean, for both vendors.

use microkernel::arch::host::{svm_entry_address, vmcs_read, vmcs_write};
use microkernel::boot::Virtualisation;
use microkernel::vcpu::Trust;
use microkernel::vcpu::control::Window;
use microkernel::vcpu::exit::{Cause, Exit};
use microkernel::vcpu::svm;
use microkernel::vcpu::svm::vmcb::{Visit, control as vmcb, save};
use microkernel::vcpu::vmx::Vmx;
use microkernel::vcpu::vmx::exit::{Entered, decode, inject};
use proptest::prelude::*;
use sel4_sys::vcpu::{IoQualification, memory_fault};
use sel4_sys::{Event, ExitReason as R};
use x86::vmx::vmcs::{control, guest, ro};

use crate::world::World;

const RAX: usize = 0;
const RCX: usize = 1;
const RBX: usize = 3;
const RSP: usize = 4;

/// The exit that a VMCS with these fields tells.
fn vmx_exit(world: &World, reason: u64, fields: &[(u32, u64)]) -> Cause {
    let v = Vmx::claim(world.vcpu);
    vmcs_write(ro::EXIT_REASON, reason);
    for (field, value) in fields {
        vmcs_write(*field, *value);
    }
    decode(v, Entered::Exited)
}

fn svm_exit(world: &World, code: u64, info1: u64, info2: u64) -> Cause {
    let v = &world.vcpu.control;
    v.set_word(vmcb::EXIT_CODE, code);
    v.set_word(vmcb::EXIT_INFO_1, info1);
    v.set_word(vmcb::EXIT_INFO_2, info2);
    svm::exit::decode(world.vcpu)
}

fn monitors(cause: Cause) -> Exit {
    match cause {
        Cause::Monitor(exit) => exit,
        other => panic!("{other:?} is not the monitor's"),
    }
}

#[test]
fn port_io_is_the_same_on_both() {
    let wanted = IoQualification::new(0x3f8, 2, IoQualification::IN | IoQualification::REP);
    let svm = World::new(Virtualisation::Svm);
    svm.vcpu.control.set_word(save::RIP, 0x100);
    let exit = monitors(svm_exit(
        &svm,
        0x7b,
        0x3f8 << 16 | 1 << 5 | 1 | 1 << 3,
        0x102,
    ));
    assert_eq!(
        (exit.reason, exit.qualification, exit.length),
        (R::Io, wanted.0, 2)
    );
    let vmx = World::new(Virtualisation::Vmx);
    let qualification = 0x3f8 << 16 | 1 | 1 << 3 | 1 << 5;
    let fields = [
        (ro::EXIT_QUALIFICATION, qualification),
        (ro::VMEXIT_INSTRUCTION_LEN, 2),
    ];
    let exit = monitors(vmx_exit(&vmx, 30, &fields));
    assert_eq!(
        (exit.reason, exit.qualification, exit.length),
        (R::Io, wanted.0, 2)
    );
}

#[test]
fn memory_faults_are_the_same_on_both() {
    let wanted = memory_fault::WRITE | memory_fault::PRESENT | memory_fault::WALK;
    let svm = World::new(Virtualisation::Svm);
    let exit = monitors(svm_exit(&svm, 0x400, 1 | 1 << 1 | 1 << 33, 0xfee0_0000));
    assert_eq!((exit.qualification, exit.address), (wanted, 0xfee0_0000));
    let vmx = World::new(Virtualisation::Vmx);
    let fields = [
        (ro::EXIT_QUALIFICATION, 1 << 1 | 1 << 3 | 1 << 7),
        (ro::GUEST_PHYSICAL_ADDR_FULL, 0xfee0_0000),
    ];
    let exit = monitors(vmx_exit(&vmx, 48, &fields));
    assert_eq!((exit.qualification, exit.address), (wanted, 0xfee0_0000));
}

#[test]
fn msr_numbers_have_32_bits() {
    for kind in [Virtualisation::Svm, Virtualisation::Vmx] {
        let world = World::new(kind);
        world.vcpu.registers[RCX].set(0xffff_ffff_c000_0080);
        let exit = monitors(match kind {
            Virtualisation::Svm => svm_exit(&world, 0x7c, 1, 0),
            _ => vmx_exit(&world, 32, &[]),
        });
        assert_eq!(
            (exit.reason, exit.qualification),
            (R::MsrWrite, 0xc000_0080)
        );
    }
}

#[test]
fn an_event_whose_delivery_broke_off_is_kept() {
    let fault = Event::exception(14, Some(0x8000_0002)).word();
    let svm = World::new(Virtualisation::Svm);
    svm.vcpu.control.set_word(vmcb::EXIT_INT_INFO, fault);
    svm_exit(&svm, 0x400, 0, 0);
    assert_eq!(svm.vcpu.pending_event.get(), fault);
    let vmx = World::new(Virtualisation::Vmx);
    let fields = [
        (ro::IDT_VECTORING_INFO, fault & 0xffff_ffff | 1 << 12),
        (ro::IDT_VECTORING_ERR_CODE, fault >> 32),
    ];
    vmx_exit(&vmx, 48, &fields);
    assert_eq!(vmx.vcpu.pending_event.get(), fault);
    // The next exit broke nothing off.
    vmx_exit(&vmx, 10, &[(ro::IDT_VECTORING_INFO, 0)]);
    assert_eq!(vmx.vcpu.pending_event.get(), 0);
}

#[test]
fn the_guests_own_software_interrupt_runs_again() {
    const SOFTWARE: u64 = 4 << 8 | 1 << 31 | 0x80;
    let svm = World::new(Virtualisation::Svm);
    svm.vcpu.control.set_word(vmcb::EXIT_INT_INFO, SOFTWARE);
    svm_exit(&svm, 0x400, 0, 0);
    assert_eq!(svm.vcpu.pending_event.get(), 0);
    let vmx = World::new(Virtualisation::Vmx);
    vmx_exit(&vmx, 48, &[(ro::IDT_VECTORING_INFO, SOFTWARE)]);
    assert_eq!(vmx.vcpu.pending_event.get(), 0);
}

#[test]
fn an_injected_software_interrupt_is_kept_and_rip_with_it() {
    const SOFTWARE: u64 = 4 << 8 | 1 << 31 | 0x80;
    let vmx = World::new(Virtualisation::Vmx);
    let v = Vmx::claim(vmx.vcpu);
    vmcs_write(guest::RIP, 0x7c00);
    vmx.vcpu.pending_event.set(SOFTWARE);
    inject(v, SOFTWARE);
    assert_eq!(
        vmcs_read(guest::RIP) + vmcs_read(control::VMENTRY_INSTRUCTION_LEN),
        0x7c00
    );
    vmx_exit(&vmx, 48, &[(ro::IDT_VECTORING_INFO, SOFTWARE)]);
    assert_eq!(vmx.vcpu.pending_event.get(), SOFTWARE);
    assert_eq!(vmcs_read(guest::RIP), 0x7c00);
}

#[test]
fn qemus_name_for_an_interrupted_interrupt_is_mended() {
    let svm = World::new(Virtualisation::Svm);
    svm.vcpu
        .control
        .set_word(vmcb::EXIT_INT_INFO, 1 << 31 | 3 << 8 | 0x30);
    svm_exit(&svm, 0x400, 0, 0);
    assert_eq!(svm.vcpu.pending_event.get(), Event::interrupt(0x30).word());
}

#[test]
fn an_interrupt_that_the_guest_did_not_take_is_kept_on_svm() {
    const VIRTUAL_INTERRUPT_WAITS: u64 = 1 << 8;
    let interrupt = Event::interrupt(0xec).word();
    let svm = World::new(Virtualisation::Svm);
    let control = &svm.vcpu.control;
    let before = [vmcb::MISC_INTERCEPTS_1 & !7, vmcb::VIRTUAL_INTERRUPT].map(|at| control.word(at));
    for taken in [false, true] {
        svm.vcpu.pending_event.set(interrupt);
        assert_eq!(control.deliver(interrupt), Visit::Long);
        assert_eq!(control.word(vmcb::EVENT_INJECTION), 0);
        let request = control.word(vmcb::VIRTUAL_INTERRUPT);
        assert_eq!(request >> 32, 0xec);
        assert_ne!(request & VIRTUAL_INTERRUPT_WAITS, 0);
        if taken {
            control.set_word(vmcb::VIRTUAL_INTERRUPT, request & !VIRTUAL_INTERRUPT_WAITS);
        }
        svm_exit(&svm, 0x72, 0, 0);
        let kept = if taken { 0 } else { interrupt };
        assert_eq!(svm.vcpu.pending_event.get(), kept);
        let after =
            [vmcb::MISC_INTERCEPTS_1 & !7, vmcb::VIRTUAL_INTERRUPT].map(|at| control.word(at));
        assert_eq!(after, before);
    }
}

#[test]
fn what_is_no_interrupt_or_comes_with_a_window_is_injected_on_svm() {
    let svm = World::new(Virtualisation::Svm);
    let control = &svm.vcpu.control;
    let interrupt = Event::interrupt(0xec).word();
    let fault = Event::exception(14, Some(2)).word();
    assert_eq!(control.deliver(fault), Visit::Long);
    assert_eq!(control.word(vmcb::EVENT_INJECTION), fault);
    control.request_window(Window::Wanted);
    assert_eq!(control.deliver(fault), Visit::Long);
    // QEMU would repeat an injected interrupt if nothing ended the visit.
    assert_eq!(control.deliver(interrupt), Visit::Short);
    assert_eq!(control.word(vmcb::EVENT_INJECTION), interrupt);
    assert!(!control.end_delivery());
    assert_eq!(control.deliver(0), Visit::Long);
    assert_eq!(control.word(vmcb::EVENT_INJECTION), 0);
}

#[test]
fn injection_ends_the_shadow() {
    let vmx = World::new(Virtualisation::Vmx);
    vmcs_write(guest::INTERRUPTIBILITY_STATE, 1 << 1 | 1 << 3);
    inject(Vmx::claim(vmx.vcpu), Event::exception(13, Some(5)).word());
    assert_eq!(vmcs_read(guest::INTERRUPTIBILITY_STATE), 1 << 3);
    assert_eq!(
        vmcs_read(control::VMENTRY_INTERRUPTION_INFO_FIELD),
        0x8000_0b0d
    );
    assert_eq!(vmcs_read(control::VMENTRY_EXCEPTION_ERR_CODE), 5);
}

#[test]
fn interrupts_of_the_host_are_the_kernels() {
    let svm = World::new(Virtualisation::Svm);
    assert_eq!(svm_exit(&svm, 0x60, 0, 0), Cause::HostInterrupt);
    let vmx = World::new(Virtualisation::Vmx);
    assert_eq!(vmx_exit(&vmx, 1, &[]), Cause::HostInterrupt);
    let nmi = [(ro::VMEXIT_INTERRUPTION_INFO, 1 << 31 | 2 << 8 | 2)];
    assert_eq!(vmx_exit(&vmx, 0, &nmi), Cause::HostNmi);
}

/// MOV to CR0 from RBX, in 32-bit code.
fn write_cr0(value: u64) -> (World, Cause) {
    let vmx = World::new(Virtualisation::Vmx);
    vmx.vcpu.registers[RBX].set(value);
    let cause = vmx_exit(&vmx, 28, &[(ro::EXIT_QUALIFICATION, (RBX as u64) << 8)]);
    (vmx, cause)
}

#[test]
fn cr0_bits_that_the_guest_does_not_have_become_what_it_wants() {
    let (world, cause) = write_cr0(0xffff_ffff_8005_0033);
    assert_eq!(cause, Cause::Again);
    assert_eq!(vmcs_read(control::CR0_READ_SHADOW), 0x8005_0033);
    assert_eq!(world.vcpu.pending_event.get(), 0);
}

#[test]
fn cr0_that_no_cpu_has_is_a_fault_of_the_guest() {
    // Caches on without write-through; paging without protection; a reserved bit.
    for value in [0x2000_0011, 0x8000_0030, 0x0000_0151] {
        let (world, cause) = write_cr0(value);
        assert_eq!(cause, Cause::Again);
        // In real mode faults have no error code, and a CPU refuses to deliver one with it.
        let fault = Event::exception(13, None).word();
        assert_eq!(world.vcpu.pending_event.get(), fault, "{value:#x}");
        assert_eq!(
            vmcs_read(control::CR0_READ_SHADOW),
            0x6000_0010,
            "{value:#x}"
        );
    }
}

#[test]
fn a_refused_entry_keeps_its_event() {
    let vmx = World::new(Virtualisation::Vmx);
    let event = Event::interrupt(0x20).word();
    vmx.vcpu.pending_event.set(event);
    let exit = monitors(vmx_exit(&vmx, 1 << 31 | 33, &[]));
    assert_eq!((exit.reason, exit.address), (R::InvalidState, 0x8000_0021));
    assert_eq!(vmx.vcpu.pending_event.get(), event);
    vmcs_write(ro::VM_INSTRUCTION_ERROR, 7);
    let exit = monitors(decode(Vmx::claim(vmx.vcpu), Entered::Failed));
    assert_eq!((exit.reason, exit.address), (R::InvalidState, 1 << 32 | 7));
}

#[test]
fn svm_state_that_ran_before_is_not_the_monitors_mistake() {
    const INVALID: u64 = 0xffff_ffff;
    let svm = World::new(Virtualisation::Svm);
    // It did not get on from where it began.
    for (entered, at) in svm.vcpu.entered.iter().zip([save::RIP, save::RAX]) {
        entered.set(svm.vcpu.control.word(at));
    }
    assert_eq!(
        monitors(svm_exit(&svm, INVALID, 0, 0)).reason,
        R::InvalidState
    );
    svm.vcpu.trust.set(Trust::Proven);
    svm.vcpu.control.set_word(save::CR0, 0x11);
    assert_eq!(svm_exit(&svm, INVALID, 0, 0), Cause::Again);
    assert_eq!(
        svm.vcpu.pending_event.get(),
        Event::exception(13, Some(0)).word()
    );
    // Not even the fault could be delivered.
    assert_eq!(
        monitors(svm_exit(&svm, INVALID, 0, 0)).reason,
        R::InvalidState
    );
}

#[test]
fn what_qemus_cpu_takes_into_cr0_is_corrected_on_svm() {
    const INTERRUPT: u64 = 0x60;
    let svm = World::new(Virtualisation::Svm);
    // Not write-through with caches on, bits that no CPU has; and what a CPU has.
    for (kept, corrected) in [
        (0xa005_0033, 0x8005_0033),
        (0xffff_ffff_8005_0133, 0x8005_0033),
        (0xe005_0033, 0xe005_0033),
    ] {
        svm.vcpu.control.set_word(save::CR0, kept);
        assert_eq!(svm_exit(&svm, INTERRUPT, 0, 0), Cause::HostInterrupt);
        assert_eq!(svm.vcpu.control.word(save::CR0), corrected, "{kept:#x}");
    }
}

#[test]
fn a_monitor_does_not_see_the_hosts_state_that_qemu_writes() {
    const INVALID: u64 = 0xffff_ffff;
    const HOSTS: u64 = 0x1234_5000;
    let svm = World::new(Virtualisation::Svm);
    svm.vcpu.trust.set(Trust::Proven);
    let words = [save::CR2, save::CR3, save::RSP, save::RAX, save::GDTR + 8];
    for word in words {
        svm.vcpu.control.set_word(word, HOSTS);
    }
    svm.vcpu.registers.iter().for_each(|word| word.set(HOSTS));
    svm.vcpu.control.set_word(save::RIP, svm_entry_address());
    let exit = monitors(svm_exit(&svm, INVALID, 0, 0));
    assert_eq!(exit.reason, R::InvalidState);
    for word in words {
        assert_eq!(svm.vcpu.control.word(word), 0, "{word:#x}");
    }
    assert_eq!(svm.vcpu.control.word(save::RIP), 0xfff0);
    assert_eq!(
        [RAX, RSP].map(|index| svm.vcpu.registers[index].get()),
        [0; 2]
    );
    assert_eq!(svm.vcpu.trust.get(), Trust::Unchecked);
}

proptest! {
    #[test]
    fn whatever_the_hardware_says_is_decoded(reason: u64, fields: [u64; 8], code: u64) {
        let vmx = World::new(Virtualisation::Vmx);
        let names = [
            ro::EXIT_QUALIFICATION,
            ro::VMEXIT_INTERRUPTION_INFO,
            ro::IDT_VECTORING_INFO,
            ro::IDT_VECTORING_ERR_CODE,
            ro::VMEXIT_INTERRUPTION_ERR_CODE,
            ro::GUEST_PHYSICAL_ADDR_FULL,
            guest::CS_ACCESS_RIGHTS,
            guest::INTERRUPTIBILITY_STATE,
        ];
        let fields: Vec<(u32, u64)> = names.into_iter().zip(fields).collect();
        for reason in [reason & 0x7f, reason] {
            vmx_exit(&vmx, reason, &fields);
        }
        let svm = World::new(Virtualisation::Svm);
        for code in [code & 0xff, 0x400, code] {
            svm.vcpu.control.set_word(vmcb::EXIT_INT_INFO, fields[2].1);
            svm_exit(&svm, code, fields[0].1, fields[1].1);
        }
    }
}
