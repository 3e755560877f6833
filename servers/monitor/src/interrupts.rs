//! The wiring between interrupt controllers: lines in, vectors for each virtual CPU out.
//!
//! Owns the 8259 pair, the I/O APIC and all local APICs, because a message of one ends in
//! another. What a CPU has to look at again is collected in [`Interrupts::take_attention`], so
//! that the threads of other CPUs can be woken once after a whole access.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use crate::device::Line;
use crate::device::interrupt_message::{Delivery, Destination, InterruptMessage};
use crate::device::io_apic::IoApic;
use crate::device::local_apic::{ApicEffect, LocalApic};
use crate::device::pic::PicPair;
use crate::time::{Ticks, TimeBase};

/// Most virtual CPUs of a VM.
pub const MAXIMUM_VCPUS: usize = 4;

/// The PIT's line is wired to this pin of the I/O APIC (and the MADT says so).
pub const TIMER_PIN: u8 = 2;

/// A set of virtual CPUs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VcpuSet(u8);

impl VcpuSet {
    /// The first `count` of them.
    #[must_use]
    pub fn first(count: usize) -> Self {
        (0..count.min(MAXIMUM_VCPUS)).fold(Self::default(), |mut set, index| {
            set.insert(index);
            set
        })
    }

    /// Adds one.
    pub fn insert(&mut self, index: usize) {
        self.0 |= 1 << (index % MAXIMUM_VCPUS);
    }

    /// Takes one out.
    pub fn remove(&mut self, index: usize) {
        self.0 &= !(1 << (index % MAXIMUM_VCPUS));
    }

    /// Whether it is in it.
    #[must_use]
    pub fn contains(self, index: usize) -> bool {
        self.0 & 1 << (index % MAXIMUM_VCPUS) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Those in it, in order.
    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..MAXIMUM_VCPUS).filter(move |&index| self.contains(index))
    }
}

/// What wakes or restarts a CPU beside its local APIC's vectors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Signals {
    nmi: bool,
    init: bool,
    startup: Option<u8>,
}

/// What a start-up sequence asks of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartSignal {
    /// INIT: stop and wait.
    Init,
    /// Start at `page << 12`.
    Startup(u8),
}

/// All interrupt controllers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Interrupts {
    pic: PicPair,
    io_apic: IoApic,
    local: Vec<LocalApic, MAXIMUM_VCPUS>,
    signals: [Signals; MAXIMUM_VCPUS],
    attention: VcpuSet,
    /// Where the search for the least busy CPU begins, so that equals take turns.
    next_lowest: usize,
}

impl Interrupts {
    /// Controllers for `vcpus` CPUs (at least one, at most [`MAXIMUM_VCPUS`]) as firmware leaves
    /// them: CPU 0 takes the 8259 pair's interrupts.
    #[must_use]
    pub fn new(vcpus: usize, base: TimeBase) -> Self {
        let mut local = Vec::new();
        for id in 0..vcpus.clamp(1, MAXIMUM_VCPUS) as u32 {
            // The capacity is the bound of the loop.
            let _ = local.push(LocalApic::new(id, base));
        }
        local[0].set_virtual_wire();
        Self {
            pic: PicPair::default(),
            io_apic: IoApic::default(),
            local,
            signals: [Signals::default(); MAXIMUM_VCPUS],
            attention: VcpuSet::default(),
            next_lowest: 0,
        }
    }

    /// The 8259 pair.
    pub fn pic(&mut self) -> &mut PicPair {
        &mut self.pic
    }

    /// The I/O APIC.
    #[must_use]
    pub fn io_apic(&self) -> &IoApic {
        &self.io_apic
    }

    /// Number of CPUs.
    #[must_use]
    pub fn vcpus(&self) -> usize {
        self.local.len()
    }

    /// The local APIC of CPU `index`; an index that is none means CPU 0.
    #[must_use]
    pub fn local(&self, index: usize) -> &LocalApic {
        self.local.get(index).unwrap_or(&self.local[0])
    }

    /// The same, to change.
    pub fn local_mut(&mut self, index: usize) -> &mut LocalApic {
        let index = if index < self.local.len() { index } else { 0 };
        &mut self.local[index]
    }

    /// Sets one of the 16 ISA lines, which end in both the 8259 pair and the I/O APIC.
    pub fn set_isa_line(&mut self, irq: u8, line: Line) {
        self.pic.set_irq(irq, line);
        self.pic_changed();
        self.set_pin(if irq == 0 { TIMER_PIN } else { irq }, line);
    }

    /// Sets an I/O APIC pin that is no ISA line.
    pub fn set_pin(&mut self, pin: u8, line: Line) {
        if let Some(message) = self.io_apic.set_pin(pin, line) {
            self.deliver(message, None);
        }
    }

    /// The 8259 pair was accessed or a line of it moved: whoever takes its interrupts looks again.
    pub fn pic_changed(&mut self) {
        if self.pic.line().is_high() {
            for index in 0..self.local.len() {
                if self.local[index].passes_external() {
                    self.attention.insert(index);
                }
            }
        }
    }

