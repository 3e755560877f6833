//! A thread that tells whether a CPU remembers a mapping that is gone.
//!
//! It runs on the last CPU and looks at a page again and again. While the page is mapped it holds
//! an even number; between an unmapping and the next mapping it holds an odd one, which nobody may
//! ever see.

use core::sync::atomic::Ordering;

use libcap::capability::{
    CNode, Endpoint, Frame, Refill, SchedContext, SchedControl, SchedParameters, Tcb, ThreadSpaces,
    VSpace,
};
use sel4_sys::thread::UserContext;
use sel4_sys::{CNodeData, CapRights, ObjectType, VmAttributes};

use crate::memory::Memory;
use crate::space::{self, CODE, FIRST_COUNT, PAGE, PAGES, SharedPage};
use crate::{code, own_thread};

/// Above the hostile threads, so that it looks whatever they do.
const PRIORITY: u8 = 210;
/// A quarter of a CPU: the rest is the hostile threads'.
const TIME: SchedParameters = SchedParameters {
    budget_us: 500,
    period_us: 2000,
    extra_refills: 0,
    badge: 0,
    refill: Refill::Full,
};
/// Where its own page is, and the one that it looks at.
const OWN: u64 = PAGES;
const WATCHED: u64 = PAGES + PAGE;

static OWN_PAGE: SharedPage = SharedPage::new();
static WATCHED_PAGE: SharedPage = SharedPage::new();

/// The thread of one round.
pub struct Witness {
    thread: Tcb,
    space: VSpace,
    watched: Frame,
    /// What the page holds.
    value: u64,
}

impl Witness {
    /// Makes it; the page is not mapped and it does not run.
    pub fn new(memory: &mut Memory) -> Self {
        let space = space::make(memory);
        let own = OWN_PAGE.map(memory, space, OWN);
        let watched = WATCHED_PAGE.map(memory, space, WATCHED);
        watched.unmap().expect("it is mapped");
        let cell = CNode::from_cptr(memory.make(ObjectType::CapTable, 1));
        let handler = Endpoint::from_cptr(memory.make(ObjectType::Endpoint, 0));
        let context = SchedContext::from_cptr(memory.make(ObjectType::SchedContext, 8));
        let control = SchedControl::from_cptr(memory.sched_control(memory.cpus() - 1));
        control.configure(context, &TIME).expect("a good budget");
        let thread = Tcb::from_cptr(memory.make(ObjectType::Tcb, 0));
        let spaces = ThreadSpaces {
            cspace: cell,
            cspace_data: CNodeData::new(0, u64::BITS - 1),
            vspace: space,
        };
        thread.configure(&spaces, OWN, own).expect("new spaces");
        // Nobody receives its faults: it waits until it is started again.
        thread
            .set_sched_params(own_thread(), 0, PRIORITY, Some(context), Some(handler))
            .expect("a new thread");
        OWN_PAGE.0[FIRST_COUNT].store(0, Ordering::SeqCst);
        Self {
            thread,
            space,
            watched,
            value: 0,
        }
    }

    /// Maps the page with a new even number and lets the thread look.
    pub fn show(&mut self) {
        self.value = (self.value | 1) + 1;
        WATCHED_PAGE.0[0].store(self.value, Ordering::SeqCst);
        self.watched
            .map(
                self.space,
                WATCHED,
                CapRights::READ,
                VmAttributes::WRITE_BACK,
            )
            .expect("it is not mapped");
        let registers = UserContext {
            rip: CODE + code::witness_offset(),
            rbp: OWN,
            rdi: WATCHED,
            ..UserContext::default()
        };
        self.thread
            .write_registers_and_resume(&registers)
            .expect("a thread that nobody else has");
    }

    /// Whether it saw the number of the last [`Self::show`].
    pub fn has_looked(&self) -> bool {
        seen() == self.value
    }

    /// Unmaps the page while the thread looks, and makes the number odd.
    pub fn hide(&mut self) {
        self.watched.unmap().expect("a capability of this program");
        self.value += 1;
        WATCHED_PAGE.0[0].store(self.value, Ordering::SeqCst);
    }

    /// # Panics
    /// If it has seen the number that came after the unmapping.
    pub fn check(&self) {
        assert!(seen() < self.value, "a CPU uses a mapping that is gone");
    }
}

/// The last number that it wrote down.
fn seen() -> u64 {
    OWN_PAGE.0[FIRST_COUNT].load(Ordering::SeqCst)
}
