//! The console server: claims its devices and rings, and serves.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::future::poll_fn;
use core::pin::pin;
use core::task::Poll;

use console::native::{Interrupts, Wired, dimensions, wire};
use console::service::Service;
use console::switchboard::Switchboard;
use console::wiring::{log_channels, writer};
use libcap::Env;
use libcap::executor::{Executor, Reactor};
use libcap::kernel::time_stamp;
use proto::console::Console;

libcap::program!(main);

/// Bits of `wake`, as the manifest gives them: the UART, the keyboard, any ring.
const WAKE_SERIAL: u64 = 1 << 0;
const WAKE_KEYBOARD: u64 = 1 << 1;
const WAKE_RINGS: u64 = 1 << 3;
const WAKE_ALL: u64 = WAKE_SERIAL | WAKE_KEYBOARD | WAKE_RINGS;

fn main(mut env: Env) -> ! {
    let reactor = Reactor::new();
    let tsc_khz = env.tsc_khz();
    let microseconds = move || (u128::from(time_stamp()) * 1000 / u128::from(tsc_khz)) as u64;
    let ticks = move |us: u64| (u128::from(us) * u128::from(tsc_khz) / 1000) as u64;

    let channels = log_channels(env.region_names());
    let wired = wire(&mut env, &channels);
    let interrupts = Interrupts::claim(&mut env);
    let writers = channels.iter().map(|channel| writer(channel).into());
    let switchboard = Switchboard::new(&wired.terminals(), writers);
    let dimensions = dimensions(&wired);
    let service = Service::new(switchboard, wired, dimensions, microseconds);

    let devices = async {
        // An interrupt may have come before, or be left from a run that died.
        let mut bits = WAKE_ALL;
        loop {
            serve_devices(&service, interrupts, bits);
            let deadline = service.tick().map_or(u64::MAX, ticks);
            let woken = first(reactor.signals(WAKE_ALL), service.changed());
            bits = reactor.until(deadline, woken).await.flatten().unwrap_or(0);
        }
    };
    let mut executor = Executor::new(&reactor, env.events());
    executor
        .spawn(devices)
        .expect("a new executor has room for a task");
    executor.serve::<Console, _>(&service)
}

/// Serves what the bits of `wake` say. Interrupts are acknowledged first: an edge that comes on a masked
/// line is lost, one that comes while the device is served only makes another turn.
fn serve_devices<C: Fn() -> u64>(service: &Service<C, Wired>, interrupts: Interrupts, bits: u64) {
    service.serve(|switchboard, wired| {
        if bits & WAKE_SERIAL != 0 {
            interrupts.acknowledge_serial();
            wired.serial_interrupt(switchboard);
        }
        if bits & WAKE_KEYBOARD != 0 {
            interrupts.acknowledge_keyboard();
            wired.keyboard_interrupt(switchboard);
        }
    });
}

/// The bits that `signals` gives, or `None` when `changed` comes first.
async fn first(
    signals: impl Future<Output = u64>,
    changed: impl Future<Output = ()>,
) -> Option<u64> {
    let mut signals = pin!(signals);
    let mut changed = pin!(changed);
    poll_fn(|context| {
        if let Poll::Ready(bits) = signals.as_mut().poll(context) {
            return Poll::Ready(Some(bits));
        }
        changed.as_mut().poll(context).map(|()| None)
    })
    .await
}
