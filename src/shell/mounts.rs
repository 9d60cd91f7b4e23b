//! What is mounted where, and when that changes.
//!
//! `/proc/self/mountinfo` reports a change as an urgent condition (`proc(5)`), but not which: the
//! mount points before and after are compared. Without `/proc` mounts are not noticed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Read, Seek};
use std::os::fd::{AsFd, BorrowedFd};

/// The mounts of this process.
#[derive(Debug)]
pub struct Mounts {
    file: File,
    known: BTreeSet<Mount>,
}

/// The kernel's number and the mount point. A mount over another one at the same point has a number
/// of its own.
type Mount = (u64, Vec<u8>);

impl Mounts {
    /// The mounts as they are now; `None` without `/proc`.
    #[must_use]
    pub fn open() -> Option<Self> {
        let mut file = File::open("/proc/self/mountinfo").ok()?;
        let known = read(&mut file)?;
        Some(Self { file, known })
    }

    /// The points at which something was mounted or unmounted since the last call.
    pub fn changes(&mut self) -> Vec<Vec<u8>> {
        let Some(now) = read(&mut self.file) else { return Vec::new() };
        let points: BTreeSet<Vec<u8>> =
            now.symmetric_difference(&self.known).map(|(_, point)| point.clone()).collect();
        self.known = now;
        points.into_iter().collect()
    }
}

impl AsFd for Mounts {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn read(file: &mut File) -> Option<BTreeSet<Mount>> {
    let mut text = Vec::new();
    file.rewind().ok()?;
    file.read_to_end(&mut text).ok()?;
    Some(text.split(|&byte| byte == b'\n').filter_map(mount).collect())
}

/// Number and mount point of one line: its first and fifth field.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let number = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    Some((number, unescape(fields.nth(3)?)))
}

/// Blanks, newlines and backslashes are written as a backslash and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        match tail {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', ..] if byte == b'\\' => {
                out.push((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'));
                rest = &tail[3..];
            }
            _ => out.push(byte),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn number_and_mount_point_are_found() {
        let line = br"36 35 98:0 /mnt1 /a\040b\134c\012 rw,noatime master:1 - ext3 /dev/root rw";
        assert_eq!(mount(line), Some((36, b"/a b\\c\n".to_vec())));
        assert_eq!(mount(b""), None);
        assert_eq!(mount(b"x y z"), None);
        assert_eq!(mount(br"1 2 3 4 /\9x\0"), Some((1, br"/\9x\0".to_vec())));
    }

    #[test]
    fn this_machine_has_a_root() {
        let mut mounts = Mounts::open().unwrap();
        assert!(mounts.known.iter().any(|(_, point)| point == b"/"));
        assert_eq!(mounts.changes(), Vec::<Vec<u8>>::new());
    }
}
