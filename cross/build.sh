#!/bin/sh
# Builds static programs without Docker: cross/build.sh [--small] [TARGET...]
#
#   cross/build.sh                                   x86_64 and aarch64
#   cross/build.sh aarch64-unknown-linux-musl        one of them
#   cross/build.sh --small                           with the standard library built for size (needs rust-src);
#                                                    panics then end the program without a word
#
# The program is target/TARGET/release/tetherlet, with --small target/small/TARGET/release/tetherlet.
# Needs rustup's targets and, for aarch64 on another machine, a C compiler for ring; as root on Debian both are
# installed when they are missing.
set -eu
cd "$(dirname "$0")/.."

small=no
if [ "${1:-}" = --small ]; then
    small=yes
    shift
fi
[ $# -gt 0 ] || set -- x86_64-unknown-linux-musl aarch64-unknown-linux-musl

# Installs Debian packages when the command or the file is missing; fails with their names where that cannot be done.
need() { # command-or-file package...
    wanted=$1
    shift
    have() { command -v "$wanted" >/dev/null 2>&1 || [ -e "$wanted" ]; }
    have && return
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
        apt-get install -y --no-install-recommends "$@" >/dev/null 2>&1 ||
            { apt-get update >/dev/null && apt-get install -y --no-install-recommends "$@" >/dev/null; }
    fi
    have || { echo "cross/build.sh: $wanted is missing; install $*" >&2; exit 1; }
}

for target in "$@"; do
    case $target in
    "$(uname -m)-unknown-linux-musl")
        compiler=gcc
        need gcc gcc libc6-dev
        ;;
    aarch64-unknown-linux-musl)
        compiler=aarch64-linux-gnu-gcc
        need "$compiler" gcc-aarch64-linux-gnu libc6-dev-arm64-cross
        need /usr/aarch64-linux-gnu/include/stdlib.h libc6-dev-arm64-cross
        ;;
    *)
        echo "cross/build.sh: no recipe for $target here; x86_64-unknown-linux-musl on such a machine and" \
            "aarch64-unknown-linux-musl have one" >&2
        exit 2
        ;;
    esac
    rustup target list --installed | grep -qx "$target" || rustup target add "$target" >/dev/null 2>&1

    # The toolchain's own linker: the same on every machine, folds equal functions, and packs relocations.
    flags="-Clink-arg=--icf=all -Clink-arg=-zpack-relative-relocs -Clink-arg=--no-eh-frame-hdr"
    flags="$flags -Clink-arg=-T$PWD/cross/no-unwind.ld"
    # No builder's folder in the program.
    flags="$flags --remap-path-prefix=$PWD=tetherlet --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
    upper=$(echo "$target" | tr 'a-z-' 'A-Z_')
    lower=$(echo "$target" | tr - _)
    set -- cargo build --locked --release --target "$target" ${CARGO_EXAMPLE:+--example "$CARGO_EXAMPLE"}
    if [ "$small" = yes ]; then
        rustup component list --installed | grep -q '^rust-src' || rustup component add rust-src >/dev/null 2>&1
        flags="$flags -Zunstable-options -Cpanic=immediate-abort"
        set -- "$@" --target-dir target/small -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
        export RUSTC_BOOTSTRAP=1
    fi
    env "CARGO_TARGET_${upper}_LINKER=rust-lld" "RUSTFLAGS=$flags" \
        "CC_$lower=$compiler" "AR_$lower=${compiler%gcc}ar" "$@"
done
