//! The control socket: where `rinotifyctl` asks.
//!
//! A connection is one request, a line of words, and one reply, rows (see [`crate::rows`]) of which
//! the last is `ok` or `refused`. A client cannot make the daemon wait or grow: there are at
//! most [`CLIENTS_MAX`] clients, each with a request of [`REQUEST_LEN_MAX`] bytes at most, one piece
//! of a reply in memory, and a deadline. Only root and the daemon's own user get replies.
//!
//! The socket's name is guarded by a lock on the file beside it, so that a name which a killed
//! daemon left behind can be taken over without two daemons taking it from each other.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use super::reactor::{Reactor, Source, Token};
use crate::engine::message::{Question, ReplyEnd};
use crate::record::Level;
use crate::rows::Rows;
use crate::sys::epoll::Interest;
use crate::sys::lock::{LockError, PidFile};
use crate::sys::{socket, user};
use crate::types::Millis;

/// Connections at once. An administrator has one or two, a monitor another.
pub const CLIENTS_MAX: usize = 8;

/// The longest request. A log name is the only word without a bound of its own.
pub const REQUEST_LEN_MAX: usize = 1024;

/// A request must be there after so long, and an answer must get on in so long.
const PATIENCE_MS: Millis = 5_000;

/// No client is let in for so long after descriptors have run out.
const PAUSE_MS: Millis = 1_000;

/// Made with the daemon's first socket in it, if root runs it.
const RUN_DIR: &str = "/run/rinotifyd";

/// Why a request is refused whose words are none.
pub const UNKNOWN: &str = "unknown request";

/// What a client asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Something that the engine knows or does.
    Ask(Question),
    /// To read the configuration again.
    Reload,
}

impl Request {
    /// Reads a request, a line without its newline.
    ///
    /// # Errors
    ///
    /// What is wrong with it, for the client.
    pub fn parse(line: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(line).map_err(|_| "the request is not text")?;
        let words: Vec<&str> = text.split(' ').collect();
        let id = |word: &str| word.parse().map_err(|_| "that is no task id");
        let level = |word: &str| Level::from_name(word).ok_or("that is no log level");
        Ok(Self::Ask(match words.as_slice() {
            ["status"] => Question::Status,
            ["tasks"] => Question::Tasks { from: 0 },
            ["watches"] => Question::Watches { from: 0 },
            ["run", word] => Question::Run(id(word)?),
            ["cancel", word] => Question::Cancel(id(word)?),
            ["loglevel", word] => Question::LogLevel { name: None, level: level(word)? },
            ["loglevel", name, word] => {
                Question::LogLevel { name: Some((*name).into()), level: level(word)? }
            }
            ["reload"] => return Ok(Self::Reload),
            _ => return Err(UNKNOWN),
        }))
    }
}

/// Why there is no control socket.
#[derive(Debug)]
pub enum OpenError {
    /// A daemon with the same configuration runs already.
    Twin(LockError),
    /// Anything else, in words.
    Other(String),
}

/// See the module's documentation.
#[derive(Debug)]
pub struct Control {
    listener: UnixListener,
    token: Token,
    path: PathBuf,
    /// Device and inode of the name, which may be another program's by now.
    id: (u64, u64),
    clients: Vec<Client>,
    /// No client is let in before this.
    resume_at: Option<Millis>,
    next_key: u32,
    _lock: PidFile,
}

#[derive(Debug)]
struct Client {
    key: u32,
    socket: UnixStream,
    token: Token,
    deadline: Millis,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    /// So much of the request is there.
    Asking(Vec<u8>),
    /// The piece of the answer that is being sent, how much of it is, and what to ask for next.
    Answering { piece: Vec<u8>, sent: usize, next: Option<Question> },
}

impl Control {
    /// Makes the socket. `about` says which configuration this daemon has.
    ///
    /// # Errors
    ///
    /// See [`OpenError`]. What has the name is left alone, unless it is a socket on which no program
    /// listens.
    pub fn open(reactor: &mut Reactor, path: &Path, about: &[u8]) -> Result<Self, OpenError> {
        if path.parent() == Some(Path::new(RUN_DIR)) && user::is_root() {
            make_run_dir();
        }
        let other = |error: &dyn std::fmt::Display| OpenError::Other(error.to_string());
        let lock = PidFile::acquire_noting(&lock_path(path), about).map_err(|error| match error {
            LockError::Held { ref note, .. } if note == about => OpenError::Twin(error),
            LockError::Held { .. } => {
                let cure = "give this one another path with [daemon] control";
                OpenError::Other(format!("a daemon with another configuration is {error}; {cure}"))
            }
            LockError::System(error) => other(&error),
        })?;
        make_room(path).map_err(|error| other(&error))?;
        let listener =
            socket::listen(path).map_err(|errno| other(&format!("{errno:?} ({})", errno.desc())))?;
        let id = identity(path).map_err(|error| other(&error))?;
        let token = reactor
            .add(&listener, Source::Control, Interest::READ)
            .map_err(|errno| other(&format!("epoll_ctl: {errno:?}")))?;
        Ok(Self {
            listener,
            token,
            path: path.to_owned(),
            id,
            clients: Vec::new(),
            resume_at: None,
            next_key: 0,
            _lock: lock,
        })
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// When [`Control::expire`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        self.clients.iter().map(|client| client.deadline).chain(self.resume_at).min()
    }

