//! Many timers at once.

use microkernel::arch::host::MACHINE;
use microkernel::cap::{Cap, NotificationCap, Rights};
use microkernel::object::{Notification, Timer};
use microkernel::store::Ref;

use crate::world::{World, object};

const TIMERS: usize = 1000;
/// More than one kernel entry may take.
const MOST_AT_ONCE: usize = 100;
const DEADLINE: u64 = 5000;

fn make_timers(world: &World) -> Vec<(Ref<Timer>, Ref<Notification>)> {
    let pairs = (0..TIMERS).map(|_| {
        let (timer, notification): (Ref<Timer>, Ref<Notification>) = (object(), object());
        timer.slot().set_cap(Cap::Notification(NotificationCap {
            notification,
            badge: 1,
            rights: Rights::ALL,
        }));
        world.kernel.arm_timer(timer, DEADLINE);
        (timer, notification)
    });
    pairs.collect()
}

/// A timer interrupt at `DEADLINE`; whether another one will come at once.
fn interrupt(world: &World) -> bool {
    MACHINE.with(|m| m.now.set(DEADLINE));
    world.kernel.enter();
    world.kernel.handle_timer_interrupt();
    world.kernel.leave();
    MACHINE.with(|m| m.deadline.get()) <= DEADLINE
}

#[test]
fn an_interrupt_does_not_last_as_long_as_there_are_timers_and_none_is_forgotten() {
    let world = World::new();
    let pairs = make_timers(&world);
    let fired = || pairs.iter().filter(|(_, n)| n.active.get()).count();
    let mut before = 0;
    while interrupt(&world) {
        assert!((1..=MOST_AT_ONCE).contains(&(fired() - before)));
        before = fired();
    }
    assert_eq!(fired(), TIMERS);
    assert!(pairs.iter().all(|(timer, _)| !timer.armed.get()));
}
