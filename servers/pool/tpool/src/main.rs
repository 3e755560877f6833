//! `tpool`: a pool in user space, on image files or block devices.
//!
//! The commands are those of zpool(8) and zfs(8), with the same words and columns, and a few for files. Each run
//! imports the pool, does one thing and leaves. Logic is in the `pool` library; this is arguments and print.

mod arguments;
mod device;
mod failure;
mod files;
mod table;
mod zfs;
mod zpool;

use std::process::ExitCode;

use arguments::Arguments;
use failure::Failure;
use pool::block_device::Access;
use pool::future::block_on;
use pool::spa::{Candidate, ImportOptions, Spa, import, scan};

const USAGE: &str = "usage: tpool --dev IMAGE [--dev IMAGE]... [--read-only] [--key DATASET=SECRET]... COMMAND

  zpool import | list [-Hp] | status | get [-Hp] PROPERTY[,...]
  zfs list [-Hpr] [-t TYPES] [-o COLUMNS] [NAME]... | get [-Hpr] [-o FIELDS] PROPERTY[,...]|all [NAME]...
  ls [-l] DATASET[:PATH] | tree DATASET[:PATH] | cat DATASET:PATH | cp DATASET:PATH FILE
  manifest DATASET | volume size VOLUME | volume read VOLUME [OFFSET [LENGTH]]";

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
    let devices = device::open_all(&arguments.devices, Access::ReadOnly)?;
    let pools = block_on(scan(devices));
    let mut words = arguments.command.iter().map(String::as_str);
    let (command, rest) = (words.next().unwrap_or_default(), words.collect::<Vec<_>>());
    if (command, rest.first()) == ("zpool", Some(&"import")) {
        return zpool::import(&pools);
    }
    let spa = open(&pools)?;
    match command {
        "zpool" => zpool::run(&spa, &rest),
        "zfs" => zfs::run(&spa, &rest),
        "ls" | "tree" | "cat" | "cp" | "manifest" | "volume" => {
            files::run(&spa, &arguments.keys, command, &rest)
        }
        "" => Err(Failure::Usage("a command is missing".into())),
        other => Err(Failure::Usage(format!("no command is called '{other}'"))),
    }
}

fn open(pools: &[Candidate]) -> Result<Spa, Failure> {
    match pools {
        [] => Err(Failure::Told("no pool on these devices".into())),
        [pool] => {
            let options = ImportOptions {
                access: Access::ReadOnly,
                arc_limit: ARC_LIMIT,
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
