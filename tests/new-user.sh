#!/bin/sh
# From the installation to a working watch, with what the manual and the installation say and nothing
# else: run by tests/in-debian.sh --systemd, with the program as /given/rinotifyd.
set -eu

cd /repo
. tests/common.sh
. tests/service.sh

# The recipe of the installed manual, as it is read on a terminal.
recipe() {
    mandoc -T ascii /usr/local/share/man/man7/rinotifyd-cookbook.7* | sed 's/.\x08//g' |
        sed -n "/^   $1/,/^   [A-Z]/p" | sed -n '/^ *\[/,$p' | sed '$d' | sed 's/^           \{0,1\}//'
}

# With the program alone, or from the sources.
check "make install says the same" test \
    "$(BINARY=/given/rinotifyd INIT=systemd tools/install.sh install | tail -n 3)" = \
    "$(/given/rinotifyd --install | tail -n 3)"
rinotifyd --uninstall >/dev/null

# Of the lines that an installation ends with, the last says how to start the service.
start_as_told() {
    sh -c "$(tail -n 1 "$1")"
}

check "install" /given/rinotifyd --install
/given/rinotifyd --install >"$scratch/told"
check "the manual can be read" says 'what rinotifyd watches' mandoc /usr/local/share/man/man5/rinotifyd.conf.5.gz
recipe "Camera uploads by date" | sed 's/^delay = .*/delay = 1/' >"$config"
check "the configuration is valid" rinotifyd -t
mkdir -p /srv/camera
check "it explains what it would do" says '/srv/photos/2024/01/IMG_20240131_120000.jpg' \
    rinotifyd -e IN_CLOSE_WRITE:/srv/camera/anna/IMG_20240131_120000.jpg
check "start" start_as_told "$scratch/told"
check "the client shows the watch" says /srv/camera rinotifyctl watches
mkdir /srv/camera/anna
echo picture >/srv/camera/anna/IMG_20240131_120000.jpg
echo picture >/srv/camera/anna/cat.jpg
check "a picture is sorted" wait_until test -e /srv/photos/2024/01/IMG_20240131_120000.jpg
check "and one without a date" wait_until test -e /srv/photos/unsorted/cat.jpg
check "the log says what was done" says IMG_20240131_120000.jpg journalctl --no-pager --unit rinotifyd
rinotifyd --uninstall >"$scratch/told"
check "uninstall" test ! -e /usr/local/sbin/rinotifyd
check "what it says ends the daemon" sh -c "$(sed -n 's/^if it still runs: //p' "$scratch/told")"
check "it is gone" fails systemctl is-active rinotifyd
check "what was written is kept" test -s "$config"

[ "$failures" -eq 0 ] || { cat "$config" && journalctl --no-pager --unit rinotifyd | tail; }
finish new-user.sh
