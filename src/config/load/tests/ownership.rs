//! Files that root does not read, because others can choose what is in them.

use super::*;

#[test]
fn root_reads_only_what_nobody_else_can_change() {
    let text = format!("{SCHEDULER}{MAP}{WATCH}");
    let check = |file: (u32, u32, u32), directory: (u32, u32, u32), expected: &str| {
        let owner = |(uid, gid, mode)| Ownership { uid, gid, mode };
        let mut fake = Fake::new(&text).owned("m", owner(file), owner(directory));
        assert_eq!(fake.said(), expected);
        fake.root = false;
        assert_eq!(fake.said(), "");
    };
    check((0, 50, 0o644), (0, 50, 0o755), "");
    let file = "m: error: root cannot trust the file \"m\"";
    check((7, 0, 0o600), (0, 0, 0o755), &format!("{file}: it belongs to user id 7: chown root"));
    let directory = "m: error: root cannot trust the directory \"/etc\"";
    let advice = "keep the configuration below directories that only root can write to, such as /etc";
    let expected = format!("{directory}: all users can write to it (mode 0777): {advice}");
    check((0, 0, 0o600), (0, 0, 0o777), &expected);
}

#[test]
fn a_file_that_is_not_trusted_is_not_parsed() {
    let fake = Fake::new("[daemon]\ninclude = i.conf\nx = 1\n").with("i.conf", "[nonsense");
    let fake = fake.owned("i.conf", Ownership { uid: 7, ..ROOTS }, ROOTS);
    let expected = "m:3:1: error: unknown key \"x\" in [daemon]\n\
                    i.conf: error: root cannot trust the file \"i.conf\": it belongs to user id 7: chown root";
    assert_eq!(fake.said(), expected);
}

#[test]
fn a_directory_is_named_once() {
    let bad = Ownership { mode: 0o777, ..ROOTS };
    let text = format!("[daemon]\ninclude = i.conf j.conf\n  j.conf\n{SCHEDULER}{MAP}{WATCH}");
    let fake = Fake::new(text.replace(" j.conf\n  ", "\n  ")).with("i.conf", "").with("j.conf", "");
    let fake = fake.owned("i.conf", ROOTS, bad).owned("j.conf", ROOTS, bad);
    assert_eq!(fake.said().lines().count(), 1, "{}", fake.said());
}

#[test]
fn root_judges_every_file_that_is_read() {
    let text = format!("[daemon]\ninclude = i.conf\n{SCHEDULER}{MAP}{WATCH}exclude_filter_file = x\n");
    let bad = Ownership { mode: 0o666, ..ROOTS };
    let fake = Fake::new(text).with("i.conf", "").with("x", "");
    let fake = fake.owned("i.conf", bad, ROOTS).owned("x", bad, ROOTS);
    let why = "all users can write to it (mode 0666): chmod go-w";
    let line = |name: &str| format!("{name}: error: root cannot trust the file \"{name}\": {why}");
    assert_eq!(fake.said(), [line("i.conf"), line("x")].join("\n"));
}
