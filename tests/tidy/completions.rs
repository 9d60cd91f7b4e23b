//! The completions of the shells know every option, and no other.

use rinotifyd::face::cli::FLAGS;
use rinotifyd::face::ctl;

use crate::repository::texts;
use crate::rust::is_word;

/// What is wrong with a file of `conf/completions`: options of this table that it lacks, and long
/// ones that it has and the table has not.
fn wrong_completions(path: &str, text: &str, flags: &[(&str, &str)]) -> Vec<String> {
    let fish = path.ends_with(".fish");
    let (short_mark, long_mark) = if fish { ("-s ", "-l ") } else { ("-", "--") };
    let is_separate =
        |text: &str, at: usize| at == 0 || !is_word(text.as_bytes()[at - 1]) && !text[..at].ends_with('-');
    let marked = |mark: &str, name: &str| {
        let option = format!("{mark}{name}");
        let ends = |at: usize| {
            text[at + option.len()..].bytes().next().is_none_or(|byte| !is_word(byte) && byte != b'-')
        };
        text.match_indices(&option).any(|(at, _)| is_separate(text, at) && ends(at))
    };
    let mut wrong = Vec::new();
    for (short, long) in flags {
        wrong.extend((!short.is_empty() && !marked(short_mark, short)).then(|| format!("no -{short}")));
        wrong.extend((!marked(long_mark, long)).then(|| format!("no --{long}")));
    }
    // In fish, only the lines that are about the programs; elsewhere, every long option in the text.
    let lines = text.lines().filter(|line| !fish || line.starts_with("complete -c rinotify"));
    let lines = lines.filter(|line| !line.trim_start().starts_with('#'));
    let lines = lines.filter(|line| fish || !line.contains("compgen") && !line.contains("_describe"));
    for line in lines {
        for (at, _) in line.match_indices(long_mark).filter(|(at, _)| is_separate(line, *at)) {
            let rest = &line[at + long_mark.len()..];
            let name: String = rest.chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
            let known = name.is_empty() || flags.iter().any(|(_, long)| *long == name);
            wrong.extend((!known).then(|| format!("unknown --{name}")));
        }
    }
    wrong
}

#[test]
fn every_option_is_completed() {
    let flags: Vec<_> = FLAGS.iter().chain(ctl::FLAGS).map(|flag| (flag.short, flag.long)).collect();
    let verbs: Vec<_> = ctl::VERBS.iter().map(|verb| verb.word).collect();
    for (path, text) in texts(&["conf/completions"]) {
        assert_eq!(wrong_completions(&path, &text, &flags), [""; 0], "{path}");
        assert!(text.contains(&verbs.join(" ")), "{path}: {verbs:?}");
    }
}

#[test]
fn the_completion_rule_finds_what_is_wrong() {
    let flags = [("c", "config"), ("", "pidfile")];
    let check = |path, text, expected: &[&str]| {
        assert_eq!(wrong_completions(path, text, &flags), expected, "{path}: {text}");
    };
    check("x.bash", "'--config --pidfile -c'", &[]);
    check(
        "x.bash",
        "'--configtest --pid -c'",
        &["no --config", "no --pidfile", "unknown --configtest", "unknown --pid"],
    );
    check("_x", "{-c,--config=}[x] '--pidfile=[y]'", &[]);
    check("_x", "{-x,--config=}[x] '--pidfile=[y]'", &["no -c"]);
    check("x.fish", "complete -c rinotifyd -s c -l config\ncomplete -c rinotifyd -l pidfile", &[]);
    check("x.fish", "complete -c rinotifyd -s c -l config -l pidfile -l other", &["unknown --other"]);
}
