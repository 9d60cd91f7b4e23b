#!/bin/sh
# Runs a script in a Debian that is thrown away afterwards: tests/in-debian.sh BINARY SCRIPT [FILE].
#
# The script sees a copy of target/debian-root (tools/debian-root.sh) as its root, has its own /proc
# and processes, this repository at /repo, and BINARY and FILE below /given. It takes root.
set -eu

[ $# -ge 2 ] || {
    echo "usage: tests/in-debian.sh BINARY SCRIPT [FILE]" >&2
    exit 2
}
repo=$(cd "$(dirname "$0")/.." && pwd)
root=${RINOTIFYD_DEBIAN_ROOT:-$repo/target/debian-root}
# shellcheck disable=SC2016
inside='
    repo=$1 root=$2 top=$3 script=$4
    shift 4
    mount --make-rprivate /
    mount -t tmpfs tmpfs "$top"
    mkdir "$top/upper" "$top/work" "$top/new"
    mount -t overlay overlay -o "lowerdir=$root,upperdir=$top/upper,workdir=$top/work" "$top/new"
    new=$top/new
    mkdir -p "$new/repo" "$new/given"
    cp "$@" "$new/given"
    mount --bind "$repo" "$new/repo"
    mount -o remount,bind,ro "$new/repo"
    mount -t proc proc "$new/proc"
    mount -t tmpfs -o mode=0755 tmpfs "$new/run"
    mount --rbind /dev "$new/dev"
    exec chroot "$new" env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
        HOME=/root LC_ALL=C.UTF-8 sh "/repo/$script"
'
top=$(mktemp -d)
trap 'rmdir "$top"' EXIT
trap 'exit 1' HUP INT TERM
script=$2
binary=$1
shift 2
unshare --mount --pid --fork --kill-child sh -euc "$inside" sh "$repo" "$root" "$top" "$script" "$binary" "$@"
