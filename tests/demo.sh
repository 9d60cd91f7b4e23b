#!/bin/sh
# Shows what the daemon does, and checks that it did: tests/demo.sh BINARY.
#
# The configuration is conf/examples/shell-command.conf and file-rules.conf with the paths replaced and
# a delay of 1 s, and a third watch with a delay and a cancelling event.
set -eu

if [ $# -ne 1 ] || [ ! -x "$1" ]; then
    echo "usage: tests/demo.sh BINARY" >&2
    exit 2
fi
binary=$(cd "$(dirname "$1")" && pwd)/$(basename "$1")
cd "$(dirname "$0")/.."
. tests/common.sh

# The commands note what they get: event, path, and what the file held when they ran.
mkdir "$scratch/src" "$scratch/quiet" "$scratch/rules"
: >"$scratch/ran"
cat >"$scratch/task.sh" <<EOF
#!/bin/sh
printf '%s %s: %s\n' "\$1" "\$2" "\$(cat "\$2")" >>$scratch/ran
EOF
chmod +x "$scratch/task.sh"

config=$scratch/rinotifyd.conf
sed -e "s|/usr/local/sbin/task\.sh|$scratch/task.sh|g" -e "s|/src_path|$scratch/src|g" \
    conf/examples/shell-command.conf >"$config"
# Both examples have a watch called src.
sed -e "s|/src_path|$scratch/rules|g" -e "s|/dst_path|$scratch/sorted|g" -e 's|^delay = 60|delay = 1|' \
    -e 's|^\[watch src\]|[watch rules]|' conf/examples/file-rules.conf >>"$config"
cat >>"$config" <<EOF

[scheduler demo_quiet]
type = shell
cmd = $scratch/task.sh {maskname} {pathname}
delay = 1

[event_map demo_quiet]
IN_CLOSE_WRITE = demo_quiet
IN_DELETE = cancel:demo_quiet

[watch demo_quiet]
path = $scratch/quiet
event_map = demo_quiet
EOF

ran() {
    grep -Fxq -e "IN_CLOSE_WRITE $1: $2" "$scratch/ran"
}

# ran_once PATH CONTENT: its command ran, with this content, and never otherwise.
ran_once() {
    ran "$1" "$2" && [ "$(grep -Fc -e " $1: " "$scratch/ran")" -eq 1 ]
}

never_ran() {
    ! grep -Fq -e " $1: " "$scratch/ran"
}

# The command would have run in the daemon's working directory: where it was started, or the root.
nothing_injected() {
    for folder in "$scratch" ""; do
        [ ! -e "$folder/$injected" ] || return 1
    done
}

mode_is() {
    [ "$(stat -c %a "$2")" = "$1" ]
}

all_sorted() {
    [ -e "$scratch/sorted/deep/moved" ] && [ -e "$scratch/sorted/copied" ] && [ ! -e "$scratch/rules/c.to_delete" ]
}

holds() {
    [ "$(cat "$1")" = "$2" ]
}

echo "# the daemon"
start "$binary" "$config"

echo "# files are dropped"
injected=injected-${scratch##*.}
strange="\$(touch $injected) a  b 'c'; {pathname}"
echo plain >"$scratch/src/plain.txt"
mkdir -p "$scratch/src/new/deep"
echo deep >"$scratch/src/new/deep/file.txt"
echo strange >"$scratch/src/$strange"
echo first >"$scratch/quiet/again.txt"
echo gone >"$scratch/quiet/gone.txt"
rm "$scratch/quiet/gone.txt"
echo second >"$scratch/quiet/again.txt"
echo last >"$scratch/quiet/last.txt"
mkdir "$scratch/rules/deep"
echo moved >"$scratch/rules/deep/moved.to_move"
echo copied >"$scratch/rules/copied.to_copy"
echo deleted >"$scratch/rules/c.to_delete"
echo kept >"$scratch/rules/away.to_delete"
mv "$scratch/rules/away.to_delete" "$scratch/rules/kept"
echo gone >"$scratch/rules/gone.to_copy"
rm "$scratch/rules/gone.to_copy"
# The file is written to once more, and stays open until the end.
echo first >"$scratch/rules/modified.to_delete"
exec 3>>"$scratch/rules/modified.to_delete"
echo second >&3

for drop in "src/plain.txt|plain" "src/new/deep/file.txt|deep" "src/$strange|strange" \
    "quiet/again.txt|second" "quiet/last.txt|last"; do
    wait_until ran "$scratch/${drop%|*}" "${drop##*|}" || echo "# no command for ${drop%|*}"
done
wait_until all_sorted || echo "# not all files were moved, copied and deleted"
status=0
stop || status=$?
exec 3>&-

echo "# its log"
sed 's/^/    /' "$log"
echo "# what the commands did"
sed "s|$scratch/||; s/^/    /" "$scratch/ran"

echo "# what the configuration says must have happened"
check "a file ran its command once" ran_once "$scratch/src/plain.txt" plain
check "a file in a new directory ran its command once" ran_once "$scratch/src/new/deep/file.txt" deep
check "a name with spaces and shell text arrived unchanged" ran_once "$scratch/src/$strange" strange
check "no file name was executed" nothing_injected
check "a file written twice ran once, after the second" ran_once "$scratch/quiet/again.txt" second
check "a file deleted during the delay ran nothing" never_ran "$scratch/quiet/gone.txt"
check "five commands ran" test "$(wc -l <"$scratch/ran")" -eq 5
check "a file was moved, into a directory that was made" holds "$scratch/sorted/deep/moved" moved
check "and is not where it was" test ! -e "$scratch/rules/deep/moved.to_move"
check "a file was copied, with the mode of its rule" mode_is 644 "$scratch/sorted/copied"
check "and is still where it was" holds "$scratch/rules/copied.to_copy" copied
check "a file was deleted" test ! -e "$scratch/rules/c.to_delete"
check "a file that was modified meanwhile was not" test -e "$scratch/rules/modified.to_delete"
check "a file that was deleted meanwhile was not copied" test ! -e "$scratch/sorted/gone"
check "a file that was moved away in time was not" holds "$scratch/rules/kept" kept
check "TERM ended the daemon with 0" test "$status" -eq 0

finish demo.sh
