//! Which module may import from which, and the one door to the kernel.

use std::fs;

use crate::imports::Sources;
use crate::repository::{enforce, root, sources};
use crate::rust::{before_tests, code_of, line_of, names_after, prefix_positions, word_positions};

/// The modules that `lib.rs` declares, each with its layer.
const LAYERS: [(&str, u8); 14] = [
    ("event", WORDS),
    ("types", WORDS),
    ("record", WORDS),
    ("quote", WORDS),
    ("rows", WORDS),
    ("template", PURE),
    ("script", PURE),
    ("replacement", PURE),
    ("pattern", PURE),
    ("config", PURE),
    ("engine", PURE),
    ("sys", 2),
    ("shell", 3),
    ("face", 4),
];
const WORDS: u8 = 0;
const PURE: u8 = 1;
const SYS: u8 = 2;

/// What the pure layers must not touch, and the words even less.
const IMPURE: [&str; 5] = ["fs", "env", "thread", "time", "process"];

/// The two rooms of the engine. Neither imports from the other, but for the doors.
const ROOMS: [[&str; 2]; 2] = [["engine", "watcher"], ["engine", "tasks"]];

/// What a room may import from the other one: what tasks may ask of the tree.
const DOORS: [&[&str]; 1] = [&["engine", "watcher", "places"]];

/// What holds both rooms. A room that names it could reach the other one through it.
const WHOLE: &str = "Engine";

