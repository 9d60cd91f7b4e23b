//! Which rule of a files scheduler takes a path, and where that leads.

use std::sync::Arc;

use super::step::TaskStep;
use super::table::Subject;
use crate::config::Rule;
use crate::engine::message::TrustedPath;
use crate::quote::Quoted;

/// The first rule that matches a path.
#[must_use]
pub fn rule_for<'a>(rules: &'a [Arc<Rule>], path: &[u8]) -> Option<&'a Arc<Rule>> {
    rules.iter().find(|rule| rule.src.is_match(path))
}

/// Where a rule puts the source; `None` when it deletes.
///
/// # Errors
///
/// Why that cannot be a destination, in words.
pub fn destination(rule: &Rule, source: &TrustedPath) -> Result<Option<TrustedPath>, String> {
    let Some(dst) = &rule.dst else { return Ok(None) };
    let raw = dst.expand(&rule.src_anywhere, &source.path);
    let refuse = |why: &str| Err(format!("the destination {} {why}", Quoted(&raw)));
    if raw.is_empty() {
        return Err("the destination is empty".to_owned());
    }
    if !raw.starts_with(b"/") {
        return refuse("is not an absolute path");
    }
    if raw.ends_with(b"/") {
        return refuse("names no file: it ends in a slash");
    }
    let path = squeezed(&raw);
    if path.split(|&byte| byte == b'/').any(|name| name == b"." || name == b"..") {
        return refuse("holds a . or .. component");
    }
    if is_inside(&path, &source.path) {
        return refuse(if path == source.path { "is the source itself" } else { "is inside of the source" });
    }
    if is_inside(&source.path, &path) {
        return refuse("holds the source");
    }
    let root = &source.path[..source.trusted];
    let in_root = if is_inside(&path, root) { Some(root.len()) } else { None };
    let fixed = dst.fixed().map(|fixed| squeezed(fixed).len());
    match fixed.max(in_root) {
        Some(trusted) => Ok(Some(TrustedPath { path, trusted })),
        None => refuse("is outside of the watch path, and dst_re begins with no fixed directory"),
    }
}

/// Without empty components, as the kernel reads it.
fn squeezed(path: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(path.len());
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        out.push(b'/');
        out.extend_from_slice(name);
    }
    out
}

/// Whether a path is another or below it. Everything is inside of `/`, which is written as nothing.
fn is_inside(path: &[u8], directory: &[u8]) -> bool {
    path.strip_prefix(directory).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
}

/// Whether a rule takes the path that an event is about.
pub(super) fn takes_path(step: &mut TaskStep<'_, '_, '_>, rules: &[Arc<Rule>], subject: &Subject) -> bool {
    let path = step.places.path(subject.node, &subject.name);
    let rule = rule_for(rules, &path);
    for tried in rules.iter().take_while(|tried| rule.is_none_or(|rule| !Arc::ptr_eq(rule, tried))) {
        step.cx.explain(|| format!("rule {}: src_re does not match", tried.name));
    }
    step.cx.explain(|| match rule {
        Some(rule) => format!("rule {}: src_re matches", rule.name),
        None => "no rule takes the path".to_owned(),
    });
    rule.is_some()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::FileAction;
    use crate::replacement::Replacement;
    use regex::bytes::Regex;

    fn rule(src: &str, dst: &str) -> Rule {
        let anywhere = Regex::new(&format!("(?s-u){src}")).unwrap();
        Rule {
            name: "r".into(),
            action: FileAction::Move,
            src: Regex::new(&format!(r"\A(?s-u:{src})")).unwrap(),
            dst: Some(Replacement::parse(dst.as_bytes(), &anywhere).unwrap()),
            src_anywhere: anywhere,
            auto_create: false,
            rec: false,
            replace: false,
            hardlinks: false,
            filemode: None,
            dirmode: None,
            uid: None,
            gid: None,
        }
    }

    fn check(src: &str, dst: &str, path: &[u8], expected: Result<(&[u8], usize), &str>) {
        let source = TrustedPath { path: path.to_vec(), trusted: b"/in".len() };
        let found = destination(&rule(src, dst), &source);
        let expected = expected.map(|(path, trusted)| Some(TrustedPath { path: path.to_vec(), trusted }));
        assert_eq!(found, expected.map_err(str::to_owned));
    }

    #[test]
    fn a_destination_is_below_what_is_fixed() {
        check("^/in/(.*)$", r"/out/d/\1", b"/in/a/b", Ok((b"/out/d/a/b", 6)));
        check("^/in(/.*)$", r"/out\1", b"/in/a", Ok((b"/out/a", 0)));
        check("^/in/", "/out//", b"/in/a", Ok((b"/out/a", 4)));
        check("^(/in/.*)$", r"\1.done", b"/in/a", Ok((b"/in/a.done", 3)));
        check("^/in/(.*)$", r"/in/done/\1", b"/in/a\xff\n", Ok((b"/in/done/a\xff\n", 8)));
    }

    #[test]
    fn what_cannot_be_a_destination_is_refused() {
        check("^/in/(.*)$", r"\1", b"/in/", Err("the destination is empty"));
        check("^/in/(.*)$", r"\1", b"/in/x", Err(r#"the destination "x" is not an absolute path"#));
        check(
            "^/in/(.*)$",
            r"/o/",
            b"/in/x",
            Err(r#"the destination "/o/" names no file: it ends in a slash"#),
        );
        for (name, shown) in [("..", ".."), ("a/../../etc", "a/../../etc"), (".", ".")] {
            let expected = format!(r#"the destination "/o/{shown}" holds a . or .. component"#);
            check("^/in/x(.*)$", r"/o/\1", format!("/in/x{name}").as_bytes(), Err(&expected));
        }
        check("^/in/x$", "/in/x", b"/in/x", Err(r#"the destination "/in/x" is the source itself"#));
        check("^/in/x$", "/in/x/y", b"/in/x", Err(r#"the destination "/in/x/y" is inside of the source"#));
        check("^/in/x$", "/in", b"/in/x", Err(r#"the destination "/in" holds the source"#));
        let outside = "is outside of the watch path, and dst_re begins with no fixed directory";
        check("^/in(/.*)$", r"\1", b"/in/etc/x", Err(&format!(r#"the destination "/etc/x" {outside}"#)));
    }

    #[test]
    fn names_that_look_like_dots_are_names() {
        check("^/in/(.*)$", r"/o/\1", b"/in/..x", Ok((b"/o/..x", 2)));
        check("^/in/(.*)$", r"/o/\1", b"/in/x..", Ok((b"/o/x..", 2)));
        check("^/in/(.*)$", r"/o/\1", br"/in/\g<path>\1", Ok((br"/o/\g<path>\1", 2)));
    }
}
