//! Random system calls, faults and interrupts of several threads on two CPUs. Whatever user code
//! does, the kernel goes on, and its books balance: see `invariants`.

mod events;
mod invariants;
mod objects;
#[path = "../support/mod.rs"]
mod support;
mod world;

use proptest::prelude::*;

use events::step;
use invariants::{Budgets, check};
use world::World;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 32,
        failure_persistence: None,
        max_shrink_iters: 4000,
        ..ProptestConfig::default()
    })]

    #[test]
    fn user_code_cannot_break_the_kernels_books(
        steps in proptest::collection::vec(step(), 1..800),
    ) {
        let world = World::new();
        check(&world);
        for step in &steps {
            let before = Budgets::of(&world);
            world.perform(step);
            check(&world);
            if !step.configures_time() {
                before.check_unchanged(&Budgets::of(&world));
            }
        }
    }
}
