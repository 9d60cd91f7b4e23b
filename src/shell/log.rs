//! The log: records as lines on standard error and to syslog. The daemon never waits for either.
//!
//! Lines go to a ring of bounded size, and from there to the stream as far as it has room. When the ring is
//! full, the newest lines are dropped and counted; once there is room again, a line says how many were
//! dropped. The invariant: the stream gets whole lines in order, or the beginning of a line whose rest comes
//! later.

mod format;
mod syslog;

use std::collections::VecDeque;
use std::os::fd::BorrowedFd;

use crate::config::Syslog as Section;
use crate::record::{Level, LogLevels, LogName, Record};
use crate::shell::reactor::Reactor;
use crate::sys::output::{Output, wait_writable};
use crate::sys::{Errno, clock};
use crate::types::Millis;

use format::{Prefix, format};
use syslog::Syslog;

/// Size of the ring. As much as a pipe holds (`pipe(7)`), some 500 lines: enough for a burst in one turn of
/// the loop, and little on a machine with 32 MB.
const RING_SIZE: usize = 64 * 1024;

/// After lines were dropped, further lines are taken once the ring has this much room. If every line that
/// fits were taken, lines and gaps would alternate.
const RESUME_SIZE: usize = RING_SIZE / 2;

/// How many of the last errors the status shows, and how many bytes of each: together they fit on a screen.
const ERRORS_MAX: usize = 10;
const ERROR_LEN_MAX: usize = 1024;

/// How the last write to the stream ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogStream {
    /// It has taken all bytes.
    Open,
    /// It has no room; epoll reports when it has.
    Full,
    /// It fails. Every flush tries again, but epoll is not asked: it would report the stream again and again.
    Broken(Errno),
}

/// Takes records and writes lines.
#[derive(Debug)]
pub struct Log {
    levels: LogLevels,
    output: Output,
    syslog: Syslog,
    stream: LogStream,
    ring: VecDeque<u8>,
    /// Lines dropped since the last line that was taken.
    dropped: u64,
    /// The last errors, oldest first.
    errors: VecDeque<String>,
    /// The line that is being made; kept for its memory.
    line: String,
    name: LogName,
}

impl Log {
    /// A log on this stream. If the journal reads the stream, lines are made for it.
    #[must_use]
    pub fn new(levels: LogLevels, output: Output) -> Self {
        Self {
            levels,
            output,
            syslog: Syslog::default(),
            stream: LogStream::Open,
            ring: VecDeque::with_capacity(RING_SIZE),
            dropped: 0,
            errors: VecDeque::new(),
            line: String::new(),
            name: "log".into(),
        }
    }

    /// Whether a record of this level and name would be written: ask before making a costly record.
    #[must_use]
    pub fn enabled(&self, level: Level, name: &str) -> bool {
        self.levels.enabled(level, name)
    }

    /// Sets the levels from now on.
    pub fn set_levels(&mut self, levels: LogLevels) {
        self.levels = levels;
    }

    /// Takes a record, if its level is wanted. The next [`Log::flush`] writes it; if the ring has no room,
    /// this writes at once.
    pub fn write(&mut self, record: &Record) {
        if record.level >= Level::Error {
            self.remember(record);
        }
        let message = self.syslog.write(record);
        self.take(record);
        self.log_syslog(message);
    }

    /// Takes a record for standard error.
    fn take(&mut self, record: &Record) {
        if !record.asked_for && !self.enabled(record.level, &record.name) {
            return;
        }
        self.make_line(record);
        if self.dropped > 0 || self.room() < self.line.len() {
            // This may make a notice of dropped lines in `line`.
            self.flush_stream();
            self.make_line(record);
        }
        if self.dropped > 0 || self.room() < self.line.len() {
            self.dropped += 1;
        } else {
            self.ring.extend(self.line.as_bytes());
        }
    }

    /// The last errors, oldest first, for the status.
    pub fn errors(&self) -> impl Iterator<Item = &str> {
        self.errors.iter().map(String::as_str)
    }

    fn remember(&mut self, record: &Record) {
        let mut line = String::new();
        format(&mut line, Prefix::Time(clock::wall()), record);
        line.truncate(line.floor_char_boundary(ERROR_LEN_MAX));
        line.truncate(line.trim_end().len());
        if self.errors.len() == ERRORS_MAX {
            self.errors.pop_front();
        }
        self.errors.push_back(line);
    }