    /// Writes an I/O APIC register.
    pub fn write_io_apic(&mut self, offset: u64, value: u32) {
        if let Some(message) = self.io_apic.write(offset, value) {
            self.deliver(message, None);
        }
    }

    /// Carries out what an access of CPU `index` to its local APIC asked for.
    pub fn apply(&mut self, index: usize, effect: ApicEffect) {
        match effect {
            ApicEffect::None => {}
            ApicEffect::Timer => self.attention.insert(index),
            ApicEffect::Send(message) => self.deliver(message, Some(index)),
            ApicEffect::EndOfInterrupt(vector) => {
                for message in self.io_apic.end_of_interrupt(vector) {
                    self.deliver(message, None);
                }
            }
        }
        // Any access can change what this CPU would take next.
        if self.has_maskable(index) {
            self.attention.insert(index);
        }
    }

    /// Delivers a message; `sender` is the CPU that an IPI comes from.
    pub fn deliver(&mut self, message: InterruptMessage, sender: Option<usize>) {
        let targets = self.targets(message.destination, sender);
        if message.delivery == Delivery::LowestPriority {
            if let Some(index) = self.least_busy(targets) {
                self.local[index].accept(message.vector, message.trigger);
                self.attention.insert(index);
            }
            return;
        }
        for index in targets.iter() {
            let signals = &mut self.signals[index];
            match message.delivery {
                Delivery::Fixed => self.local[index].accept(message.vector, message.trigger),
                Delivery::Nmi => signals.nmi = true,
                Delivery::Init => {
                    signals.init = true;
                    signals.startup = None;
                }
                Delivery::Startup => signals.startup = Some(message.vector),
                // An entry in ExtINT mode stands for the 8259 pair, whose line is looked at.
                Delivery::External | Delivery::Unsupported | Delivery::LowestPriority => {}
            }
            self.attention.insert(index);
        }
    }

    fn targets(&self, destination: Destination, sender: Option<usize>) -> VcpuSet {
        let mut targets = VcpuSet::default();
        for (index, apic) in self.local.iter().enumerate() {
            let is_target = match destination {
                Destination::Itself => sender == Some(index),
                Destination::Others => sender != Some(index),
                other => apic.matches(other),
            };
            if is_target {
                targets.insert(index);
            }
        }
        targets
    }

    fn least_busy(&mut self, targets: VcpuSet) -> Option<usize> {
        let count = self.local.len();
        let start = self.next_lowest;
        let chosen = (0..count)
            .map(|step| (start + step) % count)
            .filter(|&index| targets.contains(index))
            .min_by_key(|&index| self.local[index].processor_priority() >> 4)?;
        self.next_lowest = (chosen + 1) % count;
        Some(chosen)
    }

    /// CPUs that have something new to look at since the last call.
    pub fn take_attention(&mut self) -> VcpuSet {
        core::mem::take(&mut self.attention)
    }

    /// Lets the local timer of CPU `index` fire if it is due.
    pub fn advance(&mut self, index: usize, now: Ticks) {
        self.local_mut(index).advance(now);
    }

    /// Whether CPU `index` has anything that ends HLT.
    #[must_use]
    pub fn has_pending(&self, index: usize) -> bool {
        self.signals[index % MAXIMUM_VCPUS].nmi || self.has_maskable(index)
    }

    /// Whether CPU `index` has a maskable interrupt to take.
    #[must_use]
    pub fn has_maskable(&self, index: usize) -> bool {
        self.local(index).pending().is_some() || self.external_pending(index)
    }

    fn external_pending(&self, index: usize) -> bool {
        self.pic.line().is_high() && self.local(index).passes_external()
    }

    /// Takes the maskable interrupt that CPU `index` would take now: the 8259 pair's before the
    /// local APIC's, as on a PC, where it is asked first.
    pub fn acknowledge(&mut self, index: usize) -> Option<u8> {
        if self.external_pending(index) {
            return Some(self.pic.acknowledge());
        }
        let apic = self.local_mut(index);
        let vector = apic.pending()?;
        apic.acknowledge(vector);
        Some(vector)
    }

    /// Whether CPU `index` has an NMI to take.
    #[must_use]
    pub fn has_nmi(&self, index: usize) -> bool {
        self.signals[index % MAXIMUM_VCPUS].nmi
    }

    /// Takes the NMI of CPU `index`.
    pub fn take_nmi(&mut self, index: usize) {
        self.signals[index % MAXIMUM_VCPUS].nmi = false;
    }

