//! What the Makefile's verbs do: `images VERB`. Paths are relative to the workspace.

use images::lab::Qemu;
use images::{archive, bench, debian, graph, iso, manifest, tidy};
use std::path::Path;
use std::process::ExitCode;

const MANIFEST: &str = "images/system.toml";
const ISO: &str = "out/tessera.iso";
const BENCH_ISO: &str = "out/bench.iso";
/// What is under `/boot` beside Debian's files.
const BOOT_FILES: [&str; 5] = [
    "images/boot/debian.json",
    "images/boot/small.json",
    "images/boot/beat.json",
    "images/boot/hostile.json",
    "out/bin/small-guest",
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match words[..] {
        ["programs"] => programs(),
        ["iso"] => system_iso(),
        ["iso", root, image] => foreign_iso(Path::new(root), Path::new(image)),
        ["graph"] => draw_graph(),
        ["run"] => run(&Qemu::cdrom(Path::new(ISO))),
        ["lab"] => lab(),
        ["bench"] => measure(),
        ["tidy"] => tidy::check(Path::new(".")),
        _ => Err(
            "usage: images programs | iso [ROOT IMAGE] | graph | run | lab | bench | tidy"
                .to_owned(),
        ),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("images: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the packages of the manifest's programs.
fn programs() -> Result<(), String> {
    let manifest = manifest::read(Path::new(MANIFEST))?;
    let mut names: Vec<&str> = manifest
        .programs
        .iter()
        .filter_map(|program| program.image.strip_prefix("/bin/"))
        .collect();
    names.sort_unstable();
    names.dedup();
    println!("{}", names.join(" "));
    Ok(())
}

/// Builds `out/tessera.iso` from what was built before.
fn system_iso() -> Result<(), String> {
    pack(&BOOT_FILES, Vec::new(), "out/iso", ISO)
}

/// Builds `out/bench.iso`: the system with the guests that are measured.
fn bench_iso() -> Result<(), String> {
    let program = archive::read(Path::new("out/bin/guest-bench"))?;
    let files = [
        "images/boot/bench-exits.json",
        "images/boot/bench-start.json",
    ];
    let made = bench::guest_files(&program)?;
    pack(&files, made, "out/iso-bench", BENCH_ISO)
}

/// Packs the system with these files under `/boot`, and those that were `made`.
fn pack(
    boot_files: &[&str],
    made: Vec<(String, Vec<u8>)>,
    tree: &str,
    image: &str,
) -> Result<(), String> {
    let sources = archive::Sources {
        manifest: MANIFEST.into(),
        programs: "out/bin".into(),
        boot_files: boot_files.iter().map(Into::into).collect(),
        made,
        guest: Some(debian::guest(Path::new("out/cache"))?),
    };
    let bytes = archive::build(&sources)?;
    let path = format!("{tree}.archive");
    std::fs::write(&path, bytes).map_err(|error| format!("{path}: {error}"))?;
    let contents = iso::Contents {
        kernel: Path::new("out/kernel.elf"),
        root: Path::new("out/bin/root"),
        archive: Some(Path::new(&path)),
    };
    iso::build(&contents, Path::new(tree), Path::new(image))?;
    println!("images: {image}");
    Ok(())
}

/// Builds an image with another root task and the debug kernel.
fn foreign_iso(root: &Path, image: &Path) -> Result<(), String> {
    let contents = iso::Contents {
        kernel: Path::new("out/kernel-debug.elf"),
        root,
        archive: None,
    };
    iso::build(&contents, Path::new("out/iso-root"), image)?;
    println!("images: {}", image.display());
    Ok(())
}

fn draw_graph() -> Result<(), String> {
    let manifest = manifest::read(Path::new(MANIFEST))?;
    std::fs::create_dir_all("out").map_err(|error| format!("out: {error}"))?;
    let path = "out/graph.svg";
    std::fs::write(path, graph::draw(&manifest)).map_err(|error| format!("{path}: {error}"))?;
    println!("images: {path}");
    Ok(())
}

fn run(machine: &Qemu) -> Result<(), String> {
    println!("images: booting {ISO}; Ctrl-A X ends the machine");
    machine
        .run_here()
        .map(|_| ())
        .map_err(|error| error.to_string())
}

fn measure() -> Result<(), String> {
    bench_iso()?;
    bench::run(&bench::Subjects {
        kernel: Path::new("out/kernel.elf"),
        program: Path::new("out/bin/bench"),
        system: Path::new(BENCH_ISO),
        json: Path::new("out/bench.json"),
    })
}

fn lab() -> Result<(), String> {
    let machine = Qemu::cdrom(Path::new(ISO));
    if nested_kvm() {
        println!("images: the lab is KVM with nested virtualisation");
        return run(&machine.on_kvm());
    }
    println!("images: no nested KVM on this machine; the lab is QEMU's emulation of SVM");
    run(&machine)
}

/// Whether this machine has KVM, and lets a guest have virtualisation too.
fn nested_kvm() -> bool {
    let nested = ["kvm_intel", "kvm_amd"].iter().any(|module| {
        let path = format!("/sys/module/{module}/parameters/nested");
        std::fs::read_to_string(path).is_ok_and(|value| matches!(value.trim(), "1" | "Y"))
    });
    nested
        && std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/kvm")
            .is_ok()
}
