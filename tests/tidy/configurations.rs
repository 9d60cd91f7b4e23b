//! Every configuration that is shown is one that the daemon takes, without a warning.

use std::io;
use std::path::{Path, PathBuf};

use rinotifyd::config::host::Host;
use rinotifyd::config::load::load;
use rinotifyd::config::schema::{Kind, SECTIONS, Section};
use rinotifyd::config::trust::Part;
use rinotifyd::pattern::PathPattern;
use rinotifyd::types::Identity;

use crate::manuals::{own_keys, page, subsection};
use crate::repository::{enforce, texts};

/// The literal blocks of a page in mdoc, and the fenced ones of Markdown.
fn literal_blocks(text: &str) -> Vec<String> {
    let mut blocks = Vec::new();
    let mut block: Option<String> = None;
    for line in text.lines() {
        let fence = line.starts_with("```");
        match &mut block {
            None if line.starts_with(".Bd -literal") || fence => block = Some(String::new()),
            Some(_) if line == ".Ed" || fence => blocks.extend(block.take()),
            Some(lines) => {
                lines.push_str(line);
                lines.push('\n');
            }
            None => {}
        }
    }
    blocks
}

/// What a reader sees of a literal line in mdoc; see `mandoc_char(7)`.
fn unescape(text: &str) -> String {
    let escapes = [
        ("\\&", ""),
        ("\\-", "-"),
        ("\\(aq", "'"),
        ("\\(dq", "\""),
        ("\\(ha", "^"),
        ("\\(ti", "~"),
        ("\\(ga", "`"),
        ("\\e", "\\"),
    ];
    escapes.iter().fold(text.to_owned(), |text, (escape, seen)| text.replace(escape, seen))
}

/// The whole configurations among a text's blocks.
fn configurations(path: &str, text: &str) -> Vec<String> {
    let blocks = literal_blocks(text).into_iter();
    let blocks = blocks.map(|block| if path.ends_with(".md") { block } else { unescape(&block) });
    blocks.filter(|block| block.lines().any(|line| line.starts_with('['))).collect()
}

/// A machine that has one file and every user.
struct Shown<'a>(&'a str);

impl Host for Shown<'_> {
    fn read(&self, _: &Path, _: &mut dyn FnMut(Part<'_>) -> bool) -> io::Result<Option<Vec<u8>>> {
        Ok(Some(self.0.into()))
    }

    fn list(&self, _: &Path, _: &PathPattern) -> io::Result<Vec<PathBuf>> {
        Ok(Vec::new())
    }

    fn exists(&self, _: &[u8]) -> bool {
        true
    }

    fn has_match(&self, _: &PathPattern) -> bool {
        true
    }

    fn finds_program(&self, _: &[u8]) -> bool {
        true
    }

    fn user(&self, name: &str, _: Option<u32>) -> io::Result<Option<Identity>> {
        let (name, home) = (name.to_owned(), b"/".to_vec());
        Ok(Some(Identity { uid: 1, gid: 1, groups: Vec::new(), name, home }))
    }

    fn group(&self, _: &str) -> io::Result<Option<u32>> {
        Ok(Some(1))
    }

    fn is_root(&self) -> bool {
        true
    }
}

/// What the loader says about the configurations of a text, warnings too: a reader learns nothing from an
/// example that starts nothing.
fn check_configurations(path: &str, text: &str) -> Vec<(usize, String)> {
    let loaded = configurations(path, text);
    let said = loaded.iter().map(|text| match load(Path::new(path), &Shown(text)) {
        Ok(loaded) => loaded.warnings.to_string(),
        Err(errors) => errors.to_string(),
    });
    said.filter(|said| !said.is_empty()).map(|said| (1, said)).collect()
}

#[test]
fn configurations_that_are_shown_are_valid() {
    let pages = || texts(&["README.md", "man"]);
    enforce(pages(), check_configurations);
    let shown: Vec<_> = pages().filter(|(path, text)| !configurations(path, text).is_empty()).collect();
    for path in ["README.md", "man/rinotifyd.conf.5", "man/rinotifyd-cookbook.7"] {
        assert!(shown.iter().any(|(shown, _)| shown == path), "{path} shows no configuration");
    }
    let files = texts(&["conf/examples", "conf/rinotifyd.conf"]).filter(|(path, _)| path.ends_with(".conf"));
    enforce(files, |path, text| {
        load(Path::new(path), &Shown(text)).err().map(|errors| (1, errors.to_string())).into_iter().collect()
    });
}

