//! `hostile SEED`: storms on everything that a guest can reach, then an end that the seed chooses.
//!
//! The storms leave out what ends a VM by design (resets, switching off, INIT), so that each of
//! them is known to have run; the ends put that in again, and go for the CPU's own state.

#[expect(unsafe_code, reason = "instructions that break things")]
mod blow;
mod ends;
mod storms;

use crate::apic;
use crate::random::Random;
use crate::second;
use crate::serial::{self, say};
use crate::trap;

/// What a storm knows.
pub struct Attacker {
    /// What to do next.
    random: Random,
    /// The CPU that attacks.
    cpu: usize,
}

/// Runs the storms and, when somebody has typed Enter, the end of `seed`. In half of the seeds the
/// second CPU attacks meanwhile; a VM with one VCPU has none to start.
pub fn run(seed: u64) {
    say!("GUEST attacks with seed {seed}");
    let mut attacker = Attacker {
        random: Random::new(seed),
        cpu: 0,
    };
    for (name, storm) in storms::ALL {
        storm(&mut attacker);
        calm();
        say!("GUEST storm over: {name}");
    }
    let (name, end) = ends::of_seed(seed);
    say!("GUEST storms are over; at Enter: {name}");
    serial::await_enter();
    if seed % 2 == 1 {
        second::start_attack(seed);
    }
    end(&mut attacker);
    say!("GUEST still lives");
}

/// What the second CPU does: storms without end.
pub fn attack_forever(seed: u64) -> ! {
    let mut attacker = Attacker {
        random: Random::new(seed.rotate_left(32)),
        cpu: 1,
    };
    loop {
        for (_, storm) in storms::ALL {
            storm(&mut attacker);
            trap::restore_interrupt_table();
        }
    }
}

/// Puts what the program itself needs into order again.
fn calm() {
    trap::restore_interrupt_table();
    apic::restore();
    apic::enable();
    serial::reset();
}
