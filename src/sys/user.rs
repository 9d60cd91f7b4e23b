//! The user and group databases (`getpwnam_r(3)`, `getgrouplist(3)` and their like).

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;

use nix::unistd::{Gid, Group, Uid, User, geteuid, getgrouplist};

use crate::types::Identity;

/// The id that means "no change" for the kernel (`chown(2)`, `setresuid(2)`), and so cannot be a user's or
/// group's.
const NO_ID: u32 = u32::MAX;

/// Whether this process runs as root, and so may run children as any user.
#[must_use]
pub fn is_root() -> bool {
    geteuid().is_root()
}

/// Whether this user is root or the user of this process.
#[must_use]
pub fn is_root_or_own(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}

/// A user by name, or else by number, with the groups of the group database.
///
/// Without `group`, the primary group is that of the user database. A number that is not in the database has
/// none, so it is accepted only with `group`.
///
/// # Errors
///
/// Those of the databases: EIO, EMFILE, ENOMEM and the like, never "no such user".
pub fn user(name: &str, group: Option<u32>) -> io::Result<Option<Identity>> {
    let found = match User::from_name(name)? {
        Some(user) => Some(user),
        None => match number(name) {
            Some(uid) => User::from_uid(Uid::from_raw(uid))?,
            None => None,
        },
    };
    match (found, number(name), group) {
        (Some(user), ..) => identity(user, group).map(Some),
        (None, Some(uid), Some(gid)) => Ok(Some(nameless(uid, gid))),
        (None, ..) => Ok(None),
    }
}

/// The number of a group, by name or else by number. A number need not be in the database.
///
/// # Errors
///
/// As [`user`].
pub fn group(name: &str) -> io::Result<Option<u32>> {
    let found = Group::from_name(name)?;
    Ok(found.map(|group| group.gid.as_raw()).or_else(|| number(name)))
}

fn number(name: &str) -> Option<u32> {
    let digits = name.bytes().all(|byte| byte.is_ascii_digit());
    name.parse().ok().filter(|id| digits && *id != NO_ID)
}

fn identity(user: User, group: Option<u32>) -> io::Result<Identity> {
    let gid = group.map_or(user.gid, Gid::from_raw);
    let login = CString::new(user.name.as_bytes())?;
    let groups = getgrouplist(&login, gid)?;
    Ok(Identity {
        uid: user.uid.as_raw(),
        gid: gid.as_raw(),
        groups: groups.into_iter().map(Gid::as_raw).collect(),
        name: user.name,
        home: user.dir.as_os_str().as_bytes().to_vec(),
    })
}

/// A user id without an entry in the database, as it occurs in containers.
fn nameless(uid: u32, gid: u32) -> Identity {
    Identity { uid, gid, groups: vec![gid], name: uid.to_string(), home: b"/".to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_found_by_name_and_by_number() {
        let root = user("root", None).unwrap().unwrap();
        assert_eq!((root.uid, root.gid, root.name.as_str()), (0, 0, "root"));
        assert!(root.groups.contains(&0));
        assert_eq!(user("0", None).unwrap(), Some(root));
        assert_eq!(group("root").unwrap(), Some(0));
        assert_eq!(group("0").unwrap(), Some(0));
    }

    #[test]
    fn a_given_group_replaces_the_primary_one() {
        let root = user("root", Some(4242)).unwrap().unwrap();
        assert_eq!(root.gid, 4242);
        assert!(root.groups.contains(&4242));
    }

    #[test]
    fn unknown_names_and_numbers_are_not_found() {
        assert_eq!(user("no such user", None).unwrap(), None);
        assert_eq!(group("no such group").unwrap(), None);
        assert_eq!(user("4294967295", Some(1)).unwrap(), None);
        assert_eq!(group("4294967295").unwrap(), None);
        assert_eq!(user("+1", Some(1)).unwrap(), None);
        assert_eq!(user("3999999999", None).unwrap(), None);
        assert_eq!(user("3999999999", Some(7)).unwrap(), Some(nameless(3_999_999_999, 7)));
    }
}