/// The keys that the manual shows with a value, section by section, put together again.
fn shown_keys(page: &str) -> String {
    let mut config =
        String::from("[scheduler backup]\ntype = exec\ncmd = true\n[scheduler show]\ntype = exec\n");
    config.push_str("cmd = true\n[watch second]\npath = /\ndefault_sched = show backup\n");
    for section in SECTIONS.iter().filter(|section| section.built) {
        // A section of each type, as the manual's other examples name them.
        let variants: &[(&str, &str)] = match section.kind {
            Kind::Daemon | Kind::Log | Kind::Syslog => &[("", "")],
            Kind::EventMap => &[(" incoming", "")],
            Kind::Scheduler => &[(" convert", "exec"), (" archive", "files"), (" jobs", "worker")],
            Kind::Rule => &[(" to_move", "move"), (" to_delete", "delete")],
            Kind::Watch => &[(" in", "")],
            Kind::Job => &[(" photos", "shell")],
        };
        for (name, variant) in variants {
            config.push_str(&format!("[{}{name}]\n", section.word));
            if section.kind == Kind::Job {
                config.push_str("path = /\ncmd = true\n");
            }
            config.push_str(&shown_lines(page, section, variant));
        }
    }
    config
}

/// The lines that the manual shows for one type of a section.
fn shown_lines(page: &str, section: &Section, variant: &str) -> String {
    let chooser = ["type", "action"].into_iter().find(|name| section.key(name.as_bytes()).is_some());
    let mut lines = chooser.map_or(String::new(), |key| format!("{key} = {variant}\n"));
    let shown = subsection(page, section.word).unwrap_or_default();
    for line in shown.lines().filter_map(|line| line.strip_prefix(".Dl ")) {
        // A watch has one or the other, and a file is read only if it is there.
        let left_out = ["default_sched = show", "exclude_filter_file = exclude"];
        let name = line.split(" = ").next().unwrap_or_default();
        let belongs = section.key(name.as_bytes()).is_none_or(|key| {
            chooser != Some(key.name) && (key.types.is_empty() || key.types.contains(&variant))
        });
        if belongs && !left_out.contains(&line) {
            // A worker is started before there is a task.
            let line = if variant == "worker" { line.replace(" {pathname}", "") } else { line.to_owned() };
            lines.push_str(&format!("{}\n", unescape(&line)));
        }
    }
    lines
}

#[test]
fn every_key_is_shown_with_a_value_that_it_takes() {
    let page = page("rinotifyd.conf.5");
    let config = shown_keys(&page);
    load(Path::new("shown"), &Shown(&config)).unwrap_or_else(|errors| panic!("{errors}"));
    for section in SECTIONS.iter().filter(|section| section.built && section.kind != Kind::EventMap) {
        let text = unescape(subsection(&page, section.word).unwrap());
        for key in own_keys(section).filter(|key| key.built) {
            let start = format!(".Dl {} = ", key.name);
            assert!(text.lines().any(|line| line.starts_with(&start)), "{} in [{}]", key.name, section.word);
        }
    }
}

#[test]
fn a_configuration_that_is_shown_and_wrong_is_found() {
    let check = |path: &str, text: &str, expected: usize| {
        assert_eq!(check_configurations(path, text).len(), expected, "{path}: {text}");
    };
    let good = "[scheduler s]\ntype = exec\ncmd = true\n[watch w]\npath = /\ndefault_sched = s\n";
    check("README.md", &format!("```ini\n{good}```\n```\n$ make\n```\n"), 0);
    check("README.md", &format!("```ini\n{good}pth = /\n```\n```ini\n[x]\n```\n"), 2);
    check("a.5", &format!(".Bd -literal -offset indent\n{good}.Ed\n.Bd -literal\nkey = value\n.Ed\n"), 0);
    check("a.5", &format!(".Bd -literal\n{good}exclude_filter = \\(ha.*\\e.git$\n.Ed\n"), 0);
    check("a.5", &format!(".Bd -literal\n{good}exclude_filter = (\n.Ed\n"), 1);
    check("a.5", ".Bd -literal\n[scheduler s]\ntype = exec\ncmd = true\n.Ed\n", 1);
}
