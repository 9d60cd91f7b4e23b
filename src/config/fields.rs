//! Sections held against the schema: which exist, which keys they hold, and typed access to those.
//!
//! Invariant: a [`Fields`] holds only keys that its section knows and that are built, each once. An
//! error in a value is reported by the getter that reads it, so every key is read exactly once.
//!
//! The getters take the name of a key. They panic if the schema does not list the name for the section, or
//! if the key takes another kind of value. Both are mistakes in this program. A default value would hide
//! them; a panic fails the first test that builds such a section.

use std::collections::HashMap;

use super::diagnostics::{Bad, Diagnostics, Span, quoted};
use super::events;
use super::groups::Group;
use super::ini::{self, Text};
use super::schema::{Key, Kind, Naming, SECTIONS, Section, Value};
use super::suggest;
use super::value::{self, report};
use crate::event::EventKind;
use crate::quote::plain;
use crate::types::Millis;

/// What other programs call a key.
const SPELLINGS: [(&str, &str); 5] = [
    ("exclude", "exclude_glob"),
    ("include", "include_glob"),
    ("recursive", "rec"),
    ("command", "cmd"),
    ("exec", "cmd"),
];

/// One section that the schema knows.
#[derive(Debug)]
pub struct Fields {
    /// What it may hold.
    pub section: &'static Section,
    /// Second word of the header; empty when there is none.
    pub name: String,
    /// The header.
    pub header: Span,
    fields: Vec<Field>,
}

/// One key that the section knows.
#[derive(Debug)]
struct Field {
    key: &'static Key,
    at: Span,
    items: Vec<Text>,
}

/// Holds sections against the schema. What is unknown, not built, misplaced, repeated or missing is
/// an error and left out.
///
/// A section without a name may stand once in each file: an included file can add keys to
/// `[daemon]`. A named section stands once in all of them.
pub fn check(sections: &[ini::Section], out: &mut Diagnostics) -> Vec<Fields> {
    let mut all: Vec<Fields> = Vec::new();
    let mut known: HashMap<(&str, String), usize> = HashMap::new();
    for section in sections {
        let Some(mut fields) = Fields::new(section, out) else { continue };
        for entry in &section.entries {
            fields.add_entry(entry, out);
        }
        let first = *known.entry((fields.section.word, fields.name.clone())).or_insert(all.len());
        match all.get_mut(first) {
            Some(first) if first.name.is_empty() && first.header.file != fields.header.file => {
                first.merge(fields, out);
                continue;
            }
            Some(first) => {
                let place = out.locate(first.header.into());
                out.error(fields.header, format!("duplicate {}: the first is at {place}", fields.title()));
            }
            None => {}
        }
        all.push(fields);
    }
    for fields in &all {
        fields.check_required(out);
    }
    check_jobs(&all, out);
    all
}

/// A job is a watch, an event map and a scheduler: none of them may have its name.
fn check_jobs(all: &[Fields], out: &mut Diagnostics) {
    let jobs = all.iter().filter(|fields| fields.section.kind == Kind::Job);
    let jobs: HashMap<&str, &Fields> = jobs.map(|job| (job.name.as_str(), job)).collect();
    for fields in all {
        let is_part = matches!(fields.section.kind, Kind::Watch | Kind::EventMap | Kind::Scheduler);
        if let Some(job) = jobs.get(fields.name.as_str()).filter(|_| is_part) {
            let place = out.locate(job.header.into());
            let word = fields.section.word.replace('_', " ");
            let message = format!("duplicate {word} {}: {} at {place} is one too", fields.name, job.title());
            out.error(fields.header, message);
        }
    }
}

impl Fields {
    fn new(section: &ini::Section, out: &mut Diagnostics) -> Option<Self> {
        let word = &section.kind.bytes;
        let Some(known) = Section::find(word) else {
            let hint = out.hint(word, SECTIONS.iter().map(|section| section.word));
            out.error(section.kind.span, format!("unknown section {}{hint}", quoted(word)));
            return None;
        };
        if !known.built {
            out.error(section.header, format!("[{}] is not supported yet", known.word));
            return None;
        }
        let name = section.name.as_ref();
        match (known.naming, name) {
            (Naming::Always, None) => {
                out.error(section.header, format!("a name is missing: [{} NAME]", known.word));
            }
            (Naming::Never, Some(name)) => out.error(name.span, format!("[{}] has no name", known.word)),
            (_, Some(name)) => report(name, value::name(&name.bytes).map(|_| ()), out).unwrap_or_default(),
            (_, None) => {}
        }
        let name = name.map(|name| String::from_utf8_lossy(&name.bytes).into_owned()).unwrap_or_default();
        Some(Self { section: known, name, header: section.header, fields: Vec::new() })
    }

