//! Several files: includes, and who may write to them.

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
    check("none/*.conf", "");
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
    let fake = Fake { files: BTreeMap::new(), root: true }.with("m.conf", text);
    assert!(load(Path::new("m.conf"), &fake).is_ok());
}

#[test]
fn a_missing_main_file_is_an_error() {
    let fake = Fake { files: BTreeMap::new(), root: true };
    assert_eq!(fake.said(), "m: error: cannot be read: no such file");
}

#[test]
fn root_trusts_only_what_nobody_else_can_change() {
    let text = format!("{SCHEDULER}{MAP}{WATCH}");
    let check = |file: (u32, u32, u32), directory: (u32, u32, u32), expected: &str| {
        let owner = |(uid, gid, mode)| Ownership { uid, gid, mode };
        let mut fake = Fake::new(&text).owned("m", owner(file), owner(directory));
        assert_eq!(fake.said(), expected);
        fake.root = false;
        assert_eq!(fake.said(), "");
    };
    check((0, 50, 0o644), (0, 50, 0o755), "");
    check((0, 0, 0o664), (0, 0, 0o775), "");
    let file = "m: error: root cannot trust this file";
    let directory = "m: error: root cannot trust the directory \"/etc\"";
    let fine = (0, 0, 0o755);
    check((7, 0, 0o600), fine, &format!("{file}: it belongs to user id 7 (chown root)"));
    check((0, 0, 0o646), fine, &format!("{file}: everybody can write to it, its mode is 0646 (chmod o-w)"));
    check(
        (0, 50, 0o660),
        fine,
        &format!("{file}: group id 50 can write to it, its mode is 0660 (chmod g-w)"),
    );
    let sticky = format!("{directory}: everybody can write to it, its mode is 1777 (chmod o-w)");
    check((0, 0, 0o600), (0, 0, 0o1777), &sticky);
    check((0, 0, 0o600), (7, 0, 0o755), &format!("{directory}: it belongs to user id 7 (chown root)"));
}

#[test]
fn a_directory_is_named_once() {
    let bad = Ownership { mode: 0o777, ..ROOTS };
    let fake = Fake::new(format!("[daemon]\ninclude = i.conf\n{SCHEDULER}{MAP}{WATCH}")).with("i.conf", "");
    let fake = fake.owned("m", ROOTS, bad).owned("i.conf", ROOTS, bad);
    assert_eq!(fake.said().lines().count(), 1);
}

#[test]
fn root_checks_every_file_that_is_read() {
    let text = format!("[daemon]\ninclude = i.conf\n{SCHEDULER}{MAP}{WATCH}exclude_filter_file = x\n");
    let bad = Ownership { mode: 0o666, ..ROOTS };
    let fake = Fake::new(text).with("i.conf", "").with("x", "");
    let fake = fake.owned("i.conf", bad, ROOTS).owned("x", bad, ROOTS);
    let reason = "root cannot trust this file: everybody can write to it, its mode is 0666 (chmod o-w)";
    assert_eq!(fake.said(), format!("i.conf: error: {reason}\nx: error: {reason}"));
}
