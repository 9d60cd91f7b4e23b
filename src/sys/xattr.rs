//! Extended attributes of open files, POSIX access lists among them. See `xattr(7)`. The calls are raw: nix
//! has none of them.

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use super::{Errno, proc_path, retry};

/// So often a list or value may grow between the question for its size and the reading.
const TRIES: usize = 8;

/// The names of all attributes that this process may see.
///
/// # Errors
/// EOPNOTSUPP where the filesystem has none, ERANGE when they keep changing.
pub fn list(fd: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let bytes = sized(|buffer| {
        // SAFETY: the buffer may be written up to its length, or is empty (flistxattr(2)).
        unsafe { libc::flistxattr(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })?;
    let names = bytes.split(|&byte| byte == 0).filter(|name| !name.is_empty());
    Ok(names.filter_map(|name| CString::new(name).ok()).collect())
}

/// The value of one attribute.
///
/// # Errors
/// ENODATA when there is none, EOPNOTSUPP, ERANGE when it keeps changing.
pub fn get(fd: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    sized(|buffer| {
        // SAFETY: the name ends in NUL, the buffer may be written up to its length, or is empty
        // (fgetxattr(2)).
        unsafe { libc::fgetxattr(fd.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) }
    })
}

/// Sets one attribute.
///
/// # Errors
/// EOPNOTSUPP, EPERM, ENOSPC, EDQUOT, E2BIG and what else `setxattr(2)` says.
pub fn set(fd: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    retry(|| {
        // SAFETY: the name ends in NUL and the value is read up to its length (fsetxattr(2)).
        let outcome =
            unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
        Errno::result(outcome).map(drop)
    })
}

/// Removes one attribute of a file. `fd` may be an `O_PATH` descriptor.
///
/// # Errors
/// ENODATA when there is none, EOPNOTSUPP, EPERM; for an `O_PATH` descriptor, ENOENT without `/proc`.
pub fn remove(fd: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
    // SAFETY: the name ends in NUL (fremovexattr(2)).
    match retry(|| Errno::result(unsafe { libc::fremovexattr(fd.as_raw_fd(), name.as_ptr()) })) {
        // An O_PATH descriptor gives no access to attributes (open(2)).
        Err(Errno::EBADF) => {}
        outcome => return outcome.map(drop),
    }
    let path = proc_path(fd);
    retry(|| {
        // SAFETY: path and name end in NUL (removexattr(2)). The path leads to the held file.
        Errno::result(unsafe { libc::removexattr(path.as_c_str().as_ptr(), name.as_ptr()) }).map(drop)
    })
}

/// Calls with an empty buffer first, which gives the size, and then with a buffer of that size.
fn sized(mut call: impl FnMut(&mut [u8]) -> isize) -> Result<Vec<u8>, Errno> {
    let mut buffer = Vec::new();
    for _ in 0..TRIES {
        let size = retry(|| Errno::result(call(&mut [])))?.unsigned_abs();
        buffer.resize(size, 0);
        if size == 0 {
            return Ok(buffer);
        }
        match retry(|| Errno::result(call(&mut buffer))) {
            Err(Errno::ERANGE) => {}
            outcome => {
                buffer.truncate(outcome?.unsigned_abs());
                return Ok(buffer);
            }
        }
    }
    Err(Errno::ERANGE)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn what_is_set_is_listed_and_read() {
        let scratch = tempfile::tempdir().unwrap();
        let file = File::create(scratch.path().join("f")).unwrap();
        let file = file.as_fd();
        match set(file, c"user.rinotifyd", b"\0value\xff") {
            // A filesystem without attributes must give this error.
            Err(errno) => assert_eq!(errno, Errno::EOPNOTSUPP),
            Ok(()) => {
                set(file, c"user.empty", b"").unwrap();
                assert!(list(file).unwrap().contains(&c"user.rinotifyd".to_owned()));
                assert_eq!(get(file, c"user.rinotifyd").unwrap(), b"\0value\xff");
                assert_eq!(get(file, c"user.empty").unwrap(), b"");
            }
        }
        assert!(get(file, c"user.none").is_err());
        if set(file, c"user.rinotifyd", b"x").is_ok() {
            let dir = File::open(scratch.path()).unwrap();
            let held = crate::sys::file::hold(dir.as_fd(), c"f").unwrap();
            remove(held.as_fd(), c"user.rinotifyd").unwrap();
            assert_eq!(remove(file, c"user.rinotifyd"), Err(Errno::ENODATA));
        }
    }
}
