//! What a program was given, claimed by name.
//!
//! Owns the start record after the start. Everything is claimed once: a second claim of a name,
//! a missing name and a name of the wrong kind are a broken contract between the manifest and the
//! program, and so a panic that says which.

use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Display;

use proto::start::{NamedCap, NamedRegion, StartInfo};
use sel4_sys::CPtr;
use serde::de::DeserializeOwned;

use crate::capability::{Capability, Endpoint, Notification, Reply, Timer};
use crate::executor::KernelEvents;
use crate::region::Region;
use crate::ring::RingPage;
use crate::ring::byte::{Consumer, Producer};

/// The program's environment. Main gets it and passes its parts on.
#[derive(Debug)]
pub struct Env {
    program: String,
    instance: u32,
    threads: u32,
    tsc_khz: u64,
    caps: Vec<NamedCap>,
    regions: Vec<NamedRegion>,
    args: Vec<u8>,
}

/// A pair of byte rings and the peer's bell.
#[derive(Debug)]
pub struct ByteChannel {
    /// To the peer.
    pub tx: Producer<'static>,
    /// From the peer.
    pub rx: Consumer<'static>,
    /// Signal it after writing to `tx` or making room in `rx`.
    pub wake: Notification,
}

impl Env {
    /// The environment that a start record describes.
    #[must_use]
    pub fn new(info: StartInfo) -> Self {
        Self {
            program: info.program,
            instance: info.instance,
            threads: info.threads,
            tsc_khz: info.tsc_khz,
            caps: info.caps,
            regions: info.regions,
            args: info.args,
        }
    }

    /// Name of the program in the manifest.
    #[must_use]
    pub fn program(&self) -> &str {
        &self.program
    }

    /// Which of the program's instances this is, from 0; a restart keeps the number.
    #[must_use]
    pub const fn instance(&self) -> u32 {
        self.instance
    }

    /// Number of threads, the main thread included.
    #[must_use]
    pub const fn threads(&self) -> u32 {
        self.threads
    }

    /// Ticks of the time-stamp counter in a millisecond.
    #[must_use]
    pub const fn tsc_khz(&self) -> u64 {
        self.tsc_khz
    }

    /// The arguments as bytes.
    #[must_use]
    pub fn args(&self) -> &[u8] {
        &self.args
    }

    /// The arguments as a value.
    ///
    /// # Panics
    /// If they are not exactly one such value.
    #[must_use]
    pub fn decode_args<T: DeserializeOwned>(&self) -> T {
        match postcard::take_from_bytes(&self.args) {
            Ok((value, [])) => value,
            Ok(_) | Err(_) => self.refuse("its arguments are not what it takes"),
        }
    }

    /// Ends the program: what it was given is not what it needs.
    fn refuse(&self, why: impl Display) -> ! {
        panic!("{} cannot start: {why}", self.program)
    }

    /// Claims a capability if the program was given one of that name.
    ///
    /// # Panics
    /// If it is of another kind.
    pub fn claim_optional<C: Capability>(&mut self, name: &str) -> Option<C> {
        let index = self.caps.iter().position(|cap| cap.name == name)?;
        let cap = self.caps.swap_remove(index);
        if cap.kind != C::KIND {
            self.refuse(format!("{name} is no {:?} but a {:?}", C::KIND, cap.kind));
        }
        Some(C::from_cptr(CPtr(cap.slot)))
    }

    /// Claims a capability.
    ///
    /// # Panics
    /// If the program was given none of that name, or it is of another kind.
    pub fn claim<C: Capability>(&mut self, name: &str) -> C {
        self.claim_optional(name)
            .unwrap_or_else(|| self.refuse(format!("it holds no {:?} {name}", C::KIND)))
    }

    /// Claims an endpoint: the way to a server.
    ///
    /// # Panics
    /// As [`Env::claim`].
    pub fn endpoint(&mut self, name: &str) -> Endpoint {
        self.claim(name)
    }

    /// Claims a notification.
    ///
    /// # Panics
    /// As [`Env::claim`].
    pub fn notification(&mut self, name: &str) -> Notification {
        self.claim(name)
    }

    /// Claims memory if the program was given any of that name.
    #[allow(unsafe_code, reason = "the start record is where regions come from")]
    pub fn region_optional(&mut self, name: &str) -> Option<Region> {
        let index = self.regions.iter().position(|region| region.name == name)?;
        let record = self.regions.swap_remove(index);
        // SAFETY: root wrote the record and mapped the region; the entry was taken out.
        unsafe { Region::from_record(&record) }
    }

    /// Claims memory.
    ///
    /// # Panics
    /// If the program was given none of that name.
    pub fn region(&mut self, name: &str) -> Region {
        self.region_optional(name)
            .unwrap_or_else(|| self.refuse(format!("it holds no memory {name}")))
    }

