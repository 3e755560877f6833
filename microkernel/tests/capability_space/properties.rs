//! Random sequences of invocations against the model, with interrupts at random moments.

use std::collections::BTreeSet;

use microkernel::arch::host::MACHINE;
use microkernel::cap::{CNodeCap, Cap, Rights, UntypedCap};
use microkernel::config::WORK_UNITS_LIMIT;
use microkernel::derivation::{self, extent, is_parent_of};
use microkernel::fault::SyscallError;
use microkernel::invocation::Refusal;
use microkernel::object::{Slot, Tcb};
use microkernel::store::{Ref, Table};
use proptest::prelude::*;
use sel4_sys::{CNodeData, InvocationLabel as Label, ObjectType};

use crate::model::{Address, Memory, Model, Transfer, slots_of};
use crate::soundness::{Capabilities, check_memory, slot};
use crate::world::{ROOT_CNODE, UNTYPED, World};

/// Which of the slots that fit an operation takes.
type Pick = u16;

/// A step of a sequence.
#[derive(Clone, Debug)]
enum Step {
    Retype {
        untyped: Pick,
        object: ObjectType,
        size_bits: u64,
        first: Pick,
        count: u64,
    },
    Transfer {
        transfer: Transfer,
        source: Pick,
        destination: Pick,
    },
    Rotate {
        source: Pick,
        pivot: Pick,
        destination: Pick,
    },
    Delete(Pick),
    Revoke(Pick),
    /// Puts a copy into a slot of a thread, as TCB.Configure does.
    Equip {
        thread: Pick,
        slot: usize,
        source: Pick,
    },
    /// User code fills its frames.
    Scribble,
}

/// A world, its model, and after how many units of work an interrupt comes.
struct Run {
    world: World,
    model: Model,
    patience: u32,
}

fn memory(place: usize) -> Memory {
    if derivation::has_children(slot(place)) {
        Memory::Occupied
    } else {
        Memory::Vacant
    }
}

impl Run {
    fn new(patience: u32) -> Self {
        let world = World::new();
        let mut model = Model::default();
        for index in 0..8 {
            let root = world.root(index);
            if !root.is_empty() {
                model.add_root(root.address(), root.cap());
            }
        }
        Self {
            world,
            model,
            patience,
        }
    }

    fn root(&self) -> CNodeCap {
        match self.world.cap(ROOT_CNODE) {
            Cap::CNode(node) => node,
            other => panic!("the root CNode became {other:?}"),
        }
    }

    /// A reachable slot, nearly always one that `fits`.
    fn pick(&self, pick: Pick, fits: impl Fn(Option<Cap>) -> bool) -> Address {
        let all = self.model.reachable(self.root());
        let fitting: Vec<_> = all
            .iter()
            .filter(|slot| fits(self.model.cap(slot.place)))
            .collect();
        let index = usize::from(pick / 16);
        match fitting.len() {
            0 => all[index % all.len()],
            _ if pick.is_multiple_of(16) => all[index % all.len()],
            count => *fitting[index % count],
        }
    }

    fn full(&self, pick: Pick) -> Address {
        self.pick(pick, |cap| cap.is_some())
    }

    fn empty(&self, pick: Pick) -> Address {
        self.pick(pick, |cap| cap.is_none())
    }

    /// Whether a slot's capability is needed for the test to go on.
    fn is_kept(&self, address: Address) -> bool {
        [UNTYPED, ROOT_CNODE]
            .map(|index| self.world.root(index).address())
            .contains(&address.place)
    }

    /// Whether the slot is still there, under the same address, when its own children are gone. If
    /// not, how far Revoke gets is a matter of order.
    fn survives_revoke(&self, target: Address) -> bool {
        let mut after = self.model.clone();
        after.revoke(target.place);
        after.cap(target.place).is_some() && after.reachable(self.root()).contains(&target)
    }