    /// A section in which nothing is set.
    #[must_use]
    pub fn empty(section: &'static Section, name: &str) -> Self {
        let header = Span { file: 0, start: 0, end: 0 };
        Self { section, name: name.to_owned(), header, fields: Vec::new() }
    }

    /// `[kind name]`
    #[must_use]
    pub fn title(&self) -> String {
        let blank = if self.name.is_empty() { "" } else { " " };
        format!("[{}{blank}{}]", self.section.word, plain(self.name.as_bytes()))
    }

    fn add_entry(&mut self, entry: &ini::Entry, out: &mut Diagnostics) {
        let (word, at) = (&entry.key.bytes, entry.key.span);
        let Some(key) = self.section.key(word) else {
            let hint = if out.is_full() { String::new() } else { self.meant(word) };
            out.error(at, format!("unknown key {} in [{}]{hint}", quoted(word), self.section.word));
            return;
        };
        if !key.built {
            out.error(at, format!("\"{}\" is not supported yet", key.name));
            return;
        }
        let items = entry.values.clone();
        // The command of a shell may have several lines; of others, `build` refuses them.
        if !key.list
            && !matches!(key.value, Value::Command)
            && let Some(second) = items.get(1)
        {
            let message = format!(
                "\"{}\" takes one value, but this line continues it: a key is not indented",
                key.name
            );
            out.error(second.span, message);
        }
        self.warn_of_indented_keys(key, &items, out);
        self.add(Field { key, at, items }, out);
    }

    /// What was meant by an unknown key: a key of another section, or one with a similar name.
    fn meant(&self, word: &[u8]) -> String {
        let kind = self.section.kind;
        let is = |names: &[&str]| names.iter().any(|name| name.as_bytes() == word);
        if kind == Kind::Job && is(&["event_map", "default_sched"]) {
            return ": \"on\" says which events start a job".to_owned();
        }
        if kind == Kind::EventMap {
            return events::hint(word, "write a line for each event");
        }
        let name = String::from_utf8_lossy(word);
        if Group::find(word).is_some() || EventKind::from_name(&name).is_some() {
            return match kind {
                Kind::Job => format!(": write on = {name}"),
                _ => ": events are keys of [event_map NAME]".to_owned(),
            };
        }
        let meant = SPELLINGS.iter().find(|(known, _)| known.as_bytes() == word).map(|(_, meant)| *meant);
        if let Some(meant) = meant.filter(|meant| self.section.key(meant.as_bytes()).is_some()) {
            return format!(", did you mean {meant}?");
        }
        let others = SECTIONS.iter().filter(|section| section.built && section.kind != Kind::Job);
        let others = others.filter(|section| section.key(word).is_some_and(|key| key.built));
        let others: Vec<_> = others
            .map(|section| match section.naming {
                Naming::Always => format!("[{} NAME]", section.word),
                Naming::Never | Naming::Optional => format!("[{}]", section.word),
            })
            .collect();
        if !others.is_empty() {
            return format!(": it is a key of {}", others.join(" and "));
        }
        suggest::hint(word, self.section.keys.iter().map(|key| key.name))
    }

    /// Warns of an item that looks like a key or a section. If the item is not valid, an error follows.
    fn warn_of_indented_keys(&self, key: &Key, items: &[Text], out: &mut Diagnostics) {
        let is_command = matches!(key.value, Value::Command);
        if !key.list && !is_command || matches!(key.value, Value::Assignment) {
            return;
        }
        for item in items.iter().skip(usize::from(is_command)) {
            let before_equals = item.bytes.split(|&byte| byte == b'=').next().unwrap_or_default();
            // No blank stands before the `=` of an assignment in a shell.
            let is_key = before_equals.len() < item.bytes.len()
                && (!is_command || before_equals.ends_with(b" "))
                && self.section.key(before_equals.trim_ascii()).is_some();
            let word =
                item.bytes.strip_prefix(b"[").and_then(|rest| rest.split(|byte| b" ]".contains(byte)).next());
            let is_section =
                item.bytes.ends_with(b"]") && word.is_some_and(|word| Section::find(word).is_some());
            if is_key || is_section {
                let message =
                    format!("this is an item of \"{}\": keys and sections are not indented", key.name);
                out.warning(item.span, message);
            }
        }
    }

