#!/bin/sh
# The unit under systemd: run by tests/in-debian.sh --systemd, with the program as
# /given/rinotifyd.
set -eu

cd /repo
. tests/common.sh
. tests/service.sh

dropin=/etc/systemd/system/rinotifyd.service.d/test.conf

pid() {
    systemctl show --value --property MainPID rinotifyd
}

shows() {
    [ "$(systemctl show --value --property "$1" rinotifyd)" = "$2" ]
}

log() {
    journalctl --no-pager --output cat --unit rinotifyd
}

# runs COMMAND: a task with this command runs.
runs() {
    cat >"$config" <<END
[scheduler try]
type = shell
cmd = { $1; } && touch /srv/did

[watch in]
path = /srv/in
default_sched = try
END
    rm -rf /srv/did /srv/in
    mkdir /srv/in
    # Otherwise systemd refuses starts that follow each other too fast.
    systemctl reset-failed rinotifyd
    systemctl restart rinotifyd
    : >/srv/in/file
    wait_until test -e /srv/did
}

# with LINE...: what an administrator adds to the unit.
with() {
    mkdir -p "${dropin%/*}"
    { echo "[Service]" && printf '%s\n' "$@"; } >"$dropin"
    systemctl daemon-reload
}

mkdir -p /srv/one /srv/two
BINARY=/given/rinotifyd INIT=systemd PREFIX=/usr tools/install.sh install >/dev/null
systemctl daemon-reload

echo "# $(systemctl --version | head -1)"
watching /srv/one
check "start" systemctl start rinotifyd
check "it is active when start returns" shows ActiveState active
echo content >/srv/one/first
check "and takes what is dropped" wait_until grep -qx /srv/one/first "$ran"
check "its log is in the journal" wait_until says ready log
check "the journal knows the levels" says ready journalctl --no-pager --unit rinotifyd --priority info..info
check "its status says something" fails shows StatusText ""
check "the directory of the socket" test "$(stat -c %a /run/rinotifyd)" = 755
check "its state is for itself" test "$(stat -c %a /var/lib/rinotifyd)" = 700
first=$(pid)

watching /srv/two
check "reload" systemctl reload rinotifyd
check "it takes what the new configuration says" takes /srv/two
echo "exlude_filter = x" >>"$config"
check "reload refuses a wrong configuration" fails systemctl reload rinotifyd
check "and the journal says why" says 'did you mean exclude_filter' log
check "a reload keeps the process" is_pid "$first"
check "and it works" takes /srv/two

kill -KILL "$first"
check "one that fails with a wrong configuration is not started for ever" \
    wait_until shows Result exit-code
check "it ended with the status for that" shows ExecMainStatus 2
watching /srv/two
check "start" systemctl start rinotifyd
second=$(pid)
kill -KILL "$second"
check "one that was killed is started again" wait_until is_another_pid "$second"
check "enable" systemctl enable rinotifyd

# What the sandbox allows, and how an administrator allows more.
check "commands write below /srv" runs "echo x >/srv/written"
check "and to /tmp" runs "echo x >/tmp/written"
check "they become other users" runs "su -s /bin/sh -c 'id -u' nobody | grep -qx 65534"
check "they change owners" runs "chown nobody /srv/written"
check "they write what belongs to others" runs "echo y >>/srv/written"
check "they signal other users' processes" runs "setpriv --reuid 65534 sleep 99 & sleep 0.2; kill \$!"
check "they get a better nice value" runs "nice -n -5 true"
check "they see /home" runs "ls /home"
check "they cannot write to /etc" runs "! touch /etc/written"
check "nor to /home" runs "! touch /home/written"
check "nor mount" runs "! mount -t tmpfs none /mnt"
check "and the journal says why" says 'Read-only file system' log
with ReadWritePaths=/home/anna
mkdir /home/anna
check "ReadWritePaths opens one" runs "touch /home/anna/written"
check "and no other" runs "! touch /home/written"

cat >"$config" <<END
[scheduler slow]
type = shell
cmd = touch /srv/began; sleep 1; touch /srv/ended

[watch in]
path = /srv/in
default_sched = slow
END
timeout 60 systemctl restart rinotifyd
: >/srv/in/slow
wait_until test -e /srv/began
check "stop" systemctl stop rinotifyd
check "a task that ran has finished" test -e /srv/ended
check "it ended well" shows Result success

with WatchdogSec=2
watching /srv/one
systemctl start rinotifyd
first=$(pid)
kill -STOP "$first"
check "one that hangs is started again" wait_until is_another_pid "$first"
systemctl stop rinotifyd
check "uninstall" env INIT=systemd PREFIX=/usr tools/install.sh uninstall

[ "$failures" -eq 0 ] || journalctl --no-pager --unit rinotifyd | tail -40
finish systemd.sh
