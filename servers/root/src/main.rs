//! The root task: takes the machine over, starts the system, and serves it.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use core::fmt::Write;
use core::future::Future;
use core::pin::pin;
use core::task::{Context, Poll, Waker};
use libcap::kernel::time_stamp;
use libcap::runtime::BootEnv;
use proto::message::{Message, reply_label};
use proto::protocol::{Caller, dispatch};
use proto::root::{Root, RootError};
use root::badge::{self, Sender};
use root::boot::{self, Booted};
use root::clock::Clock;
use root::service::{Power, Service};
use root::{death, power};

libcap::root_task!(main, heap_bytes = 2 << 20);

fn main(env: BootEnv) -> ! {
    let mut serial = boot::first_words(env.boot_info);
    match boot::boot(env.boot_info, env.extra, serial) {
        Ok(booted) => serve(booted),
        Err(error) => {
            if let Some(serial) = &mut serial {
                // The last thing that can be said; there is nobody to tell that it failed.
                let _ = write!(serial, "root: cannot start the system: {error:?}\r\n");
            }
            panic!("cannot start the system: {error:?}")
        }
    }
}

fn serve(booted: Booted) -> ! {
    let Booted {
        mut supervisor,
        endpoint,
        reply,
        timer,
        alone,
    } = booted;
    let clock = Clock::new(time_stamp(), supervisor.machine.tsc_khz);
    let now_us = move || clock.microseconds(time_stamp());
    let (machine, memory) = (
        &supervisor.machine,
        supervisor.resources.memory.free() >> 20,
    );
    let (cpus, virtualisation) = (machine.cpus, machine.virtualisation);
    supervisor.say(format_args!(
        "{cpus} CPUs, {memory} MiB free, virtualisation {virtualisation:?}"
    ));
    supervisor.start_at_boot(now_us());
    let service = Service::new(supervisor, now_us);
    let mut answer: Option<Message> = None;
    loop {
        alone.set(service.supervisor.borrow().is_alone());
        if let Some(due_us) = service.supervisor.borrow().next_due_us() {
            timer
                .arm(clock.stamp(due_us))
                .expect("the timer was bound at the start");
        }
        let received = match answer.take() {
            Some(message) => endpoint.reply_receive(reply, &message),
            None => endpoint.receive(reply),
        };
        match badge::sender(received.badge()) {
            Sender::Client { .. } => {
                let caller = Caller::from_badge(received.badge());
                answer = Some(match received.message() {
                    Ok(message) => at_once(dispatch::<Root, _>(&service, caller, &message)),
                    Err(_) => Message::empty(reply_label::MALFORMED),
                });
            }
            Sender::Faulter { pid, thread } => {
                let death = death::read(received.info().label(), |index| received.word(index));
                service
                    .supervisor
                    .borrow_mut()
                    .faulted(pid, thread, death, service.now_us());
            }
            Sender::Signal(_) => service.supervisor.borrow_mut().tick(service.now_us()),
        }
        if let Some(wanted) = service.power() {
            let mut supervisor = service.supervisor.borrow_mut();
            match wanted {
                Power::Reset => power::reset(&mut supervisor),
                Power::Off => power::off(&mut supervisor),
            }
            let refusal = Message::encode(reply_label::SERVER_ERROR, &RootError::Unsupported);
            answer = refusal.ok();
        }
    }
}

/// The value of a future that never waits, as root's are.
fn at_once<T>(future: impl Future<Output = T>) -> T {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("root's requests do not wait"),
    }
}
