#!/bin/sh
# Makes a Debian system in which installations are tested: tools/debian-root.sh, result in target/debian-root.
#
# Needs root and debootstrap. The tests use copies of it and delete them; see tests/in-debian.sh.
set -eu
cd "$(dirname "$0")/.."

root=target/debian-root
[ ! -e $root ] || exit 0
mkdir -p target
rm -rf $root.new
debootstrap --variant=minbase --include=openrc,mandoc,systemd bookworm $root.new http://deb.debian.org/debian \
    >target/debian-root.log 2>&1 || {
    tail target/debian-root.log >&2
    echo "debian-root.sh: debootstrap failed, see target/debian-root.log" >&2
    exit 1
}
rm -rf $root.new/var/cache/apt/archives/*.deb
mv $root.new $root
