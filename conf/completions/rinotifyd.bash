# bash completion for rinotifyd and rinotifyctl

_rinotifyd() {
	local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} words=
	# --option=value is three words here.
	if [[ $cur == = ]]; then
		cur=
	elif [[ $prev == = ]]; then
		prev=${COMP_WORDS[COMP_CWORD - 2]}
	fi
	case $prev in
	-c | --config | --pidfile | -s | --socket)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -f -- "$cur")
		return
		;;
	-w | --watch | --root)
		compopt -o filenames
		mapfile -t COMPREPLY < <(compgen -d -- "$cur")
		return
		;;
	-E | --event) words=$(rinotifyd -l 2>/dev/null | cut -d ' ' -f 1) ;;
	-e | --explain)
		compopt -o nospace
		words=$(rinotifyd -l 2>/dev/null | cut -d ' ' -f 1 | sed 's/$/:/')
		;;
	-x | --exec)
		mapfile -t COMPREPLY < <(compgen -c -- "$cur")
		return
		;;
	-D | --delay | -X | --exclude) ;;
	*)
		if [[ ${1##*/} == rinotifyctl ]]; then
			words='status tasks watches run cancel loglevel reload
--socket --json --version --help -s -v -h'
		else
			words='--config --debug --configtest --dry-run --explain --list --version --help
--pidfile --watch --recursive --event --delay --single --exclude --exec --install --uninstall --root
-c -d -t -n -e -l -v -h -w -r -E -D -1 -X -x -i -u'
		fi
		;;
	esac
	mapfile -t COMPREPLY < <(compgen -W "$words" -- "$cur")
}

complete -F _rinotifyd rinotifyd rinotifyctl
