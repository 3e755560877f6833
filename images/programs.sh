#!/bin/sh
# programs.sh VERB NAME...: runs `cargo VERB` (build or clippy) for these programs of Tessera as
# they run there: no std, static, at a fixed address; a build copies them to out/bin. A name is a
# package, or PACKAGE/EXAMPLE. Root tasks have an entry of their own, and cargo unites the features
# of one run, so they get a run to themselves.
set -eu
verb=$1
shift
target=x86_64-unknown-linux-gnu
directory=${CARGO_TARGET_DIR:-target}/$target/release

# The manifest of package $1.
manifest() {
    for place in "$1" "servers/$1" "tests/programs/$1"; do
        [ ! -e "$place/Cargo.toml" ] || printf '%s' "$place/Cargo.toml"
    done
}

run() { # FEATURE NAME...
    entry=$1
    shift
    arguments=
    for name in "$@"; do
        case $name in
        */*) arguments="$arguments -p ${name%/*} --example ${name#*/} --features ${name%/*}/$entry" ;;
        *) arguments="$arguments -p $name --bin $name --features $name/tessera" ;;
        esac
    done
    # shellcheck disable=SC2086  # one word for each flag
    cargo "$verb" --release --config libcap/server.toml --target "$target" $arguments $flags
}

flags=
[ "$verb" = build ] || flags='-q -- -D warnings'
roots=
programs=
for name in "$@"; do
    if [ "$name" != "${name#*/}" ] || grep -q 'libcap/root-task' "$(manifest "$name")"; then
        roots="$roots $name"
    else
        programs="$programs $name"
    fi
done
# shellcheck disable=SC2086  # one word for each name
[ -z "$roots" ] || run root-task $roots
# shellcheck disable=SC2086
[ -z "$programs" ] || run runtime $programs
[ "$verb" = build ] || exit 0
mkdir -p out/bin
for name in "$@"; do
    case $name in
    */*) cp "$directory/examples/${name#*/}" out/bin/ ;;
    *) cp "$directory/$name" out/bin/ ;;
    esac
done
