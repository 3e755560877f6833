#!/bin/sh
# Installs what the build needs and this machine lacks, and says what that is. Works as root or
# with sudo, on Debian 12 with an ordinary rustup. Silent when nothing is missing.
set -eu

# A package, and a file by which it is known to be there.
packages='
gcc               /usr/bin/cc
libc6-dev         /usr/lib/x86_64-linux-gnu/crt1.o
qemu-system-x86   /usr/bin/qemu-system-x86_64
ovmf              /usr/share/OVMF/OVMF_CODE_4M.fd
seabios           /usr/share/seabios/bios.bin
grub-common       /usr/bin/grub-mkrescue
grub-pc-bin       /usr/lib/grub/i386-pc/multiboot2.mod
grub-efi-amd64-bin /usr/lib/grub/x86_64-efi/multiboot2.mod
xorriso           /usr/bin/xorriso
mtools            /usr/bin/mcopy
bochs             /usr/bin/bochs
bochsbios         /usr/share/bochs/BIOS-bochs-latest
vgabios           /usr/share/vgabios/vgabios.bin
busybox-static    /bin/busybox
cpio              /usr/bin/cpio
lld               /usr/bin/ld.lld
'
# The kernel's target, for a rustup that cannot fetch it: Debian's newest Rust, with its sources.
fallback='
rustc-web         /usr/bin/rustc
rust-web-src      /usr/lib/rustlib/src/rust/library/core/Cargo.toml
'
# The tools of OpenZFS, with which tests check the pools that they write; where they are missing, tests say so.
checkers='
zfsutils-linux    /usr/sbin/zdb
zfs-test          /usr/sbin/ztest
'
target=x86_64-unknown-none

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    elif command -v sudo >/dev/null; then
        sudo "$@"
    else
        echo "setup: not root, and there is no sudo: cannot run: $*" >&2
        return 1
    fi
}

# Names of the packages in $1 whose file is missing.
missing() {
    printf '%s\n' "$1" | while read -r package file; do
        [ -z "$package" ] || [ -e "$file" ] || printf '%s ' "$package"
    done
}

install() {
    echo "setup: installing Debian packages: $*"
    as_root apt-get update -q
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends "$@"
}

if ! command -v cargo >/dev/null; then
    echo "setup: cargo is missing: install Rust with rustup (https://rustup.rs)" >&2
    exit 1
fi
wanted=$(missing "$packages")
# shellcheck disable=SC2086  # one word for each package
[ -z "$wanted" ] || install $wanted

# They are in Debian's contrib, whose list of sources is added for them. Their kernel module is not wanted.
wanted=$(missing "$checkers")
if [ -n "$wanted" ]; then
    # A name that other packages mention is "shown" too; only what can be installed has a version.
    if [ -z "$(apt-cache madison zfsutils-linux 2>/dev/null)" ]; then
        # shellcheck source=/dev/null
        release=$(. /etc/os-release && echo "$VERSION_CODENAME")
        echo "deb http://deb.debian.org/debian $release contrib" |
            as_root tee /etc/apt/sources.list.d/debian-contrib.list >/dev/null
    fi
    # shellcheck disable=SC2086  # one word for each package
    install $wanted || echo "setup: without zdb: the pools that tests write are not checked by OpenZFS" >&2
fi

if ! ls "$(rustc --print sysroot)/lib/rustlib/$target/lib/"libcore-*.rlib >/dev/null 2>&1 &&
    [ -n "$(missing "$fallback")" ]; then
    echo "setup: adding the Rust target $target"
    if ! rustup target add "$target"; then
        echo "setup: rustup could not; using Debian's packages instead"
        # shellcheck disable=SC2046
        install $(missing "$fallback")
    fi
fi
