//! The pipes of workers: tasks go in, answers come out.
//!
//! A worker that does not read never makes the daemon wait: its pipe does not block, and what does
//! not fit stays in a buffer, which the engine keeps short.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;

use super::children::{Child, Children, Program, start_error};
use super::lines::{Line, Lines};
use super::reactor::{Reactor, Source, Token};
use crate::engine::WorkerId;
use crate::engine::message::{StartError, StartWorker};
use crate::sys::epoll::Interest;
use crate::sys::process;

/// Read from one worker in one turn.
const READ_SIZE: usize = 64 * 1024;

/// Read from a worker that has ended: what its pipe can hold. More comes from a process it left.
pub const LAST_READS: usize = 17;

/// What a pipe can hold (`pipe(7)`): all that was written before that has been read.
const PIPE_SIZE: usize = 64 * 1024;

/// What became of the lines given to a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flushed {
    /// So many more are in its pipe.
    Lines(usize),
    /// It has closed its standard input.
    Closed,
}

/// All workers that run.
#[derive(Debug, Default)]
pub struct Workers {
    buffer: Vec<u8>,
    /// A few, so that a search is as good as a table.
    running: Vec<Pipes>,
    /// Those with lines that were not tried to be written yet.
    fresh: Vec<WorkerId>,
}

#[derive(Debug)]
struct Pipes {
    id: WorkerId,
    input: Option<InputPipe>,
    answers: Option<Answers>,
}

#[derive(Debug)]
struct InputPipe {
    pipe: File,
    /// When it waits for room.
    token: Option<Token>,
    /// To be written.
    buffer: Vec<u8>,
    /// So many bytes of it, at its beginning, are lines that are not counted.
    uncounted: usize,
    /// To be closed when the buffer is empty.
    closing: bool,
    /// It was closed at the other end.
    broken: bool,
    /// What was written last, for a worker that does not answer: what the pipe may still hold, from the
    /// beginning of a line on.
    sent: Option<Vec<u8>>,
    /// So many bytes were written.
    written: usize,
    /// Where each line that was handed over begins, as far as the worker may not have begun to read it.
    starts: VecDeque<usize>,
    /// So many lines before those were handed over.
    begun: u64,
}

/// What a worker left when it ended.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Left {
    /// The whole lines that it had not read, of those that were told as written; of one that does not
    /// answer.
    pub unread: Vec<u8>,
    /// How many of the lines that were handed over it had begun to read.
    pub begun: u64,
}

#[derive(Debug)]
struct Answers {
    pipe: File,
    token: Token,
    lines: Lines,
}

impl Workers {
    fn get_mut(&mut self, id: WorkerId) -> Option<&mut Pipes> {
        self.running.iter_mut().find(|pipes| pipes.id == id)
    }

    /// Starts a worker.
    ///
    /// # Errors
    ///
    /// Why there is none.
    pub fn start(
        &mut self,
        children: &mut Children,
        reactor: &mut Reactor,
        start: &StartWorker,
    ) -> Result<(), StartError> {
        let failed = |errno| start_error("pipe", errno);
        let (stdin, tasks) = children.make_pipe(reactor, process::input_pipe).map_err(failed)?;
        let (mut answers, mut stdout) = (None, None);
        if start.ack {
            let (read, write) = children.make_pipe(reactor, process::pipe).map_err(failed)?;
            let pipe = File::from(read);
            // A place in epoll first: without it the answers would not be read.
            let token = reactor.add(&pipe, Source::Answers(start.id), Interest::READ);
            let token = token.map_err(|errno| start_error("epoll_ctl", errno))?;
            answers = Some(Answers { pipe, token, lines: Lines::default() });
            stdout = Some(write);
        }
        let child = Child::Worker(start.id);
        let program = Program {
            child,
            argv: &start.argv,
            env: &start.env,
            run: &start.run,
            logname: &start.logname,
            label: ("worker", start.name.clone()),
            stdin: Some(stdin.as_fd()),
            stdout: stdout.as_ref().map(AsFd::as_fd),
        };
        if let Err(error) = children.launch(reactor, program) {
            if let Some(answers) = answers {
                reactor.remove(answers.token, &answers.pipe);
            }
            return Err(error);
        }
        // It and what it leaves behind would go on with tasks that another instance has by then.
        children.doom(child, true);
        let input = InputPipe {
            pipe: File::from(tasks),
            token: None,
            buffer: start.first.clone(),
            uncounted: start.first.len(),
            closing: false,
            broken: false,
            sent: (!start.ack).then(Vec::new),
            written: 0,
            starts: VecDeque::new(),
            begun: 0,
        };
        self.buffer.resize(READ_SIZE, 0);
        self.running.push(Pipes { id: start.id, input: Some(input), answers });
        self.fresh.push(start.id);
        Ok(())
    }

