#!/bin/sh
# programs.sh VERB PROGRAM...: runs `cargo VERB` (build or clippy) for these programs of Tessera
# as they run there: no std, static, at a fixed address. The root task has an entry of its own,
# and cargo unites features in one run, so it gets a run to itself.
set -eu
verb=$1
shift
target=x86_64-unknown-linux-gnu

run() {
    packages=
    features=
    for program in "$@"; do
        packages="$packages -p $program"
        features="$features,$program/tessera"
    done
    # shellcheck disable=SC2086  # one word for each flag
    cargo "$verb" --release --config libcap/server.toml --target "$target" --bins $packages \
        --features "${features#,}" $flags
}

flags=
[ "$verb" = build ] || flags='-- -D warnings'
run root
run "$@"
if [ "$verb" = build ]; then
    mkdir -p out/bin
    for program in root "$@"; do
        cp "${CARGO_TARGET_DIR:-target}/$target/release/$program" out/bin/
    done
fi
