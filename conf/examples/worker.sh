#!/bin/busybox ash
# A worker for rinotifyd, see WORKERS in rinotifyd.conf(5). It reads tasks and answers each.
# It needs busybox ash or bash: the printf of dash does not know \xHH, which stands for control
# characters and for bytes that are not UTF-8.

# Does the work for one file.
job() {
    event=$1 kind=$2 path=$3 src=$4
    echo "$event $kind $path $src" >&2
}

# Decodes the escapes of a path. The dot at the end protects a newline at the end of the path.
decode() {
    printf '%b.' "$1"
}

while IFS="$(printf '\t')" read -r id event kind path src; do
    path=$(decode "$path") src=$(decode "$src")
    # The job must not read the tasks that follow, nor write among the answers: what it says is the error.
    if error=$(job "$event" "$kind" "${path%.}" "${src%.}" </dev/null); then
        echo "$id ok"
    else
        echo "$id error $(printf '%s' "$error" | tr '\n' ' ')"
    fi
done
