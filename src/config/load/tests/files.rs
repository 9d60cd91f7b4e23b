//! Several files.

use super::*;

#[test]
fn included_files_add_sections_and_keys() {
    let main = "[daemon]\ninclude = d/*.conf\nmax_jobs = 3\n";
    let fake = Fake::new(main)
        .with("d/b.conf", MAP)
        .with("d/a.conf", format!("{SCHEDULER}[daemon]\nshutdown_timeout = 5\n"))
        .with("d/c.conf", WATCH)
        .with("d/c.txt", "[nonsense")
        .with("e/z.conf", "[nonsense");
    let loaded = fake.load().unwrap();
    assert!(loaded.warnings.is_empty());
    assert_eq!(loaded.config.daemon.shutdown_timeout_ms, 5000);
    assert_eq!((loaded.config.daemon.max_jobs, loaded.config.watches.len()), (3, 1));
}

#[test]
fn includes_that_cannot_be() {
    let check = |include: &str, expected: &str| {
        let rest = format!("{SCHEDULER}{MAP}{WATCH}");
        let fake = Fake::new(format!("[daemon]\ninclude = {include}\n{rest}"));
        let fake =
            fake.with("d/i.conf", "[daemon]\ninclude = *.conf\n").with("d/j.conf", WATCH).with("m.conf", "");
        assert_eq!(fake.said(), expected);
    };
    check("x.conf", "m:2:11: error: cannot read \"x.conf\": no such file");
    check("/x.conf", "m:2:11: error: cannot read \"/x.conf\": no such file");
    check("x", "m:2:11: error: only names ending in .conf are included");
    check("../*.conf", "m:2:11: error: \"../*.conf\" holds a . or .. component: write the path out");
    check("*/x/*.conf", "m:2:11: error: cannot look for \"*/x/*.conf\": too deep");
    check(
        "d/i.conf",
        "d/i.conf:2:11: error: an included file cannot include others: name them in the main file",
    );
    check("d/j.conf", "d/j.conf:1:1: error: duplicate [watch w]: the first is at m:8:1");
    check("d/j*\n  d/j.conf", "d/j.conf:1:1: error: duplicate [watch w]: the first is at m:9:1");
    check("*.conf", "");
    check("none/*.conf", "m:2:11: warning: no file matches, so this includes nothing");
}

#[test]
fn a_key_stands_in_one_file_only() {
    let fake = Fake::new(format!("[daemon]\ninclude = i.conf\nmax_jobs = 1\n{SCHEDULER}{MAP}{WATCH}"));
    let fake = fake.with("i.conf", "[daemon]\nmax_jobs = 2\n");
    assert_eq!(fake.said(), "i.conf:2:1: error: duplicate key \"max_jobs\": the first is at m:3:1");
}

#[test]
fn the_main_file_does_not_include_itself() {
    let text = format!("[daemon]\ninclude = *.conf\n{SCHEDULER}{MAP}{WATCH}");
    let fake = Fake { files: BTreeMap::new(), root: true, there: Vec::new() }.with("m.conf", text);
    assert!(load(Path::new("m.conf"), &fake).is_ok());
}

#[test]
fn a_missing_main_file_is_an_error() {
    let fake = Fake { files: BTreeMap::new(), root: true, there: Vec::new() };
    assert_eq!(fake.said(), "m: error: cannot be read: no such file");
}
