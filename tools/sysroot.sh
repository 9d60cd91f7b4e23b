#!/bin/sh
# Fetches what linking for another machine needs on Debian: tools/sysroot.sh TARGET. The result is in
# target/sysroot/ARCH, where tools/static.sh finds it.
#
# These are musl and LLVM's libunwind for that architecture, unpacked and not installed. apt uses folders below
# target/, so that the packages of this machine stay as they are. A gcc for the target must be installed:
# gcc-aarch64-linux-gnu, gcc-arm-linux-gnueabihf.
set -eu
cd "$(dirname "$0")/.."

case ${1-} in
aarch64-unknown-linux-musl) arch=arm64 ;;
armv7-unknown-linux-musleabihf) arch=armhf ;;
*) echo "usage: tools/sysroot.sh aarch64-unknown-linux-musl|armv7-unknown-linux-musleabihf" >&2 && exit 2 ;;
esac
sysroot=$PWD/target/sysroot/$arch
[ ! -e "$sysroot" ] || exit 0

apt=$PWD/target/apt/$arch
rm -rf "$apt" "$sysroot.new"
mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/parts" "$sysroot.new"
echo "deb http://deb.debian.org/debian bookworm main" >"$apt/sources.list"
apt_get() {
    apt-get -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" -o APT::Sandbox::User=root \
        -o Dir::State::lists="$apt/lists" -o Dir::State::status=/dev/null -o Dir::Cache="$apt/cache" \
        -o Dir::Etc::sourcelist="$apt/sources.list" -o Dir::Etc::sourceparts="$apt/parts" "$@"
}
apt_get update
(cd "$apt" && apt_get download musl-dev libunwind-14-dev)
for package in "$apt"/*.deb; do
    dpkg-deb -x "$package" "$sysroot.new"
done
rm -rf "$apt"
mv "$sysroot.new" "$sysroot"