    /// Writes as many lines as the stream has room for. Call it once per turn of the loop.
    pub fn flush(&mut self) {
        for message in self.syslog.flush() {
            self.log_syslog(Some(message));
        }
        self.flush_stream();
    }

    fn flush_stream(&mut self) {
        loop {
            self.drain();
            if self.dropped == 0 || self.room() < RESUME_SIZE {
                return;
            }
            let notice = format!("{} log lines dropped", self.dropped);
            self.dropped = 0;
            self.make_line(&Record::new(Level::Warning, &self.name, notice));
            self.ring.extend(self.line.as_bytes());
        }
    }

    /// Logs a message about syslog on standard error alone.
    fn log_syslog(&mut self, message: Option<String>) {
        if let Some(message) = message {
            self.take(&Record::new(Level::Warning, &self.name.clone(), message));
        }
    }

    /// Sends records to syslog as these sections say. Looks up host names, which may block.
    pub fn set_syslog(&mut self, sections: &[Section], reactor: Option<&mut Reactor>) {
        let mut messages = Vec::new();
        self.syslog.configure(sections, reactor, &mut |message| messages.push(message));
        messages.into_iter().for_each(|message| self.log_syslog(Some(message)));
    }

    /// Has the reactor report room in the streams to syslog for which lines wait.
    pub fn listen(&mut self, reactor: &mut Reactor) {
        self.syslog.listen(reactor);
    }

    /// Whether lines wait because the stream has no room: then wait until [`Log::fd`] is writable.
    #[must_use]
    pub fn wants_write(&self) -> bool {
        self.stream == LogStream::Full && !self.ring.is_empty()
    }

