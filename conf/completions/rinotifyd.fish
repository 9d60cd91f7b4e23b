# fish completion for rinotifyd and rinotifyctl

complete -c rinotifyd -f
complete -c rinotifyd -s c -l config -rF -d 'configuration file'
complete -c rinotifyd -s d -l debug -d 'log everything'
complete -c rinotifyd -s t -l configtest -d 'test the configuration and exit'
complete -c rinotifyd -s n -l dry-run -d 'run, but log the actions instead of taking them'
complete -c rinotifyd -s e -l explain -x -a "(rinotifyd -l | string replace -r ' +' :\t)" -d 'say what this event would do'
complete -c rinotifyd -s l -l list -d 'list the events and exit'
complete -c rinotifyd -s v -l version -d 'show the version and exit'
complete -c rinotifyd -s h -l help -d 'show this help and exit'
complete -c rinotifyd -l pidfile -rF -d 'write the process id to this file'
complete -c rinotifyd -s w -l watch -rF -d 'watch this path'
complete -c rinotifyd -s r -l recursive -d 'watch the directories below too'
complete -c rinotifyd -s E -l event -x -a "(rinotifyd -l | string replace -r ' +' \t)" -d 'this event'
complete -c rinotifyd -s D -l delay -x -d 'wait until the file has been quiet this long'
complete -c rinotifyd -s 1 -l single -d 'one task for all paths'
complete -c rinotifyd -s X -l exclude -x -d 'leave out what this shell pattern matches'
complete -c rinotifyd -s x -l exec -x -d 'the shell command to run'
complete -c rinotifyd -s i -l install -d 'install this program, its manual and its service'
complete -c rinotifyd -s u -l uninstall -d 'remove them'
complete -c rinotifyd -l root -x -a '(__fish_complete_directories)' -d 'below this directory'

complete -c rinotifyctl -f
complete -c rinotifyctl -s s -l socket -rF -d 'control socket'
complete -c rinotifyctl -l json -d 'show the answer as JSON'
complete -c rinotifyctl -s v -l version -d 'show the version and exit'
complete -c rinotifyctl -s h -l help -d 'show this help and exit'
complete -c rinotifyctl -n __fish_use_subcommand -a 'status tasks watches run cancel loglevel reload'
