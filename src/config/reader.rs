//! Reads files, judges whether root may trust them, and collects errors.
//!
//! The names in `include` and `exclude_filter_file` are relative to the main file, so that moving the
//! folder breaks nothing.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::diagnostics::{Bad, Diagnostics, Place, Span, quoted};
use super::host::Host;
use super::ini::Text;
use super::trust::{self, Kind};
use super::value::{pattern_error, report};
use crate::pattern::{Component, PathPattern, PatternError};

/// What names a file. An error about the file is reported there.
#[derive(Clone, Copy)]
pub enum Asker {
    /// The command line names the main file. The error is reported at the file itself.
    CommandLine,
    /// A line of a file.
    Line(Span),
}

/// Reads files and collects errors.
pub struct Reader<'a> {
    /// The errors and warnings so far.
    pub out: Diagnostics,
    /// The machine.
    pub host: &'a dyn Host,
    main: &'a Path,
    /// Parts of paths that were reported already.
    untrusted: HashSet<PathBuf>,
}

impl<'a> Reader<'a> {
    /// A reader of this main file and what it names.
    pub fn new(main: &'a Path, host: &'a dyn Host) -> Self {
        Self { out: Diagnostics::default(), host, main, untrusted: HashSet::new() }
    }

    /// The folder of the main file, empty for a bare name.
    fn base(&self) -> &'a Path {
        self.main.parent().unwrap_or(Path::new(""))
    }

    /// Reads and registers a file. `None`: it cannot be read, or root cannot trust it, which is reported.
    pub fn read(&mut self, path: &Path, asker: Asker) -> Option<(usize, Arc<[u8]>)> {
        let name = path.as_os_str().as_encoded_bytes();
        let judges = self.host.is_root();
        let mut untrusted = None;
        let read = self.host.read(path, &mut |part| {
            let why = if judges { trust::objection(&part) } else { None };
            untrusted = why.map(|why| (part.path.to_owned(), part.kind, why));
            untrusted.is_none()
        });
        match (read, untrusted) {
            (Ok(Some(text)), _) => {
                let text: Arc<[u8]> = text.into();
                return Some((self.out.add_source(name, text.clone()), text));
            }
            (Ok(None), Some((part, kind, why))) => self.distrust(name, part, kind, &why),
            (Ok(None), None) => {}
            (Err(error), _) => match asker {
                Asker::Line(span) => {
                    self.out.error(span, format!("cannot read {}: {error}", quoted(name)));
                }
                Asker::CommandLine => {
                    let file = self.out.add_source(name, Arc::default());
                    self.out.error(Place::File(file), format!("cannot be read: {error}"));
                }
            },
        }
        None
    }

    /// Reports why root does not read a file. A part that several files share is reported once.
    fn distrust(&mut self, name: &[u8], part: PathBuf, kind: Kind, why: &str) {
        let what = match kind {
            Kind::Directory => "the directory",
            Kind::Link => "the symbolic link",
            Kind::File => "the file",
        };
        let shown = quoted(part.as_os_str().as_encoded_bytes());
        if self.untrusted.insert(part) {
            let file = self.out.add_source(name, Arc::default());
            self.out.error(Place::File(file), format!("root cannot trust {what} {shown}: {why}"));
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
        let parsed = parsed.map_err(|error| match error {
            PatternError::DoubleStar => Bad::whole(
                text,
                format!("{} holds **: write each folder as an item of its own", quoted(text)),
            ),
            other => pattern_error(text, other),
        });
        let Some(pattern) = report(item, parsed, &mut self.out) else { return Vec::new() };
        let literal = pattern.components.iter().all(|part| matches!(part, Component::Literal(_)));
        if literal && !text.ends_with(b".conf") {
            self.out.error(item.span, "only names ending in .conf are included");
        }
        match self.host.list(base, &pattern) {
            Ok(mut paths) => {
                paths.retain(|path| path.as_os_str().as_encoded_bytes().ends_with(b".conf"));
                if paths.is_empty() && !literal {
                    self.out.warning(item.span, "no file matches, so this includes nothing");
                }
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
