//! Random system calls, faults and interrupts of several threads on two CPUs. Whatever user code
//! does, the kernel goes on, and its books balance: see `invariants`.

mod events;
mod invariants;
mod objects;
mod paths;
#[path = "../support/mod.rs"]
mod support;
mod world;

use proptest::prelude::*;

use events::{exchange_step, step};
use invariants::{Accounts, Budgets, check};
use paths::snapshot;
use world::{Path, World};

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
        let world = World::new(Path::Fast);
        check(&world);
        for step in &steps {
            let before = Budgets::of(&world);
            let accounts = Accounts::of(&world);
            world.perform(step);
            check(&world);
            accounts.check_later(&Accounts::of(&world));
            if !step.configures_time() {
                before.check_unchanged(&Budgets::of(&world));
            }
        }
    }

    #[test]
    fn the_fast_path_does_what_the_ordinary_one_does(
        steps in proptest::collection::vec(exchange_step(), 1..200),
    ) {
        let (ordinary, fast) = (World::new(Path::Ordinary), World::new(Path::Fast));
        for world in [&ordinary, &fast] {
            (0..3).for_each(|server| world.let_serve(server + 3, server, server));
        }
        // The fast path reads no time; as none passes, both charge the same.
        for step in &steps {
            for world in [&ordinary, &fast] {
                world.take_kick(step.cpu);
                world.perform(step);
            }
            check(&fast);
            prop_assert_eq!(snapshot(&ordinary), snapshot(&fast), "after {:?}", step);
        }
    }
}
