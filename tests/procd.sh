#!/bin/sh
# The init script for procd, with stand-ins for rc.common and procd: tests/procd.sh BINARY.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/procd.sh BINARY" >&2
    exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
. tests/common.sh

script=$scratch/rinotifyd
calls=$scratch/calls
config=$scratch/rinotifyd.conf
sed -e "s|^PROG=.*|PROG=$binary|" -e "s|^CONF=.*|CONF=$config|" -e "s|^PIDFILE=.*|PIDFILE=$scratch/pid|" \
    -e "s|/run/rinotifyd|$scratch/run|" \
    conf/procd/rinotifyd.init >"$script"
grep -q "^PROG=$binary$" "$script" && grep -q "^CONF=$config$" "$script"

# service ACTION: as /etc/rc.common runs the script, with each call to procd noted.
service() {
    : >"$calls"
    (
        note() { echo "$*" >>"$calls"; }
        logger() { note "logger $*"; }
        procd_open_instance() { note open "$@"; }
        procd_set_param() { note set "$@"; }
        procd_close_instance() { note close; }
        procd_send_signal() { note signal "$@"; }
        restart() { note "not its own restart"; }
        # shellcheck disable=SC1090
        . "$script"
        # With procd, rc.common has these of its own.
        start() {
            ! kill -0 "${daemon:-none}" 2>/dev/null || note "the old one runs"
            start_service "$@"
            note service
        }
        # procd sends the signal and does not wait.
        stop() {
            note stop
            [ ! -e "$scratch/pid" ] || kill "$(cat "$scratch/pid")"
        }
        reload() { reload_service "$@"; }
        case " start stop restart reload $EXTRA_COMMANDS " in
        *" $1 "*) "$@" ;;
        *) return 1 ;;
        esac
    )
}

called() {
    grep -qx -e "$*" "$calls"
}

# Nothing but the line for the log.
only_logged() {
    [ "$(wc -l <"$calls")" -eq 1 ] && grep -q '^logger .*has errors' "$calls"
}

fails() {
    ! "$@"
}

cp conf/rinotifyd.conf "$config"
check "start" service start
check "the command" called set command "$binary" -c "$config"
check "the log goes to logd" called set stderr 1
check "it is started again" called set respawn 60 2 5
check "time to end" called set term_timeout 300
check "one instance" test "$(grep -c -e '^open' -e '^close' -e '^service' "$calls")" -eq 3
check "a directory for the socket" test -d "$scratch/run"
check "restart" service restart
check "it stops and starts" test "$(grep -e '^stop$' -e '^service$' "$calls" | tr '\n' ' ')" = "stop service "
# Not a child of this shell: one that is not reaped would seem to run for ever.
# shellcheck disable=SC2016
daemon=$(sh -c '"$1" -c "$2" >/dev/null 2>&1 & echo $!' sh "$binary" "$config")
echo "$daemon" >"$scratch/pid"
check "restart with a daemon that runs" service restart
check "it waits for its end" test "$(grep -e '^stop$' -e runs -e '^service$' "$calls" | tr '\n' ' ')" = "stop service "
rm "$scratch/pid"
daemon=
check "reload" service reload
check "it sends HUP and nothing else" test "$(cat "$calls")" = "signal rinotifyd * HUP"
check "configtest" service configtest
check "an unknown command" fails service nonsense

echo "[nonsense]" >>"$config"
check "configtest finds an error" fails service configtest
# A service without an instance would end the daemon that runs.
for action in start restart reload; do
    check "$action refuses it" fails service $action
    check "and procd is not told" only_logged
done

finish procd.sh
