//! Moves the data of one file into another, with as few copies through this process as the kernel allows.

use std::os::fd::{AsRawFd, BorrowedFd};

use nix::fcntl::copy_file_range;
use nix::unistd::{Whence, lseek64};

use super::{Errno, retry};

/// Makes `to` share the whole data of `from` (`ioctl_ficlone(2)`): it takes neither time nor space.
///
/// # Errors
/// EOPNOTSUPP, EXDEV, EINVAL, ENOTTY where the filesystem cannot do that; nothing has changed then.
pub fn reflink(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
    // Raw, because nix has no FICLONE.
    // SAFETY: FICLONE takes a descriptor and touches no memory (ioctl_ficlone(2)).
    retry(|| Errno::result(unsafe { libc::ioctl(to.as_raw_fd(), libc::FICLONE, from.as_raw_fd()) })).map(drop)
}

/// Copies up to `len` bytes at `offset` of `from` to the same offset of `to`, within the kernel
/// (`copy_file_range(2)`). Returns how many were copied; 0 at the end of the file.
///
/// # Errors
/// EXDEV, EINVAL, EOPNOTSUPP, ENOSYS, EPERM where only read and write can do it; ENOSPC, EDQUOT, EIO, EFBIG.
pub fn copy_range(from: BorrowedFd<'_>, to: BorrowedFd<'_>, offset: u64, len: usize) -> Result<usize, Errno> {
    let start = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let copied =
        retry(|| copy_file_range(from, Some(&mut start.clone()), to, Some(&mut start.clone()), len))?;
    at_most(copied, len)
}

/// Reads at an offset. Returns how many bytes; 0 at the end of the file.
///
/// Raw, as [`write_all_at`] and [`set_len`] are: where `off_t` has 32 bits (glibc on 32-bit ARM), nix's calls
/// stop at 2 GiB.
///
/// # Errors
/// EIO, EISDIR.
pub fn read_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    let size = retry(|| {
        // SAFETY: the buffer may be written up to its length (pread(2)).
        Errno::result(unsafe {
            libc::pread64(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), offset)
        })
    })?;
    at_most(usize::try_from(size).map_err(|_| Errno::EIO)?, buffer.len())
}

/// Reads at an offset until the buffer is full or the file ends. Returns how many bytes.
///
/// # Errors
/// As [`read_at`].
pub fn read_fully_at(fd: BorrowedFd<'_>, buffer: &mut [u8], offset: u64) -> Result<usize, Errno> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read_at(fd, &mut buffer[filled..], offset.saturating_add(filled as u64))? {
            0 => break,
            size => filled += size,
        }
    }
    Ok(filled)
}

/// Writes all of `buffer` at an offset.
///
/// # Errors
/// ENOSPC, EDQUOT, EFBIG, EIO; a part may have been written.
pub fn write_all_at(fd: BorrowedFd<'_>, mut buffer: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !buffer.is_empty() {
        let at = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let size = retry(|| {
            // SAFETY: the buffer may be read up to its length (pwrite(2)).
            Errno::result(unsafe { libc::pwrite64(fd.as_raw_fd(), buffer.as_ptr().cast(), buffer.len(), at) })
        })?;
        let size = at_most(usize::try_from(size).map_err(|_| Errno::EIO)?, buffer.len())?;
        if size == 0 {
            return Err(Errno::EIO);
        }
        buffer = &buffer[size..];
        offset += size as u64;
    }
    Ok(())
}

/// A count of bytes from a filesystem, which may be a program (FUSE): it is used only if it is possible.
fn at_most(count: usize, asked: usize) -> Result<usize, Errno> {
    if count <= asked { Ok(count) } else { Err(Errno::EIO) }
}

/// The next stretch of data at or after `offset`, as start and end; `None` when only a hole, or nothing,
/// follows. Where the filesystem does not know holes, the whole file is data (`lseek(2)`).
///
/// # Errors
/// EINVAL where the filesystem does not know the question, or gives an answer that makes no sense: a FUSE
/// filesystem may answer with any number (`FUSE_LSEEK`).
pub fn next_data(fd: BorrowedFd<'_>, offset: u64) -> Result<Option<(u64, u64)>, Errno> {
    let Some(start) = seek(fd, offset, Whence::SeekData)? else { return Ok(None) };
    let Some(end) = seek(fd, start, Whence::SeekHole)? else { return Ok(None) };
    check_stretch(offset, start, end).map(Some)
}

