use super::register as reg;
use super::*;
use crate::device::interrupt_message::Destination;
use proptest::prelude::*;

const KHZ: u64 = 24_000_000;
const NOW: Ticks = Ticks(0);

fn enabled(id: u32) -> LocalApic {
    let mut apic = LocalApic::new(id, TimeBase::new(KHZ).unwrap());
    apic.write(reg::SPURIOUS, SPURIOUS_ENABLED | 0xff, NOW)
        .unwrap();
    apic
}

fn x2(id: u32) -> LocalApic {
    let mut apic = enabled(id);
    let base = apic.base_register();
    apic.set_base_register(base | BASE_X2).unwrap();
    apic
}

#[test]
fn interrupts_are_taken_by_priority_and_ended_in_order() {
    let mut apic = enabled(0);
    apic.accept(0x41, Trigger::Edge);
    apic.accept(0x62, Trigger::Edge);
    assert_eq!(apic.pending(), Some(0x62));
    apic.acknowledge(0x62);
    assert_eq!(apic.pending(), None, "0x41 is below what is in service");
    assert_eq!(
        apic.write(reg::END_OF_INTERRUPT, 0, NOW),
        Ok(ApicEffect::None)
    );
    assert_eq!(apic.pending(), Some(0x41));
}

#[test]
fn the_same_class_waits_and_a_higher_one_interrupts() {
    let mut apic = enabled(0);
    apic.accept(0x41, Trigger::Edge);
    apic.acknowledge(0x41);
    apic.accept(0x4f, Trigger::Edge);
    assert_eq!(apic.pending(), None);
    apic.accept(0x50, Trigger::Edge);
    assert_eq!(apic.pending(), Some(0x50));
}

#[test]
fn the_task_priority_holds_interrupts_back() {
    let mut apic = enabled(0);
    apic.accept(0x41, Trigger::Edge);
    apic.write(reg::TASK_PRIORITY, 0x40, NOW).unwrap();
    assert_eq!(apic.pending(), None);
    assert_eq!(apic.task_priority_class(), 4);
    apic.set_task_priority_class(3);
    assert_eq!(apic.pending(), Some(0x41));
}

#[test]
fn the_end_of_a_level_interrupt_is_reported() {
    let mut apic = enabled(0);
    apic.accept(0x51, Trigger::Level);
    apic.acknowledge(0x51);
    assert_eq!(
        apic.write(reg::END_OF_INTERRUPT, 0, NOW),
        Ok(ApicEffect::EndOfInterrupt(0x51))
    );
    assert_eq!(
        apic.write(reg::END_OF_INTERRUPT, 0, NOW),
        Ok(ApicEffect::None)
    );
}

#[test]
fn the_timer_interrupts_through_its_entry() {
    let mut apic = enabled(0);
    apic.write(reg::LVT_TIMER, 0xec, NOW).unwrap();
    apic.write(reg::DIVIDE, 0b1011, NOW).unwrap();
    apic.write(reg::INITIAL_COUNT, 1000, NOW).unwrap();
    let deadline = apic.deadline().unwrap();
    apic.advance(deadline);
    assert_eq!(apic.pending(), Some(0xec));
    apic.acknowledge(0xec);
    apic.write(reg::LVT_TIMER, 0xec | LVT_MASKED, NOW).unwrap();
    apic.write(reg::INITIAL_COUNT, 1000, deadline).unwrap();
    apic.advance(Ticks(u64::MAX));
    assert_eq!(apic.read(reg::REQUESTED + 7, NOW), Ok(0), "masked");
}

#[test]
fn software_disable_masks_the_entries_and_refuses_interrupts() {
    let mut apic = enabled(0);
    apic.write(reg::LVT_TIMER, 0xec, NOW).unwrap();
    apic.write(reg::SPURIOUS, 0xff, NOW).unwrap();
    assert_eq!(apic.read(reg::LVT_TIMER, NOW), Ok(0xec | LVT_MASKED));
    apic.accept(0x41, Trigger::Edge);
    assert_eq!(apic.pending(), None);
}

#[test]
fn a_command_becomes_a_message() {
    let mut apic = enabled(0);
    apic.write(reg::COMMAND_HIGH, 0x0200_0000, NOW).unwrap();
    let effect = apic.write(reg::COMMAND, 0x000_40fd, NOW).unwrap();
    assert_eq!(
        effect,
        ApicEffect::Send(InterruptMessage {
            destination: Destination::Physical(2),
            delivery: Delivery::Fixed,
            trigger: Trigger::Edge,
            vector: 0xfd,
        })
    );
    let effect = apic.write(reg::COMMAND, 0xc_4500, NOW).unwrap();
    assert!(
        matches!(effect, ApicEffect::Send(message) if message.destination == Destination::Others
        && message.delivery == Delivery::Init)
    );
    // INIT level de-assert does nothing on anything newer than a Pentium.
    assert_eq!(apic.write(reg::COMMAND, 0x8500, NOW), Ok(ApicEffect::None));
}

