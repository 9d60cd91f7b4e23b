//! What shells complete.

use std::process::Command;

use crate::tools::{BINARY, has, repository, succeed};

/// What bash would offer for the last of these words.
fn bash(words: &[&str]) -> Vec<String> {
    let script = "PATH=$1:$PATH; source conf/completions/rinotifyd.bash; shift\n\
                  compopt() { :; }; COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); _rinotifyd \"$1\"\n\
                  printf '%s\\n' \"${COMPREPLY[@]}\"";
    let folder = std::path::Path::new(BINARY).parent().unwrap();
    let mut command = Command::new("bash");
    command.current_dir(repository()).args(["-euc", script, "bash"]).arg(folder).args(words);
    succeed(&mut command).lines().map(str::to_owned).collect()
}

#[test]
fn bash_offers_options_events_and_files() {
    if has("bash") {
        assert_eq!(bash(&["rinotifyd", "--conf"]), ["--config", "--configtest"]);
        assert_eq!(bash(&["rinotifyd", "-w", "/tmp", "-E", "IN_MOVED"]), ["IN_MOVED_FROM", "IN_MOVED_TO"]);
        assert_eq!(bash(&["rinotifyd", "--event", "=", "IN_DELETE_"]), ["IN_DELETE_SELF"]);
        assert_eq!(bash(&["rinotifyd", "-c", "Cargo.t"]), ["Cargo.toml"]);
        assert_eq!(bash(&["rinotifyd", "--root", "="]).iter().filter(|name| *name == "src").count(), 1);
        assert_eq!(bash(&["rinotifyd", "-e", "IN_OP"]), ["IN_OPEN:"]);
        assert_eq!(bash(&["rinotifyd", "-D", ""]), [""]);
        assert_eq!(bash(&["rinotifyctl", "--"]), ["--socket", "--json", "--version", "--help"]);
        assert_eq!(bash(&["/usr/sbin/rinotifyctl", "ta"]), ["tasks"]);
    }
}

#[test]
fn other_shells_can_read_theirs() {
    if has("zsh") {
        succeed(Command::new("zsh").arg("-n").arg(repository().join("conf/completions/_rinotifyd")));
    }
    if has("fish") {
        let file = repository().join("conf/completions/rinotifyd.fish");
        let script =
            format!("source {}; complete -C 'rinotifyd --con'; complete -C 'rinotifyctl wa'", file.display());
        let said = succeed(Command::new("fish").args(["--no-config", "-c", &script]));
        assert_eq!(said.lines().count(), 3, "{said}");
        assert!(said.ends_with("watches\n"), "{said}");
        assert!(said.contains("--configtest\ttest the configuration"), "{said}");
    }
}