    /// Takes a line to be written by [`Workers::flush`].
    pub fn hand(&mut self, id: WorkerId, line: &[u8]) {
        if let Some(input) = self.get_mut(id).and_then(|pipes| pipes.input.as_mut()) {
            input.hand(line);
            if !self.fresh.contains(&id) {
                self.fresh.push(id);
            }
        }
    }

    /// Whether a worker was given something that was not tried to be written yet.
    #[must_use]
    pub fn has_fresh(&self) -> bool {
        !self.fresh.is_empty()
    }

    /// The workers of which that is true, for [`Workers::flush`].
    pub fn take_fresh(&mut self) -> Vec<WorkerId> {
        std::mem::take(&mut self.fresh)
    }

    /// Writes what fits.
    pub fn flush(&mut self, reactor: &mut Reactor, id: WorkerId) -> Option<Flushed> {
        let pipes = self.get_mut(id)?;
        let input = pipes.input.as_mut().filter(|input| !input.broken)?;
        let lines = input.write();
        let full = !input.buffer.is_empty();
        input.wait_for_room(reactor, id, full && lines.is_ok());
        match lines {
            Err(_) => {
                input.broken = true;
                return Some(Flushed::Closed);
            }
            Ok(_) if !full && input.closing => match process::read_end(&input.pipe) {
                // Only to be asked what was not read.
                Ok(read) if input.sent.is_some() => input.pipe = File::from(read),
                _ => pipes.input = None,
            },
            Ok(_) => {}
        }
        lines.ok().filter(|lines| *lines > 0).map(Flushed::Lines)
    }

    /// Closes the worker's standard input behind what is still to be written.
    pub fn close(&mut self, children: &mut Children, id: WorkerId) {
        // It may end in its own way, and leave behind what it likes.
        children.doom(Child::Worker(id), false);
        if let Some(input) = self.get_mut(id).and_then(|pipes| pipes.input.as_mut()) {
            input.closing = true;
            self.fresh.push(id);
        }
    }

    /// Gives every line that the worker has written. `queued` is asked once they are read. Tells whether
    /// the worker has closed its standard output.
    pub fn read(
        &mut self,
        reactor: &mut Reactor,
        id: WorkerId,
        queued: impl Fn() -> usize,
        mut give: impl FnMut(Line<'_>, usize),
    ) -> bool {
        let Self { running, buffer, .. } = self;
        let Some(pipes) = running.iter_mut().find(|pipes| pipes.id == id) else { return false };
        let Some(answers) = &mut pipes.answers else { return false };
        let ended = match answers.pipe.read(buffer) {
            Ok(0) => true,
            Ok(count) => {
                let queued = queued();
                answers.lines.push(&buffer[..count], |line| give(line, queued));
                false
            }
            Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        };
        if ended {
            answers.lines.finish(|line| give(line, queued()));
            reactor.remove(answers.token, &answers.pipe);
            pipes.answers = None;
        }
        ended
    }

    /// Whether a worker that has ended may have left answers.
    pub fn has_answers(&self, id: WorkerId) -> bool {
        let answers =
            self.running.iter().find(|pipes| pipes.id == id).and_then(|pipes| pipes.answers.as_ref());
        answers.is_some_and(|answers| process::unread(&answers.pipe).is_ok_and(|count| count > 0))
    }

    /// Forgets a worker that has ended.
    pub fn end(&mut self, reactor: &mut Reactor, id: WorkerId) -> Left {
        let Some(at) = self.running.iter().position(|pipes| pipes.id == id) else { return Left::default() };
        let Pipes { input, answers, .. } = self.running.remove(at);
        if let Some(answers) = answers {
            reactor.remove(answers.token, &answers.pipe);
        }
        // Its input was closed behind the last line.
        let Some(mut input) = input else { return Left { unread: Vec::new(), begun: u64::MAX } };
        input.wait_for_room(reactor, id, false);
        Left { unread: input.unread(), begun: input.lines_begun() }
    }
}

impl InputPipe {
    fn hand(&mut self, line: &[u8]) {
        self.starts.push_back(self.written + self.buffer.len());
        self.buffer.extend_from_slice(line);
    }