    fn add(&mut self, field: Field, out: &mut Diagnostics) {
        match self.fields.iter_mut().find(|known| known.key.name == field.key.name) {
            None => self.fields.push(field),
            Some(known) if known.key.list => known.items.extend(field.items),
            Some(known) => {
                let place = out.locate(known.at.into());
                out.error(field.at, format!("duplicate key \"{}\": the first is at {place}", field.key.name));
            }
        }
    }

    fn merge(&mut self, other: Self, out: &mut Diagnostics) {
        for field in other.fields {
            self.add(field, out);
        }
    }

    fn check_required(&self, out: &mut Diagnostics) {
        let chooser = if self.section.kind == Kind::Rule { "action" } else { "type" };
        let default = self.section.key(chooser.as_bytes()).map(|key| key.default.as_bytes());
        let default = default.filter(|default| !default.is_empty());
        let of_type = self.field(chooser).and_then(|field| field.items.first());
        let of_type = of_type.map(|item| item.bytes.as_slice()).or(default);
        let belongs =
            |key: &Key| key.types.is_empty() || key.types.iter().any(|word| of_type == Some(word.as_bytes()));
        // No key belongs to a type that does not exist.
        let known = |word: &[u8]| {
            self.section.keys.iter().any(|key| key.types.iter().any(|of| of.as_bytes() == word))
        };
        if of_type.is_some_and(known) {
            for field in self.fields.iter().filter(|field| !belongs(field.key)) {
                let types = field.key.types.join(", ");
                out.error(field.at, format!("\"{}\" is only for {chooser} = {types}", field.key.name));
            }
        }
        let required = self.section.keys.iter().filter(|key| key.built && key.required && belongs(key));
        for key in required.filter(|key| self.items(key.name).is_empty()) {
            let message = format!("{} needs {} = {}", self.title(), key.name, key.value.syntax());
            out.error(self.place(key.name), message);
        }
    }

    /// Where a key stands; without it, the header.
    #[must_use]
    pub fn place(&self, name: &str) -> Span {
        self.field(self.key(name).name).map_or(self.header, |field| field.at)
    }