    /// Lets those go who have had their time, and listens again after a pause.
    pub fn expire(&mut self, reactor: &mut Reactor, now: Millis) {
        if self.resume_at.take_if(|at| *at <= now).is_some()
            && reactor.resume(self.token, &self.listener, Interest::READ).is_err()
        {
            self.resume_at = Some(now + PAUSE_MS);
        }
        let late = self.clients.iter().filter(|client| client.deadline <= now);
        for key in late.map(|client| client.key).collect::<Vec<_>>() {
            self.close(reactor, key);
        }
    }

    /// Takes who has connected: one in a turn, the others come in the next.
    pub fn accept(&mut self, reactor: &mut Reactor, now: Millis) {
        let stream = match self.listener.accept() {
            Ok((stream, _)) => stream,
            Err(error) => return self.pause(reactor, &error, now),
        };
        let known = socket::peer_uid(&stream).is_ok_and(user::is_root_or_own);
        let refusal = match (known, self.clients.len() < CLIENTS_MAX) {
            (true, true) => None,
            (true, false) => Some("too many connections"),
            (false, _) => Some("not allowed"),
        };
        if stream.set_nonblocking(true).is_err() {
            return;
        }
        if let Some(why) = refusal {
            // Best effort: a client that does not get it sees the connection closed.
            let _ = (&stream).write(&last_row(&ReplyEnd::Refused(why.to_owned())));
            return;
        }
        let key = self.next_key;
        self.next_key = self.next_key.wrapping_add(1);
        if let Ok(token) = reactor.add(&stream, Source::Client(key), Interest::READ) {
            let deadline = now + PATIENCE_MS;
            self.clients.push(Client {
                key,
                socket: stream,
                token,
                deadline,
                stage: Stage::Asking(Vec::new()),
            });
        }
    }

    /// Without descriptors, a connection stays in the queue, and epoll would report it again and again.
    fn pause(&mut self, reactor: &Reactor, error: &io::Error, now: Millis) {
        let passing = [ErrorKind::WouldBlock, ErrorKind::Interrupted, ErrorKind::ConnectionAborted];
        if !passing.contains(&error.kind()) && reactor.pause(&self.listener).is_ok() {
            self.resume_at = Some(now + PAUSE_MS);
        }
    }

    /// What a client asks for, once it has said so; to be answered with [`Control::reply`].
    pub fn read(&mut self, reactor: &mut Reactor, key: u32, now: Millis) -> Option<Request> {
        let client = self.clients.iter_mut().find(|client| client.key == key)?;
        let Stage::Asking(request) = &mut client.stage else { return None };
        let mut buffer = [0; REQUEST_LEN_MAX + 1];
        let room = buffer.len() - request.len();
        match client.socket.read(&mut buffer[..room]) {
            Ok(count) if count > 0 => request.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return None;
            }
            Ok(_) | Err(_) => {
                self.close(reactor, key);
                return None;
            }
        }
        let parsed = match request.iter().position(|&byte| byte == b'\n') {
            Some(end) => Request::parse(&request[..end]),
            None if request.len() > REQUEST_LEN_MAX => Err("the request is too long"),
            None => return None,
        };
        match parsed {
            Ok(request) => Some(request),
            Err(why) => {
                self.reply(reactor, key, Rows::default(), ReplyEnd::Refused(why.to_owned()), now);
                None
            }
        }
    }

    /// Sends a piece of an answer, or as much of it as there is room for.
    pub fn reply(&mut self, reactor: &mut Reactor, key: u32, rows: Rows, end: ReplyEnd, now: Millis) {
        let Some(client) = self.clients.iter_mut().find(|client| client.key == key) else { return };
        let mut piece = rows.into_bytes();
        piece.extend(last_row(&end));
        let next = if let ReplyEnd::More(question) = end { Some(question) } else { None };
        if matches!(client.stage, Stage::Asking(_)) {
            // From here on only room to write is of interest.
            reactor.remove(client.token, &client.socket);
            match reactor.add(&client.socket, Source::Client(key), Interest::WRITE) {
                Ok(token) => client.token = token,
                Err(_) => return self.clients.retain(|client| client.key != key),
            }
        }
        client.stage = Stage::Answering { piece, sent: 0, next };
        self.write(reactor, key, now);
    }

    /// Sends more of an answer. Returns the question for its next piece, once there is room for it.
    pub fn write(&mut self, reactor: &mut Reactor, key: u32, now: Millis) -> Option<Question> {
        let client = self.clients.iter_mut().find(|client| client.key == key)?;
        let Stage::Answering { piece, sent, next } = &mut client.stage else { return None };
        while *sent < piece.len() {
            match client.socket.write(&piece[*sent..]) {
                Ok(count) => *sent += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return None,
                Err(_) => {
                    self.close(reactor, key);
                    return None;
                }
            }
            client.deadline = now + PATIENCE_MS;
        }
        if next.is_none() {
            self.close(reactor, key);
            return None;
        }
        next.clone()
    }

    fn close(&mut self, reactor: &mut Reactor, key: u32) {
        if let Some(at) = self.clients.iter().position(|client| client.key == key) {
            let client = self.clients.swap_remove(at);
            reactor.remove(client.token, &client.socket);
        }
    }

    /// Leaves the reactor; to be called before it is dropped.
    pub fn shut(&mut self, reactor: &mut Reactor) {
        for client in self.clients.drain(..) {
            reactor.remove(client.token, &client.socket);
        }
        reactor.remove(self.token, &self.listener);
    }
}