    /// The descriptor for epoll, if epoll takes it.
    #[must_use]
    pub fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.output.pollable()
    }

    /// Writes all lines, and waits for room at most `max_ms`. For the end of the daemon only.
    pub fn drain_blocking(&mut self, max_ms: Millis) {
        let deadline = clock::now().saturating_add(max_ms);
        loop {
            self.flush();
            let left = deadline.saturating_sub(clock::now());
            let waited = match self.syslog.blocked() {
                _ if left == 0 => return,
                _ if self.wants_write() => self.output.wait(left),
                Some(fd) => wait_writable(fd, left),
                None => return,
            };
            if waited.is_err() {
                return;
            }
        }
    }

    fn room(&self) -> usize {
        RING_SIZE.saturating_sub(self.ring.len())
    }

    fn make_line(&mut self, record: &Record) {
        let prefix = if self.output.is_journal() { Prefix::Severity } else { Prefix::Time(clock::wall()) };
        format(&mut self.line, prefix, record);
    }

    fn drain(&mut self) {
        self.stream = LogStream::Open;
        while !self.ring.is_empty() {
            match self.output.write(self.ring.as_slices().0) {
                Ok(size) => drop(self.ring.drain(..size)),
                Err(Errno::EAGAIN) => {
                    self.stream = LogStream::Full;
                    return;
                }
                Err(errno) => {
                    self.stream = LogStream::Broken(errno);
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{Read, Seek};
    use std::os::fd::OwnedFd;

    use super::*;
    use crate::sys::process;

    fn log(stream: OwnedFd) -> Log {
        Log::new(LogLevels::default(), Output::new(stream))
    }

    fn record(message: impl Into<String>) -> Record {
        Record::new(Level::Info, &"sched".into(), message)
    }

    /// The text that can be read now.
    fn read(pipe: &mut File) -> String {
        let mut text = Vec::new();
        let error = pipe.read_to_end(&mut text).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock);
        String::from_utf8(text).unwrap()
    }

    /// The messages, without time, level and name.
    fn messages(text: &str) -> Vec<&str> {
        text.lines().map(|line| line.split_once(": ").unwrap().1).collect()
    }

    fn pipe() -> (File, OwnedFd) {
        let (read, write) = process::pipe().unwrap();
        (File::from(read), write)
    }

    #[test]
    fn writes_lines_in_order_at_the_wanted_levels() {
        let (mut reader, writer) = pipe();
        let mut log = log(writer);
        log.write(&record("one"));
        log.write(&Record::new(Level::Debug, &"sched".into(), "hidden"));
        log.set_levels(LogLevels { default: Level::Error, by_name: vec![("own".into(), Level::Debug)] });
        log.write(&record("hidden"));
        log.write(&Record::new(Level::Debug, &"own".into(), "two"));
        log.flush();
        assert!(!log.wants_write());
        assert_eq!(messages(&read(&mut reader)), ["one", "two"]);
    }

    #[test]
    fn a_reader_that_stops_loses_the_newest_lines_whole_and_gets_their_number() {
        let (mut reader, writer) = pipe();
        let mut log = log(writer);
        let sent = 4000;
        for number in 0..sent {
            log.write(&record(format!("number {number} {}", "x".repeat(number % 90))));
            log.flush();
        }
        assert!(log.wants_write());
        assert!(log.ring.len() <= RING_SIZE && log.ring.capacity() <= 2 * RING_SIZE);
        let mut text = String::new();
        while log.wants_write() {
            text += &read(&mut reader);
            log.flush();
        }
        log.write(&record("after"));
        log.flush();
        text += &read(&mut reader);
        let found = messages(&text);
        let kept = found.len() - 2;
        for (number, message) in found[..kept].iter().enumerate() {
            assert_eq!(
                *message,
                format!("number {number} {}", "x".repeat(number % 90)).trim_end_matches('?')
            );
        }
        assert_eq!(found[kept..], [&format!("{} log lines dropped", sent - kept), "after"]);
        assert!(kept > 1000);
    }

    #[test]
    fn the_notice_waits_for_room_and_comes_before_later_lines() {
        let (mut reader, writer) = pipe();
        let mut log = log(writer);
        while log.dropped == 0 {
            log.write(&record("x".repeat(1000)));
        }
        // A little room in the ring is not enough to take lines again.
        reader.read_exact(&mut [0; 8192]).unwrap();
        log.flush();
        log.write(&record("too early"));
        assert_eq!(log.dropped, 2);
        let mut text = String::new();
        while log.wants_write() {
            text += &read(&mut reader);
            log.write(&record("later"));
        }
        log.flush();
        text += &read(&mut reader);
        let notice = text.find("2 log lines dropped").or_else(|| text.find("log lines dropped")).unwrap();
        assert!(!text.contains("too early"));
        assert!(text.find("later").is_none_or(|at| at > notice));
    }

    #[test]
    fn a_broken_stream_is_not_waited_for_and_costs_nothing() {
        let (reader, writer) = pipe();
        let mut log = log(writer);
        drop(reader);
        for _ in 0..1000 {
            log.write(&record("x".repeat(1000)));
            log.flush();
        }
        assert_eq!(log.stream, LogStream::Broken(Errno::EPIPE));
        assert!(!log.wants_write());
        assert!(log.ring.len() <= RING_SIZE);
        log.drain_blocking(10_000);
    }

    #[test]
    fn draining_waits_for_a_slow_reader_but_not_for_ever() {
        let (mut reader, writer) = pipe();
        let mut log = log(writer);
        while log.dropped == 0 {
            log.write(&record("x".repeat(1000)));
        }
        log.drain_blocking(5);
        assert!(log.wants_write());
        let slow = std::thread::spawn(move || {
            let mut text = Vec::new();
            while !text.ends_with(b"log lines dropped\n") {
                let mut chunk = [0; 1000];
                if let Ok(size) = reader.read(&mut chunk) {
                    text.extend(&chunk[..size]);
                }
                std::thread::yield_now();
            }
        });
        log.drain_blocking(30_000);
        assert!(log.ring.is_empty());
        slow.join().unwrap();
    }

    #[test]
    fn a_file_takes_everything() {
        let mut file = tempfile::tempfile().unwrap();
        let mut log = log(file.try_clone().unwrap().into());
        for _ in 0..1000 {
            log.write(&record("x".repeat(1000)));
        }
        log.flush();
        assert!(log.fd().is_none() && !log.wants_write());
        file.rewind().unwrap();
        assert_eq!(std::io::read_to_string(file).unwrap().lines().count(), 1000);
    }
}
