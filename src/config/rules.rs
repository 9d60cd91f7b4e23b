//! `[rule NAME]` and the `rules` of a files scheduler.

use std::collections::HashSet;
use std::sync::Arc;

use super::diagnostics::{Bad, Diagnostics, quoted};
use super::expression;
use super::fields::Fields;
use super::ini::{Text, words};
use super::names::Names;
use super::reader::Reader;
use super::suggest;
use super::value::{look_up, report};
use super::{FileAction, Rule};
use crate::replacement::{BadReplacement, Replacement};

/// All rules, by their names.
pub struct Rules<'a> {
    names: Names<'a>,
    /// `None`: something in the rule is wrong, which is reported.
    built: Vec<Option<Arc<Rule>>>,
}

impl<'a> Rules<'a> {
    /// From the sections of all rules.
    pub fn new(sections: impl Iterator<Item = &'a Fields> + Clone, reader: &mut Reader<'_>) -> Self {
        let names = Names::new(sections.clone().map(|fields| fields.name.as_str()));
        Self { names, built: sections.map(|fields| build(fields, reader).map(Arc::new)).collect() }
    }

    /// The rules that a scheduler names, in their order.
    pub fn of_scheduler(&self, fields: &Fields, reader: &mut Reader<'_>) -> Vec<Arc<Rule>> {
        let out = &mut reader.out;
        let mut found: Vec<Arc<Rule>> = Vec::new();
        let mut seen: HashSet<Vec<u8>> = HashSet::new();
        for item in fields.items("rules").iter().flat_map(words) {
            if !seen.insert(item.bytes.clone()) {
                out.error(item.span, format!("{} stands here twice", quoted(&item.bytes)));
                continue;
            }
            let place = report(&item, self.names.find(&item.bytes, "rule"), out);
            found.extend(place.and_then(|place| self.built[place].clone()));
        }
        found
    }
}

fn build(fields: &Fields, reader: &mut Reader<'_>) -> Option<Rule> {
    let [uid, gid] = [owner(fields, "user", reader), owner(fields, "group", reader)];
    let out = &mut reader.out;
    let action = match fields.choice("action", out) {
        "move" => FileAction::Move,
        "copy" => FileAction::Copy,
        _ => FileAction::Delete,
    };
    let src = fields.one("src_re", out, expression::compile)?;
    let src_anywhere = fields.one("src_re", out, expression::compile_anywhere)?;
    let parse =
        |text: &[u8]| Replacement::parse(text, &src_anywhere).map_err(|bad| explain(bad, &src_anywhere));
    let dst = fields.one("dst_re", out, parse);
    if let (Some(dst), Some(item), true) =
        (&dst, fields.items("dst_re").first(), action != FileAction::Delete)
    {
        check_fixed(dst, item, out);
    }
    Some(Rule {
        name: fields.name.clone(),
        action,
        src,
        src_anywhere,
        dst,
        auto_create: fields.flag("auto_create", out),
        rec: fields.flag("rec", out),
        replace: fields.flag("override", out),
        hardlinks: fields.flag("hardlinks", out),
        filemode: fields.mode("filemode", out),
        dirmode: fields.mode("dirmode", out),
        uid,
        gid,
    })
}

/// The number of the user or group that a rule gives.
fn owner(fields: &Fields, key: &str, reader: &mut Reader<'_>) -> Option<u32> {
    let item = fields.items(key).first()?;
    let (host, out) = (reader.host, &mut reader.out);
    if !host.is_root() {
        out.error(item.span, "only root can give files to another user or group");
        return None;
    }
    if key == "group" {
        return report(item, look_up(&item.bytes, "group", &item.bytes, |name| host.group(name)), out);
    }
    // A user number is enough here; the group of the user does not matter.
    let found = look_up(&item.bytes, "user", &item.bytes, |name| host.user(name, Some(0)));
    report(item, found, out).map(|identity| identity.uid)
}

fn explain(bad: BadReplacement, regex: &regex::bytes::Regex) -> Bad {
    let BadReplacement { mut message, range, unknown_group } = bad;
    if let Some(name) = unknown_group {
        message.push_str(&suggest::hint(name.as_bytes(), regex.capture_names().flatten()));
    }
    Bad { message, range }
}

/// Checks that the fixed directory of a destination can be seen in the configuration.
fn check_fixed(dst: &Replacement, item: &Text, out: &mut Diagnostics) {
    let has_dots = |path: &[u8]| path.split(|&byte| byte == b'/').any(|name| name == b"." || name == b"..");
    match dst.fixed() {
        Some(b"") => out.warning(
            item.span,
            "the only fixed directory in dst_re is /, so no symbolic link is followed on the way to the \
             destination: write the directory with a / behind it, and the groups after that",
        ),
        Some(fixed) if has_dots(fixed) => {
            out.error(item.span, "dst_re holds a . or .. component: write the path out")
        }
        None if !item.bytes.starts_with(b"\\") => {
            out.error(item.span, "dst_re must be an absolute path, or begin with a group that matches one");
        }
        _ => {}
    }
    let is_group = |pair: &[u8]| pair[0] == b'$' && (pair[1].is_ascii_digit() || pair[1] == b'{');
    if item.bytes.windows(2).any(is_group) {
        out.warning(item.span, "a group is written \\1 or \\g<NAME>; $ is only a character");
    }
}
