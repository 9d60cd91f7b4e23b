//! Which module of the crate imports what: read from `use` statements and from paths within the code.
//!
//! A name that a module re-exports (`pub use`) counts as imported from where it is defined. Tests are
//! left out: they may use what they like.

use std::collections::BTreeMap;

use crate::rust::{before_tests, code_of, group_items, is_word, line_of, prefix_positions, word_positions};

/// More re-exports than this one after the other are a circle.
const RE_EXPORTS_MAX: usize = 8;

/// A path in the crate, from its root on: modules, then perhaps an item.
type ModPath = Vec<String>;

/// An import of something in this crate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Import {
    pub line: usize,
    pub target: ModPath,
    /// It is a re-export that the module itself does not use.
    passed_on: bool,
}

/// The files below `src`.
pub struct Sources {
    texts: BTreeMap<String, String>,
    /// By module: its file.
    modules: BTreeMap<ModPath, String>,
    /// By module: what it exports under a name of its own.
    exports: BTreeMap<ModPath, Vec<ModPath>>,
}

impl Sources {
    pub fn new(texts: impl Iterator<Item = (String, String)>) -> Self {
        let texts: BTreeMap<_, _> = texts.collect();
        let modules = texts.keys().map(|path| (module_of_file(path), path.clone())).collect();
        let mut sources = Self { texts, modules, exports: BTreeMap::new() };
        let exports = sources.texts.keys().map(|path| {
            let (module, code) = (module_of_file(path), sources.code(path));
            let exported = uses(&code).into_iter().filter(|found| found.is_public);
            let targets = exported.filter_map(|found| sources.absolute(&module, &found.path));
            (module.clone(), targets.collect())
        });
        sources.exports = exports.collect();
        sources
    }

    pub fn text(&self, path: &str) -> &str {
        &self.texts[path]
    }

    #[allow(clippy::unused_self, reason = "how a file belongs to a module is for this to say")]
    pub fn module(&self, path: &str) -> ModPath {
        module_of_file(path)
    }

    pub fn paths(&self) -> impl Iterator<Item = &str> {
        self.texts.keys().map(String::as_str)
    }

    fn code(&self, path: &str) -> String {
        before_tests(&code_of(&self.texts[path])).to_owned()
    }

    /// What a file imports from this crate.
    pub fn imports(&self, path: &str) -> Vec<Import> {
        let (module, code) = (module_of_file(path), self.code(path));
        let mut imports = Vec::new();
        let mut rest = code.clone();
        for found in uses(&code) {
            rest.replace_range(found.at..found.end, &" ".repeat(found.end - found.at));
            let Some(target) = self.absolute(&module, &found.path) else { continue };
            let is_used = target.last().is_some_and(|name| word_positions(&code, name).len() > 1);
            let passed_on = found.is_public && !is_used;
            imports.push(Import { line: line_of(&code, found.at), target: self.follow(target), passed_on });
        }
        for (at, path) in inline_paths(&rest) {
            let Some(target) = self.absolute(&module, &path) else { continue };
            imports.push(Import { line: line_of(&rest, at), target: self.follow(target), passed_on: false });
        }
        imports
    }

    /// The other files that a file imports from.
    pub fn imported_files(&self, path: &str) -> Vec<&str> {
        let used = self.imports(path).into_iter().filter(|import| !import.passed_on);
        let mut files: Vec<_> = used.filter_map(|import| self.file_of(&import.target)).collect();
        files.retain(|file| *file != path);
        files.sort_unstable();
        files.dedup();
        files
    }

    /// The file of the module that a path leads to or into.
    fn file_of(&self, target: &[String]) -> Option<&str> {
        Some(&self.modules[self.module_in(target)?])
    }

    /// The modules at the beginning of a path.
    fn module_in<'a>(&self, target: &'a [String]) -> Option<&'a [String]> {
        (0..=target.len()).rev().map(|len| &target[..len]).find(|module| self.modules.contains_key(*module))
    }

    /// From the root on; nothing if the path leads to another crate.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<ModPath> {
        let mut base = module.to_vec();
        let mut rest = path;
        match path.first()?.as_str() {
            "crate" => {
                base.clear();
                rest = &path[1..];
            }
            "self" => rest = &path[1..],
            "super" => {}
            first => {
                let child = [module, &[first.to_owned()]].concat();
                self.modules.contains_key(&child).then_some(())?;
            }
        }
        while rest.first().is_some_and(|first| first == "super") {
            base.pop()?;
            rest = &rest[1..];
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// Where a name is defined that a module re-exports.
    fn follow(&self, mut target: ModPath) -> ModPath {
        for _ in 0..RE_EXPORTS_MAX {
            let Some(module) = self.module_in(&target) else { break };
            let Some(name) = target.get(module.len()) else { break };
            let exports = self.exports.get(module).into_iter().flatten();
            let Some(export) = exports.into_iter().find(|export| export.last() == Some(name)) else { break };
            target = [export.as_slice(), &target[module.len() + 1..]].concat();
        }
        target
    }
}