fn layer(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// The top-level module that a file of `src` belongs to.
fn module_of(path: &str) -> &str {
    let path = path.strip_prefix("src/").unwrap_or(path);
    path.split('/').next().unwrap_or(path).trim_end_matches(".rs")
}

/// Words and pure modules may import from their own layer, everything from lower ones; `sys` only
/// words. `lib.rs` declares, and `main.rs` stands on top of all.
fn check_layers(path: &str, text: &str) -> Vec<(usize, String)> {
    let module = module_of(path);
    if module == "lib" || module == "main" {
        return Vec::new();
    }
    let Some(own) = layer(module) else {
        return vec![(1, format!("module {module} has no layer, tests/tidy/layers.rs has the table"))];
    };
    let code = code_of(text);
    let mut findings = Vec::new();
    for (line, name) in names_after(&code, "crate::") {
        let allowed = match layer(&name) {
            _ if name == module => true,
            Some(other) if own == SYS => other == WORDS,
            Some(other) if own <= PURE => other <= own,
            Some(other) => other < own,
            // A macro or a re-export at the root would hide where it comes from.
            None => false,
        };
        if !allowed {
            findings.push((line, format!("{module} must not import crate::{name}")));
        }
    }
    findings.extend(supers_to_the_root(path, &code));
    if own <= PURE {
        let banned = names_after(before_tests(&code), "std::");
        let banned = banned.into_iter().filter(|(_, name)| IMPURE.contains(&name.as_str()));
        findings.extend(
            banned.map(|(line, name)| (line, format!("{module} is pure, it must not use std::{name}"))),
        );
    }
    findings
}

/// Chains of `super::` that reach the root of the crate, where the layer no longer shows.
fn supers_to_the_root(path: &str, code: &str) -> Vec<(usize, String)> {
    let module = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    let depth = module.split('/').count();
    let tests = before_tests(code).len();
    let mut findings = Vec::new();
    let mut after_chain = 0;
    for at in prefix_positions(code, "super::") {
        if at < after_chain {
            continue;
        }
        let count = code[at..].split("super::").take_while(|between| between.is_empty()).count();
        after_chain = at + count * "super::".len();
        // The tests are a module of their own below the file's.
        if count >= depth + usize::from(at > tests) {
            findings
                .push((line_of(code, at), "too many super::, write crate:: so that the layer shows".into()));
        }
    }
    findings
}

#[test]
fn every_module_imports_only_from_layers_below() {
    enforce(sources(), check_layers);
    let declared = fs::read_to_string(root().join("src/lib.rs")).unwrap();
    let modules = declared.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let mut modules: Vec<_> = modules.collect();
    let mut table: Vec<_> = LAYERS.iter().map(|(name, _)| *name).collect();
    modules.sort_unstable();
    table.sort_unstable();
    assert_eq!(modules, table, "src/lib.rs against the table of layers");
}

#[test]
fn the_layer_rule_finds_what_is_wrong() {
    let check = |path, text, expected: usize| {
        assert_eq!(check_layers(path, text).len(), expected, "{path}: {text}");
    };
    check("src/engine/tree.rs", "use crate::types::Wd; use crate::config::Config;", 0);
    check("src/engine/tree.rs", "use crate::{types::Wd, sys::{epoll, shell}, shell};", 2);
    check("src/engine/tree.rs", "// crate::sys\nlet text = \"crate::sys\";", 0);
    check("src/engine/mod.rs", "use std::{io, fs};", 1);
    check("src/engine/mod.rs", "fn f() { std::thread::yield_now() }", 1);
    check("src/engine/mod.rs", "#[cfg(test)]\nmod tests { use std::fs; }", 0);
    check("src/engine/mod.rs", "#[cfg(test)]\nmod tests { use crate::sys; }", 1);
    check("src/event.rs", "use crate::engine;", 1);
    check("src/event.rs", "use std::time::Duration;", 1);
    check("src/sys/clock.rs", "use crate::types::Millis; use std::time::Instant; use crate::sys::errno;", 0);
    check("src/sys/clock.rs", "use crate::config::Config;", 1);
    check("src/shell/mod.rs", "use crate::{engine, sys, config};", 0);
    check("src/shell/mod.rs", "use crate::face::cli;", 1);
    check("src/shell/a/b.rs", "use super::super::c;", 0);
    check("src/shell/a/b.rs", "use super::super::super::face;", 1);
    check("src/engine/mod.rs", "use super::sys;", 1);
    check("src/engine/tree.rs", "use super::wheel;\n#[cfg(test)]\nmod tests { use super::super::wheel; }", 0);
    check("src/engine/tree.rs", "#[cfg(test)]\nmod tests { use super::super::super::sys; }", 1);
    check("src/face/mod.rs", "use crate::shell; use crate::newcomer::Thing;", 1);
    check("src/newcomer.rs", "", 1);
}

// The rooms of the engine.

/// What is wrong with a file of a room; nothing for any other file.
fn check_rooms(sources: &Sources, path: &str) -> Vec<(usize, String)> {
    let module = sources.module(path);
    let Some(room) = ROOMS.iter().find(|room| module.starts_with(&room.map(String::from))) else {
        return Vec::new();
    };
    let code = code_of(sources.text(path));
    let mut findings: Vec<_> = word_positions(&code, WHOLE)
        .into_iter()
        .map(|at| (line_of(&code, at), format!("{} must not name {WHOLE}", room.join("/"))))
        .collect();
    for import in sources.imports(path) {
        let within = |path: &[&str]| {
            import.target.len() >= path.len() && path.iter().zip(&import.target).all(|(a, b)| a == b)
        };
        let other = ROOMS.iter().filter(|other| *other != room).any(|other| within(other));
        if other && !DOORS.iter().any(|door| within(door)) {
            let target = import.target.join("::");
            findings.push((import.line, format!("{} must not import {target}", room.join("/"))));
        }
    }
    findings
}

#[test]
fn the_rooms_of_the_engine_meet_only_at_their_doors() {
    let tree = Sources::new(sources());
    enforce(sources(), |path, _| check_rooms(&tree, path));
}

#[test]
fn the_rule_of_the_rooms_finds_what_is_wrong() {
    let check = |path: &str, text: &str, expected: usize| {
        let others = ["mod", "told", "ids", "watcher/mod", "watcher/tree", "watcher/places", "tasks/mod"];
        let others = others.map(|name| (format!("src/engine/{name}.rs"), String::new()));
        let sources = Sources::new(others.into_iter().chain([(path.to_owned(), text.to_owned())]));
        assert_eq!(check_rooms(&sources, path).len(), expected, "{path}: {text}");
    };
    check("src/engine/tasks/table.rs", "use crate::engine::told::Told; use super::super::ids::TaskId;", 0);
    check("src/engine/tasks/table.rs", "use crate::engine::watcher::places::Places;", 0);
    check("src/engine/tasks/table.rs", "use crate::engine::watcher::tree::Tree;", 1);
    check("src/engine/tasks/table.rs", "use super::super::watcher::{places, tree};", 1);
    check("src/engine/tasks/table.rs", "fn f(tree: &crate::engine::watcher::tree::Tree) {}", 1);
    check("src/engine/watcher/renames.rs", "use super::tree::Tree; use crate::engine::ids;", 0);
    check("src/engine/watcher/renames.rs", "use crate::engine::tasks::Tasks;", 1);
    check("src/engine/watcher/renames.rs", "// Engine\nuse crate::engine::Engine;\nimpl Engine {}", 2);
    check("src/engine/watcher/mod.rs", "#[cfg(test)]\nmod tests { use crate::engine::Engine; }", 1);
    check("src/engine/queries.rs", "use super::{Engine, tasks, watcher};", 0);
}

// The one door to the kernel.

fn check_door(path: &str, text: &str) -> Vec<(usize, String)> {
    if path.starts_with("src/sys/") {
        return Vec::new();
    }
    let code = code_of(text);
    let find = |word| {
        let found = word_positions(&code, word);
        found.into_iter().map(|at| (line_of(&code, at), format!("{word} belongs into src/sys"))).collect()
    };
    ["unsafe", "libc", "nix"].into_iter().flat_map(|word| -> Vec<_> { find(word) }).collect()
}

#[test]
fn only_sys_talks_to_the_kernel() {
    enforce(sources(), check_door);
}

#[test]
fn the_door_rule_finds_what_is_wrong() {
    let check = |path, text, expected: usize| {
        assert_eq!(check_door(path, text).len(), expected, "{path}: {text}");
    };
    check("src/shell/mod.rs", "fn f() { unsafe { g() } }", 1);
    check("src/shell/mod.rs", "use libc;\nuse nix::{errno, fcntl};\nlet x = libc::EIO;", 3);
    check("src/shell/mod.rs", "#![deny(unsafe_code)] // unsafe\n", 0);
    check("src/sys/epoll.rs", "unsafe { libc::close(1) }", 0);
}
