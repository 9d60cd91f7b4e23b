# Sourced, after common.sh, by the scripts that test the service in a separate Debian.
# shellcheck shell=sh disable=SC2154

config=/etc/rinotifyd/rinotifyd.conf
ran=/srv/ran

# watching DIRECTORY: a configuration that notes each file written there.
watching() {
    cat >"$config" <<END
[scheduler note]
type = shell
cmd = echo {pathname} >>$ran

[event_map written]
IN_CLOSE_WRITE = note

[watch in]
path = $1
event_map = written
END
}

# takes DIRECTORY: waits until a file that is written there is noticed.
takes() {
    rm -f "$ran"
    wait_until writes_and_finds "$1/file"
}

writes_and_finds() {
    echo content >"$1"
    sleep 0.1
    grep -qx "$1" "$ran"
}

# says TEXT COMMAND...: its output holds TEXT; its exit status does not matter.
says() {
    text=$1
    shift
    "$@" >"$scratch/said" 2>&1 || :
    grep -q -e "$text" "$scratch/said"
}

fails() {
    ! "$@"
}

is_pid() {
    [ "$(pid)" = "$1" ] && [ -d "/proc/$1" ]
}

is_another_pid() {
    now=$(pid)
    [ -n "$now" ] && [ "$now" != 0 ] && [ "$now" != "$1" ] && [ -d "/proc/$now" ]
}

runs_as() {
    [ "$(stat -c %U "/proc/$(pid)")" = "$1" ]
}

has_argument() {
    tr '\0' '\n' <"/proc/$(pid)/cmdline" | grep -qx -e "$1"
}

gone() {
    [ ! -e "/proc/$1" ]
}
