#!/bin/sh
# The Debian package: run by tests/in-debian.sh --systemd, with the package as /given/*.deb.
set -eu

cd /repo
. tests/common.sh
. tests/service.sh

deb=$(echo /given/*.deb)

pid() {
    systemctl show --value --property MainPID rinotifyd
}

is() {
    [ "$(systemctl "$1" rinotifyd 2>/dev/null || :)" = "$2" ]
}

# Files that the system makes for every unit or package do not count.
left_over() {
    find / -xdev \( -path /repo -o -path /proc -o -path /given -o -path /tmp -o -path /var/log \) -prune -o \
        -name '*rinotify*' -print
}

mkdir -p /srv/one
check "install" dpkg -i "$deb"
check "it is enabled" is is-enabled enabled
check "it runs" is is-active active
first=$(pid)
check "the configuration is valid" rinotifyd -t
check "the manual can be read" says 'run tasks when files' mandoc /usr/share/man/man8/rinotifyd.8.gz
check "its pages are those of the program" dpkg --verify rinotifyd
watching /srv/one
check "reload" systemctl reload rinotifyd
check "it takes what is dropped" takes /srv/one

# The same files under another version number.
mkdir /tmp/next
dpkg-deb -R "$deb" /tmp/next
sed -i 's/^Version: .*/&.1/' /tmp/next/DEBIAN/control
dpkg-deb -b /tmp/next /tmp/next.deb >/dev/null
check "upgrade" dpkg -i --force-confold /tmp/next.deb
check "it is another process" is_another_pid "$first"
check "the configuration is kept" grep -q /srv/one "$config"
check "it takes what is dropped again" takes /srv/one
second=$(pid)
echo "exlude_filter = x" >>"$config"
check "upgrade with a wrong configuration" says 'not restarted' dpkg -i --force-confold "$deb"
check "the old daemon is still running" is_pid "$second"

check "remove" dpkg -r rinotifyd
check "it does not run" is is-active inactive
check "the program is gone" test ! -e /usr/sbin/rinotifyd
check "the configuration is kept" test -e "$config"
check "install again" dpkg -i --force-confold "$deb"
check "it does not run with a wrong configuration" is is-active inactive
watching /srv/one
check "remove" dpkg -r rinotifyd
check "install" dpkg -i --force-confold "$deb"
check "it runs" is is-active active
check "purge" dpkg -P rinotifyd
check "it does not run" is is-active inactive
left_over >"$scratch/left"
check "nothing is left" test ! -s "$scratch/left"

[ "$failures" -eq 0 ] || { cat "$scratch/left" && journalctl --no-pager --unit rinotifyd | tail; }
finish deb.sh
