#!/bin/sh
# Tries a binary from the outside: tests/smoke.sh BINARY.
#
# With RINOTIFYD_REQUIRE_STATIC in the environment it also has to be statically linked. RINOTIFYD_RUNNER
# runs the binary of another machine, such as qemu-aarch64-static.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/smoke.sh BINARY" >&2
    exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
. tests/common.sh

file=$binary
if [ -n "${RINOTIFYD_RUNNER:-}" ]; then
    binary=$scratch/rinotifyd
    # It is called by another name too, and goes by that.
    printf '#!/bin/sh\nexec %s -0 "$0" %s "$@"\n' "$RINOTIFYD_RUNNER" "'$file'" >"$binary"
    chmod +x "$binary"
fi

says() {
    text=$1
    shift
    "$@" 2>&1 | grep -q -e "$text"
}

lists_all_events() {
    [ "$("$binary" -l | grep -c 'IN_[A-Z_]*')" -eq 15 ]
}

is_static() {
    # A dynamic linker is named in the INTERP header; a file that is no program has no headers.
    headers=$(readelf --program-headers "$file") &&
        case $headers in *LOAD*) ;; *) false ;; esac &&
        case $headers in *INTERP*) false ;; esac
}

ran_with() {
    [ "$(cat "$scratch/ran")" = "$1" ]
}

# refuses ARGUMENT...: with the exit status for usage and configuration errors.
refuses() {
    status=0
    "$binary" "$@" || status=$?
    [ "$status" -eq 2 ]
}

if [ -n "${RINOTIFYD_REQUIRE_STATIC:-}" ]; then
    check "statically linked" is_static
fi
check "a panic says file and line" grep -q 'src/shell/[a-z]*\.rs' "$file"
check "-v names itself" says '^rinotifyd [0-9]' "$binary" -v
check "-h names the options" says '-c' "$binary" -h
check "-l lists 15 events" lists_all_events
check "-t accepts conf/rinotifyd.conf" "$binary" -c conf/rinotifyd.conf -t
check "an unknown option is exit status 2" refuses --no-such-option
echo "[no_such_section]" >"$scratch/wrong.conf"
check "-t refuses a wrong configuration" refuses -c "$scratch/wrong.conf" -t

mkdir "$scratch/src"
cat >"$scratch/rinotifyd.conf" <<EOF
[daemon]
control = $scratch/control.sock

[scheduler note]
type = shell
cmd = printf '%s %s\n' {maskname} {pathname} >>$scratch/ran

[event_map all]
IN_CLOSE_WRITE = note

[watch src]
path = $scratch/src
event_map = all
EOF
start "$binary" "$scratch/rinotifyd.conf"
echo content >"$scratch/src/a file"
check "a dropped file runs the command" wait_until ran_with "IN_CLOSE_WRITE $scratch/src/a file"
ln -s "$binary" "$scratch/rinotifyctl"
check "rinotifyctl tells how it is" says '^tasks done  *1$' "$scratch/rinotifyctl" -s "$scratch/control.sock" status
check "TERM ends it with 0" stop

finish smoke.sh