fn module_of_file(path: &str) -> ModPath {
    let path = path.trim_start_matches("src/").trim_end_matches(".rs").trim_end_matches("/mod");
    if path == "lib" { Vec::new() } else { path.split('/').map(str::to_owned).collect() }
}

/// One name of a `use` statement.
struct Use {
    /// Where the statement is in the code.
    at: usize,
    end: usize,
    is_public: bool,
    path: ModPath,
}

fn uses(code: &str) -> Vec<Use> {
    let mut found = Vec::new();
    for at in word_positions(code, "use") {
        let before = code[..at].trim_end();
        let is_public = before.ends_with("pub") || before.ends_with(')') && before.contains("pub(");
        let Some(len) = code[at..].find(';') else { continue };
        let mut paths = Vec::new();
        expand(&code[at + "use".len()..at + len], &Vec::new(), &mut paths);
        found.extend(paths.into_iter().map(|path| Use { at, end: at + len, is_public, path }));
    }
    found
}

/// Takes the groups of a `use` apart. `as` and what follows does not matter here.
fn expand(tree: &str, prefix: &ModPath, paths: &mut Vec<ModPath>) {
    let (head, group) = tree.split_once('{').map_or((tree, None), |(head, group)| (head, Some(group)));
    let head = head.split(" as ").next().unwrap_or_default();
    let mut path = prefix.clone();
    let names = head.split("::").map(str::trim).filter(|name| !name.is_empty());
    path.extend(names.filter(|name| prefix.is_empty() || *name != "self").map(str::to_owned));
    match group {
        Some(group) => group_items(group).for_each(|item| expand(item, &path, paths)),
        None => paths.push(path),
    }
}

/// Paths from the root or a parent that stand in the code itself.
fn inline_paths(code: &str) -> Vec<(usize, ModPath)> {
    let mut found: Vec<(usize, ModPath)> = Vec::new();
    let mut end = 0;
    let mut starts: Vec<_> =
        ["crate::", "super::"].into_iter().flat_map(|prefix| prefix_positions(code, prefix)).collect();
    starts.sort_unstable();
    for at in starts {
        // Within the path before it; or a visibility, pub(in PATH).
        if at < end || code[..at].ends_with("(in ") {
            continue;
        }
        let len = code[at..].bytes().take_while(|&byte| is_word(byte) || byte == b':').count();
        end = at + len;
        let names = code[at..end].split("::").filter(|name| !name.is_empty());
        found.push((at, names.map(str::to_owned).collect()));
    }
    found
}

#[test]
fn imports_are_resolved() {
    let check = |text: &str, expected: &[&str]| {
        let others = ["lib", "a/mod", "a/b", "a/c", "d"].map(|name| format!("src/{name}.rs"));
        let re_export = |name: &str| if name == "src/a/mod.rs" { "pub use c::Thing;" } else { "" };
        let others = others.map(|name| (name.clone(), re_export(&name).to_owned()));
        let path = "src/a/it.rs";
        let sources = Sources::new(others.into_iter().chain([(path.to_owned(), text.to_owned())]));
        let imports = sources.imports(path).into_iter().map(|import| import.target.join("::"));
        assert_eq!(imports.collect::<Vec<_>>(), expected, "{text}");
    };
    check("use std::fs; use super::b;", &["a::b"]);
    check("use super::{b::{One, Two as Three}, c::*}; fn f() {}", &["a::b::One", "a::b::Two", "a::c::*"]);
    check("use crate::a::{self, b::{self, One}};", &["a", "a::b", "a::b::One"]);
    check(
        "pub(crate) use crate::d::Name;\nfn f() { super::super::d::g(crate::a::b::h) }",
        &["d::Name", "d::g", "a::b::h"],
    );
    check("pub(in crate::a) struct Own(pub(in crate::a) u8);", &[]);
    check("use super::Thing; use crate::a::Other;", &["a::c::Thing", "a::Other"]);
    check("// use super::b;\n#[cfg(test)]\nmod tests { use super::super::b; }", &[]);
}
