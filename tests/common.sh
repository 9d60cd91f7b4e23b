# Sourced by smoke.sh and demo.sh: a scratch directory, one daemon in it, and checks that are counted.
# shellcheck shell=sh

daemon=
failures=0
scratch=$(mktemp -d "${TMPDIR:-/tmp}/rinotifyd.XXXXXX")
log=$scratch/log

# Ends only processes that were started here.
clean_up() {
    [ -z "$daemon" ] || kill -KILL "$daemon" 2>/dev/null || :
    rm -rf "$scratch"
}
trap clean_up EXIT
trap 'exit 1' HUP INT TERM

# check WHAT COMMAND...: prints one line, and counts a failure.
check() {
    what=$1
    shift
    if "$@" >/dev/null 2>&1; then
        echo "ok    $what"
    else
        echo "FAIL  $what"
        failures=$((failures + 1))
    fi
}

# wait_until COMMAND...: until it succeeds, or fails itself after 20 seconds.
wait_until() {
    tries=200
    until "$@" >/dev/null 2>&1; do
        tries=$((tries - 1))
        [ "$tries" -gt 0 ] || return 1
        sleep 0.1
    done
}

# start BINARY CONFIG: the daemon, in the scratch directory, until it is ready.
start() {
    (cd "$scratch" && exec "$1" -c "$2") </dev/null >/dev/null 2>"$log" &
    daemon=$!
    wait_until is_ready_or_gone
    if ! is_ready; then
        echo "the daemon does not become ready:"
        cat "$log"
        exit 1
    fi
}

is_ready() {
    grep -qw ready "$log"
}

is_ready_or_gone() {
    is_ready || is_gone
}

# A process that ended and was not waited for still exists, as a zombie.
is_gone() {
    ! grep -q '^State:[[:space:]]*[^ZX[:space:]]' "/proc/$daemon/status"
}

# stop: TERM, and the daemon's exit status.
stop() {
    kill -TERM "$daemon" || return
    wait_until is_gone || return
    stopped=$daemon
    daemon=
    wait "$stopped"
}

# finish NAME: the last line, and the exit status.
finish() {
    if [ "$failures" -gt 0 ]; then
        [ ! -s "$log" ] || sed 's/^/log:  /' "$log"
        echo "$1: $failures failed"
        exit 1
    fi
    echo "$1: everything passed"
}
