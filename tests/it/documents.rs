//! What the README, the manual and the default configuration show is what the binary says and takes.

use std::fs;
use std::path::{Path, PathBuf};

use rinotifyd::config::schema::{Kind, SECTIONS};

use crate::scratch::{Scratch, rinotifyd};

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn document(path: &str) -> String {
    fs::read_to_string(repository().join(path)).unwrap()
}

/// The configuration of the section "One minute".
fn first_configuration(readme: &str) -> &str {
    let (_, rest) = readme.split_once("```ini\n").unwrap();
    rest.split_once("```").unwrap().0
}

/// What the binary writes about a configuration, as an indented block of Markdown.
fn said(scratch: &Scratch, configuration: &str, args: &[&str]) -> String {
    let path = scratch.write("first.conf", configuration);
    let output = rinotifyd().arg("-c").arg(&path).args(args).output().unwrap();
    let text = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    let text = text.replace(path.to_str().unwrap(), "/home/anna/first.conf");
    text.lines().map(|line| format!("    {line}\n")).collect()
}

#[test]
fn the_readme_shows_a_real_error_and_a_real_explanation() {
    let (scratch, readme) = (Scratch::new(), document("README.md"));
    let right = first_configuration(&readme);
    let wrong = right.replace("delay", "delya");
    for (configuration, args) in
        [(wrong.as_str(), &["-t"][..]), (right, &["-e", "IN_CLOSE_WRITE:/tmp/in/a.txt"])]
    {
        let said = said(&scratch, configuration, args);
        assert!(readme.contains(&said), "{args:?} says this, the README does not:\n{said}");
    }
}

#[test]
fn every_line_of_the_readme_fits_a_terminal() {
    let readme = document("README.md");
    let long: Vec<_> = readme.lines().filter(|line| line.chars().count() > 100).collect();
    assert_eq!(long, [""; 0]);
}

/// The settings that the default configuration shows in comments, taken out of them.
fn uncommented(text: &str) -> String {
    let is_setting = |line: &str| line.starts_with(|c: char| c == '[' || c.is_ascii_alphabetic());
    let lines =
        text.lines().map(|line| line.strip_prefix('#').filter(|rest| is_setting(rest)).unwrap_or(line));
    // Who may not be root cannot become another user, and a file is read only if it is there.
    let left_out = ["user =", "group =", "exclude_filter_file ="];
    let lines = lines.filter(|line| !left_out.iter().any(|key| line.starts_with(key)));
    lines.map(|line| format!("{line}\n")).collect()
}

#[test]
fn the_settings_in_the_comments_of_the_default_configuration_are_valid() {
    let scratch = Scratch::new();
    let text = uncommented(&document("conf/rinotifyd.conf"));
    assert!(text.contains("\n[watch in]\n"), "{text}");
    let path = scratch.write("rinotifyd.conf", text);
    let output = rinotifyd().arg("-t").arg("-c").arg(path).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
}

/// What the section OVERVIEW of the manual lists for a kind of section.
fn overview<'a>(page: &'a str, word: &str) -> Vec<&'a str> {
    let (_, rest) = page.split_once("\n.Sh OVERVIEW\n").unwrap_or_default();
    let mut items = rest.split("\n.Sh ").next().unwrap_or_default().split("\n.It Cm ").skip(1);
    let titles = [format!("[{word}]"), format!("\"[{word} NAME]\"")];
    let item =
        items.find_map(|item| item.split_once('\n').filter(|(title, _)| titles.contains(&(*title).into())));
    let lines = item.map_or("", |(_, text)| text).lines().take_while(|line| !line.starts_with('.'));
    lines.flat_map(str::split_whitespace).collect()
}

#[test]
fn the_overview_of_the_manual_lists_every_key() {
    let page = document("man/rinotifyd.conf.5");
    for section in SECTIONS.iter().filter(|section| section.built) {
        let mut listed = overview(&page, section.word);
        let in_words = match section.kind {
            Kind::EventMap => Some("default_sched complete changed gone, and the 15 events"),
            Kind::Job => Some("on, and the keys of"),
            _ => None,
        };
        if let Some(words) = in_words {
            assert_eq!(listed.join(" "), words);
            continue;
        }
        let mut keys: Vec<_> = section.keys.iter().filter(|key| key.built).map(|key| key.name).collect();
        listed.sort_unstable();
        keys.sort_unstable();
        assert_eq!(listed, keys, "[{}]", section.word);
    }
}

/// What the documents say instead of these.
const PHRASES: [(&str, &str); 6] = [
    ("made up", "synthesized"),
    ("makes up", "synthesizes"),
    ("for ever", "no limit"),
    ("whoever", "a user who, a process that"),
    ("somebody", "a user, a process"),
    ("anybody", "any user, any process"),
];

fn wrong_phrases(text: &str) -> Vec<String> {
    let lines = text.lines().map(str::to_lowercase);
    let found = lines.flat_map(|line| {
        let is_whole = |rest: &str| !rest.starts_with(|c: char| c.is_alphanumeric());
        let phrases = PHRASES.iter().filter(|(phrase, _)| line.split(phrase).skip(1).any(is_whole));
        let phrases: Vec<_> = phrases.collect();
        phrases.into_iter().map(|(phrase, instead)| format!("{phrase:?}: write {instead:?}"))
    });
    found.collect()
}

/// All files below `path`, or the file itself.
fn files(path: PathBuf) -> Vec<PathBuf> {
    match fs::read_dir(&path) {
        Ok(entries) => entries.flat_map(|entry| files(entry.unwrap().path())).collect(),
        Err(_) => vec![path],
    }
}

#[test]
fn the_documents_use_the_words_of_the_house() {
    assert_eq!(wrong_phrases("events that are made up\nuser = nobody\nWhoever may write").len(), 2);
    let documents = ["README.md", "CHANGELOG.md", "man", "conf", "contrib/README.md"];
    let files: Vec<_> = documents.iter().flat_map(|path| files(repository().join(path))).collect();
    assert!(files.len() > 10, "{files:?}");
    for path in files {
        assert_eq!(wrong_phrases(&fs::read_to_string(&path).unwrap()), [""; 0], "{}", path.display());
    }
}
