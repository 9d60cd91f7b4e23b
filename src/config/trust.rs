//! What a daemon that runs as root believes about the way to a file of its configuration.
//!
//! The text of a configuration is run as root, so nobody but root may choose it. A path is as good as
//! all its parts: each directory from `/` down, each symbolic link, and the file belong to root, and
//! neither others nor a group other than root's can write to them.
//!
//! **Sticky directories**, such as `/tmp`, are the exception. There, only its owner can rename or remove
//! an entry, so a directory of root's stays where root has put it. Nor can another user have moved it
//! there: a directory takes write permission on itself to be moved to another one, and cannot be
//! hard-linked. A file or a symbolic link of root's can be moved there, or hard-linked, from a directory
//! that the other user owns, under any name. So a sticky directory may hold directories on the way, but
//! neither files nor links.

use std::path::Path;

/// A part of the way to a file, as the host has found it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// Its path.
    pub path: &'a Path,
    /// What it is.
    pub kind: Kind,
    /// Whose it is.
    pub own: Ownership,
    /// Whose the directory is that it was found in.
    pub parent: Ownership,
    /// Owner and mode are the word of a program that some user runs (FUSE).
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

/// Who beside root can write, in words.
impl Ownership {
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

/// What to do about a directory. A command that took rights away from it could break what else is there.
const MOVE: &str = "keep the configuration below directories that only root can write to, such as /etc";

/// Why root cannot trust a part of the way, with the way out; `None` when it can.
#[must_use]
pub fn objection(part: &Part<'_>) -> Option<String> {
    let Part { kind, own, parent, .. } = *part;
    if part.is_hearsay {
        return Some(format!("it is on a FUSE filesystem, where a user's program names the owners: {MOVE}"));
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
            "other users can put names into its directory, although that is sticky: {MOVE}"
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
        check(Kind::File, (0, 0, 0o600), 0o1777, "other users can put names into its directory");
        check(Kind::Link, (0, 0, 0o777), 0o1777, "other users can put names into its directory");
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
