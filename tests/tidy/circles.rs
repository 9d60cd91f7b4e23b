//! No file imports, by way of others, from itself: so each can be read after those that it imports from.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::imports::Sources;
use crate::repository::sources;

/// Folders of `src` whose files form no circle.
const AREAS: [&str; 4] = ["config", "engine", "face", "shell/fileops"];

/// Who imports from whom, in one folder; without test modules.
type Graph<'a> = BTreeMap<&'a str, Vec<&'a str>>;

fn graph<'a>(sources: &'a Sources, area: &str) -> Graph<'a> {
    let (folder, file) = (format!("src/{area}/"), format!("src/{area}.rs"));
    let is_test = |path: &str| path.split('/').any(|part| part == "tests" || part == "tests.rs");
    let belongs = |path: &str| (path.starts_with(&folder) || path == file) && !is_test(path);
    let files = sources.paths().filter(|path| belongs(path));
    let imported = |path| sources.imported_files(path).into_iter().filter(|path| belongs(path)).collect();
    files.map(|path| (path, imported(path))).collect()
}

/// The shortest way from a file back to itself.
fn circle_through<'a>(graph: &Graph<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut from: BTreeMap<&str, &str> = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(file) = queue.pop_front() {
        for &next in graph.get(file).into_iter().flatten() {
            if next == start {
                let mut circle = vec![start, file];
                while circle.last() != Some(&start) {
                    circle.push(from[circle[circle.len() - 1]]);
                }
                circle.reverse();
                return Some(circle);
            }
            if !from.contains_key(next) {
                from.insert(next, file);
                queue.push_back(next);
            }
        }
    }
    None
}

/// The shortest circle through each file that is part of one. Of those that share an import only the shortest
/// is told, since without that import none of them is one.
fn circles(sources: &Sources, area: &str) -> Vec<String> {
    let graph = graph(sources, area);
    let mut found: Vec<_> = graph.keys().filter_map(|file| circle_through(&graph, file)).collect();
    found.sort_by_key(Vec::len);
    let mut imports = BTreeSet::new();
    found.retain(|circle| {
        let own: Vec<_> = circle.windows(2).map(<[&str]>::to_vec).collect();
        let is_new = own.iter().all(|import| !imports.contains(import));
        imports.extend(own);
        is_new
    });
    found.iter().map(|circle| circle.join(" -> ")).collect()
}

#[test]
fn no_files_form_a_circle() {
    let sources = Sources::new(sources());
    let mut found = Vec::new();
    for area in AREAS {
        assert!(!graph(&sources, area).is_empty(), "src/{area} is empty");
        found.extend(circles(&sources, area));
    }
    assert!(found.is_empty(), "circles of imports:\n{}\n", found.join("\n"));
}

#[test]
fn the_circle_rule_finds_what_is_wrong() {
    let check = |files: &[(&str, &str)], expected: &[&str]| {
        let texts = files.iter().map(|(name, text)| (format!("src/a/{name}.rs"), (*text).to_owned()));
        let sources = Sources::new(texts);
        assert_eq!(circles(&sources, "a"), expected, "{files:?}");
    };
    check(&[("mod", "mod b; use b::B;"), ("b", "use super::c::C;"), ("c", "")], &[]);
    check(
        &[("mod", "mod b; use b::B;"), ("b", "use super::A;")],
        &["src/a/b.rs -> src/a/mod.rs -> src/a/b.rs"],
    );
    check(
        &[("b", "use super::c;"), ("c", "use super::d::D;"), ("d", "fn f() { super::b::g() }")],
        &["src/a/b.rs -> src/a/c.rs -> src/a/d.rs -> src/a/b.rs"],
    );
    // What a module only passes on, its children may use.
    check(&[("mod", "mod b; mod c; pub use b::B;"), ("b", ""), ("c", "use super::B;")], &[]);
    check(&[("b", "#[cfg(test)]\nmod tests { use super::super::c; }"), ("c", "use super::b;")], &[]);
    check(&[("b", "use super::tests::T;"), ("tests", "use super::b;")], &[]);
}