    /// Invokes until it is not preempted; between the attempts the space must be sound.
    fn invoke(&self, invoked: Ref<Slot>, label: Label, words: &[u64]) -> Result<(), SyscallError> {
        let roots = [self.world.root(ROOT_CNODE); 2];
        MACHINE.with(|machine| machine.interrupt.set(true));
        let result = loop {
            let units = WORK_UNITS_LIMIT.saturating_sub(1 + self.patience);
            self.world.kernel.node().work_units.set(units);
            match self.world.invoke(invoked, label, words, &roots) {
                Ok(_) => break Ok(()),
                Err(Refusal::Error(error)) => break Err(error),
                Err(Refusal::Preempted) => check_memory(&self.world, &self.actual()),
            }
        };
        MACHINE.with(|machine| machine.interrupt.set(false));
        result
    }

    /// Makes a CNode invocation in the world, and in the model what `expected` did there.
    fn cnode(
        &mut self,
        label: Label,
        target: Address,
        rest: &[u64],
        expected: impl FnOnce(&mut Model) -> Result<(), SyscallError>,
    ) {
        let before = self.world.snapshot();
        let mut words = vec![target.index, target.depth];
        words.extend(rest);
        let result = self.invoke(self.world.root(ROOT_CNODE), label, &words);
        assert_eq!(result, expected(&mut self.model), "{label:?} {words:?}");
        assert!(
            result.is_ok() || before == self.world.snapshot(),
            "a refusal changed something"
        );
    }

    fn step(&mut self, step: &Step) {
        match *step {
            Step::Retype {
                untyped,
                object,
                size_bits,
                first,
                count,
            } => {
                self.retype(untyped, object, size_bits, first, count);
            }
            Step::Transfer {
                transfer,
                source,
                destination,
            } => {
                self.transfer(transfer, self.full(source), self.empty(destination));
            }
            Step::Rotate {
                source,
                pivot,
                destination,
            } => {
                let (source, pivot) = (self.full(source), self.full(pivot));
                let destination = if destination.is_multiple_of(3) {
                    source
                } else {
                    self.empty(destination)
                };
                if self.is_kept(source) || self.is_kept(pivot) {
                    return;
                }
                let rest = [0, pivot.index, pivot.depth, 0, source.index, source.depth];
                self.cnode(Label::CNodeRotate, destination, &rest, |model| {
                    model.rotate(source, pivot, destination)
                });
            }
            Step::Delete(pick) => {
                let target = self.full(pick);
                if !self.is_kept(target) {
                    self.cnode(Label::CNodeDelete, target, &[], |model| {
                        model.delete(target.place);
                        Ok(())
                    });
                }
            }
            Step::Revoke(pick) => {
                let target = self.full(pick);
                if !self.survives_revoke(target) {
                    return;
                }
                self.cnode(Label::CNodeRevoke, target, &[], |model| {
                    model.revoke(target.place);
                    Ok(())
                });
            }
            Step::Equip {
                thread,
                slot,
                source,
            } => self.equip(thread, slot, source),
            Step::Scribble => self.scribble(),
        }
        self.check();
    }

    fn transfer(&mut self, transfer: Transfer, source: Address, destination: Address) {
        let from = [source.index, source.depth];
        let (label, more) = match transfer {
            Transfer::Copy(rights) => (Label::CNodeCopy, vec![rights.bits()]),
            Transfer::Mint(rights, data) => (Label::CNodeMint, vec![rights.bits(), data]),
            Transfer::Move => (Label::CNodeMove, vec![]),
            Transfer::Mutate(data) => (Label::CNodeMutate, vec![data]),
        };
        if matches!(transfer, Transfer::Move | Transfer::Mutate(_)) && self.is_kept(source) {
            return;
        }
        let memory = memory(source.place);
        let rest: Vec<_> = from.into_iter().chain(more).collect();
        self.cnode(label, destination, &rest, |model| {
            model.transfer(transfer, (source, memory), destination)
        });
    }

