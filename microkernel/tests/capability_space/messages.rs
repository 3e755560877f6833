//! Random messages: whatever a user says, the kernel answers, and a refusal changes nothing.

use microkernel::invocation::Refusal;
use proptest::prelude::*;
use sel4_sys::{InvocationLabel as Label, ObjectType};

use crate::soundness::{Capabilities, check_memory};
use crate::world::{FREE, IO_PORT_CONTROL, IRQ_CONTROL, ROOT_CNODE, ROOT_RADIX, UNTYPED, World};

/// A message to the capability in root slot `invoked`.
#[derive(Clone, Debug)]
struct Message {
    invoked: usize,
    label: Label,
    words: Vec<u64>,
    caps: Vec<usize>,
}

/// One object of each kind that the capability space itself serves.
fn furnished() -> World {
    let world = World::new();
    let depth = u64::from(ROOT_RADIX);
    let slot = |offset: usize| (FREE + offset) as u64;
    let issue = |control, label, words: &[u64]| {
        assert_eq!(world.call(control, label, words, &[ROOT_CNODE]), Ok(vec![]));
    };
    let irq = [slot(0), depth, 0, 0, 0, 0, 1];
    issue(IRQ_CONTROL, Label::X86IrqIssueIrqHandlerMsi, &irq);
    let ports = [0, 9, slot(1), depth];
    issue(IO_PORT_CONTROL, Label::X86IoPortControlIssue, &ports);
    for (offset, object, size_bits) in [
        (2, ObjectType::Untyped, 12),
        (3, ObjectType::CapTable, 2),
        (4, ObjectType::Notification, 0),
        (5, ObjectType::Endpoint, 0),
    ] {
        assert_eq!(
            world.retype(UNTYPED, object, size_bits, FREE + offset, 1),
            Ok(())
        );
    }
    world
}

/// Small numbers name slots, depths, types and sizes; the others nothing at all.
fn word() -> impl Strategy<Value = u64> {
    prop_oneof![3 => 0u64..16, 2 => Just(u64::from(ROOT_RADIX)), 1 => 0u64..300, 1 => any::<u64>()]
}

fn message() -> impl Strategy<Value = Message> {
    let slot = || 1usize..16;
    let caps = proptest::collection::vec(prop_oneof![Just(ROOT_CNODE), slot()], 0..4);
    let label = proptest::sample::select(Label::ALL);
    (
        slot(),
        label,
        proptest::collection::vec(word(), 0..10),
        caps,
    )
        .prop_map(|(invoked, label, words, caps)| Message {
            invoked,
            label,
            words,
            caps,
        })
}

/// All capabilities in the root CNode and behind them in the derivation list.
fn capabilities(world: &World) -> Capabilities {
    let mut all = Capabilities::new();
    for index in 0..1 << ROOT_RADIX {
        let mut next = Some(world.root(index));
        while let Some(slot) = next {
            if slot.is_empty() || all.insert(slot.address(), slot.cap()).is_some() {
                break;
            }
            next = slot.next();
        }
    }
    all
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 200,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn no_message_does_harm(messages in proptest::collection::vec(message(), 1..40)) {
        let world = furnished();
        for message in &messages {
            let before = world.snapshot();
            let caps: Vec<_> = message.caps.iter().map(|&cap| world.root(cap)).collect();
            let invoked = world.root(message.invoked);
            let outcome = world.invoke(invoked, message.label, &message.words, &caps);
            match outcome {
                Err(Refusal::Error(_)) => prop_assert!(before == world.snapshot(), "{:?}", message),
                _ => check_memory(&world, &capabilities(&world)),
            }
        }
    }
}