impl Drop for Control {
    /// Takes the name away, unless it is another program's by now. The lock goes after it.
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|id| id == self.id) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// The row that ends a piece: nothing when more follows.
fn last_row(end: &ReplyEnd) -> Vec<u8> {
    let mut rows = Rows::default();
    match end {
        ReplyEnd::Done => rows.push("ok", &[]),
        ReplyEnd::More(_) => {}
        ReplyEnd::Refused(why) => rows.push("refused", &[("why", why.into())]),
    }
    rows.into_bytes()
}

fn lock_path(path: &Path) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(".lock");
    path.into()
}

/// All users may enter it: the socket in it has a mode of its own. What goes wrong shows with the socket.
fn make_run_dir() {
    if fs::DirBuilder::new().mode(0o755).create(RUN_DIR).is_ok() {
        // The umask may have taken something from the mode.
        let _ = fs::set_permissions(RUN_DIR, fs::Permissions::from_mode(0o755));
    }
}

/// Removes a socket on which no program listens. The caller has the lock.
fn make_room(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            Err(io::Error::other("it exists and is not a socket"))
        }
        Ok(_) if socket::is_abandoned(path) => fs::remove_file(path),
        Ok(_) => Err(io::Error::other("some other program listens there")),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn refuse(line: &[u8], why: &'static str) {
        assert_eq!(Request::parse(line), Err(why), "{}", line.escape_ascii());
    }

    #[test]
    fn every_request() {
        let check =
            |line: &str, expected| assert_eq!(Request::parse(line.as_bytes()), Ok(expected), "{line}");
        check("status", Request::Ask(Question::Status));
        check("tasks", Request::Ask(Question::Tasks { from: 0 }));
        check("watches", Request::Ask(Question::Watches { from: 0 }));
        check("run 7", Request::Ask(Question::Run(7)));
        check("cancel 18446744073709551615", Request::Ask(Question::Cancel(u64::MAX)));
        let level = Level::Debug;
        check("loglevel debug", Request::Ask(Question::LogLevel { name: None, level }));
        check("loglevel a.b-c debug", Request::Ask(Question::LogLevel { name: Some("a.b-c".into()), level }));
        check("reload", Request::Reload);
    }

    #[test]
    fn every_refusal() {
        for line in ["", " ", "Status", "status ", " status", "status now", "run", "run 1 2", "loglevel"] {
            refuse(line.as_bytes(), "unknown request");
        }
        for id in ["", "x", "-1", "1.5", "18446744073709551616", "0x1"] {
            refuse(format!("run {id}").as_bytes(), "that is no task id");
        }
        refuse(b"loglevel x y", "that is no log level");
        refuse(b"loglevel DEBUG", "that is no log level");
        refuse(b"run \xff", "the request is not text");
    }

    proptest! {
        #[test]
        fn any_line_is_judged(line: Vec<u8>) {
            let _ = Request::parse(&line);
        }

        #[test]
        fn any_words_are_judged(
            words in prop::collection::vec("status|tasks|watches|run|cancel|loglevel|reload|debug|[0-9]{0,30}|.", 0..5),
        ) {
            let _ = Request::parse(words.join(" ").as_bytes());
        }
    }
}
