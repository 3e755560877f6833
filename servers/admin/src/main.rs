//! The operator's shell: claims its servers and the boot archive, and runs.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

use admin::machine::Machine;
use admin::random::Mixer;
use admin::shell::Shell;
use admin::vmadm::store::MemoryStore;
use libcap::kernel::time_stamp;
use libcap::{Endpoint, Env, log};
use proto::boot::Archive;
use proto::console::ConsoleClient;
use proto::root::RootClient;

libcap::program!(main);

/// The machine that Tessera runs on.
struct Tessera {
    root: RootClient<Endpoint>,
    console: ConsoleClient<Endpoint>,
    archive: Archive<'static>,
    vms: MemoryStore,
    mixer: Mixer,
}

impl Machine for Tessera {
    type Root = Endpoint;
    type Console = Endpoint;
    type Store = MemoryStore;

    fn root(&self) -> &RootClient<Endpoint> {
        &self.root
    }

    fn console(&self) -> &ConsoleClient<Endpoint> {
        &self.console
    }

    fn archive(&self) -> &Archive<'_> {
        &self.archive
    }

    fn vms(&mut self) -> &mut MemoryStore {
        &mut self.vms
    }

    fn random(&mut self) -> u128 {
        self.mixer.next(time_stamp())
    }
}

fn main(mut env: Env) -> ! {
    let archive = Archive::open(env.read_only("boot")).expect("root has read the archive");
    let machine = Tessera {
        root: RootClient::new(env.endpoint("root")),
        console: ConsoleClient::new(env.endpoint("console")),
        archive,
        vms: MemoryStore::default(),
        mixer: Mixer::new(time_stamp()),
    };
    log!("the shell starts");
    let mut shell = Shell::new(machine);
    shell.start();
    loop {
        if let Err(error) = shell.step() {
            panic!("the console breaks its protocol: {error}");
        }
    }
}