#[test]
fn an_illegal_vector_is_an_error_and_not_sent() {
    let mut apic = enabled(0);
    apic.write(reg::LVT_ERROR, 0xfe, NOW).unwrap();
    assert_eq!(
        apic.write(reg::COMMAND, 0x4_0005, NOW),
        Ok(ApicEffect::None)
    );
    assert_eq!(apic.pending(), Some(0xfe));
    assert_eq!(
        apic.read(reg::ERROR_STATUS, NOW),
        Ok(0),
        "shown after a write"
    );
    apic.write(reg::ERROR_STATUS, 0, NOW).unwrap();
    assert_eq!(apic.read(reg::ERROR_STATUS, NOW), Ok(ERROR_SEND_VECTOR));
}

#[test]
fn logical_destinations_match_in_flat_cluster_and_x2_form() {
    let mut apic = enabled(1);
    apic.write(reg::LOGICAL_DESTINATION, 0x0200_0000, NOW)
        .unwrap();
    assert!(apic.matches(Destination::Logical(0x06)));
    assert!(!apic.matches(Destination::Logical(0x01)));
    apic.write(reg::DESTINATION_FORMAT, 0, NOW).unwrap();
    apic.write(reg::LOGICAL_DESTINATION, 0x1200_0000, NOW)
        .unwrap();
    assert!(apic.matches(Destination::Logical(0x13)));
    assert!(!apic.matches(Destination::Logical(0x22)));
    let apic = x2(0x11);
    assert!(apic.matches(Destination::Logical(0x0001_0002)));
    assert!(!apic.matches(Destination::Logical(0x0000_0002)));
    assert!(apic.matches(Destination::Physical(0x11)));
    assert!(apic.matches(Destination::Physical(u32::MAX)));
}

#[test]
fn x2_refuses_reserved_bits_and_absent_registers() {
    let mut apic = x2(0);
    assert!(apic.write_x2(reg::END_OF_INTERRUPT, 1, NOW).is_err());
    assert!(apic.write_x2(reg::TASK_PRIORITY, 0x100, NOW).is_err());
    assert!(apic.write_x2(reg::DESTINATION_FORMAT, 0, NOW).is_err());
    assert!(apic.write_x2(reg::LOGICAL_DESTINATION, 0, NOW).is_err());
    assert!(apic.read(reg::DESTINATION_FORMAT, NOW).is_err());
    assert!(apic.read(0x01, NOW).is_err());
    assert!(apic.write_x2(reg::COMMAND, 0x1_0000_00fb, NOW).is_ok());
    assert_eq!(apic.command(), 0x1_0000_00fb);
}

#[test]
fn a_self_interrupt_arrives_at_once() {
    let mut apic = x2(3);
    assert_eq!(
        apic.write_x2(reg::SELF_INTERRUPT, 0x77, NOW),
        Ok(ApicEffect::None)
    );
    assert_eq!(apic.pending(), Some(0x77));
}

#[test]
fn forbidden_mode_changes_are_refused() {
    let mut apic = x2(0);
    let x2_base = apic.base_register();
    let memory_base = x2_base & !BASE_X2;
    assert!(apic.set_base_register(memory_base).is_err());
    apic.set_base_register(DEFAULT_BASE).unwrap();
    assert_eq!(apic.mode(), ApicMode::Disabled);
    assert!(apic.set_base_register(x2_base).is_err());
    apic.set_base_register(memory_base).unwrap();
    assert_eq!(apic.mode(), ApicMode::Memory);
    assert!(apic.set_base_register(memory_base | 1).is_err());
    assert_eq!(apic.base_register() & BASE_BOOTSTRAP, BASE_BOOTSTRAP);
}

#[test]
fn the_pair_of_8259_reaches_the_cpu_only_through_lint0() {
    let mut apic = enabled(0);
    assert!(!apic.passes_external());
    apic.set_virtual_wire();
    assert!(apic.passes_external());
    apic.write(reg::LVT_LINT0, 0x700 | LVT_MASKED, NOW).unwrap();
    assert!(!apic.passes_external());
}

proptest! {
    #[test]
    fn no_access_panics_and_no_reserved_vector_is_ever_pending(
        steps in proptest::collection::vec((0u8..6, any::<u8>(), any::<u64>(), 0u64..1 << 50), 0..200),
    ) {
        let mut apic = LocalApic::new(0, TimeBase::new(KHZ).unwrap());
        let mut now = Ticks(0);
        for (kind, number, value, pause) in steps {
            now = now.after(Ticks(pause));
            match kind {
                0 => { let _ = apic.write(number & 0x3f, value as u32, now); }
                1 => { let _ = apic.write_x2(number & 0x3f, value, now); }
                2 => { let _ = apic.read(number, now); }
                3 => { let _ = apic.set_base_register(value & 0xfee0_0f00); }
                4 => apic.accept(number, if value & 1 == 0 { Trigger::Edge } else { Trigger::Level }),
                _ => apic.set_tsc_deadline(value, Ticks(value)),
            }
            apic.advance(now);
            if let Some(vector) = apic.pending() {
                prop_assert!(vector >= FIRST_VECTOR);
                apic.acknowledge(vector);
            }
        }
    }
}
