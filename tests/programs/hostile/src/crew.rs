//! The hostile threads of one round, and all that they are given.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::capability::{
    AsidPool, CNode, Endpoint, Frame, PageDirectory, PageTable, Pdpt, Refill, SchedContext,
    SchedControl, SchedParameters, Tcb, ThreadSpaces, VSpace,
};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CapRights, InitialSlot, ObjectType, VmAttributes};

use crate::memory::Memory;
use crate::random::Random;
use crate::{code, own_thread};

/// Threads of a round; each CPU gets some.
const THREADS: usize = 12;
/// Radix of their capability space.
const CELL_RADIX: u32 = 6;
/// Highest priority that they can have or give: this program's thread stays above.
const HIGHEST_PRIORITY: u64 = 200;
/// Where the code and the first thread's page are in their address space.
const CODE: u64 = 0x40_0000;
const PAGES: u64 = 0x50_0000;
const PAGE: u64 = 4096;
/// Word of a thread's page that counts its system calls.
const CALLS_WORD: usize = 256;

/// A thread's page: its IPC buffer, its stack, and its count of system calls.
#[repr(C, align(4096))]
struct ThreadPages([[AtomicU64; 512]; THREADS]);

static THREAD_PAGES: ThreadPages =
    ThreadPages([const { [const { AtomicU64::new(0) }; 512] }; THREADS]);

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

/// The threads.
pub struct Crew {
    threads: Vec<Tcb>,
}

impl Crew {
    /// Makes everything; nobody runs yet.
    pub fn new(memory: &mut Memory, random: &mut Random) -> Self {
        THREAD_PAGES
            .0
            .iter()
            .for_each(|page| page[CALLS_WORD].store(0, Ordering::Relaxed));
        let space = make_space(memory);
        let cell = CNode::from_cptr(memory.make(ObjectType::CapTable, CELL_RADIX));
        let mut possessions = Vec::from([cell.cptr(), space.cptr()]);
        possessions.extend((0..memory.cpus()).map(|cpu| memory.sched_control(cpu)));
        let mut threads = Vec::new();
        let mut contexts = Vec::new();
        for _ in 0..THREADS {
            threads.push(Tcb::from_cptr(memory.make(ObjectType::Tcb, 0)));
            contexts.push(SchedContext::from_cptr(
                memory.make(ObjectType::SchedContext, 8),
            ));
        }
        possessions.extend(threads.iter().map(|tcb| tcb.cptr()));
        possessions.extend(contexts.iter().map(|context| context.cptr()));
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
        for (index, (tcb, context)) in threads.iter().zip(contexts).enumerate() {
            configure_time(memory, random, index, context);
            let page = map_thread_page(memory, space, index);
            tcb.configure(&spaces, page_address(index), page)
                .expect("new spaces");
            let priority = random.below(HIGHEST_PRIORITY) as u8;
            tcb.set_sched_params(
                own_thread(),
                HIGHEST_PRIORITY as u8,
                priority,
                Some(context),
                handler,
            )
            .expect("a new thread");
        }
        Self { threads }
    }

    /// Puts the registers of all threads right and lets them run. Some may be gone.
    pub fn resume(&mut self, random: &mut Random) {
        for (index, tcb) in self.threads.iter().enumerate() {
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

    /// System calls of all threads.
    pub fn calls(&self) -> u64 {
        THREAD_PAGES
            .0
            .iter()
            .map(|page| page[CALLS_WORD].load(Ordering::Relaxed))
            .sum()
    }
}

const fn page_address(index: usize) -> u64 {
    PAGES + index as u64 * PAGE
}

/// An address space with the code.
fn make_space(memory: &mut Memory) -> VSpace {
    let space = VSpace::from_cptr(memory.make(ObjectType::Pml4, 0));
    let pool = AsidPool::from_cptr(InitialSlot::AsidPool.cptr());
    pool.assign(space.cptr()).expect("the pool has room");
    let attributes = VmAttributes::WRITE_BACK;
    Pdpt::from_cptr(memory.make(ObjectType::Pdpt, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    PageDirectory::from_cptr(memory.make(ObjectType::PageDirectory, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    PageTable::from_cptr(memory.make(ObjectType::PageTable, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    let page = memory.own_page(code::address());
    page.map(space, CODE, CapRights::READ, attributes)
        .expect("an empty space");
    space
}

fn map_thread_page(memory: &mut Memory, space: VSpace, index: usize) -> Frame {
    let page = memory.own_page(THREAD_PAGES.0[index].as_ptr().addr() as u64);
    let attributes = VmAttributes::WRITE_BACK;
    page.map(space, page_address(index), CapRights::ALL, attributes)
        .expect("an empty space");
    page
}

fn configure_time(memory: &Memory, random: &mut Random, index: usize, context: SchedContext) {
    let cpu = index as u64 % memory.cpus();
    let budget_us = 200 + random.below(2000);
    let parameters = SchedParameters {
        budget_us,
        period_us: budget_us * (1 + random.below(3)),
        extra_refills: random.below(8),
        badge: index as u64,
        refill: if random.below(2) == 0 {
            Refill::Full
        } else {
            Refill::Sporadic
        },
    };
    let control = SchedControl::from_cptr(memory.sched_control(cpu));
    control
        .configure(context, &parameters)
        .expect("a budget that can be");
}