    /// Returns how many counted lines are wholly written; an error when nothing can be, ever.
    fn write(&mut self) -> std::io::Result<usize> {
        let mut end = 0;
        while end < self.buffer.len() {
            match self.pipe.write(&self.buffer[end..]) {
                Ok(count) => end += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // What was written before an error is told first.
                Err(error) if error.kind() == ErrorKind::WouldBlock || end > 0 => break,
                Err(error) => return Err(error),
            }
        }
        let written = &self.buffer[..end];
        let lines = written.iter().skip(self.uncounted).filter(|&&byte| byte == b'\n').count();
        self.uncounted -= self.uncounted.min(end);
        if let Some(sent) = &mut self.sent {
            sent.extend_from_slice(written);
            if sent.len() > 2 * PIPE_SIZE {
                let surely_read = &sent[..sent.len() - PIPE_SIZE];
                let start = line_start(surely_read);
                sent.drain(..start);
            }
        }
        self.written += end;
        while self.starts.front().is_some_and(|start| start + PIPE_SIZE < self.written) {
            self.starts.pop_front();
            self.begun += 1;
        }
        self.buffer.drain(..end);
        Ok(lines)
    }

    fn wait_for_room(&mut self, reactor: &mut Reactor, id: WorkerId, wait: bool) {
        match self.token {
            None if wait => self.token = reactor.add(&self.pipe, Source::Tasks(id), Interest::WRITE).ok(),
            Some(token) if !wait => {
                reactor.remove(token, &self.pipe);
                self.token = None;
            }
            _ => {}
        }
    }

    /// From the beginning of the line that the worker was reading to the last end of one.
    fn unread(&self) -> Vec<u8> {
        let Some(sent) = &self.sent else { return Vec::new() };
        let count = process::unread(&self.pipe).unwrap_or(0).min(sent.len());
        let read = &sent[..sent.len() - count];
        let mut unread = sent[line_start(read)..].to_vec();
        unread.extend_from_slice(&self.buffer[..self.uncounted]);
        unread.truncate(line_start(&unread));
        unread
    }

