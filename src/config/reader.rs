//! Reads files, judges whether root may trust them, and collects what is wrong with them.
//!
//! The names in `include` and `exclude_filter_file` are relative to the main file, so that moving the
//! folder breaks nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Diagnostics, Place, Span, quoted};
use super::host::{Host, Ownership};
use super::ini::Text;
use super::value::{pattern_error, report};
use crate::pattern::{Component, PathPattern};

/// Who wants a file read: that is where it is reported when it cannot be.
#[derive(Clone, Copy)]
pub enum Asker {
    /// The main file; there is nothing else to point to.
    CommandLine,
    /// A line of a file.
    Line(Span),
}

/// Reads files and collects what is wrong.
pub struct Reader<'a> {
    /// What is wrong so far.
    pub out: Diagnostics,
    /// The machine.
    pub host: &'a dyn Host,
    main: &'a Path,
    /// Directories that were asked about already.
    directories: HashSet<PathBuf>,
}

impl<'a> Reader<'a> {
    /// A reader of this main file and what it names.
    pub fn new(main: &'a Path, host: &'a dyn Host) -> Self {
        Self { out: Diagnostics::default(), host, main, directories: HashSet::new() }
    }

    /// The folder of the main file, empty for a bare name.
    fn base(&self) -> &'a Path {
        self.main.parent().unwrap_or(Path::new(""))
    }

    /// Reads and registers a file. `None`: it cannot be read, which is reported.
    pub fn read(&mut self, path: &Path, asker: Asker) -> Option<(usize, Arc<[u8]>)> {
        let name = path.as_os_str().as_encoded_bytes();
        match self.host.read(path) {
            Ok(file) => {
                let text: Arc<[u8]> = file.text.into();
                let index = self.out.add_source(name, text.clone());
                self.check_ownership(index, file.ownership, &file.directories);
                Some((index, text))
            }
            Err(error) => {
                match asker {
                    Asker::Line(span) => {
                        self.out.error(span, format!("cannot read {}: {error}", quoted(name)))
                    }
                    Asker::CommandLine => {
                        let file = self.out.add_source(name, Arc::default());
                        self.out.error(Place::File(file), format!("cannot be read: {error}"));
                    }
                }
                None
            }
        }
    }

    fn check_ownership(&mut self, file: usize, own: Ownership, directories: &[(PathBuf, Ownership)]) {
        if !self.host.is_root() {
            return;
        }
        if let Some(objection) = objection(own) {
            let message = format!("root cannot trust this file: {objection}");
            self.out.error(Place::File(file), message);
        }
        for (directory, ownership) in directories {
            if !self.directories.insert(directory.clone()) {
                continue;
            }
            if let Some(objection) = objection(*ownership) {
                let directory = quoted(directory.as_os_str().as_encoded_bytes());
                let message = format!("root cannot trust the directory {directory}: {objection}");
                self.out.error(Place::File(file), message);
            }
        }
    }

    /// The files that `include` means, each once, without the main file.
    pub fn included(&mut self, includes: &[Text]) -> Vec<(PathBuf, Span)> {
        let mut found: Vec<(PathBuf, Span)> = Vec::new();
        let mut known: HashSet<PathBuf> = HashSet::from([self.main.to_owned()]);
        for item in includes {
            for path in self.list(item) {
                if known.insert(path.clone()) {
                    found.push((path, item.span));
                }
            }
        }
        found
    }

    fn list(&mut self, item: &Text) -> Vec<PathBuf> {
        let text = &item.bytes;
        let absolute = text.starts_with(b"/");
        let base = if absolute { Path::new("/") } else { self.base() };
        let slash = if absolute { b"".as_slice() } else { b"/" };
        let parsed = PathPattern::parse(&[slash, text].concat());
        let parsed = parsed.map_err(|error| pattern_error(text, error));
        let Some(pattern) = report(item, parsed, &mut self.out) else { return Vec::new() };
        let literal = pattern.components.iter().all(|part| matches!(part, Component::Literal(_)));
        if literal && !text.ends_with(b".conf") {
            self.out.error(item.span, "only names ending in .conf are included");
        }
        match self.host.list(base, &pattern) {
            Ok(mut paths) => {
                paths.retain(|path| path.as_os_str().as_encoded_bytes().ends_with(b".conf"));
                paths
            }
            Err(error) => {
                self.out.error(item.span, format!("cannot look for {}: {error}", quoted(text)));
                Vec::new()
            }
        }
    }

    /// The lines of a file with one value a line. Blank lines and those whose first byte that is
    /// not blank is `#` are left out, as pyinotify does. An unreadable file is reported.
    pub fn lines(&mut self, item: &Text) -> Vec<Text> {
        let path = self.base().join(path_of(&item.bytes));
        let Some((file, text)) = self.read(&path, Asker::Line(item.span)) else { return Vec::new() };
        let mut start = 0;
        let mut lines = Vec::new();
        for line in text.split(|&byte| byte == b'\n') {
            let bytes = line.strip_suffix(b"\r").unwrap_or(line).to_vec();
            let span = Span { file, start, end: start + bytes.len() };
            let line_len = line.len();
            let value = Text { bytes, span }.trimmed();
            if !matches!(value.bytes.first(), None | Some(b'#')) {
                lines.push(value);
            }
            start += line_len + 1;
        }
        lines
    }
}

fn path_of(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}

/// Why root cannot trust something, with the way out; `None` when it can.
fn objection(Ownership { uid, gid, mode }: Ownership) -> Option<String> {
    if uid != 0 {
        return Some(format!("it belongs to user id {uid} (chown root)"));
    }
    if mode & 0o002 != 0 {
        return Some(format!("everybody can write to it, its mode is {:04o} (chmod o-w)", mode & 0o7777));
    }
    if mode & 0o020 != 0 && gid != 0 {
        return Some(format!(
            "group id {gid} can write to it, its mode is {:04o} (chmod g-w)",
            mode & 0o7777
        ));
    }
    None
}
