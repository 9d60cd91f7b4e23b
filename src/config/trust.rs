//! Which files a daemon that runs as root reads as its configuration.
//!
//! Commands of the configuration run as root, so only root may choose them. Every part of a path counts:
//! each directory from `/` down, each symbolic link, and the file. Each must belong to root, and neither
//! other users nor a group other than root's may be able to write to it.
//!
//! **Sticky directories**, such as `/tmp`, are an exception. All users can write to them, but only the
//! owner of an entry can rename or remove it. A directory of root in a sticky directory is trusted: another
//! user can neither exchange it nor have put it there, because moving a directory to another directory
//! takes write permission on the directory that is moved (`rename(2)`), and no directory can be
//! hard-linked. A file or a symbolic link of root in a sticky directory is not trusted: another user can
//! have moved it there, or hard-linked it, from a directory of that user, under any name.

use std::path::Path;

/// A part of the way to a file, as the host has found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its path.
    pub path: &'a Path,
    /// What it is.
    pub kind: Kind,
    /// Its owner, group and mode.
    pub own: Ownership,
    /// Those of the directory that holds it.
    pub parent: Ownership,
    /// A program of a user may have chosen owner and mode (FUSE).
    pub is_hearsay: bool,
}

/// What a part of a path is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// The file itself, or what stands in its place.
    File,
}

/// Owner, group and mode of a file or directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ownership {
    /// User id.
    pub uid: u32,
    /// Group id.
    pub gid: u32,
    /// Permission bits.
    pub mode: u32,
}

impl Ownership {
    /// The users beside root who can write, in words.
    fn writers(self) -> Option<String> {
        let mode = self.mode & 0o7777;
        if mode & 0o002 != 0 {
            return Some(format!("all users can write to it (mode {mode:04o})"));
        }
        let is_writable = mode & 0o020 != 0 && self.gid != 0;
        is_writable.then(|| format!("group id {} can write to it (mode {mode:04o})", self.gid))
    }

    fn is_sticky(self) -> bool {
        self.mode & 0o1000 != 0
    }
}

/// Advice about a directory. It names no command: other programs may need the rights that a command
/// would take away.
const MOVE: &str = "keep the configuration below directories that only root can write to, such as /etc";

/// Why root cannot trust a part of the way, with the way out; `None` when it can.
#[must_use]
pub fn objection(part: &Part<'_>) -> Option<String> {
    let Part { kind, own, parent, .. } = *part;
    if part.is_hearsay {
        return Some(format!(
            "it is on a FUSE filesystem, where a program of a user chooses the owners: {MOVE}"
        ));
    }
    if own.uid != 0 {
        let what_to_do = match kind {
            Kind::Directory => MOVE,
            Kind::Link => "make the link as root",
            Kind::File => "chown root",
        };
        return Some(format!("it belongs to user id {}: {what_to_do}", own.uid));
    }
    if kind != Kind::Directory && parent.writers().is_some() {
        return Some(format!(
            "other users can move files into its directory, although that is sticky: {MOVE}"
        ));
    }
    match (kind, own.writers()) {
        // A link has no mode of its own (symlink(7)).
        (Kind::Link, _) | (_, None) => None,
        (Kind::Directory, Some(_)) if own.is_sticky() => None,
        (Kind::Directory, Some(writers)) => Some(format!("{writers}: {MOVE}")),
        (Kind::File, Some(writers)) => Some(format!("{writers}: chmod go-w")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOTS: Ownership = Ownership { uid: 0, gid: 0, mode: 0o755 };

    fn check(kind: Kind, own: (u32, u32, u32), parent_mode: u32, expected: &str) {
        let (uid, gid, mode) = own;
        let parent = Ownership { mode: parent_mode, ..ROOTS };
        let own = Ownership { uid, gid, mode };
        let said = objection(&Part { path: Path::new("/x"), kind, own, parent, is_hearsay: false });
        let said = said.unwrap_or_default();
        let is_as_expected = if expected.is_empty() { said.is_empty() } else { said.starts_with(expected) };
        assert!(is_as_expected, "{kind:?} {own:?} {parent_mode:o}: {said}");
    }

    #[test]
    fn what_is_roots_alone_is_trusted() {
        use Kind::{Directory, File, Link};
        check(Directory, (0, 0, 0o755), 0o755, "");
        check(Directory, (0, 0, 0o775), 0o755, "");
        check(Directory, (0, 50, 0o755), 0o755, "");
        check(Directory, (0, 50, 0o775), 0o755, "group id 50 can write to it (mode 0775): keep");
        check(Directory, (0, 0, 0o777), 0o755, "all users can write to it (mode 0777): keep");
        check(Directory, (7, 0, 0o700), 0o755, "it belongs to user id 7: keep");
        check(Link, (0, 0, 0o777), 0o755, "");
        check(Link, (7, 0, 0o777), 0o755, "it belongs to user id 7: make the link as root");
        check(File, (0, 0, 0o664), 0o755, "");
        check(File, (0, 50, 0o664), 0o755, "group id 50 can write to it (mode 0664): chmod go-w");
        check(File, (0, 0, 0o646), 0o755, "all users can write to it (mode 0646): chmod go-w");
        check(File, (7, 0, 0o600), 0o755, "it belongs to user id 7: chown root");
    }

    #[test]
    fn a_sticky_directory_may_hold_directories_only() {
        check(Kind::Directory, (0, 0, 0o1777), 0o755, "");
        check(Kind::Directory, (0, 50, 0o1775), 0o755, "");
        check(Kind::Directory, (0, 0, 0o755), 0o1777, "");
        check(Kind::Directory, (7, 0, 0o755), 0o1777, "it belongs to user id 7");
        check(Kind::File, (0, 0, 0o600), 0o1777, "other users can move files into its directory");
        check(Kind::Link, (0, 0, 0o777), 0o1777, "other users can move files into its directory");
    }

    #[test]
    fn no_advice_takes_rights_away_from_a_directory() {
        for mode in [0o777, 0o1777, 0o775, 0o755] {
            let own = Ownership { uid: 7, gid: 7, mode };
            for own in [own, Ownership { uid: 0, ..own }] {
                for kind in [Kind::Directory, Kind::Link] {
                    let part = Part { path: Path::new("/tmp"), kind, own, parent: own, is_hearsay: false };
                    let said = objection(&part).unwrap_or_default();
                    assert!(!said.contains("chmod") && !said.contains("chown"), "{said}");
                }
            }
        }
    }

    #[test]
    fn what_a_users_program_says_is_not_believed() {
        let part = Part {
            path: Path::new("/x"),
            kind: Kind::Directory,
            own: ROOTS,
            parent: ROOTS,
            is_hearsay: true,
        };
        assert!(objection(&part).unwrap().starts_with("it is on a FUSE filesystem"));
    }
}