    fn retype(&mut self, untyped: Pick, object: ObjectType, size: u64, first: Pick, count: u64) {
        let source = self.pick(untyped, |cap| matches!(cap, Some(Cap::Untyped(_))));
        let Some(Cap::Untyped(untyped)) = self.model.cap(source.place) else {
            return;
        };
        let cnode = self.pick(first, |cap| matches!(cap, Some(Cap::CNode(_))));
        let Some(Cap::CNode(node)) = self.model.cap(cnode.place) else {
            return;
        };
        let offset = u64::from(first) % (1 << node.radix);
        let memory = memory(source.place);
        let size_bits = object.size_bits(size as u32) as u8;
        let expected = self.expected_retype(untyped, memory, object, size_bits, count);
        let before = self.world.snapshot();
        let words = [
            object.number(),
            size,
            cnode.index,
            cnode.depth,
            offset,
            count,
        ];
        let result = self.invoke(slot(source.place), Label::UntypedRetype, &words);
        let places: Vec<_> = (offset..offset + count)
            .map(|index| node.slots.address() + index as usize * size_of::<Slot>())
            .collect();
        match result {
            Ok(()) => {
                let base = expected.expect("the model refuses what the kernel did");
                let made: Vec<_> = places
                    .iter()
                    .map(|&place| (place, slot(place).cap()))
                    .collect();
                for (index, (_, cap)) in made.iter().enumerate() {
                    let memory = extent(*cap).expect("an object is memory");
                    assert_eq!(memory.base, base + (index << size_bits));
                    assert_eq!(memory.size_bits, size_bits);
                }
                let end = base + ((count as usize) << size_bits);
                self.model
                    .adopt(source.place, (end - untyped.base) as u64, &made);
            }
            Err(error) => {
                assert!(
                    before == self.world.snapshot(),
                    "a refusal changed something"
                );
                let fits = offset + count <= 1 << node.radix;
                if fits && places.iter().all(|&place| self.model.cap(place).is_none()) {
                    assert_eq!(expected, Err(error));
                }
            }
        }
    }

    fn expected_retype(
        &self,
        untyped: UntypedCap,
        memory: Memory,
        object: ObjectType,
        size_bits: u8,
        count: u64,
    ) -> Result<usize, SyscallError> {
        let base = self.model.retype_base(untyped, memory, size_bits, count)?;
        match object {
            ObjectType::Untyped | ObjectType::SmallPage => Ok(base),
            _ if untyped.device => Err(SyscallError::InvalidArgument(1)),
            _ => Ok(base),
        }
    }

    fn equip(&mut self, thread: Pick, index: usize, source: Pick) {
        let thread = self.pick(thread, |cap| matches!(cap, Some(Cap::Thread { .. })));
        let Some(thread @ Cap::Thread { .. }) = self.model.cap(thread.place) else {
            return;
        };
        let (source, destination) = (self.full(source).place, slots_of(thread)[index]);
        if let Some(cap) = self.model.equip((source, memory(source)), destination) {
            derivation::insert(cap, slot(source), slot(destination));
        }
    }

    fn scribble(&self) {
        for (_, node) in self.model.nodes() {
            if let Cap::Frame(frame) = node.cap
                && !frame.device
            {
                let page = Ref::<Table>::from_address(frame.base);
                (0..512).for_each(|index| page.entry(index).set(u64::MAX));
            }
        }
    }

    /// Every capability there is: all are linked to one that the model knows.
    fn actual(&self) -> Capabilities {
        let mut actual = Capabilities::new();
        let mut queue: Vec<_> = self.model.nodes().map(|(_, node)| node.place).collect();
        while let Some(place) = queue.pop() {
            let slot = slot(place);
            if !slot.is_empty() && actual.insert(place, slot.cap()).is_none() {
                queue.extend(slot.previous().map(Ref::address));
                queue.extend(slot.next().map(Ref::address));
            }
        }
        actual
    }

    fn check(&self) {
        let actual = self.actual();
        check_memory(&self.world, &actual);
        for (id, node) in self.model.nodes() {
            assert_eq!(actual.get(&node.place), Some(&node.cap));
            let mut run = BTreeSet::new();
            let mut next = slot(node.place).next();
            while let Some(child) = next
                && is_parent_of(slot(node.place), child)
            {
                run.insert(child.address());
                next = child.next();
            }
            let limbo: BTreeSet<_> = run
                .iter()
                .filter(|&&place| self.model.cap(place).is_none())
                .copied()
                .collect();
            let known: BTreeSet<_> = run.difference(&limbo).copied().collect();
            assert_eq!(
                known,
                self.model.descendants(id),
                "children of {:?}",
                node.cap
            );
        }
        self.check_limbo(&actual);
    }