    /// Whether the key stands there at all, with a value or without.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.field(self.key(name).name).is_some()
    }

    /// The key of the schema with this name.
    #[expect(
        clippy::panic,
        reason = "a key that the schema lacks is a mistake of this program: every test ends"
    )]
    fn key(&self, name: &str) -> &'static Key {
        let key = self.section.key(name.as_bytes());
        key.unwrap_or_else(|| panic!("the schema lists no key {name} for [{}]", self.section.word))
    }

    fn field(&self, name: &str) -> Option<&Field> {
        self.fields.iter().find(|field| field.key.name == name)
    }

    /// The values of a key, unread.
    #[must_use]
    pub fn items(&self, name: &str) -> &[Text] {
        self.field(self.key(name).name).map_or(&[], |field| &field.items)
    }

    /// Reads every item of a list key; bad ones are reported and left out.
    pub fn list<T>(
        &self,
        name: &str,
        out: &mut Diagnostics,
        parse: impl Fn(&[u8]) -> Result<T, Bad>,
    ) -> Vec<T> {
        self.items(name).iter().filter_map(|item| report(item, parse(&item.bytes), out)).collect()
    }

    /// Reads one value. `None`: there is none, or it is bad, which is reported.
    pub fn one<T>(
        &self,
        name: &str,
        out: &mut Diagnostics,
        parse: impl Fn(&[u8]) -> Result<T, Bad>,
    ) -> Option<T> {
        self.items(name).first().and_then(|item| report(item, parse(&item.bytes), out))
    }

    /// Reads one value or else the default of the schema. `parse` gets the kind of value that the key
    /// takes. It returns `None` if the getter is for another kind.
    #[expect(
        clippy::panic,
        reason = "a getter for another kind is a mistake of this program: every test ends"
    )]
    fn one_or_default<T: Default>(
        &self,
        name: &str,
        out: &mut Diagnostics,
        parse: impl Fn(Value, &[u8]) -> Option<Result<T, Bad>>,
    ) -> T {
        let key = self.key(name);
        let judge = |text: &[u8]| {
            parse(key.value, text).unwrap_or_else(|| panic!("{name} takes a value of another kind: {key:?}"))
        };
        let value = match self.items(name).first() {
            Some(item) => report(item, judge(&item.bytes), out),
            None => judge(key.default.as_bytes()).ok(),
        };
        value.unwrap_or_default()
    }

    /// A yes or no.
    pub fn flag(&self, name: &str, out: &mut Diagnostics) -> bool {
        self.one_or_default(name, out, |kind, text| {
            let Value::Flag = kind else { return None };
            Some(value::flag(text))
        })
    }

    /// A duration.
    pub fn duration(&self, name: &str, out: &mut Diagnostics) -> Millis {
        self.one_or_default(name, out, |kind, text| {
            let Value::Duration = kind else { return None };
            Some(value::duration(text))
        })
    }

    /// A number within the bounds of the schema.
    pub fn number<T: TryFrom<i64> + Default>(&self, name: &str, out: &mut Diagnostics) -> T {
        self.one_or_default(name, out, |kind, text| {
            let Value::Number { min, max } = kind else { return None };
            let narrow = |number| T::try_from(number).map_err(|_| Bad::whole(text, "out of range"));
            Some(value::number(text, min, max).and_then(narrow))
        })
    }

    /// An octal number within the bound of the schema; `None` when it is not set.
    pub fn mode(&self, name: &str, out: &mut Diagnostics) -> Option<u32> {
        self.one_or_default(name, out, |kind, text| {
            let Value::Mode { max } = kind else { return None };
            Some(value::mode(text, max).map(Some))
        })
    }

    /// One of the words that the schema knows.
    pub fn choice(&self, name: &str, out: &mut Diagnostics) -> &'static str {
        self.one_or_default(name, out, |kind, text| {
            let Value::Choice(choices) = kind else { return None };
            Some(value::choice(text, choices))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn empty(word: &str) -> Fields {
        Fields::empty(Section::find(word.as_bytes()).unwrap(), "")
    }

    #[test]
    #[should_panic(expected = "the schema lists no key dealy for [scheduler]")]
    fn a_misspelt_key_gives_no_default() {
        empty("scheduler").duration("dealy", &mut Diagnostics::default());
    }

    #[test]
    #[should_panic(expected = "the schema lists no key delay for [watch]")]
    fn a_key_of_another_section_gives_no_items() {
        let _ = empty("watch").items("delay");
    }

    #[test]
    #[should_panic(expected = "delay takes a value of another kind")]
    fn a_getter_of_another_kind_gives_no_default() {
        empty("scheduler").flag("delay", &mut Diagnostics::default());
    }

    #[test]
    fn every_default_of_the_schema_is_valid() {
        let mut out = Diagnostics::default();
        for section in SECTIONS {
            let fields = Fields::empty(section, "");
            for key in section.keys.iter().filter(|key| !key.default.is_empty()) {
                let text = key.default.as_bytes();
                let valid = match key.value {
                    Value::Flag => value::flag(text).is_ok(),
                    Value::Duration => {
                        value::duration(text).is_ok_and(|ms| ms == fields.duration(key.name, &mut out))
                    }
                    Value::Number { min, max } => value::number(text, min, max).is_ok(),
                    Value::Choice(choices) => choices.iter().any(|choice| choice.word == key.default),
                    Value::Name => value::name(text).is_ok(),
                    Value::Glob => crate::config::globs::Glob::parse(text).is_ok(),
                    Value::Events => crate::config::groups::Group::find(text).is_some(),
                    Value::Path | Value::Address => value::absolute_path(text).is_ok(),
                    _ => false,
                };
                assert!(valid, "{} {}", section.word, key.name);
            }
        }
    }
}
