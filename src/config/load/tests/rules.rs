//! Rules, and the schedulers that name them.

use super::*;
use crate::config::FileAction;

/// A files scheduler with a rule of these lines, which begin at line 8.
fn rule_says(lines: &str, expected: &str) {
    let scheduler = "[scheduler s]\ntype = files\nrules = r\n";
    says(format!("{scheduler}{MAP}[rule r]\n{lines}\n{WATCH}"), expected);
}

#[test]
fn a_rule_is_built() {
    let text = format!(
        "[scheduler s]\ntype = files\nrules = b a\n{MAP}{WATCH}\
         [rule a]\naction = delete\nsrc_re = ^/p/x$\nrec = yes\n\
         [rule b]\naction = move\nsrc_re = ^/p/(?P<n>.*)$\ndst_re = /q/\\g<n>\nauto_create = yes\n\
         override = yes\nhardlinks = yes\nfilemode = 0640\ndirmode = 2750\nuser = ann\ngroup = staff\n"
    );
    let loaded = Fake::new(text).load().unwrap();
    assert!(loaded.warnings.is_empty(), "{}", loaded.warnings);
    let Action::Files { rules } = &loaded.config.schedulers[0].action else { panic!("not files") };
    let [b, a] = rules.as_slice() else { panic!("not two rules") };
    assert_eq!((b.name.as_str(), b.action, a.action), ("b", FileAction::Move, FileAction::Delete));
    assert_eq!((b.auto_create, b.replace, b.hardlinks, b.rec), (true, true, true, false));
    assert_eq!((a.auto_create, a.replace, a.hardlinks, a.rec), (false, false, false, true));
    assert_eq!((b.filemode, b.dirmode, b.uid, b.gid), (Some(0o640), Some(0o2750), Some(1000), Some(50)));
    assert_eq!((a.filemode, a.dirmode, a.uid, a.gid, &a.dst), (None, None, None, None, &None));
    let dst = b.dst.as_ref().unwrap();
    assert_eq!(dst.expand(&b.src_anywhere, b"/p/f"), b"/q/f");
    assert_eq!(dst.fixed(), Some(b"/q".as_slice()));
    assert!(b.src.is_match(b"/p/f") && !b.src.is_match(b"/x/p/f"));
}

#[test]
fn what_a_rule_refuses() {
    let moves = "action = move\nsrc_re = ^/p/(?P<path>.*)$\n";
    rule_says(
        "",
        "m:6:1: error: [rule r] needs action = move, copy, delete\n\
         m:6:1: error: [rule r] needs src_re = REGEX",
    );
    rule_says(
        "action = mov\nsrc_re = /p",
        "m:7:10: error: \"mov\" is none of: move, copy, delete, did you mean move?",
    );
    rule_says(moves, "m:6:1: error: [rule r] needs dst_re = REPLACEMENT");
    rule_says(
        "action = delete\nsrc_re = /p\ndst_re = /q",
        "m:9:1: error: \"dst_re\" is only for action = move, copy",
    );
    rule_says(
        &format!("{moves}dst_re = /q/x\nrec = no"),
        "m:10:1: error: \"rec\" is only for action = delete",
    );
    rule_says("action = delete\nsrc_re = /p(", "m:8:12: error: bad regular expression: unclosed group");
    rule_says(
        &format!("{moves}dst_re = /q/\\g<pth>"),
        "m:9:16: error: src_re has no group of this name, did you mean path?",
    );
    rule_says(&format!("{moves}dst_re = /q/\\2"), "m:9:13: error: src_re has only one group");
    rule_says(
        &format!("{moves}dst_re = /q/\\x"),
        "m:9:13: error: only \\g<NAME>, \\1 to \\99 and \\\\ can stand here",
    );
    rule_says(
        &format!("{moves}dst_re = q/\\1"),
        "m:9:10: error: dst_re must be an absolute path, or begin with a group that matches one",
    );
    rule_says(
        &format!("{moves}dst_re = /q/../\\1"),
        "m:9:10: error: dst_re holds a . or .. component: write the path out",
    );
    rule_says(
        &format!("{moves}dst_re = /q/x\nuser = bob"),
        "m:10:8: error: there is no user \"bob\" on this machine",
    );
    rule_says(
        &format!("{moves}dst_re = /q/x\nfilemode = 9"),
        "m:10:12: error: \"9\" is not an octal number up to 7777",
    );
    rule_says(
        &format!("{moves}dst_re = /q/$1"),
        "m:9:10: warning: a group is written \\1 or \\g<NAME>; $ is only a character",
    );
    rule_says(
        &format!("{moves}dst_re = /q\\1"),
        "m:9:10: warning: the only fixed directory in dst_re is /, so no symbolic link is followed on the way \
         to the destination: write the directory with a / behind it, and the groups after that",
    );
}

#[test]
fn what_a_files_scheduler_refuses() {
    let rule = "[rule r]\naction = delete\nsrc_re = /p\n";
    let check = |lines: &str, expected: &str| {
        says(format!("[scheduler s]\ntype = files\n{lines}\n{MAP}{WATCH}{rule}"), expected);
    };
    check("rules = r", "");
    check("rules = q", "m:3:9: error: there is no rule \"q\"");
    check("rules = r r", "m:3:11: error: \"r\" stands here twice");
    check("rules = r\ncmd = x", "m:4:1: error: \"cmd\" is only for type = shell, exec, worker");
    check("rules = r\ntimeout = 5", "m:4:1: error: \"timeout\" is only for type = shell, exec, worker");
    check("rules = r\nsinglejob = yes", "m:4:1: error: \"singlejob\" is only for type = shell, exec, worker");
    scheduler_says("rules = r", "m:4:1: error: \"rules\" is only for type = files");
    says(format!("{SCHEDULER}{MAP}{WATCH}{rule}"), "m:9:1: warning: no scheduler uses rule r");
}
