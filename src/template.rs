//! Commands with placeholders: parsed once, filled in for each task.
//!
//! A template is filled in one pass, so a file called `{src_pathname}` is only a name. A command of sh
//! is no template: its values travel in the environment, see [`crate::script`].

use std::ffi::CString;

use crate::event::EventKind;

/// A placeholder that commands may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placeholder {
    /// `{maskname}`, the event name.
    Maskname,
    /// `{pathname}`, the path.
    Pathname,
    /// `{src_pathname}`, where a moved path came from; empty when it was not moved.
    SrcPathname,
    /// `{dirname}`, the path's directory.
    Dirname,
    /// `{filename}`, the path's last component.
    Filename,
    /// `{relpath}`, the path relative to the watch path; `.` for the watch path itself.
    Relpath,
    /// `{task_id}`.
    TaskId,
    /// `{is_dir}`, `1` or `0`.
    IsDir,
    /// `{attempt}`, counted from 1.
    Attempt,
}

impl Placeholder {
    /// All of them, with their names.
    pub const ALL: [(Self, &'static str); 9] = [
        (Self::Maskname, "maskname"),
        (Self::Pathname, "pathname"),
        (Self::SrcPathname, "src_pathname"),
        (Self::Dirname, "dirname"),
        (Self::Filename, "filename"),
        (Self::Relpath, "relpath"),
        (Self::TaskId, "task_id"),
        (Self::IsDir, "is_dir"),
        (Self::Attempt, "attempt"),
    ];

    /// What every task finds in its environment, beside RINOTIFYD_SCHEDULER.
    const ALWAYS: [Self; 7] = [
        Self::Maskname,
        Self::Pathname,
        Self::SrcPathname,
        Self::Relpath,
        Self::TaskId,
        Self::IsDir,
        Self::Attempt,
    ];

    /// The environment variable that holds the value.
    #[must_use]
    pub const fn variable(self) -> &'static str {
        match self {
            Self::Maskname => "RINOTIFYD_EVENT",
            Self::Pathname => "RINOTIFYD_PATH",
            Self::SrcPathname => "RINOTIFYD_SRC_PATH",
            Self::Dirname => "RINOTIFYD_DIRNAME",
            Self::Filename => "RINOTIFYD_FILENAME",
            Self::Relpath => "RINOTIFYD_REL_PATH",
            Self::TaskId => "RINOTIFYD_TASK_ID",
            Self::IsDir => "RINOTIFYD_IS_DIR",
            Self::Attempt => "RINOTIFYD_ATTEMPT",
        }
    }

    /// The value is a number that the daemon made: it can be evaluated.
    #[must_use]
    pub const fn is_number(self) -> bool {
        matches!(self, Self::TaskId | Self::IsDir | Self::Attempt)
    }
}

/// The variable that holds the scheduler's name.
const SCHEDULER: &str = "RINOTIFYD_SCHEDULER";

/// Whether a variable's name is one of those that the daemon sets for a task, which are not inherited.
#[must_use]
pub fn is_task_variable(name: &[u8]) -> bool {
    let base = name.strip_suffix(QUOTED.as_bytes()).unwrap_or(name);
    name == SCHEDULER.as_bytes()
        || Placeholder::ALL.iter().any(|(placeholder, _)| placeholder.variable().as_bytes() == base)
}

/// What the name of the variable of a quoted value ends in.
const QUOTED: &str = "_QUOTED";

/// A placeholder as it is written: `{pathname}`, or `{pathname@Q}`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Value {
    /// Which value.
    pub placeholder: Placeholder,
    /// Quoted for a further shell, such as that of another machine.
    pub quoted: bool,
}

impl Value {
    /// The placeholder that a text begins with, and how long it is.
    #[must_use]
    pub fn at(text: &[u8]) -> Option<(Self, usize)> {
        let body = text.strip_prefix(b"{")?;
        // `src_pathname@Q` is the longest.
        let len = body.iter().take(16).position(|&byte| byte == b'}')?;
        let (name, quoted) = match body[..len].strip_suffix(b"@Q") {
            Some(name) => (name, true),
            None => (&body[..len], false),
        };
        let known = Placeholder::ALL.into_iter().find(|(_, known)| known.as_bytes() == name);
        known.map(|(placeholder, _)| (Self { placeholder, quoted }, len + 2))
    }

