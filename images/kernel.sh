#!/bin/sh
# kernel.sh FEATURES FILE: builds the kernel with these features and copies it to FILE.
# The kernel's `core` comes from rustup's target if that is there ("native"), else it is built
# from Debian's rust-web-src by Debian's rustc ("debian"). Each way has its own directory, so
# that the two compilers never evict each other's results. Nothing is installed here.
set -eu
features=$1
file=$2
target=x86_64-unknown-none
host=$(rustc --print sysroot)
directory=${CARGO_TARGET_DIR:-target}

if ls "$host/lib/rustlib/$target/lib/"libcore-*.rlib >/dev/null 2>&1; then
    way=native
    set --
elif [ -x /usr/bin/rustc ] && [ -e /usr/lib/rustlib/src/rust/library/core/Cargo.toml ]; then
    way=debian
    # The crates forbid unstable features themselves, so this unlocks cargo's -Z flags only.
    export RUSTC=/usr/bin/rustc RUSTC_BOOTSTRAP=1
    linker=$host/lib/rustlib/x86_64-unknown-linux-gnu/bin/rust-lld
    [ -x "$linker" ] || linker=ld.lld
    export CARGO_TARGET_X86_64_UNKNOWN_NONE_LINKER="$linker"
    set -- -Zbuild-std=core,alloc -Zbuild-std-features=compiler-builtins-mem
else
    echo "kernel.sh: no target $target and no rustc-web with rust-web-src: run 'make setup'" >&2
    exit 1
fi
cargo build --release "$@" --target "$target" --target-dir "$directory/kernel-$way" \
    -p microkernel --bin microkernel --features "$features"
mkdir -p "$(dirname "$file")"
cp "$directory/kernel-$way/$target/release/microkernel" "$file"
