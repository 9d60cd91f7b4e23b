//! The child that reports when it began; see `c/child.c`.

use std::fs::{self, File};
use std::io::Read;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::time::{ClockId, clock_gettime};

use crate::lab::Lab;

/// The report of one child.
#[derive(Clone, Copy, Debug)]
pub struct Start {
    /// When it began, by the monotonic clock.
    pub nanos: u64,
    /// The number at the end of the file's name.
    pub number: u64,
}

/// The FIFO into which children report.
pub struct Children {
    pub fifo: PathBuf,
    stream: File,
    program: PathBuf,
}

/// A report is two words of 64 bits.
const RECORD_SIZE: usize = 16;

impl Children {
    pub fn new(lab: &Lab, name: &str) -> Self {
        let fifo = lab.folder().join(name);
        // Left over from an earlier measurement, or not there.
        drop(fs::remove_file(&fifo));
        nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
        // Open for writing as well, so that a read never finds the end.
        let mut options = File::options();
        options.read(true).write(true).custom_flags(OFlag::O_NONBLOCK.bits());
        let stream = options.open(&fifo).unwrap();
        Self { fifo, stream, program: lab.program("child") }
    }

    /// A scheduler that starts such a child for each event.
    pub fn scheduler(&self, kind: &str) -> String {
        let (program, fifo) = (self.program.display(), self.fifo.display());
        format!("type = {kind}\ncmd = {program} {fifo} {{pathname}}\noutput = null")
    }

    pub fn program(&self) -> &Path {
        &self.program
    }

    /// The next report, unless none comes in this time.
    pub fn next(&mut self, timeout: Duration) -> Option<Start> {
        let mut record = [0; RECORD_SIZE];
        let timeout = PollTimeout::try_from(timeout).unwrap();
        let mut fds = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
        if poll(&mut fds, timeout).unwrap() == 0 {
            return None;
        }
        self.stream.read_exact(&mut record).unwrap();
        let word = |at: usize| u64::from_ne_bytes(record[at..at + 8].try_into().unwrap());
        Some(Start { nanos: word(0), number: word(8) })
    }
}

/// The time now, by the clock of the children.
pub fn now_nanos() -> u64 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).unwrap();
    now.tv_sec().cast_unsigned() * 1_000_000_000 + now.tv_nsec().cast_unsigned()
}
