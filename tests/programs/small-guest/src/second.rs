//! The second CPU: does what the first one asks.

use core::sync::atomic::{AtomicU32, AtomicU64, Ordering::SeqCst};

use crate::apic::{self, ANSWER_VECTOR};
use crate::cpu;

/// Page of the start-up message: start.s puts its code there.
pub const START_PAGE: u8 = 0x08;
/// APIC identifier of the second CPU.
pub const IDENTIFIER: u32 = 1;

static ANSWERS: AtomicU32 = AtomicU32::new(0);
/// Seed of what it is to do instead of answering; 0 is none.
static ATTACK: AtomicU64 = AtomicU64::new(0);

/// How often it has answered; its start counts as the first time.
pub fn answers() -> u32 {
    ANSWERS.load(SeqCst)
}

/// Starts it.
pub fn start() {
    apic::start_cpu(IDENTIFIER, START_PAGE);
}

/// Starts it to attack the VM as well. `seed` is not 0.
pub fn start_attack(seed: u64) {
    ATTACK.store(seed, SeqCst);
    start();
}

/// What it does: sleeps until a request comes, answers with a message, and so on.
pub fn serve() -> ! {
    let seed = ATTACK.load(SeqCst);
    if seed != 0 {
        crate::hostile::attack_forever(seed);
    }
    loop {
        ANSWERS.fetch_add(1, SeqCst);
        apic::interrupt(0, ANSWER_VECTOR);
        cpu::wait_for_interrupt();
    }
}
