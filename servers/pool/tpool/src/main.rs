//! `tpool`: a pool in user space, on image files or block devices.
//!
//! The commands are those of zpool(8) and zfs(8), with the same words and columns, and a few for files. Each run
//! imports the pool, does one thing and leaves. Logic is in the `pool` library; this is arguments and print.

mod arguments;
mod change;
mod device;
mod failure;
mod files;
mod layout;
mod receive;
mod send;
mod table;
mod vdevs;
mod zfs;
mod zfs_change;
mod zpool;
mod zpool_change;

use std::process::ExitCode;

use arguments::Arguments;
use failure::Failure;
use pool::block_device::Access;
use pool::future::block_on;
use pool::spa::{Candidate, ImportOptions, Spa, import, scan};

const USAGE: &str = "usage: tpool --dev IMAGE [--dev IMAGE]... [--read-only] [--key DATASET=SECRET]... COMMAND

  zpool create [-o ashift=N] [-o compatibility=SET] [-O PROPERTY=VALUE]... POOL [mirror|raidz[1-3]] DEVICE... [log DEVICE...]
  zpool import | list [-Hp] | status [-v] | history | get [-Hp] PROPERTY[,...] | set PROPERTY=VALUE POOL | export POOL
  zpool add [-fn] POOL [mirror|raidz[1-3]] DEVICE... [log DEVICE...] | clear POOL [DEVICE] | trim POOL
  zpool scrub [-ps] POOL | attach POOL DEVICE NEW | detach POOL DEVICE | replace POOL DEVICE NEW | offline|online POOL DEVICE
  zfs create [-ps] [-o PROPERTY=VALUE]... [-V SIZE [-b SIZE]] DATASET | clone [-p] [-o PROPERTY=VALUE]... SNAPSHOT DATASET
  zfs snapshot [-r] [-o PROPERTY=VALUE]... DATASET@NAME... | destroy [-rdnv] NAME | rollback [-r] SNAPSHOT | promote DATASET
  zfs rename [-p] NAME NAME | bookmark SNAPSHOT BOOKMARK | hold [-r] TAG SNAPSHOT... | release [-r] TAG SNAPSHOT... | holds [-Hpr] SNAPSHOT...
  zfs set PROPERTY=VALUE... NAME... | inherit [-r] PROPERTY NAME...
  zfs send [-RpLecnvP] [-i|-I SNAPSHOT] SNAPSHOT | send [-nvP] -t TOKEN (to standard output)
  zfs receive [-Fnsv] [-d|-e] [-o PROPERTY=VALUE]... [-x PROPERTY]... NAME | receive -A NAME (from standard input)
  zfs list [-Hpr] [-t TYPES] [-o COLUMNS] [NAME]... | get [-Hpr] [-o FIELDS] PROPERTY[,...]|all [NAME]...
  ls [-l] DATASET[:PATH] | tree DATASET[:PATH] | cat DATASET:PATH | cp DATASET:PATH FILE
  cp FILE DATASET:PATH | mkdir DATASET:PATH | rm DATASET:PATH | rmdir DATASET:PATH
  manifest DATASET | volume size VOLUME | volume read VOLUME [OFFSET [LENGTH]] | volume write VOLUME [OFFSET]

manifest gives huge files that are nearly all holes as sparse:HASH, of their data and where they are.";

/// Bytes of blocks that one run caches.
const ARC_LIMIT: usize = 256 << 20;

fn main() -> ExitCode {
    match run(std::env::args().skip(1).collect()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Usage(reason)) => {
            eprintln!("tpool: {reason}\n{USAGE}");
            ExitCode::from(2)
        }
        // The reader of a pipe went away, which is how `| head` ends.
        Err(Failure::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            ExitCode::SUCCESS
        }
        Err(failure) => {
            eprintln!("tpool: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn run(words: Vec<String>) -> Result<(), Failure> {
    let arguments = Arguments::parse(words)?;
    let words: Vec<&str> = arguments.command.iter().map(String::as_str).collect();
    let (command, rest) = words
        .split_first()
        .map_or(("", &[][..]), |(command, rest)| (*command, rest));
    if (command, rest.first()) == ("zpool", Some(&"create")) {
        return change::create_pool(&arguments, &rest[1..]);
    }
    let changes = change::is_change(command, rest);
    let access = if changes {
        Access::ReadWrite
    } else {
        Access::ReadOnly
    };
    let pools = block_on(scan(device::open_all(&arguments.devices, access)?));
    if (command, rest.first()) == ("zpool", Some(&"import")) {
        return zpool::import(&pools);
    }
    let spa = open(&pools, access)?;
    if changes {
        if arguments.access == Access::ReadOnly {
            return Err(Failure::Usage(format!(
                "'{command}' changes the pool, which --read-only forbids"
            )));
        }
        if command == "zpool" && vdevs::COMMANDS.contains(rest.first().unwrap_or(&"")) {
            return vdevs::run(spa, &arguments, rest);
        }
        return change::run(&spa, command, rest);
    }
    match command {
        "zpool" => zpool::run(&spa, rest),
        "zfs" if rest.first() == Some(&"send") => send::run(&spa, &arguments.keys, &rest[1..]),
        "zfs" => zfs::run(&spa, rest),
        "ls" | "tree" | "cat" | "cp" | "manifest" | "volume" => {
            files::run(&spa, &arguments.keys, command, rest)
        }
        "" => Err(Failure::Usage("a command is missing".into())),
        other => Err(Failure::Usage(format!("no command is called '{other}'"))),
    }
}

fn open(pools: &[Candidate], access: Access) -> Result<Spa, Failure> {
    match pools {
        [] => Err(Failure::Told("no pool on these devices".into())),
        [pool] => {
            let options = ImportOptions {
                access,
                arc_limit: ARC_LIMIT,
                now: change::now()[0],
            };
            block_on(import(pool, options))
                .map_err(|reason| Failure::Import(pool.name.clone(), reason))
        }
        many => {
            let names: Vec<&str> = many.iter().map(|pool| pool.name.as_str()).collect();
            Err(Failure::Told(format!(
                "the devices hold several pools: {}",
                names.join(", ")
            )))
        }
    }
}
