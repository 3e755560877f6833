//! The kernel's own state: one [`Kernel`] for the machine, one [`Node`] in it for each CPU.
//!
//! Everything is a cell: the big lock makes one CPU at a time the only user. The state is an
//! argument of all logic, so that a host test makes as many kernels as it likes.

use core::cell::Cell;

use crate::arch;
use crate::config::{
    DOMAIN_SCHEDULE_LENGTH, MAX_NODES, NUM_ASID_POOLS, NUM_DOMAINS, NUM_IRQS, NUM_PRIORITIES,
};
use crate::object::{AsidPool, QueueEnds, SchedContext, Slot, Tcb, Timer};
use crate::store::Ref;

/// Ready threads of one domain, by priority, with a two-level bitmap to find the highest.
pub struct ReadyQueues {
    /// One queue for each priority, first come first served.
    pub queues: [QueueEnds; NUM_PRIORITIES],
    /// Bit `p / 64`: some priority of that word is ready.
    pub summary: Cell<u64>,
    /// Bit `p % 64` of word `p / 64`: priority `p` is ready.
    pub words: [Cell<u64>; NUM_PRIORITIES / 64],
}

/// What the scheduler does at the end of a kernel entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SchedulerAction {
    /// Go on with the current thread.
    ResumeCurrent,
    /// Look through the queues.
    ChooseNew,
    /// Switch to this thread, which is runnable and in no queue, unless a better one waits.
    SwitchTo(Ref<Tcb>),
}

/// State of one CPU.
pub struct Node {
    /// The thread that runs, or ran until this kernel entry. `None` only before boot ends.
    pub current: Cell<Option<Ref<Tcb>>>,
    /// Runs when nothing else can.
    pub idle: Cell<Option<Ref<Tcb>>>,
    /// The context whose budget is being used.
    pub current_context: Cell<Option<Ref<SchedContext>>>,
    /// The idle thread's context.
    pub idle_context: Cell<Option<Ref<SchedContext>>>,
    /// What to do at the end of this entry.
    pub action: Cell<SchedulerAction>,
    /// The hardware deadline must be set anew.
    pub reprogram: Cell<bool>,
    /// Time of this kernel entry, in ticks.
    pub now: Cell<u64>,
    /// Ticks used since the last charge to the current context.
    pub consumed: Cell<u64>,
    /// Threads whose budget is not yet replenished, by the time it will be.
    pub release: QueueEnds,
    /// Armed timers by deadline.
    pub timer_head: Cell<Option<Ref<Timer>>>,
    /// Ready threads of each domain.
    pub ready: [ReadyQueues; NUM_DOMAINS],
    /// Domain that runs now.
    pub domain: Cell<u8>,
    /// Ticks left of this domain's turn.
    pub domain_time: Cell<u64>,
    /// Index of the turn in the domain schedule.
    pub domain_index: Cell<usize>,
    /// Bit for each other CPU that must look at its queues when this entry ends.
    pub kicks: Cell<u64>,
    /// Another CPU took the thread away while this one waited for the lock: the entry is void.
    pub stalled: Cell<bool>,
    /// Work units since the last look for an interrupt.
    pub work_units: Cell<u32>,
}

/// One turn of the domain schedule. `duration` 0 marks the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DomainTurn {
    /// Domain that runs.
    pub domain: u8,
    /// Ticks; for the one-domain default the largest value.
    pub duration: u64,
}

/// Use of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IrqState {
    /// Nobody's.
    Inactive,
    /// A handler capability exists.
    Signal,
    /// The kernel's own.
    Reserved,
}

/// State of the machine.
pub struct Kernel {
    /// One for each CPU.
    pub nodes: [Node; MAX_NODES],
    /// CPUs that run.
    pub node_count: Cell<usize>,
    /// ASID pools.
    pub asid_pools: [Cell<Option<Ref<AsidPool>>>; NUM_ASID_POOLS],
    /// Counts what may have ended an address space; starts above the 0 of a fresh TCB.
    pub space_epoch: Cell<u64>,
    /// Notification capability for each interrupt.
    pub irq_slots: [Slot; NUM_IRQS],
    /// Use of each interrupt.
    pub irq_states: [Cell<IrqState>; NUM_IRQS],
    /// A bit for each I/O port that a capability covers.
    pub io_ports: [Cell<u64>; 1024],
    /// The domain schedule.
    pub domain_schedule: [Cell<DomainTurn>; DOMAIN_SCHEDULE_LENGTH],
    /// Where the schedule starts.
    pub domain_start: Cell<usize>,
    /// Timer ticks in a microsecond.
    pub ticks_per_us: Cell<u64>,
    /// Ticks that any deadline leaves for the kernel's own work.
    pub wcet_ticks: Cell<u64>,
}

impl ReadyQueues {
    const fn new() -> Self {
        Self {
            queues: [const { QueueEnds::new() }; NUM_PRIORITIES],
            summary: Cell::new(0),
            words: [const { Cell::new(0) }; NUM_PRIORITIES / 64],
        }
    }
}

impl Node {
    const fn new() -> Self {
        Self {
            current: Cell::new(None),
            idle: Cell::new(None),
            current_context: Cell::new(None),
            idle_context: Cell::new(None),
            action: Cell::new(SchedulerAction::ResumeCurrent),
            reprogram: Cell::new(false),
            now: Cell::new(0),
            consumed: Cell::new(0),
            release: QueueEnds::new(),
            timer_head: Cell::new(None),
            ready: [const { ReadyQueues::new() }; NUM_DOMAINS],
            domain: Cell::new(0),
            domain_time: Cell::new(0),
            domain_index: Cell::new(0),
            kicks: Cell::new(0),
            stalled: Cell::new(false),
            work_units: Cell::new(0),
        }
    }

    /// The current thread.
    ///
    /// # Panics
    /// Before boot set one.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> Ref<Tcb> {
        match self.current.get() {
            Some(tcb) => tcb,
            None => panic!("no thread runs before boot has made one"),
        }
    }
}

impl Default for Kernel {
    fn default() -> Self {
        Self::new()
    }
}

impl Kernel {
    /// A kernel before boot.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            nodes: [const { Node::new() }; MAX_NODES],
            node_count: Cell::new(1),
            asid_pools: [const { Cell::new(None) }; NUM_ASID_POOLS],
            space_epoch: Cell::new(1),
            irq_slots: [const { Slot::empty() }; NUM_IRQS],
            irq_states: [const { Cell::new(IrqState::Inactive) }; NUM_IRQS],
            io_ports: [const { Cell::new(0) }; 1024],
            domain_schedule: [const {
                Cell::new(DomainTurn {
                    domain: 0,
                    duration: 0,
                })
            }; DOMAIN_SCHEDULE_LENGTH],
            domain_start: Cell::new(0),
            ticks_per_us: Cell::new(1),
            wcet_ticks: Cell::new(0),
        }
    }

    /// The state of the CPU that runs this.
    #[inline(always)]
    #[must_use]
    pub fn node(&self) -> &Node {
        arch::this_node(self)
    }

    /// The thread that entered the kernel on this CPU.
    #[inline(always)]
    #[must_use]
    pub fn current(&self) -> Ref<Tcb> {
        self.node().current()
    }
}
