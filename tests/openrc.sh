#!/bin/sh
# The service under OpenRC: run by tests/in-debian.sh, with the program as /given/rinotifyd.
set -eu

cd /repo
. tests/common.sh
. tests/service.sh

service=/etc/init.d/rinotifyd

# The daemon's process id, which the supervisor notes.
pid() {
    cat /run/openrc/options/rinotifyd/child_pid
}

# supervised ARGUMENT: the parent is supervise-daemon, with this argument.
supervised() {
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$(pid)/status")
    tr '\0' '\n' <"/proc/$parent/cmdline" >"$scratch/said"
    grep -q '^supervise-daemon$' "$scratch/said" && grep -qx -e "$1" "$scratch/said"
}

mkdir -p /srv/one /srv/two
BINARY=/given/rinotifyd INIT=openrc SBINDIR=/usr/sbin tools/install.sh install >/dev/null
# As OpenRC does at boot.
mkdir -p /run/openrc
: >/run/openrc/softlevel
rc-status --all >/dev/null 2>&1

echo "# $(openrc --version)"
watching /srv/one
check "it is stopped at first" says 'status: stopped' $service status
check "start" $service start
check "status" says 'status: started' $service status
first=$(pid)
check "it runs under supervise-daemon" wait_until supervised --start
check "it takes what is dropped" takes /srv/one
check "its directory is there" test -d /run/rinotifyd
check "its state is for itself" test "$(stat -c %a /var/lib/rinotifyd)" = 700
check "configtest" $service configtest

watching /srv/two
check "reload" $service reload
check "it takes what the new configuration says" takes /srv/two
check "a reload keeps the process" is_pid "$first"

echo "exlude_filter = x" >>"$config"
check "configtest finds an error" fails $service configtest
check "and shows it" says 'did you mean exclude_filter' $service configtest
check "reload refuses it" fails $service reload
check "restart refuses it" fails $service restart
check "the old daemon is still running" is_pid "$first"
check "status says so" says 'status: started' $service status
check "and it works" takes /srv/two

cat >>/etc/conf.d/rinotifyd <<END
RINOTIFYD_USER="daemon:daemon"
RINOTIFYD_OPTS="-d"
SHUTDOWN_TIMEOUT="20"
END
watching /srv/one
chmod 0777 /srv
check "restart with a good configuration" $service restart
check "the first daemon is gone" gone "$first"
check "it is another process" wait_until is_another_pid "$first"
check "user of conf.d" wait_until runs_as daemon
check "options of conf.d" wait_until has_argument -d
check "timeout of conf.d" supervised SIGTERM/20/SIGKILL/5
check "directories of its user" test "$(stat -c %U:%G /run/rinotifyd)" = daemon:daemon
check "it takes what is dropped again" takes /srv/one

second=$(pid)
kill -KILL "$second"
check "the supervisor starts it again" wait_until is_another_pid "$second"
third=$(pid)
check "stop" $service stop
check "it is gone" gone "$third"
check "status says so" says 'status: stopped' $service status
echo "exlude_filter = x" >>"$config"
check "start refuses a wrong configuration" fails $service start

finish openrc.sh