    /// The environment variable that holds it.
    #[must_use]
    pub fn variable(self) -> String {
        format!("{}{}", self.placeholder.variable(), if self.quoted { QUOTED } else { "" })
    }
}

/// A command, or one word of it, ready to be filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(Box<[u8]>),
    Value(Value),
}

/// What the placeholders of one task stand for.
#[derive(Clone, Copy, Debug)]
pub struct Values<'a> {
    /// The event.
    pub kind: EventKind,
    /// The path, absolute.
    pub path: &'a [u8],
    /// Where a moved path came from; empty when it was not moved.
    pub src_path: &'a [u8],
    /// The path relative to the watch path.
    pub rel_path: &'a [u8],
    /// The task.
    pub task_id: u64,
    /// Whether the path is a directory.
    pub is_dir: bool,
    /// Which attempt at the task this is, from 1.
    pub attempt: u32,
}

impl Values<'_> {
    /// Appends a value.
    pub fn append(&self, out: &mut Vec<u8>, value: Value) {
        let numeral;
        let bytes = match value.placeholder {
            Placeholder::Maskname => self.kind.name().as_bytes(),
            Placeholder::Pathname => self.path,
            Placeholder::SrcPathname => self.src_path,
            Placeholder::Dirname => split_path(self.path).0,
            Placeholder::Filename => split_path(self.path).1,
            Placeholder::Relpath => self.rel_path,
            Placeholder::IsDir => [b"0", b"1"][usize::from(self.is_dir)],
            Placeholder::TaskId | Placeholder::Attempt => {
                let attempt = u64::from(self.attempt);
                let is_id = value.placeholder == Placeholder::TaskId;
                numeral = (if is_id { self.task_id } else { attempt }).to_string();
                numeral.as_bytes()
            }
        };
        if value.quoted { quote(out, bytes) } else { out.extend_from_slice(bytes) }
    }

    /// The environment variables of a task: those that every task has, and further ones.
    #[must_use]
    pub fn environment(&self, scheduler: &str, further: &[Value]) -> Vec<CString> {
        let always = Placeholder::ALWAYS.map(|placeholder| Value { placeholder, quoted: false });
        let further = further.iter().filter(|value| !always.contains(value)).copied();
        let mut variables: Vec<_> = always
            .into_iter()
            .chain(further)
            .map(|value| {
                let mut variable = format!("{}=", value.variable()).into_bytes();
                self.append(&mut variable, value);
                c_string(variable)
            })
            .collect();
        variables.push(c_string(format!("{SCHEDULER}={scheduler}").into_bytes()));
        variables
    }
}

/// Paths hold no NUL, nor does the configuration; should one turn up, the rest is cut off.
#[must_use]
pub fn c_string(bytes: Vec<u8>) -> CString {
    CString::new(bytes).unwrap_or_else(|error| {
        let end = error.nul_position();
        let mut bytes = error.into_vec();
        bytes.truncate(end);
        CString::new(bytes).unwrap_or_default()
    })
}

/// Directory and last component of an absolute path; `/` is its own directory.
#[must_use]
pub fn split_path(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(0) => (b"/", &path[1..]),
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (b"", path),
    }
}

impl Template {
    /// Finds the placeholders. Any other brace is text.
    #[must_use]
    pub fn parse(text: &[u8]) -> Self {
        let mut parts = Vec::new();
        let mut literal = Vec::new();
        let mut rest = text;
        while let Some(&byte) = rest.first() {
            let found = Value::at(rest);
            if let Some((value, len)) = found {
                if !literal.is_empty() {
                    parts.push(Part::Text(std::mem::take(&mut literal).into()));
                }
                parts.push(Part::Value(value));
                rest = &rest[len..];
            } else {
                literal.push(byte);
                rest = &rest[1..];
            }
        }
        if !literal.is_empty() {
            parts.push(Part::Text(literal.into()));
        }
        Self { parts }
    }