    /// What the model does not know any more may only be in containers that are dying, or that
    /// nothing but such a container holds.
    fn check_limbo(&self, actual: &Capabilities) {
        let mut dying: BTreeSet<usize> = BTreeSet::new();
        let known = |place: &usize| self.model.cap(*place).is_some();
        for (_, &cap) in actual.iter().filter(|(place, _)| !known(place)) {
            let inside = match cap {
                Cap::Zombie(zombie) => {
                    let first = zombie.slots.address();
                    (0..zombie.remaining.max(1) as usize)
                        .map(|index| first + index * size_of::<Slot>())
                        .collect()
                }
                other => slots_of(other),
            };
            dying.extend(inside);
        }
        for (place, cap) in actual.iter().filter(|(place, _)| !known(place)) {
            assert!(dying.contains(place), "{cap:?} outlived its deletion");
        }
    }
}

fn object() -> impl Strategy<Value = (ObjectType, u64)> {
    prop_oneof![
        4 => (5u64..16).prop_map(|bits| (ObjectType::Untyped, bits)),
        4 => (1u64..5).prop_map(|radix| (ObjectType::CapTable, radix)),
        2 => Just((ObjectType::Tcb, 0)),
        2 => Just((ObjectType::Endpoint, 0)),
        1 => Just((ObjectType::Notification, 0)),
        1 => Just((ObjectType::Reply, 0)),
        1 => Just((ObjectType::SchedContext, 7)),
        2 => Just((ObjectType::SmallPage, 0)),
        1 => Just((ObjectType::PageTable, 0)),
        1 => Just((ObjectType::Timer, 0)),
    ]
}

fn data() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(0),
        2 => 1u64..4,
        1 => (0u64..8, 0u32..12).prop_map(|(guard, bits)| CNodeData::new(guard, bits).word()),
        1 => any::<u64>(),
    ]
}

fn transfer() -> impl Strategy<Value = Transfer> {
    let rights = || prop_oneof![Just(Rights::ALL), any::<u64>().prop_map(Rights::from_word)];
    prop_oneof![
        3 => rights().prop_map(Transfer::Copy),
        3 => (rights(), data()).prop_map(|(rights, data)| Transfer::Mint(rights, data)),
        3 => Just(Transfer::Move),
        1 => data().prop_map(Transfer::Mutate),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let pick = any::<Pick>;
    prop_oneof![
        6 => (pick(), object(), pick(), 1u64..5).prop_map(
            |(untyped, (object, size_bits), first, count)| {
                Step::Retype { untyped, object, size_bits, first, count }
            }
        ),
        8 => (transfer(), pick(), pick()).prop_map(|(transfer, source, destination)| {
            Step::Transfer { transfer, source, destination }
        }),
        1 => (pick(), pick(), pick()).prop_map(|(source, pivot, destination)| {
            Step::Rotate { source, pivot, destination }
        }),
        2 => pick().prop_map(Step::Delete),
        1 => pick().prop_map(Step::Revoke),
        1 => (pick(), 0..Tcb::SLOTS, pick()).prop_map(|(thread, slot, source)| {
            Step::Equip { thread, slot, source }
        }),
        1 => Just(Step::Scribble),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 128,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_capability_space_is_what_the_model_says(
        steps in proptest::collection::vec(step(), 1..80),
        patience in 0u32..8,
    ) {
        let mut run = Run::new(patience);
        for step in &steps {
            run.step(step);
        }
        let untyped = run.world.root(UNTYPED);
        run.model.revoke(untyped.address());
        prop_assert_eq!(run.invoke(run.world.root(ROOT_CNODE), Label::CNodeRevoke, &[1, 6]), Ok(()));
        run.check();
        prop_assert!(!derivation::has_children(untyped));
    }
}
