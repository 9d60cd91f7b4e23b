//! From the main file to a [`Config`]: reads it and what it includes, and reports all errors at
//! once.
//!
//! An included file may hold any section, and keys of `[daemon]` and `[log]` that no other file
//! sets, but not `include`. The names in `include` and `exclude_filter_file` are relative to the
//! main file, so that moving the folder breaks nothing.
//!
//! A daemon running as root reads only files that nobody else can change: owned by root, writable
//! by no group but root's and by no others, in a directory of which the same is true. A sticky bit
//! does not help: it keeps others from removing a file, not from adding one that matches `include`.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::Config;
use super::build;
use super::diagnostics::{Diagnostics, Place, Span, quoted};
use super::fields;
use super::ini::{self, Section, Text};
use super::usage;
use super::value;
use crate::pattern::{Component, PathPattern};
use crate::types::Identity;

/// What the loader must know of the machine. `shell::host` has the real one.
pub trait Host {
    /// Reads a file, with its owner as of the descriptor that was read.
    ///
    /// # Errors
    ///
    /// Those of open(2) and read(2), and a file that is no regular file or far too large.
    fn read(&self, path: &Path) -> io::Result<HostFile>;

    /// The files below `base` that a pattern means, sorted by name. A pattern without wildcards
    /// means one file, whether it exists or not.
    ///
    /// # Errors
    ///
    /// Those of listing a directory, except that a missing one holds nothing.
    fn list(&self, base: &Path, pattern: &PathPattern) -> io::Result<Vec<PathBuf>>;

    /// A user by name or number. Without `group` the primary group is the user's own.
    ///
    /// # Errors
    ///
    /// Those of the user database.
    fn user(&self, name: &str, group: Option<u32>) -> io::Result<Option<Identity>>;

    /// A group's number, by name or number.
    ///
    /// # Errors
    ///
    /// Those of the group database.
    fn group(&self, name: &str) -> io::Result<Option<u32>>;

    /// Whether the daemon runs as root.
    fn is_root(&self) -> bool;
}

/// A file as read.
#[derive(Clone, Debug)]
pub struct HostFile {
    /// What it holds.
    pub text: Vec<u8>,
    /// Whose it is.
    pub ownership: Ownership,
    /// The directory it was found in and, when that was by a symbolic link, the one it is in.
    pub directories: Vec<(PathBuf, Ownership)>,
}

/// Whose a file or directory is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

/// A configuration that can be used.
#[derive(Debug)]
pub struct Loaded {
    /// Complete and valid.
    pub config: Config,
    /// What is probably not meant; no errors.
    pub warnings: Diagnostics,
}

/// Reads the main file and all it names.
///
/// # Errors
///
/// Everything that is wrong, and the warnings found on the way.
pub fn load(path: &Path, host: &dyn Host) -> Result<Loaded, Diagnostics> {
    let mut reader = Reader::new(path, host);
    let Some(main) = reader.read(path, Asker::CommandLine) else { return Err(reader.out) };
    let mut sections = ini::parse(main.0, &main.1, &mut reader.out);
    let includes = take_includes(&mut sections);
    for included in reader.included(&includes) {
        sections.extend(reader.include(&included));
    }
    let sections = fields::check(&sections, &mut reader.out);
    let config = build::config(&sections, &mut reader);
    let mut out = reader.out;
    if out.has_errors() {
        return Err(out);
    }
    usage::check(&config, &sections, &mut out);
    Ok(Loaded { config, warnings: out })
}

/// Takes the `include` lines out of `[daemon]`. Only the main file is asked, so that what is read
/// can be seen in one place.
fn take_includes(sections: &mut [Section]) -> Vec<Text> {
    let mut includes = Vec::new();
    for section in sections.iter_mut().filter(|section| section.kind.bytes == b"daemon") {
        for entry in section.entries.extract_if(.., |entry| entry.key.bytes == b"include") {
            includes.extend(entry.values);
        }
    }
    includes
}

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
    directories: Vec<PathBuf>,
}

impl<'a> Reader<'a> {
    fn new(main: &'a Path, host: &'a dyn Host) -> Self {
        Self { out: Diagnostics::default(), host, main, directories: Vec::new() }
    }

    /// The folder of the main file, empty for a bare name.
    fn base(&self) -> &'a Path {
        self.main.parent().unwrap_or(Path::new(""))
    }

    /// Reads and registers a file. `None`: it cannot be read, which is reported.
    fn read(&mut self, path: &Path, asker: Asker) -> Option<(usize, Arc<[u8]>)> {
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
            if self.directories.contains(directory) {
                continue;
            }
            self.directories.push(directory.clone());
            if let Some(objection) = objection(*ownership) {
                let directory = quoted(directory.as_os_str().as_encoded_bytes());
                let message = format!("root cannot trust the directory {directory}: {objection}");
                self.out.error(Place::File(file), message);
            }
        }
    }

    /// The files that `include` means, each once, without the main file.
    fn included(&mut self, includes: &[Text]) -> Vec<(PathBuf, Span)> {
        let mut found: Vec<(PathBuf, Span)> = Vec::new();
        for item in includes {
            for path in self.list(item) {
                if path != self.main && !found.iter().any(|(known, _)| *known == path) {
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
        let parsed = parsed.map_err(|error| value::pattern_error(text, error));
        let Some(pattern) = fields::report(item, parsed, &mut self.out) else { return Vec::new() };
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

    fn include(&mut self, (path, asker): &(PathBuf, Span)) -> Vec<Section> {
        let Some((file, text)) = self.read(path, Asker::Line(*asker)) else { return Vec::new() };
        let mut sections = ini::parse(file, &text, &mut self.out);
        for item in take_includes(&mut sections) {
            self.out.error(item.span, "an included file cannot include others: name them in the main file");
        }
        sections
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

#[cfg(test)]
mod tests;