/// Data at or behind `offset`, and at least one byte of it.
fn check_stretch(offset: u64, start: u64, end: u64) -> Result<(u64, u64), Errno> {
    if offset <= start && start < end { Ok((start, end)) } else { Err(Errno::EINVAL) }
}

fn seek(fd: BorrowedFd<'_>, offset: u64, whence: Whence) -> Result<Option<u64>, Errno> {
    let offset = i64::try_from(offset).map_err(|_| Errno::EFBIG)?;
    match retry(|| lseek64(fd, offset, whence)) {
        Ok(found) => u64::try_from(found).map(Some).map_err(|_| Errno::EINVAL),
        // `offset` is at or behind the end, or no more data follows.
        Err(Errno::ENXIO) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Sets the length of a file; added bytes are a hole.
///
/// # Errors
/// EFBIG, EIO, ENOSPC.
pub fn set_len(fd: BorrowedFd<'_>, len: u64) -> Result<(), Errno> {
    let len = i64::try_from(len).map_err(|_| Errno::EFBIG)?;
    // SAFETY: ftruncate(2) takes no memory.
    retry(|| Errno::result(unsafe { libc::ftruncate64(fd.as_raw_fd(), len) })).map(drop)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;

    use super::*;

    #[test]
    fn holes_are_found_and_ranges_copied() {
        let mut from = tempfile::tempfile().unwrap();
        from.seek(SeekFrom::Start(1 << 20)).unwrap();
        from.write_all(b"data").unwrap();
        from.set_len(3 << 20).unwrap();
        let mut to = tempfile::tempfile().unwrap();
        let mut at = 0;
        let mut stretches = 0;
        while let Some((start, end)) = next_data(from.as_fd(), at).unwrap() {
            let mut offset = start;
            while offset < end {
                let len = usize::try_from(end - offset).unwrap();
                let copied = copy_range(from.as_fd(), to.as_fd(), offset, len).unwrap();
                assert!(copied > 0);
                offset += copied as u64;
            }
            stretches += 1;
            at = end;
        }
        assert!(stretches >= 1);
        set_len(to.as_fd(), 3 << 20).unwrap();
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        from.rewind().unwrap();
        to.rewind().unwrap();
        from.read_to_end(&mut expected).unwrap();
        to.read_to_end(&mut found).unwrap();
        assert!(expected == found);
        assert_eq!(next_data(from.as_fd(), 4 << 20), Ok(None));
    }

    #[test]
    fn an_answer_that_makes_no_sense_is_none() {
        assert_eq!(check_stretch(5, 5, 6), Ok((5, 6)));
        for (start, end) in [(4, 9), (0, u64::MAX), (5, 5), (7, 6)] {
            assert_eq!(check_stretch(5, start, end), Err(Errno::EINVAL), "{start} {end}");
        }
    }

    #[test]
    fn a_count_beyond_what_was_asked_for_is_an_error() {
        assert_eq!((at_most(0, 0), at_most(7, 8), at_most(8, 8)), (Ok(0), Ok(7), Ok(8)));
        assert_eq!(at_most(9, 8), Err(Errno::EIO));
    }

    #[test]
    fn reads_and_writes_are_at_their_offsets() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("f");
        let file = fs::OpenOptions::new().read(true).write(true).create_new(true).open(path).unwrap();
        write_all_at(file.as_fd(), b"abc", 2).unwrap();
        let mut buffer = [9; 8];
        assert_eq!(read_at(file.as_fd(), &mut buffer, 1), Ok(4));
        assert_eq!(&buffer[..4], b"\0abc");
        assert_eq!(read_at(file.as_fd(), &mut buffer, 5), Ok(0));
    }

    #[test]
    fn a_reflink_shares_or_changes_nothing() {
        let mut from = tempfile::tempfile().unwrap();
        from.write_all(b"abc").unwrap();
        let to = tempfile::tempfile().unwrap();
        let len = match reflink(from.as_fd(), to.as_fd()) {
            Ok(()) => 3,
            Err(errno) => {
                assert!(matches!(errno, Errno::EOPNOTSUPP | Errno::EXDEV | Errno::EINVAL | Errno::ENOTTY));
                0
            }
        };
        assert_eq!(to.metadata().unwrap().len(), len);
    }
}
