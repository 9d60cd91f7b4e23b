#!/bin/busybox ash
# A worker for rinotifyd, see WORKERS in rinotifyd.conf(5): reads tasks, answers each. For busybox ash and
# bash; the printf of dash does not know \xHH, which only names with control characters or other
# bytes than UTF-8 need.

# What is to be done with one file.
job() {
    event=$1 kind=$2 path=$3 src=$4
    echo "$event $kind $path $src" >&2
}

# Tab, newline, backslash and what is no text come escaped. The dot keeps a newline at the end.
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
