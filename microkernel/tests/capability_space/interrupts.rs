//! Issuing interrupts and handling them.

use microkernel::arch::host::MACHINE;
use microkernel::cap::{Cap, Rights};
use microkernel::fault::{LookupFailure, SyscallError};
use microkernel::kernel::IrqState;
use sel4_sys::{InvocationLabel as Label, ObjectType};

use crate::world::{FREE, IRQ_CONTROL, ROOT_CNODE, ROOT_RADIX, UNTYPED, World};

const HANDLER: usize = FREE;
const OTHER: usize = FREE + 1;
const NOTIFICATION: usize = FREE + 2;
const DEPTH: u64 = ROOT_RADIX as u64;
const IO_APIC: Label = Label::X86IrqIssueIrqHandlerIoApic;
const MSI: Label = Label::X86IrqIssueIrqHandlerMsi;

fn issue(world: &World, label: Label, words: &[u64]) -> Result<(), SyscallError> {
    world
        .call(IRQ_CONTROL, label, words, &[ROOT_CNODE])
        .map(drop)
}

fn with_handler() -> World {
    let world = World::new();
    assert_eq!(
        issue(&world, IO_APIC, &[HANDLER as u64, DEPTH, 0, 4, 0, 0, 5]),
        Ok(())
    );
    world
}

fn last_mask() -> Option<(u8, bool)> {
    MACHINE.with(|machine| machine.irq_mask.get())
}

#[test]
fn an_issued_interrupt_is_unmasked_and_counts_from_16() {
    let world = with_handler();
    assert_eq!(world.cap(HANDLER), Cap::IrqHandler { irq: 21 });
    assert_eq!(last_mask(), Some((21, false)));
    assert_eq!(world.kernel.irq_states[21].get(), IrqState::Signal);
}

#[test]
fn a_vector_is_issued_again_only_when_all_its_handlers_are_gone() {
    let world = with_handler();
    let again = [OTHER as u64, DEPTH, 0, 0, 0, 0, 5];
    assert_eq!(world.copy(HANDLER, FREE + 5), Ok(()));
    assert_eq!(issue(&world, MSI, &again), Err(SyscallError::RevokeFirst));
    world.delete(HANDLER);
    assert_eq!(issue(&world, MSI, &again), Err(SyscallError::RevokeFirst));
    world.delete(FREE + 5);
    assert_eq!(last_mask(), Some((21, true)));
    assert_eq!(issue(&world, MSI, &again), Ok(()));
}

#[test]
fn revoking_interrupt_control_takes_every_handler() {
    let world = with_handler();
    assert_eq!(
        issue(&world, MSI, &[OTHER as u64, DEPTH, 0, 0, 0, 0, 6]),
        Ok(())
    );
    world.revoke(IRQ_CONTROL);
    assert_eq!(
        (world.cap(HANDLER), world.cap(OTHER)),
        (Cap::Null, Cap::Null)
    );
    assert_eq!(world.kernel.irq_states[22].get(), IrqState::Inactive);
}

#[test]
fn the_legacy_controller_does_not_exist() {
    let world = World::new();
    let get = Label::IrqIssueIrqHandler;
    assert_eq!(
        issue(&world, get, &[1, HANDLER as u64, DEPTH]),
        Err(SyscallError::IllegalOperation)
    );
    assert_eq!(
        issue(&world, get, &[1, HANDLER as u64]),
        Err(SyscallError::TruncatedMessage)
    );
    assert_eq!(
        issue(&world, Label::IrqAckIrq, &[]),
        Err(SyscallError::IllegalOperation)
    );
}

