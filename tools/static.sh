#!/bin/sh
# Builds the static binary: tools/static.sh [TARGET], result in target/static/TARGET/rinotifyd.
#
# With the target installed (`rustup target add TARGET`) this is a plain cargo build. Otherwise std
# is built from its sources, as a distribution's toolchain has to; on Debian 12 that takes
#
#     apt-get install rustc-web rust-web-src musl-tools libunwind-14-dev lld
#
# The few crates that std needs itself come from the registry like all the others (Debian's sources
# hold copies, but cargo does not look there). To build without network, fetch once before, or vendor
# both lock files: cargo vendor --locked --sync LIBRARY/Cargo.toml, LIBRARY being the std sources.
#
# Another architecture needs its musl and libunwind unpacked somewhere, and a gcc for it; then
# RINOTIFYD_RUNNER=qemu-aarch64-static tests/smoke.sh tries the binary (qemu-user-static):
#
#     apt-get install gcc-aarch64-linux-gnu        # for armv7: gcc-arm-linux-gnueabihf
#     tools/sysroot.sh aarch64-unknown-linux-musl
#     tools/static.sh aarch64-unknown-linux-musl
#
# BUILD_STD=1 builds std even where the target is installed: for size it is a third smaller.
#
# Environment: CARGO, RUSTC, LINKER, MUSL_LIB (folder of musl's libc.a), UNWIND_LIB (folder of LLVM's
# libunwind.a) override what is found; RUSTFLAGS is added to.
set -eu

target=${1:-x86_64-unknown-linux-musl}
cargo=${CARGO:-cargo}
cd "$(dirname "$0")/.."
# A directory of its own: two compilers in one would rebuild everything at each change of hands.
build=${CARGO_TARGET_DIR:-target}/static-build
out=target/static/$target

die() {
    printf 'static.sh: %s\n' "$*" >&2
    exit 1
}

# first PATH...: prints the first that exists.
first() {
    for path; do
        [ ! -e "$path" ] || { printf '%s\n' "$path" && return; }
    done
}

has_std() {
    [ -n "$(first "$("$1" --print sysroot)/lib/rustlib/$target/lib"/libstd-*.rlib)" ]
}

has_std_source() {
    [ -d "$("$1" --print sysroot)/lib/rustlib/src/rust/library/std" ]
}

build_plain() {
    echo "static.sh: $target is installed, plain build"
    if [ "$target" != "$(uname -m)-unknown-linux-musl" ]; then
        # The target brings its own C library and start files, only a linker is wanting.
        name=CARGO_TARGET_$(printf %s "$target" | tr 'a-z-' 'A-Z_')_LINKER
        export "$name=${LINKER:-rust-lld}"
    fi
    "$cargo" build --release --locked --target "$target" --target-dir "$build"
}

build_std() {
    case $target in
    x86_64-unknown-linux-musl)
        arch=amd64 libs=x86_64-linux-musl gcc=gcc start=rcrt1.o extra=
        [ "$(uname -m)" = x86_64 ] || gcc=x86_64-linux-gnu-gcc
        ;;
    aarch64-unknown-linux-musl)
        # Links without PIE; libgcc has the arithmetic that musl leaves to the compiler.
        arch=arm64 libs=aarch64-linux-musl gcc=aarch64-linux-gnu-gcc start=crt1.o extra='-C link-arg=-lgcc'
        ;;
    armv7-unknown-linux-musleabihf)
        arch=armhf libs=arm-linux-musleabihf gcc=arm-linux-gnueabihf-gcc start=crt1.o extra='-C link-arg=-lgcc'
        ;;
    *) die "no recipe for $target: rustup target add $target" ;;
    esac

    rustc=
    for candidate in "${RUSTC:-rustc}" /usr/bin/rustc; do
        if command -v "$candidate" >/dev/null && has_std_source "$candidate"; then
            rustc=$candidate
            break
        fi
    done
    sysroot=target/sysroot/$arch
    linker=${LINKER:-$gcc}
    musl=${MUSL_LIB:-$(first "$sysroot/usr/lib/$libs" "/usr/lib/$libs")}
    unwind=$(first "${UNWIND_LIB:-$sysroot/usr/lib/llvm-14/lib}/libunwind.a")
    # LLVM's folder under /usr holds the libraries of one architecture, here the machine's own.
    [ "$gcc" != gcc ] || unwind=${unwind:-$(first /usr/lib/llvm-*/lib/libunwind.a)}

    missing=
    [ -n "$rustc" ] || missing="$missing rustc-web rust-web-src"
    command -v "$linker" >/dev/null || missing="$missing a-linker-$gcc"
    [ -e "$musl/libc.a" ] || missing="$missing musl-tools"
    [ -n "$unwind" ] || missing="$missing libunwind-14-dev"
    command -v ld.lld >/dev/null || missing="$missing lld"
    [ -z "$missing" ] || die "building std for $target (instead of rustup target add $target)" \
        "takes these packages, missing for $arch:$missing"
    musl=$(cd "$musl" && pwd)
    unwind=$(cd "$(dirname "$unwind")" && pwd)

    echo "static.sh: building std for $target with $rustc, $("$rustc" --version)"
    # The start files are named one by one: musl-gcc's specs know no static-pie. LLVM's libunwind,
    # since libgcc_eh.a wants glibc's _dl_find_object.
    flags="-C target-feature=+crt-static -C link-self-contained=no -C linker=$linker"
    # Small: nothing unwinds, since a panic aborts, so there are no tables for it (a tenth of the
    # binary); a panic says what is wrong but not where (a tenth too); equal pieces of functions are
    # one (outliner), and only tiny ones are inlined.
    flags="$flags -C force-unwind-tables=no -Z location-detail=none"
    # A gcc for another machine knows its own linker only, so these are not for all: equal functions
    # are one (ICF), and rare code is apart (static.ld).
    if [ "$gcc" = gcc ]; then
        flags="$flags -C link-arg=-fuse-ld=lld -C link-arg=-Wl,--icf=all -C link-arg=-Wl,-T,tools/static.ld"
    fi
    flags="$flags -C llvm-args=-enable-machine-outliner -C llvm-args=-inline-threshold=20"
    flags="$flags -C link-arg=-nostartfiles -L$musl -L$unwind"
    for file in $start crti.o libc.a crtn.o; do
        flags="$flags -C link-arg=$musl/$file"
    done
    RUSTC=$rustc RUSTC_BOOTSTRAP=1 RUSTFLAGS="${RUSTFLAGS:-} $flags $extra" \
        "$cargo" build --release --locked --target "$target" --target-dir "$build" \
        -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
}

# A distribution's cargo and rustc may be the only ones, or may not be there at all.
rustc_default=${RUSTC:-rustc}
if [ -z "${BUILD_STD:-}" ] && command -v "$rustc_default" >/dev/null && has_std "$rustc_default"; then
    build_plain
else
    build_std
fi

binary=$build/$target/release/rinotifyd
if readelf --program-headers "$binary" | grep -q INTERP; then
    die "$binary wants a dynamic linker, it is not static"
fi
mkdir -p "$out"
cp "$binary" "$out/rinotifyd"
echo "static.sh: $out/rinotifyd"
