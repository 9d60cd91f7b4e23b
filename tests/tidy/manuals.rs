//! Every flag, command and key stands in its manual page, and mandoc has nothing to say about the pages.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use rinotifyd::config::schema::{Key, Kind, SECTIONS, Section};
use rinotifyd::face::cli::FLAGS;
use rinotifyd::face::ctl;

use crate::repository::{files, root, tool_is_missing};

/// The words of a page's lines, by the macro that the line starts with.
fn page_items(page: &str) -> Vec<Vec<&str>> {
    let items = page.lines().filter_map(|line| line.strip_prefix(".It "));
    items.map(|item| item.split_whitespace().collect()).collect()
}

/// Which flags, given as `c` or `json`, no `.It Fl c` (or `.It Fl -json`) of the page explains.
fn missing_flags<'a>(page: &str, flags: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let items = page_items(page);
    let explained = |flag: &str| {
        let long = format!("-{flag}");
        items
            .iter()
            .any(|item| item.windows(2).any(|pair| pair[0] == "Fl" && (pair[1] == flag || pair[1] == long)))
    };
    flags.into_iter().filter(|flag| !explained(flag)).map(str::to_owned).collect()
}

/// Which keys no `.It` of the page names, whatever macro marks them.
fn missing_keys<'a>(page: &str, keys: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let items = page_items(page);
    let explained = |key: &str| items.iter().any(|item| item.contains(&key));
    keys.into_iter().filter(|key| !explained(key)).map(str::to_owned).collect()
}

#[test]
fn the_page_rules_find_what_is_missing() {
    let page = ".Sh OPTIONS\n.It Fl c Ar file\n.It Fl e Ar event , Fl -explain\n.Fl x\n.It Cm delay\nrules\n";
    assert_eq!(missing_flags(page, ["c", "e", "explain"]), [""; 0]);
    assert_eq!(missing_flags(page, ["c", "x", "file"]), ["x", "file"]);
    assert_eq!(missing_keys(page, ["delay"]), [""; 0]);
    assert_eq!(missing_keys(page, ["delay", "rules"]), ["rules"]);
}

pub fn page(name: &str) -> String {
    fs::read_to_string(root().join("man").join(name)).unwrap()
}

#[test]
fn every_option_is_in_the_manual() {
    let names = FLAGS.iter().flat_map(|flag| [flag.short, flag.long]).filter(|name| !name.is_empty());
    assert_eq!(missing_flags(&page("rinotifyd.8"), names), [""; 0]);
}

#[test]
fn every_option_and_command_of_the_client_is_in_its_manual() {
    let page = page("rinotifyctl.8");
    let names = ctl::FLAGS.iter().flat_map(|flag| [flag.short, flag.long]).filter(|name| !name.is_empty());
    assert_eq!(missing_flags(&page, names), [""; 0]);
    assert_eq!(missing_keys(&page, ctl::VERBS.iter().map(|verb| verb.word)), [""; 0]);
}

/// The subsection whose title holds `[word]` or `[word NAME]`.
pub fn subsection<'a>(page: &'a str, word: &str) -> Option<&'a str> {
    let is_about = |line: &str| {
        let title = line.strip_prefix(".Ss ").unwrap_or_default();
        title.contains(&format!("[{word}]")) || title.contains(&format!("[{word} NAME]"))
    };
    let title = page.lines().find(|line| is_about(line))?;
    let (_, rest) = page.split_once(title)?;
    let end = [rest.find("\n.Ss "), rest.find("\n.Sh ")].into_iter().flatten().min();
    Some(&rest[..end.unwrap_or(rest.len())])
}

/// The keys that are described with a section. A job has those of a watch and of a scheduler, and `on`.
pub fn own_keys(section: &Section) -> impl Iterator<Item = &Key> {
    let is_job = section.kind == Kind::Job;
    section.keys.iter().filter(move |key| !is_job || key.name == "on")
}

/// Which keys that exist the page does not explain below the title of their section, and which it
/// explains that do not exist yet.
fn wrong_keys(page: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for section in SECTIONS {
        let Some(text) = subsection(page, section.word) else {
            wrong.extend(section.built.then(|| format!("[{}]", section.word)));
            continue;
        };
        let built = own_keys(section).filter(|key| key.built).map(|key| key.name);
        let missing = missing_keys(text, built);
        wrong.extend(missing.iter().map(|key| format!("{key} in [{}]", section.word)));
        for key in own_keys(section).filter(|key| !key.built) {
            let explained = missing_keys(text, [key.name]).is_empty();
            wrong.extend(explained.then(|| format!("{} in [{}] is not built", key.name, section.word)));
        }
    }
    wrong
}

#[test]
fn every_key_is_in_the_manual() {
    assert_eq!(wrong_keys(&page("rinotifyd.conf.5")), [""; 0]);
    let bad =
        ".Ss The [log] and [log NAME] sections\n.It Cm level\n.Ss The [daemon] section\n.It Cm state_dir\n";
    let wrong = wrong_keys(bad);
    assert!(wrong.contains(&"max_jobs in [daemon]".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"state_dir in [daemon] is not built".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"[watch]".to_owned()), "{wrong:?}");
    assert!(wrong.contains(&"[syslog]".to_owned()), "{wrong:?}");
    assert!(!wrong.iter().any(|key| key.contains("level")), "{wrong:?}");
}

/// What `mandoc -T lint` says about a page; nothing when mandoc is not installed.
fn mandoc_lint(page: &Path) -> Option<Vec<String>> {
    let output = Command::new("mandoc").args(["-T", "lint"]).arg(page).output().ok()?;
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text).into_owned();
    // Which other pages are installed here says nothing about this one.
    Some(
        text.lines()
            .filter(|line| !line.contains("referenced manual not found"))
            .filter(|line| !line.contains("outdated mandoc.db lacks"))
            .map(str::to_owned)
            .collect(),
    )
}

#[test]
fn mandoc_finds_nothing_wrong_in_the_pages() {
    let mut findings = BTreeMap::new();
    for page in files("man") {
        match mandoc_lint(&root().join(&page)) {
            None => return tool_is_missing("mandoc"),
            Some(messages) if messages.is_empty() => {}
            Some(messages) => drop(findings.insert(page, messages)),
        }
    }
    assert!(findings.is_empty(), "{findings:#?}");
}

#[test]
fn mandoc_finds_what_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("bad.8");
    fs::write(&page, ".Dd $Mdocdate$\n.Dt BAD 8\n.Os\n.Sh NAME\n.Nm bad\n.Nd bad\n.Bl -tag\n.It Fl c\n")
        .unwrap();
    match mandoc_lint(&page) {
        None => tool_is_missing("mandoc"),
        Some(messages) => assert!(!messages.is_empty()),
    }
}