    /// How many lines the worker has begun to read.
    fn lines_begun(&self) -> u64 {
        let read = self.written - process::unread(&self.pipe).unwrap_or(0).min(self.written);
        self.begun + self.starts.iter().take_while(|start| **start < read).count() as u64
    }
}

/// Where the line begins in which a text ends.
fn line_start(text: &[u8]) -> usize {
    text.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(first: &[u8]) -> (File, InputPipe) {
        let (read, write) = process::input_pipe().unwrap();
        let input = InputPipe {
            pipe: File::from(write),
            token: None,
            buffer: first.to_vec(),
            uncounted: first.len(),
            closing: false,
            broken: false,
            sent: Some(Vec::new()),
            written: 0,
            starts: VecDeque::new(),
            begun: 0,
        };
        (File::from(read), input)
    }

    fn read(pipe: &mut File, count: usize) {
        pipe.read_exact(&mut vec![0; count]).unwrap();
    }

    #[test]
    fn what_a_worker_leaves_unread_is_had_back_in_whole_lines() {
        let (mut pipe, mut input) = input(b"");
        input.hand(b"one\ntwo\nthree\n");
        assert_eq!(input.write().unwrap(), 3);
        assert_eq!(input.unread(), b"one\ntwo\nthree\n");
        read(&mut pipe, 4);
        assert_eq!(input.unread(), b"two\nthree\n");
        read(&mut pipe, 1);
        assert_eq!(input.unread(), b"two\nthree\n", "a line is read whole or not at all");
        read(&mut pipe, 9);
        drop(pipe);
        assert_eq!(input.unread(), b"");
    }

    #[test]
    fn lines_of_an_earlier_worker_are_not_counted() {
        let (mut pipe, mut input) = input(b"old\nolder\n");
        input.buffer.extend_from_slice(b"new\n");
        assert_eq!(input.write().unwrap(), 1);
        read(&mut pipe, 4);
        assert_eq!(input.unread(), b"older\nnew\n");
    }

    #[test]
    fn a_full_pipe_takes_part_of_a_line() {
        let (mut pipe, mut input) = input(b"");
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for _ in 0..200 {
            input.buffer.extend_from_slice(&line);
        }
        let lines = input.write().unwrap();
        assert!((50..=70).contains(&lines), "{lines} lines of 1000 bytes in a pipe");
        assert_eq!(input.unread().len(), lines * 1000);
        read(&mut pipe, 1000 * lines);
        assert_eq!(input.unread(), b"", "the last line is written in part and not told as written");
        let mut total = lines;
        while !input.buffer.is_empty() {
            let lines = input.write().unwrap();
            total += lines;
            let count = process::unread(&pipe).unwrap();
            read(&mut pipe, count);
        }
        assert_eq!(total, 200);
        assert!(input.sent.unwrap().len() <= 2 * PIPE_SIZE);
    }

    /// Longer than a pipe, and than all that was once remembered of it.
    #[test]
    fn a_long_line_is_had_back_from_its_beginning_or_not_at_all() {
        let line = [&[b'x'; 300_000][..], b"\n"].concat();
        // A line that was told as written goes to the next worker, one that was not does not.
        for uncounted in [true, false] {
            let (mut pipe, mut input) = input(if uncounted { &line } else { b"" });
            if !uncounted {
                input.hand(&line);
            }
            let mut left = line.len();
            while left > 0 {
                input.write().unwrap();
                let count = process::unread(&pipe).unwrap();
                let expected: &[u8] = if uncounted { &line } else { b"" };
                assert!(input.unread() == expected || input.buffer.is_empty());
                read(&mut pipe, count);
                left -= count;
                assert!(left == 0 || input.unread() == expected, "{left} of {uncounted}");
            }
            assert_eq!(input.unread(), b"");
        }
        // Whole, while the worker reads it.
        let (mut pipe, mut input) = input(b"");
        input.hand(&line);
        input.hand(b"last\n");
        while !input.buffer.is_empty() {
            input.write().unwrap();
            read(&mut pipe, 1000);
        }
        assert_eq!(input.unread(), [&line, b"last\n".as_slice()].concat());
    }

    #[test]
    fn lines_that_a_worker_has_begun_to_read_are_counted() {
        let (mut pipe, mut input) = input(b"old\n");
        input.hand(b"one\n");
        input.hand(b"two\n");
        assert_eq!(input.lines_begun(), 0);
        input.write().unwrap();
        for (count, expected) in [(4, 0), (1, 1), (3, 1), (1, 2)] {
            read(&mut pipe, count);
            assert_eq!(input.lines_begun(), expected);
        }
        read(&mut pipe, 3);
        let line = [&[b'x'; 999][..], b"\n"].concat();
        for lines in 0..200 {
            input.hand(&line);
            input.write().unwrap();
            assert_eq!(input.lines_begun(), 2 + lines);
            read(&mut pipe, 1000);
        }
        assert!(input.starts.len() <= 67, "{}", input.starts.len());
        input.hand(&[b'x'; 300_000]);
        input.write().unwrap();
        assert_eq!(input.lines_begun(), 202);
        read(&mut pipe, 1);
        assert_eq!(input.lines_begun(), 203, "it is read in part, and not wholly written");
    }

    #[test]
    fn a_closed_pipe_is_an_error_once_all_else_is_told() {
        let (pipe, mut input) = input(b"first\n");
        drop(pipe);
        input.buffer.extend_from_slice(b"line\n");
        assert!(input.write().is_err());
        assert_eq!(input.unread(), b"first\n", "the other line is of a task that is not done");
    }
}
