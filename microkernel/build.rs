//! Hands the kernel's linker script to the linker, for the bare target only.

fn main() {
    let directory = env!("CARGO_MANIFEST_DIR");
    println!("cargo::rerun-if-changed={directory}/kernel.ld");
    if std::env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("none") {
        println!("cargo::rustc-link-arg-bins=-T{directory}/kernel.ld");
    }
}
