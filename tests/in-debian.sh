#!/bin/sh
# Runs a script in a Debian system that is deleted afterwards:
#
#     tests/in-debian.sh [--systemd] BINARY SCRIPT [FILE...]
#
# The script sees a copy of target/debian-root (tools/debian-root.sh) as its root, has its own /proc
# and processes, this repository at /repo, and BINARY and every FILE below /given. With --systemd,
# systemd is booted there in a container, and the script runs as a service. Needs root.
set -eu

systemd=
if [ "${1-}" = --systemd ]; then
    systemd=yes
    shift
fi
if [ $# -lt 2 ]; then
    echo "usage: tests/in-debian.sh [--systemd] BINARY SCRIPT [FILE...]" >&2
    exit 2
fi
repo=$(cd "$(dirname "$0")/.." && pwd)
root=${RINOTIFYD_DEBIAN_ROOT:-$repo/target/debian-root}
path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

# The rest runs in new namespaces: no mount and no process outlives it.
if [ "${IN_DEBIAN-}" != inside ]; then
    top=$(mktemp -d)
    group=
    clean_up() {
        if [ -n "$group" ]; then
            # Removes control groups that a killed systemd has left, children first.
            find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || :
            umount "$top"
        fi
        rmdir "$top"
    }
    trap clean_up EXIT
    trap 'exit 1' HUP INT TERM
    if [ -n "$systemd" ]; then
        # systemd must not see control groups of this machine.
        mount -t cgroup2 cgroup2 "$top"
        group=$top/rinotifyd-test-$$
        mkdir "$group"
    fi
    export IN_DEBIAN=inside IN_DEBIAN_GROUP="$group"
    # shellcheck disable=SC2016
    sh -c '
        [ -z "$IN_DEBIAN_GROUP" ] || echo $$ >"$IN_DEBIAN_GROUP/cgroup.procs"
        exec unshare --mount --pid --cgroup --fork --kill-child "$@"
    ' sh sh "$0" ${systemd:+--systemd} "$@"
    exit
fi

binary=$1 script=$2
shift 2
mount --make-rprivate /
top=$(mktemp -d)
mount -t tmpfs tmpfs "$top"
new=$top/new
mkdir "$top/upper" "$top/work" "$new"
mount -t overlay overlay -o "lowerdir=$root,upperdir=$top/upper,workdir=$top/work" "$new"
mkdir "$new/repo" "$new/given"
cp "$binary" "$@" "$new/given"
mount --bind "$repo" "$new/repo"
mount -o remount,bind,ro "$new/repo"
mount -t proc proc "$new/proc"
mount -t tmpfs -o mode=0755 tmpfs "$new/run"
mount -t tmpfs -o mode=0755 tmpfs "$new/dev"
ln -s /proc/self/fd "$new/dev/fd"
mkdir "$new/dev/pts" "$new/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$new/dev/pts"
ln -s pts/ptmx "$new/dev/ptmx"
for device in null zero full random urandom tty; do
    : >"$new/dev/$device"
    mount --bind "/dev/$device" "$new/dev/$device"
done
if [ -z "$systemd" ]; then
    exec chroot "$new" env -i PATH=$path HOME=/root LC_ALL=C.UTF-8 sh "/repo/$script"
fi

mount -t sysfs -o ro sysfs "$new/sys"
mount -t cgroup2 cgroup2 "$new/sys/fs/cgroup"
# Its output comes through a pipe, because its standard output is a terminal.
mkfifo "$new/given/said"
cat >"$new/etc/systemd/system/in-debian.service" <<END
[Unit]
After=systemd-journald.service
[Service]
Type=oneshot
Environment=HOME=/root LC_ALL=C.UTF-8 PATH=$path
ExecStart=/bin/sh -c 'exec sh /repo/$script >/given/said 2>&1'
ExecStopPost=/bin/sh -c 'echo "\$EXIT_STATUS" >/given/status; exec systemctl --no-block exit "\$EXIT_STATUS"'
END
# The reader ignores SIGTERM, which systemd sends to all at the end: it ends when there is no more to read.
(trap '' TERM && exec cat "$new/given/said") &
# This waits until the reader has opened the pipe: behind pivot_root it would not find the name. The end for
# writing stays open until systemd sends SIGTERM, so that the reader does not end before the script writes.
exec 3>"$new/given/said"
sleep infinity >/dev/null 2>&1 &
exec 3>&-
# chroot is not enough: systemd makes mount namespaces, in which this must be the root.
mkdir "$new/given/old"
cd "$new"
pivot_root . given/old
umount -l given/old
exec chroot . env -i container=other PATH=$path \
    /lib/systemd/systemd --system --unit=in-debian.service --log-target=journal --show-status=false
