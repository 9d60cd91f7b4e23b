//! Whether the owners that a filesystem shows can be believed.
//!
//! The kernel enforces owners on its own filesystems. A FUSE filesystem that a user mounted shows what the
//! user's program says: a file there may claim to belong to root. Only the user who mounted it vouches for
//! what is in it, and the kernel shows who that is in `/proc/self/mountinfo` (`proc(5)`, `mount.fuse(8)`:
//! `user_id`, `group_id`).

use std::os::fd::BorrowedFd;

use super::Errno;
use super::dir::{FsType, fs_type};
use super::file::is_nosuid;
use super::resolve::mount_id;

/// `FUSE_SUPER_MAGIC` (`linux/magic.h`).
const FUSE: FsType = FsType(0x6573_5546);

/// The kernel's id for an owner that it cannot name (`/proc/sys/kernel/overflowuid`, as it is by default).
const NOBODY: u32 = 65_534;

/// What is known of the mount that a file was reached by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// The owner of everything on it, where the owners that it shows are not to be believed.
    pub owner: Option<(u32, u32)>,
    /// Set-id bits and file capabilities have an effect there, and so are meant.
    pub set_id: bool,
}

impl Origin {
    /// Of a mount about which nothing could be found out: nothing is believed.
    pub const UNKNOWN: Self = Self { owner: Some((NOBODY, NOBODY)), set_id: false };

    /// Of the mount that a descriptor was opened by.
    ///
    /// # Errors
    /// As `statfs(2)`.
    pub fn of(fd: BorrowedFd<'_>) -> Result<Self, Errno> {
        let owner = if fs_type(fd)? == FUSE { fuse_owner(fd) } else { None };
        Ok(Self { owner, set_id: owner.is_none() && !is_nosuid(fd)? })
    }
}

/// The user who mounted a FUSE filesystem, unless that was root.
fn fuse_owner(fd: BorrowedFd<'_>) -> Option<(u32, u32)> {
    let mounts = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    let owner = mount_id(fd).and_then(|id| owner_in(&mounts, id)).unwrap_or((NOBODY, NOBODY));
    (owner.0 != 0).then_some(owner)
}

/// `user_id` and `group_id` of a mount, from the text of `mountinfo`.
fn owner_in(mounts: &[u8], id: u64) -> Option<(u32, u32)> {
    let number = |bytes: &[u8]| str::from_utf8(bytes).ok()?.parse::<u64>().ok();
    let line = mounts
        .split(|&byte| byte == b'\n')
        .find(|line| line.split(|&byte| byte == b' ').next().and_then(number) == Some(id))?;
    // Behind the separator: type, source, and the options of the filesystem.
    let mut fields = line.split(|&byte| byte == b' ').skip(6).skip_while(|field| *field != b"-");
    let options = fields.nth(3)?;
    let option = |name: &[u8]| {
        let value = options.split(|&byte| byte == b',').find_map(|option| option.strip_prefix(name))?;
        number(value).and_then(|id| u32::try_from(id).ok())
    };
    Some((option(b"user_id=")?, option(b"group_id=")?))
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn owners_of_the_kernels_filesystems_are_believed() {
        let file = tempfile::tempfile().unwrap();
        assert_eq!(Origin::of(file.as_fd()).unwrap().owner, None);
        let proc = File::open("/proc").unwrap();
        assert_eq!(Origin::of(proc.as_fd()).unwrap().owner, None);
    }

    #[test]
    fn the_user_who_mounted_is_in_the_options_of_the_filesystem() {
        let mounts = b"21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw\n\
            40 21 0:40 / /home/u/m\\040\xff rw,nosuid,nodev,relatime shared:7 master:2 - fuse.x x \
            rw,user_id=1000,group_id=100,allow_other\n\
            41 21 0:41 / /mnt rw - fuse y rw,user_id=0,group_id=0\n\
            42 21 0:42 / /mnt rw - fuse y rw,user_id=-1,group_id=0\n";
        assert_eq!(owner_in(mounts, 40), Some((1000, 100)));
        assert_eq!(owner_in(mounts, 41), Some((0, 0)));
        for id in [4, 21, 42, 43] {
            assert_eq!(owner_in(mounts, id), None);
        }
    }
}
