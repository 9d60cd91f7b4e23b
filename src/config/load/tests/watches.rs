//! What a watch takes and leaves out.

use super::*;

#[test]
fn patterns_of_files_are_taken_over() {
    let text = format!(
        "{SCHEDULER}{MAP}{WATCH}exclude_glob = *.tmp\n  .git/\nexclude_glob = a/b\ninclude_glob = (?i)*.PDF\n"
    );
    let config = config(&text);
    let watch = &config.watches[0];
    assert_eq!(watch.exclude_glob.texts().collect::<Vec<_>>(), ["*.tmp", ".git/", "a/b"]);
    let why = |path: &str, is_dir| {
        let why = watch.left_out(&watch.paths[0], path.as_bytes(), is_dir);
        why.map(|why| why.to_string())
    };
    assert_eq!(why("/p/x/y.tmp", false).as_deref(), Some("exclude_glob *.tmp"));
    assert_eq!(why("/p/.git", true).as_deref(), Some("exclude_glob .git/"));
    assert_eq!(why("/p/a/b", false).as_deref(), Some("exclude_glob a/b"));
    assert_eq!(why("/p/c/a/b", false).as_deref(), Some("no include_glob matches"));
    assert_eq!(why("/p/a.pdf", false), None);
    assert_eq!(why("/p/a.doc", true), None);
    // A single file that the path names is what is meant.
    assert_eq!(why("/p", false), None);
    watch_says(
        "exclude_glob = a\n  **/b",
        "m:10:3: error: ** has no meaning of its own: a pattern without a slash matches at any depth",
    );
    watch_says(
        "include_glob = (?i)a/..",
        "m:9:20: error: a pattern is a name, or names with a slash between them, and none is . or ..",
    );
    watch_says(
        "include_glob = scans/",
        "m:9:16: error: include_glob names files; directories are followed all the same: leave out the slash",
    );
    watch_says(
        "exclude_glob = *.tmp, *.swp",
        "m:9:16: warning: a comma does not separate patterns: write each on a line of its own",
    );
    watch_says(
        "include_glob = .*\\.pdf$",
        "m:9:16: warning: this looks like a regular expression; the pattern is *.pdf",
    );
    watch_says(
        "exclude_glob = /p/tmp",
        "m:9:16: warning: a pattern is relative to the watch path: write \"tmp\"",
    );
    watch_says(
        "exclude_glob = /tmp\n  a, b",
        "m:10:3: warning: a comma does not separate patterns: write each on a line of its own",
    );
    watch_says("exclude_glob = /tmp\n  .*\n  a b", "");
}

#[test]
fn filters_that_match_nothing_are_warned_of() {
    let nothing = "this filter matches no path below the watch path, since it matches from the first / on";
    watch_says("exclude_filter = \\.tmp$", &format!("m:9:18: warning: {nothing}: did you mean .*\\.tmp$?"));
    watch_says(
        "exclude_filter = .git",
        &format!("m:9:18: warning: {nothing}: did you mean exclude_glob = .git?"),
    );
    watch_says("exclude_filter = /q/x", &format!("m:9:18: warning: {nothing}"));
    watch_says("exclude_filter = .*\\.tmp$\n  /p/x\n  ^/p/.*y$", "");
    let text = format!("{SCHEDULER}{MAP}{WATCH}exclude_filter_file = x\n");
    let fake = Fake::new(&text).with("x", "node_modules\n");
    assert_eq!(fake.said(), format!("x:1:1: warning: {nothing}: did you mean exclude_glob = node_modules?"));
}

#[test]
fn a_watch_path_with_brackets_that_is_there_is_that_path() {
    let text = format!("{SCHEDULER}{MAP}[watch w]\npath = /srv/Movies [HD]\nevent_map = m\n");
    let load = |there: Vec<&'static str>| {
        let mut fake = Fake::new(&text);
        fake.there = there;
        let loaded = fake.load().unwrap();
        (loaded.config.watches[0].paths[0].is_wild(), loaded.warnings.iter().count())
    };
    assert_eq!(load(vec!["/srv/Movies [HD]"]), (false, 0));
    assert_eq!(load(vec!["/srv/Movies H"]), (true, 0));
    assert_eq!(load(vec![]), (true, 1));
    says(&text, "m:7:8: warning: nothing matches this pattern yet: the watch waits for it");
    says(
        text.replace("Movies [HD]", "**"),
        "m:7:8: error: \"/srv/**\" holds **, and a wildcard matches within one name: write the directory \
         above it, and rec = yes",
    );
    says(
        format!("[daemon]\ninclude = x/**/*.conf\n{SCHEDULER}{MAP}{WATCH}"),
        "m:2:11: error: \"x/**/*.conf\" holds **: write each folder as an item of its own",
    );
}