    /// Claims memory that nobody changes, like `boot`.
    ///
    /// # Panics
    /// As [`Env::region`], and if it is writable.
    pub fn read_only(&mut self, name: &str) -> &'static [u8] {
        self.region(name)
            .into_read_only()
            .unwrap_or_else(|| self.refuse(format!("its memory {name} is not read-only")))
    }

    /// Claims the page of a ring.
    ///
    /// # Panics
    /// As [`Env::region`], and if it cannot be a ring.
    pub fn ring_page(&mut self, name: &str) -> &'static RingPage {
        self.region(name)
            .into_ring_page()
            .unwrap_or_else(|| self.refuse(format!("its memory {name} cannot be a ring")))
    }

    /// Claims a byte channel: memory `<name>.tx` and `<name>.rx`, notification `<name>.wake`.
    ///
    /// # Panics
    /// As [`Env::ring_page`] and [`Env::notification`].
    pub fn byte_channel(&mut self, name: &str) -> ByteChannel {
        ByteChannel {
            tx: Producer::attach(self.ring_page(&format!("{name}.tx"))),
            rx: Consumer::attach(self.ring_page(&format!("{name}.rx"))),
            wake: self.notification(&format!("{name}.wake")),
        }
    }

    /// Names of the capabilities that were not claimed yet, for programs that are given a list.
    pub fn cap_names(&self) -> impl Iterator<Item = &str> {
        self.caps.iter().map(|cap| cap.name.as_str())
    }

    /// Names of the memory that was not claimed yet.
    pub fn region_names(&self) -> impl Iterator<Item = &str> {
        self.regions.iter().map(|region| region.name.as_str())
    }

    /// Claims what an event loop needs: `wake`, and if they are there `self`, `reply.0` and on,
    /// and `timer`.
    ///
    /// # Panics
    /// If there is no `wake`, or one of them is of another kind.
    pub fn events(&mut self) -> KernelEvents {
        let endpoint = self.claim_optional::<Endpoint>("self");
        let wake = self.notification("wake");
        let timer = self.claim_optional::<Timer>("timer");
        let mut replies = heapless::Vec::new();
        while !replies.is_full() {
            match self.claim_optional::<Reply>(&format!("reply.{}", replies.len())) {
                Some(reply) => replies.push(reply).expect("checked that it is not full"),
                None => break,
            }
        }
        if endpoint.is_some() && replies.is_empty() {
            self.refuse("it serves but holds no reply object");
        }
        KernelEvents::new(endpoint, wake, replies, timer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::executor::Events;
    use proto::start::CapKind;

    fn cap(name: &str, kind: CapKind, slot: u64) -> NamedCap {
        NamedCap {
            name: name.into(),
            kind,
            slot,
        }
    }

    fn env() -> Env {
        Env::new(StartInfo {
            program: "disk".into(),
            caps: vec![
                cap("root", CapKind::Endpoint, 20),
                cap("timer", CapKind::Timer, 21),
                cap("wake", CapKind::Notification, 22),
            ],
            args: vec![5],
            ..StartInfo::default()
        })
    }

    #[test]
    fn a_capability_is_claimed_by_name_once() {
        let mut env = env();
        assert_eq!(env.endpoint("root").cptr(), CPtr(20));
        assert_eq!(env.claim_optional::<Endpoint>("root"), None);
        assert!(env.cap_names().eq(["wake", "timer"]));
    }

    #[test]
    #[should_panic(expected = "disk cannot start: it holds no Endpoint console")]
    fn a_missing_capability_ends_the_program_with_its_name() {
        env().endpoint("console");
    }

    #[test]
    #[should_panic(expected = "root is no Notification but a Endpoint")]
    fn a_capability_of_another_kind_ends_the_program() {
        env().notification("root");
    }

    #[test]
    #[should_panic(expected = "it holds no memory boot")]
    fn missing_memory_ends_the_program() {
        env().read_only("boot");
    }

    #[test]
    #[should_panic(expected = "arguments")]
    fn arguments_with_a_rest_end_the_program() {
        let mut env = env();
        env.args.push(0);
        let _: u8 = env.decode_args();
    }

    #[test]
    fn arguments_are_decoded_as_a_whole() {
        assert_eq!(env().decode_args::<u8>(), 5);
    }

    #[test]
    fn an_event_loop_claims_its_reply_objects_in_order() {
        let mut env = env();
        env.caps.push(cap("self", CapKind::Endpoint, 30));
        for index in 0..3 {
            env.caps
                .push(cap(&format!("reply.{index}"), CapKind::Reply, 40 + index));
        }
        assert_eq!(env.events().replies(), 3);
        assert!(env.cap_names().eq(["root"]));
    }

    #[test]
    #[should_panic(expected = "it serves but holds no reply object")]
    fn a_server_without_reply_objects_cannot_start() {
        let mut env = env();
        env.caps.push(cap("self", CapKind::Endpoint, 30));
        env.events();
    }
}