    /// Takes the INIT or start-up message of CPU `index`; INIT comes first.
    pub fn take_start_signal(&mut self, index: usize) -> Option<StartSignal> {
        let signals = &mut self.signals[index % MAXIMUM_VCPUS];
        if core::mem::take(&mut signals.init) {
            signals.nmi = false;
            self.local_mut(index).reset();
            return Some(StartSignal::Init);
        }
        signals.startup.take().map(StartSignal::Startup)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::device::interrupt_message::Trigger;
    use crate::device::local_apic::register;
    use crate::device::pic::PicPort;

    const NOW: Ticks = Ticks(0);

    fn machine(vcpus: usize) -> Interrupts {
        let mut interrupts = Interrupts::new(vcpus, TimeBase::new(1_000_000).unwrap());
        for index in 0..vcpus {
            let apic = interrupts.local_mut(index);
            apic.write(register::SPURIOUS, 0x1ff, NOW).unwrap();
            apic.write(register::LOGICAL_DESTINATION, 1 << (24 + index), NOW)
                .unwrap();
        }
        interrupts.take_attention();
        interrupts
    }

    fn fixed(destination: Destination, vector: u8) -> InterruptMessage {
        InterruptMessage {
            destination,
            delivery: Delivery::Fixed,
            trigger: Trigger::Edge,
            vector,
        }
    }

    #[test]
    fn a_line_reaches_the_boot_cpu_through_the_8259_pair_after_reset() {
        let mut interrupts = machine(2);
        interrupts.pic().write(PicPort::FirstCommand, 0x11);
        for value in [0x30, 4, 1, 0] {
            interrupts.pic().write(PicPort::FirstData, value);
        }
        interrupts.set_isa_line(4, Line::High);
        assert!(interrupts.take_attention().contains(0));
        assert!(!interrupts.has_maskable(1));
        assert_eq!(interrupts.acknowledge(0), Some(0x34));
        assert_eq!(interrupts.acknowledge(0), None);
    }

    #[test]
    fn a_level_line_through_the_io_apic_repeats_until_it_falls() {
        let mut interrupts = machine(1);
        interrupts.write_io_apic(0, 0x10 + 9 * 2);
        interrupts.write_io_apic(0x10, 0x8049);
        interrupts.set_isa_line(9, Line::High);
        for round in 0..2 {
            assert_eq!(interrupts.acknowledge(0), Some(0x49), "round {round}");
            if round == 1 {
                interrupts.set_isa_line(9, Line::Low);
            }
            let effect = interrupts
                .local_mut(0)
                .write(register::END_OF_INTERRUPT, 0, NOW)
                .unwrap();
            interrupts.apply(0, effect);
        }
        assert_eq!(interrupts.acknowledge(0), None);
    }

    #[test]
    fn shorthands_choose_the_right_cpus() {
        for (destination, expected) in [
            (Destination::Itself, [false, true, false]),
            (Destination::Others, [true, false, true]),
            (Destination::All, [true, true, true]),
            (Destination::Physical(2), [false, false, true]),
            (Destination::Logical(0b101), [true, false, true]),
        ] {
            let mut interrupts = machine(3);
            interrupts.deliver(fixed(destination, 0x50), Some(1));
            let reached = [0, 1, 2].map(|index| interrupts.has_maskable(index));
            assert_eq!(reached, expected, "{destination:?}");
        }
    }

    #[test]
    fn lowest_priority_avoids_the_busy_and_takes_turns() {
        let mut interrupts = machine(3);
        interrupts
            .local_mut(0)
            .write(register::TASK_PRIORITY, 0x20, NOW)
            .unwrap();
        let message = InterruptMessage {
            delivery: Delivery::LowestPriority,
            ..fixed(Destination::Logical(0b111), 0x60)
        };
        let mut chosen = std::vec::Vec::new();
        for _ in 0..4 {
            interrupts.deliver(message, None);
            let index = (0..3)
                .find(|&index| interrupts.has_maskable(index))
                .unwrap();
            interrupts.acknowledge(index);
            interrupts
                .local_mut(index)
                .write(register::END_OF_INTERRUPT, 0, NOW)
                .unwrap();
            chosen.push(index);
        }
        assert_eq!(chosen, [1, 2, 1, 2]);
    }

    #[test]
    fn init_comes_before_start_up_and_resets_the_local_apic() {
        let mut interrupts = machine(2);
        for delivery in [Delivery::Init, Delivery::Startup] {
            interrupts.deliver(
                InterruptMessage {
                    delivery,
                    ..fixed(Destination::Physical(1), 0x9a)
                },
                Some(0),
            );
        }
        assert!(interrupts.take_attention().contains(1));
        assert_eq!(interrupts.take_start_signal(1), Some(StartSignal::Init));
        assert_eq!(
            interrupts.local_mut(1).read(register::SPURIOUS, NOW),
            Ok(0xff)
        );
        assert_eq!(
            interrupts.take_start_signal(1),
            Some(StartSignal::Startup(0x9a))
        );
        assert_eq!(interrupts.take_start_signal(1), None);
    }

    #[test]
    fn an_nmi_is_taken_once() {
        let mut interrupts = machine(1);
        let nmi = InterruptMessage {
            delivery: Delivery::Nmi,
            ..fixed(Destination::All, 0)
        };
        interrupts.deliver(nmi, None);
        assert!(interrupts.has_nmi(0) && interrupts.has_pending(0) && !interrupts.has_maskable(0));
        interrupts.take_nmi(0);
        assert!(!interrupts.has_pending(0));
    }

    #[test]
    fn a_set_of_cpus_lists_its_members() {
        let mut set = VcpuSet::first(3);
        set.remove(1);
        assert!(set.iter().eq([0, 2]));
        assert!(!set.is_empty() && set.contains(2));
    }
}