    /// The text, when there is nothing to fill in.
    #[must_use]
    pub fn literal(&self) -> Option<&[u8]> {
        match self.parts.as_slice() {
            [] => Some(b""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// What is to be filled in.
    pub fn values(&self) -> impl Iterator<Item = Value> {
        self.parts.iter().filter_map(|part| match part {
            Part::Text(_) => None,
            Part::Value(value) => Some(*value),
        })
    }

    /// Fills in the values.
    #[must_use]
    pub fn fill(&self, values: &Values<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        for part in &self.parts {
            match part {
                Part::Text(text) => out.extend_from_slice(text),
                Part::Value(value) => values.append(&mut out, *value),
            }
        }
        out
    }
}

/// Appends `value` as one word of sh: between single quotes; a single quote inside becomes `'\''`, which
/// leaves no byte that sh could read as anything but itself (POSIX.1-2017, Shell Command Language,
/// 2.2.2).
pub fn quote(out: &mut Vec<u8>, value: &[u8]) {
    out.push(b'\'');
    for &byte in value {
        if byte == b'\'' {
            out.extend_from_slice(br"'\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUES: Values<'_> = Values {
        kind: EventKind::MovedTo,
        path: b"/d/it's {src_pathname}\xff",
        src_path: b"/s/$(id)",
        rel_path: b"it's {src_pathname}\xff",
        task_id: 7,
        is_dir: false,
        attempt: 1,
    };

    fn check(template: &str, filled: &[u8]) {
        assert_eq!(Template::parse(template.as_bytes()).fill(&VALUES), filled);
    }

    #[test]
    fn every_placeholder_is_filled_in() {
        check("{maskname}", b"IN_MOVED_TO");
        check("{dirname}:{filename}", b"/d:it's {src_pathname}\xff");
        check("{relpath}", b"it's {src_pathname}\xff");
        check("{task_id} {is_dir} {attempt}", b"7 0 1");
        check("{src_pathname@Q} {filename@Q}", b"'/s/$(id)' 'it'\\''s {src_pathname}\xff'");
    }

    #[test]
    fn a_value_that_looks_like_a_placeholder_stays_a_value() {
        check("c {pathname} {src_pathname}", b"c /d/it's {src_pathname}\xff /s/$(id)");
    }

    #[test]
    fn other_braces_are_text() {
        check("${x} {y} {pathname@q} {pathname", b"${x} {y} {pathname@q} {pathname");
    }

    #[test]
    fn every_task_finds_its_values_in_its_environment() {
        let quoted = Value { placeholder: Placeholder::SrcPathname, quoted: true };
        let name = Value { placeholder: Placeholder::Filename, quoted: false };
        let path = Value { placeholder: Placeholder::Pathname, quoted: false };
        let variables = VALUES.environment("s", &[quoted, name, path]);
        let shown: Vec<_> = variables.iter().map(|variable| variable.to_bytes()).collect();
        let expected: [&[u8]; 10] = [
            b"RINOTIFYD_EVENT=IN_MOVED_TO",
            b"RINOTIFYD_PATH=/d/it's {src_pathname}\xff",
            b"RINOTIFYD_SRC_PATH=/s/$(id)",
            b"RINOTIFYD_REL_PATH=it's {src_pathname}\xff",
            b"RINOTIFYD_TASK_ID=7",
            b"RINOTIFYD_IS_DIR=0",
            b"RINOTIFYD_ATTEMPT=1",
            b"RINOTIFYD_SRC_PATH_QUOTED='/s/$(id)'",
            b"RINOTIFYD_FILENAME=it's {src_pathname}\xff",
            b"RINOTIFYD_SCHEDULER=s",
        ];
        assert_eq!(shown, expected);
        for variable in shown {
            let name = variable.split(|&byte| byte == b'=').next().unwrap();
            assert!(is_task_variable(name), "{name:?}");
        }
        assert!(!is_task_variable(b"RINOTIFYD_CONF") && !is_task_variable(b"PATH"));
    }

    #[test]
    fn paths_split_at_the_last_slash() {
        assert_eq!(split_path(b"/a"), (b"/".as_slice(), b"a".as_slice()));
        assert_eq!(split_path(b"/a/b"), (b"/a".as_slice(), b"b".as_slice()));
    }
}
