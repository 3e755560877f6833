//! A root task whose threads do to the kernel whatever they can.
//!
//! In each round `crew` makes threads on every CPU, with an address space and a capability space of
//! their own that hold objects of every kind, themselves included; they run `hostile.s`: random
//! system calls, random messages, instructions that fault. Again and again their registers are
//! put right and they are resumed, moved to other CPUs and stopped, while a `witness` looks at a
//! page that comes and goes. Then everything is revoked while they run, and made anew from
//! the same memory. What they must not do is stop this thread or the kernel. The random numbers of
//! each seed are the same in every run; after the last the line is `HOSTILE survived`. Boot it in
//! place of root on a kernel with debug system calls; it ends QEMU if QEMU has the device for that.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

extern crate alloc;

#[expect(unsafe_code, reason = "code that the assembler made")]
mod code;
mod crew;
mod memory;
mod random;
mod space;
mod witness;

use libcap::capability::{IoPort, IoPortControl, Notification, Tcb, Timer};
use libcap::runtime::BootEnv;
use libcap::{kernel, log};
use sel4_sys::{ExtraRecord, InitialSlot, ObjectType};

use crew::Crew;
use memory::Memory;
use random::Random;
use witness::Witness;

/// Seeds; each takes some seconds. A test that has less time stops earlier.
const SEEDS: u64 = 40;
/// Rounds of a seed.
const ROUNDS: u64 = 50;
/// Resumptions in a round.
const TURNS: u64 = 12;
/// How long the threads run undisturbed in a turn, and how long disturbed: a few of their slices.
const TURN_MS: u64 = 3;
const DISTURBED_MS: u64 = 1;
/// Port that ends QEMU.
const EXIT_PORT: u16 = 0xf4;
/// Bytes of the machine's record up to the frequency, and where that is.
const FREQUENCY: core::ops::Range<usize> = 8..16;

libcap::root_task!(main, heap_bytes = 256 << 10);

fn main(env: BootEnv) -> ! {
    let mut memory = Memory::new(env);
    let clock = Clock::new(&mut memory, env);
    let nodes = env.boot_info.nodes;
    log!("HOSTILE begins on {nodes} CPUs");
    for seed in 1..=SEEDS {
        let mut random = Random::new(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let mut counts = Counts::default();
        for _ in 0..ROUNDS {
            run_round(&mut memory, &clock, &mut random, &mut counts);
        }
        let Counts {
            calls,
            answered,
            moved,
            looks,
        } = counts;
        log!(
            "HOSTILE seed {seed}: {calls} system calls, {answered} answered, {moved} threads \
             disturbed, {looks} looks: survived"
        );
    }
    log!("HOSTILE survived {SEEDS} seeds");
    end_emulator(&mut memory)
}

/// What happened with one seed.
#[derive(Default)]
struct Counts {
    calls: u64,
    answered: u64,
    moved: u64,
    looks: u64,
}

fn run_round(memory: &mut Memory, clock: &Clock, random: &mut Random, counts: &mut Counts) {
    let mut crew = Crew::new(memory, random);
    let mut witness = Witness::new(memory);
    for _ in 0..TURNS {
        witness.show();
        crew.resume(random);
        clock.sleep_ms(TURN_MS);
        counts.looks += u64::from(witness.has_looked());
        witness.hide();
        counts.moved += crew.disturb(memory, random);
        clock.sleep_ms(DISTURBED_MS);
        witness.check();
    }
    let (calls, answered) = crew.calls();
    counts.calls += calls;
    counts.answered += answered;
    memory.revoke_all();
}

/// A timer that wakes this thread.
struct Clock {
    bell: Notification,
    timer: Timer,
    ticks_per_ms: u64,
}

impl Clock {
    fn new(memory: &mut Memory, env: BootEnv) -> Self {
        let bell: Notification = memory.keep(ObjectType::Notification, 0);
        let timer: Timer = memory.keep(ObjectType::Timer, 0);
        timer.bind(bell).expect("a new notification");
        let record = env
            .record(ExtraRecord::Machine)
            .expect("the kernel describes the machine");
        let khz = record[FREQUENCY]
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes));
        Self {
            bell,
            timer,
            ticks_per_ms: khz.expect("a word"),
        }
    }

    fn sleep_ms(&self, ms: u64) {
        let deadline = kernel::time_stamp() + ms * self.ticks_per_ms;
        self.timer.arm(deadline).expect("a timer can be armed");
        // Only the timer rings.
        let _ = self.bell.wait();
    }
}

/// The thread that runs this.
fn own_thread() -> Tcb {
    Tcb::from_cptr(InitialSlot::Tcb.cptr())
}

/// Ends QEMU; without the port the program stops.
fn end_emulator(memory: &mut Memory) -> ! {
    let slot = memory.kept_slot();
    let control = IoPortControl::from_cptr(InitialSlot::IoPortControl.cptr());
    if control
        .issue(EXIT_PORT, EXIT_PORT + 3, memory.slot(slot))
        .is_ok()
    {
        // Nothing is there on other machines.
        let _ = IoPort::from_cptr(slot).write_u32(EXIT_PORT, 0);
    }
    loop {
        kernel::yield_now();
    }
}
