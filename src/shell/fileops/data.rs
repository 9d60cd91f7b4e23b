//! Copies the bytes of a regular file: shares them if the filesystem can, else copies them within the
//! kernel, else reads and writes. Holes stay holes.

use std::os::fd::BorrowedFd;

use super::control::Control;
use crate::sys::{Errno, transfer};

/// How much is copied between two checks whether to stop: some milliseconds' work.
const STEP_SIZE: usize = 8 * 1024 * 1024;

/// The buffer where the kernel cannot copy. Memory does not grow with the file.
const BUFFER_SIZE: usize = 256 * 1024;

/// How copying ended, if not with an error of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Copied {
    /// All of it, or as much as is still there.
    Whole,
    /// There is data behind the size that the file has told.
    Longer,
    /// The operation was told to stop.
    Aborted,
}

/// Fills the empty file `to` with the first `size` bytes of `from`, and no more: a file that grows all
/// the time must neither occupy the worker nor fill the destination.
///
/// # Errors
///
/// ENOSPC, EDQUOT, EFBIG, EIO.
pub fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>, size: u64, control: &Control) -> Result<Copied, Errno> {
    if size > 0 && transfer::reflink(from, to).is_ok() {
        control.advance(size);
        return Ok(Copied::Whole);
    }
    let mut copier = Copier { from, to, control, buffer: Vec::new(), in_kernel: true };
    let mut at = 0;
    while let Some((start, end)) = stretch(from, at, size)? {
        // A hole counts as done, so that the progress reaches the total.
        control.advance(start - at);
        if copier.stretch(start, end)? == Copied::Aborted {
            return Ok(Copied::Aborted);
        }
        at = end;
    }
    control.advance(size.saturating_sub(at));
    // For a hole at the end.
    transfer::set_len(to, size)?;
    // Some filesystems, such as /proc, tell a size of 0 for every file.
    let is_longer = transfer::read_at(from, &mut [0], size)? > 0;
    Ok(if is_longer { Copied::Longer } else { Copied::Whole })
}

/// The next data between `at` and `size`.
fn stretch(from: BorrowedFd<'_>, at: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    if at >= size {
        return Ok(None);
    }
    match transfer::next_data(from, at) {
        Ok(found) => Ok(found.map(|(start, end)| (start, end.min(size))).filter(|(start, end)| start < end)),
        // The filesystem does not know where its holes are: all is data.
        Err(Errno::EINVAL) => Ok(Some((at, size))),
        Err(errno) => Err(errno),
    }
}

struct Copier<'a> {
    from: BorrowedFd<'a>,
    to: BorrowedFd<'a>,
    control: &'a Control,
    buffer: Vec<u8>,
    in_kernel: bool,
}

impl Copier<'_> {
    fn stretch(&mut self, start: u64, end: u64) -> Result<Copied, Errno> {
        let mut at = start;
        while at < end {
            if self.control.check("copy", b"").is_err() {
                return Ok(Copied::Aborted);
            }
            let len = usize::try_from(end - at).unwrap_or(usize::MAX).min(STEP_SIZE);
            let copied = self.step(at, len)? as u64;
            if copied == 0 {
                // The file has become shorter, as its attributes tell the caller.
                break;
            }
            self.control.advance(copied);
            at += copied;
        }
        Ok(Copied::Whole)
    }

    fn step(&mut self, at: u64, len: usize) -> Result<usize, Errno> {
        if self.in_kernel {
            match transfer::copy_range(self.from, self.to, at, len) {
                // Another filesystem, one that cannot copy, an old kernel, a sandbox
                // (copy_file_range(2)). Some filesystems say 0 although read(2) has data.
                Err(Errno::EXDEV | Errno::EINVAL | Errno::EOPNOTSUPP | Errno::ENOSYS | Errno::EPERM)
                | Ok(0) => {
                    self.in_kernel = false;
                }
                outcome => return outcome,
            }
        }
        self.buffer.resize(BUFFER_SIZE, 0);
        let len = len.min(BUFFER_SIZE);
        let size = transfer::read_at(self.from, &mut self.buffer[..len], at)?;
        transfer::write_all_at(self.to, &self.buffer[..size], at)?;
        Ok(size)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    fn check(pieces: &[(u64, &[u8])], len: u64, in_kernel: bool) -> (File, File) {
        let mut from = tempfile::tempfile().unwrap();
        for (at, data) in pieces {
            from.seek(SeekFrom::Start(*at)).unwrap();
            from.write_all(data).unwrap();
        }
        from.set_len(len).unwrap();
        let mut to = tempfile::tempfile().unwrap();
        let control = Control::default();
        if in_kernel {
            assert_eq!(copy(from.as_fd(), to.as_fd(), len, &control), Ok(Copied::Whole));
            assert_eq!(control.progress().0, len);
        } else {
            let mut copier = Copier {
                from: from.as_fd(),
                to: to.as_fd(),
                control: &control,
                buffer: Vec::new(),
                in_kernel,
            };
            assert_eq!(copier.stretch(0, len), Ok(Copied::Whole));
        }
        let (mut expected, mut found) = (Vec::new(), Vec::new());
        from.rewind().unwrap();
        from.read_to_end(&mut expected).unwrap();
        to.rewind().unwrap();
        to.read_to_end(&mut found).unwrap();
        assert!(expected == found, "the copy differs");
        (from, to)
    }

    #[test]
    fn every_byte_is_copied_either_way() {
        let big: Vec<u8> = (0..1_000_003_u32).map(|number| number.to_le_bytes()[1]).collect();
        for in_kernel in [true, false] {
            check(&[(0, b"abc")], 3, in_kernel);
            check(&[(0, &big)], big.len() as u64, in_kernel);
            check(&[(700_001, b"x"), (5_000_000, &big)], 9_000_000, in_kernel);
        }
        check(&[], 0, true);
    }

    #[test]
    fn holes_stay_holes() {
        let (from, to) = check(&[(50 << 20, b"x")], 100 << 20, true);
        let blocks = |file: &File| file.metadata().unwrap().blocks();
        if blocks(&from) < 1000 {
            assert!(blocks(&to) < 1000, "{} blocks of 512 bytes", blocks(&to));
        }
    }

    #[test]
    fn a_copy_ends_at_the_size_that_the_file_has_told() {
        let from = tempfile::tempfile().unwrap();
        (&from).write_all(&[1; 100_000]).unwrap();
        let control = Control::default();
        for size in [0, 1, 99_999] {
            let to = tempfile::tempfile().unwrap();
            assert_eq!(copy(from.as_fd(), to.as_fd(), size, &control), Ok(Copied::Longer));
            assert_eq!(to.metadata().unwrap().len(), size);
        }
    }

    #[test]
    fn an_aborted_copy_ends() {
        let from = tempfile::tempfile().unwrap();
        (&from).write_all(&[1; 100_000]).unwrap();
        let to = tempfile::tempfile().unwrap();
        let control = Control::default();
        control.abort();
        let mut copier = Copier {
            from: from.as_fd(),
            to: to.as_fd(),
            control: &control,
            buffer: Vec::new(),
            in_kernel: true,
        };
        assert_eq!(copier.stretch(0, 100_000), Ok(Copied::Aborted));
    }
}
