#!/bin/sh
# programs.sh VERB NAME...: runs `cargo VERB` (build or clippy) for these programs of Tessera as
# they run there: no std, static, at a fixed address; a build copies them to out/bin. A name is a
# package, or PACKAGE/EXAMPLE. Root tasks have an entry of their own, and cargo unites the features
# of one run, so they get a run to themselves. A package with a link.toml of its own beside its
# manifest is linked by that one: it is no program of Tessera's.
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

run() { # CONFIGURATION FEATURE NAME...
    configuration=$1
    entry=$2
    shift 2
    arguments=
    for name in "$@"; do
        case $name in
        */*) arguments="$arguments -p ${name%/*} --example ${name#*/} --features ${name%/*}/$entry" ;;
        *) arguments="$arguments -p $name --bin $name --features $name/tessera" ;;
        esac
    done
    # shellcheck disable=SC2086  # one word for each flag
    cargo "$verb" --release --config "$configuration" --target "$target" $arguments $flags
}

flags=
[ "$verb" = build ] || flags='-q -- -D warnings'
roots=
programs=
for name in "$@"; do
    own="tests/programs/$name/link.toml"
    if [ -e "$own" ]; then
        run "$own" none "$name"
    elif [ "$name" != "${name#*/}" ] || grep -q 'libcap/root-task' "$(manifest "$name")"; then
        roots="$roots $name"
    else
        programs="$programs $name"
    fi
done
# shellcheck disable=SC2086  # one word for each name
[ -z "$roots" ] || run libcap/server.toml root-task $roots
# shellcheck disable=SC2086
[ -z "$programs" ] || run libcap/server.toml runtime $programs
[ "$verb" = build ] || exit 0
mkdir -p out/bin
for name in "$@"; do
    case $name in
    */*) cp "$directory/examples/${name#*/}" out/bin/ ;;
    *) cp "$directory/$name" out/bin/ ;;
    esac
done
