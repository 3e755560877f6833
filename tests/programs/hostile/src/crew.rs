//! The hostile threads of one round, and all that they are given.

use alloc::vec::Vec;
use core::sync::atomic::Ordering;

use libcap::capability::{
    CNode, Endpoint, Refill, SchedContext, SchedControl, SchedParameters, Tcb, ThreadSpaces,
};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CPtr, CapRights, ObjectType};

use crate::memory::Memory;
use crate::own_thread;
use crate::random::Random;
use crate::space::{self, CODE, FIRST_COUNT, PAGE, PAGES, SECOND_COUNT, SharedPage};

/// Threads of a round; each CPU gets some.
const THREADS: usize = 12;
/// Radix of their capability space.
const CELL_RADIX: u32 = 6;
/// Highest priority that they can have or give: this program's thread stays above.
const HIGHEST_PRIORITY: u64 = 200;
static THREAD_PAGES: [SharedPage; THREADS] = [const { SharedPage::new() }; THREADS];

/// Objects that the threads get beside themselves and their time: type, size, how many.
const POSSESSIONS: [(ObjectType, u32, usize); 17] = [
    (ObjectType::Endpoint, 0, 3),
    (ObjectType::Notification, 0, 3),
    (ObjectType::Reply, 0, 4),
    (ObjectType::Timer, 0, 2),
    (ObjectType::SchedContext, 8, 2),
    (ObjectType::Untyped, 16, 1),
    (ObjectType::Untyped, 12, 1),
    (ObjectType::CapTable, 4, 1),
    (ObjectType::SmallPage, 0, 2),
    (ObjectType::LargePage, 0, 1),
    (ObjectType::PageTable, 0, 1),
    (ObjectType::PageDirectory, 0, 1),
    (ObjectType::Pml4, 0, 1),
    (ObjectType::GuestPml4, 0, 1),
    (ObjectType::GuestPdpt, 0, 1),
    (ObjectType::GuestPageDirectory, 0, 1),
    (ObjectType::Vcpu, 0, 1),
];

/// The threads, and what each runs on.
pub struct Crew {
    threads: Vec<(Tcb, SchedContext)>,
}

impl Crew {
    /// Makes everything; nobody runs yet.
    pub fn new(memory: &mut Memory, random: &mut Random) -> Self {
        for count in THREAD_PAGES.iter().flat_map(counts) {
            count.store(0, Ordering::Relaxed);
        }
        let space = space::make(memory);
        let cell = CNode::from_cptr(memory.make(ObjectType::CapTable, CELL_RADIX));
        let threads: Vec<(Tcb, SchedContext)> = (0..THREADS)
            .map(|_| {
                let tcb = Tcb::from_cptr(memory.make(ObjectType::Tcb, 0));
                let context = memory.make(ObjectType::SchedContext, 8);
                (tcb, SchedContext::from_cptr(context))
            })
            .collect();
        let mut possessions = Vec::from([cell.cptr(), space.cptr()]);
        possessions.extend((0..memory.cpus()).map(|cpu| memory.sched_control(cpu)));
        possessions.extend(threads.iter().map(|(tcb, _)| tcb.cptr()));
        possessions.extend(threads.iter().map(|(_, context)| context.cptr()));
        let handler = make_possessions(memory, &mut possessions);
        for (index, possession) in possessions.iter().enumerate() {
            // Slot 0 stays empty, and what does not fit is not given.
            let slot = cell.slot_at_depth(index as u64 + 1, CELL_RADIX as u8);
            let _ = slot.copy_from(memory.slot(*possession), CapRights::ALL);
        }
        let spaces = ThreadSpaces {
            cspace: cell,
            cspace_data: CNodeData::new(0, u64::BITS - CELL_RADIX),
            vspace: space,
        };
        for (index, (tcb, context)) in threads.iter().enumerate() {
            let cpu = index as u64 % memory.cpus();
            let control = SchedControl::from_cptr(memory.sched_control(cpu));
            let time = random_time(random);
            control.configure(*context, &time).expect("a good budget");
            let page = THREAD_PAGES[index].map(memory, space, page_address(index));
            tcb.configure(&spaces, page_address(index), page)
                .expect("new spaces");
            let priority = random.below(HIGHEST_PRIORITY) as u8;
            tcb.set_sched_params(
                own_thread(),
                HIGHEST_PRIORITY as u8,
                priority,
                Some(*context),
                handler,
            )
            .expect("a new thread");
        }
        Self { threads }
    }

    /// Puts the registers of all threads right and lets them run. Some may be gone.
    pub fn resume(&mut self, random: &mut Random) {
        for (index, (tcb, _)) in self.threads.iter().enumerate() {
            let registers = UserContext {
                rip: CODE,
                rsp: page_address(index) + PAGE,
                rbp: page_address(index),
                r14: random.next(),
                ..UserContext::default()
            };
            // Others may have deleted it, or it is being deleted.
            let _ = tcb.write_registers_and_resume(&registers);
        }
    }

    /// Does to running threads what a server does to others: moves them to another CPU, stops
    /// them, changes their priority. Returns how many were moved.
    pub fn disturb(&mut self, memory: &Memory, random: &mut Random) -> u64 {
        let mut moved = 0;
        for (tcb, context) in &self.threads {
            let cpu = random.below(memory.cpus());
            let control = SchedControl::from_cptr(memory.sched_control(cpu));
            let priority = random.below(HIGHEST_PRIORITY) as u8;
            // Others may have deleted it, or unbound its context.
            let done = match random.below(4) {
                0 => control.configure(*context, &random_time(random)),
                1 => tcb.suspend(),
                2 => tcb.set_priority(own_thread(), priority),
                _ => continue,
            };
            moved += u64::from(done.is_ok());
        }
        moved
    }

    /// System calls of all threads, and how many Calls were answered without an error.
    pub fn calls(&self) -> (u64, u64) {
        let sum = |word: usize| {
            let counts = THREAD_PAGES.iter().map(|page| &page.0[word]);
            counts.map(|count| count.load(Ordering::Relaxed)).sum()
        };
        (sum(FIRST_COUNT), sum(SECOND_COUNT))
    }
}

fn counts(page: &SharedPage) -> &[core::sync::atomic::AtomicU64] {
    &page.0[FIRST_COUNT..=SECOND_COUNT]
}

const fn page_address(index: usize) -> u64 {
    PAGES + index as u64 * PAGE
}

/// Makes one object of each kind and more of some; one endpoint, for the threads' faults.
fn make_possessions(memory: &mut Memory, possessions: &mut Vec<CPtr>) -> Option<Endpoint> {
    let mut handler = None;
    for (object, size_bits, count) in POSSESSIONS {
        for _ in 0..count {
            let slot = memory.make(object, size_bits);
            possessions.push(slot);
            if object == ObjectType::Endpoint {
                handler = Some(Endpoint::from_cptr(slot));
            }
        }
    }
    handler
}

fn random_time(random: &mut Random) -> SchedParameters {
    let budget_us = 200 + random.below(2000);
    SchedParameters {
        budget_us,
        period_us: budget_us * (1 + random.below(3)),
        extra_refills: random.below(8),
        badge: 0,
        refill: if random.below(2) == 0 {
            Refill::Full
        } else {
            Refill::Sporadic
        },
    }
}