/// Each row breaks one rule and all that are checked after it.
#[test]
fn the_first_broken_rule_is_the_one_that_is_reported() {
    let world = with_handler();
    let range = |max| SyscallError::RangeError { min: 0, max };
    let slot = OTHER as u64;
    let occupied = UNTYPED as u64;
    for label in [IO_APIC, MSI] {
        assert_eq!(
            issue(&world, label, &[0; 6]),
            Err(SyscallError::TruncatedMessage)
        );
        assert_eq!(
            issue(&world, label, &[0, 0, 9, 99, 9, 9, 108]),
            Err(range(107))
        );
        assert_eq!(
            issue(&world, label, &[0, 0, 9, 99, 9, 9, 5]),
            Err(SyscallError::RevokeFirst)
        );
        assert_eq!(
            issue(&world, label, &[0, 0, 9, 99, 9, 9, 107]),
            Err(SyscallError::RangeError { min: 1, max: 64 })
        );
        assert_eq!(
            issue(&world, label, &[occupied, DEPTH, 9, 99, 9, 9, 107]),
            Err(SyscallError::DeleteFirst)
        );
        assert_eq!(
            world
                .call(
                    IRQ_CONTROL,
                    label,
                    &[slot, DEPTH, 0, 0, 0, 0, 1],
                    &[UNTYPED]
                )
                .map(drop),
            Err(SyscallError::FailedLookup {
                was_source: false,
                failure: LookupFailure::InvalidRoot
            })
        );
    }
    for (ioapic, pin, level, polarity, max) in [
        (1, 99, 9, 9, 0),
        (0, 24, 9, 9, 23),
        (0, 23, 2, 9, 1),
        (0, 23, 1, 2, 1),
    ] {
        let words = [slot, DEPTH, ioapic, pin, level, polarity, 107];
        assert_eq!(issue(&world, IO_APIC, &words), Err(range(max)), "{words:?}");
    }
    for (bus, device, function, max) in [(256, 32, 8, 255), (255, 32, 8, 31), (255, 31, 8, 7)] {
        let words = [slot, DEPTH, bus, device, function, 9, 107];
        assert_eq!(issue(&world, MSI, &words), Err(range(max)), "{words:?}");
    }
    assert_eq!(
        issue(&world, MSI, &[slot, DEPTH, 255, 31, 7, 9, 107]),
        Ok(())
    );
}

#[test]
fn a_handler_signals_the_notification_it_was_given_last() {
    let world = with_handler();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Notification, 0, NOTIFICATION, 1),
        Ok(())
    );
    assert_eq!(world.mint(NOTIFICATION, OTHER, 9), Ok(()));
    let set = |slot| {
        world
            .call(HANDLER, Label::IrqSetIrqHandler, &[], &[slot])
            .map(drop)
    };
    assert_eq!(set(NOTIFICATION), Ok(()));
    assert_eq!(set(OTHER), Ok(()));
    assert_eq!(world.kernel.irq_slot(21).cap(), world.cap(OTHER));
    assert_eq!(
        world.call(HANDLER, Label::IrqClearIrqHandler, &[], &[]),
        Ok(vec![])
    );
    assert!(world.kernel.irq_slot(21).is_empty());
}

#[test]
fn a_handler_forgets_its_notification_when_either_goes() {
    let world = with_handler();
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Notification, 0, NOTIFICATION, 1),
        Ok(())
    );
    let set = || {
        world
            .call(HANDLER, Label::IrqSetIrqHandler, &[], &[NOTIFICATION])
            .map(drop)
    };
    assert_eq!(set(), Ok(()));
    world.revoke(UNTYPED);
    assert!(world.kernel.irq_slot(21).is_empty());
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Notification, 0, NOTIFICATION, 1),
        Ok(())
    );
    assert_eq!(set(), Ok(()));
    world.delete(HANDLER);
    assert!(world.kernel.irq_slot(21).is_empty());
}

#[test]
fn only_a_notification_that_may_be_signalled_is_taken() {
    let world = with_handler();
    let set = |caps: &[usize]| {
        world
            .call(HANDLER, Label::IrqSetIrqHandler, &[], caps)
            .map(drop)
    };
    assert_eq!(
        world.retype(UNTYPED, ObjectType::Notification, 0, NOTIFICATION, 1),
        Ok(())
    );
    let words = [NOTIFICATION as u64, DEPTH, Rights::READ.bits()];
    assert_eq!(world.cnode(Label::CNodeCopy, OTHER, &words), Ok(()));
    assert_eq!(set(&[]), Err(SyscallError::TruncatedMessage));
    assert_eq!(set(&[UNTYPED]), Err(SyscallError::InvalidCapability(0)));
    assert_eq!(set(&[OTHER]), Err(SyscallError::InvalidCapability(0)));
    assert!(world.kernel.irq_slot(21).is_empty());
}

#[test]
fn acknowledging_unmasks() {
    let world = with_handler();
    MACHINE.with(|machine| machine.irq_mask.set(None));
    assert_eq!(world.call(HANDLER, Label::IrqAckIrq, &[], &[]), Ok(vec![]));
    assert_eq!(last_mask(), Some((21, false)));
    assert_eq!(
        world.call(HANDLER, Label::CNodeDelete, &[], &[]).map(drop),
        Err(SyscallError::IllegalOperation)
    );
}
