#!/bin/sh
# Builds the static binary: tools/static.sh [TARGET], result in target/static/TARGET/rinotifyd.
#
# With the target installed (`rustup target add TARGET`) this is a plain cargo build. Without it, and with
# BUILD_STD=1, cargo builds std from its sources too; on Debian 12 that takes
#
#     apt-get install rustc-web rust-web-src musl-tools libunwind-14-dev
#
# and for another machine its gcc (gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf) and tools/sysroot.sh TARGET.
# The crates that std needs come from the registry. To build without network, fetch once before, or vendor
# both lock files: cargo vendor --locked --sync LIBRARY/Cargo.toml, LIBRARY being the std sources.
set -eu

target=${1:-x86_64-unknown-linux-musl}
machine=${target%%-*}
cd "$(dirname "$0")/.."
# A directory of its own: two compilers in one would rebuild everything at each change of hands.
build=${CARGO_TARGET_DIR:-target}/static-build
# A panic aborts, so tables for unwinding are left out: with the std of rustup, the budget needs that.
flags="-C force-unwind-tables=no"

build_static() {
    RUSTFLAGS="${RUSTFLAGS:-} $flags" "${CARGO:-cargo}" build --release --locked --target "$target" \
        --target-dir "$build" "$@"
}

die() {
    echo "static.sh: $*" >&2 && exit 1
}

# The first of these that exists; the last, if none does.
first() {
    while [ $# -gt 1 ] && [ ! -e "$1" ]; do shift; done
    echo "$1"
}

if [ -z "${BUILD_STD:-}" ] && [ -d "$("${RUSTC:-rustc}" --print sysroot 2>&1)/lib/rustlib/$target/lib" ]; then
    # The target brings its own C library and start files; for another machine only a linker is missing.
    [ "$machine" = "$(uname -m)" ] || flags="$flags -C linker=rust-lld"
    build_static
else
    # Debian's gcc for the other two machines links no static-pie; their musl needs arithmetic from libgcc.
    case $machine in
    x86_64) debian=amd64 libs=x86_64-linux-musl gcc=x86_64-linux-gnu-gcc start=rcrt1.o extra= ;;
    aarch64) debian=arm64 libs=aarch64-linux-musl gcc=aarch64-linux-gnu-gcc start=crt1.o extra=-lgcc ;;
    armv7) debian=armhf libs=arm-linux-musleabihf gcc=arm-linux-gnueabihf-gcc start=crt1.o extra=-lgcc ;;
    *) die "no recipe for $target: rustup target add $target" ;;
    esac
    sysroot=$PWD/target/sysroot/$debian
    musl=$(first "$sysroot/usr/lib/$libs" "/usr/lib/$libs")
    unwind=$(first "$sysroot/usr/lib/llvm-14/lib" /usr/lib/llvm-*/lib)
    rustc=${RUSTC:-/usr/bin/rustc}
    for needed in "$("$rustc" --print sysroot)/lib/rustlib/src" "/usr/bin/$gcc" "$musl/libc.a" \
        "$unwind/libunwind.a"; do
        [ -e "$needed" ] || die "$target is not installed, and there is no $needed to build it with"
    done
    # The start files are named one by one: musl-gcc's specs know no static-pie. LLVM's libunwind, since
    # libgcc_eh.a wants glibc's _dl_find_object.
    flags="$flags -C target-feature=+crt-static -C link-self-contained=no -C linker=$gcc -L$musl -L$unwind"
    for argument in -nostartfiles "$musl/$start" "$musl/crti.o" "$musl/libc.a" "$musl/crtn.o" $extra; do
        flags="$flags -C link-arg=$argument"
    done
    export RUSTC="$rustc" RUSTC_BOOTSTRAP=1
    build_static -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size
fi

binary=$build/$target/release/rinotifyd
! readelf --program-headers "$binary" | grep -q INTERP || die "$binary wants a dynamic linker"
mkdir -p "target/static/$target"
cp "$binary" "target/static/$target/rinotifyd"
