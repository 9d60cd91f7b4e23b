//! Syslog: records as lines of RFC 3164, without ever making the daemon wait.
//!
//! A datagram that finds no room is dropped and counted. A stream has a queue, and what does not
//! fit there is dropped and counted. Once a line gets through again, one before it says how many
//! were lost. A syslogd that is gone is connected to again with every line, once; a stream over the
//! network once a second at most.
//!
//! `/dev/log` is given no time: syslogd knows it, and which zone its readers want. What goes over
//! the network has time and host.

use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use super::format::{Prefix, format, priority};
use crate::config::{Address, Syslog as Section};
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::shell::reactor::{Reactor, Source, Token};
use crate::sys::epoll::Interest;
use crate::sys::socket::{self, Peer};
use crate::sys::{Errno, clock};
use crate::types::Millis;

/// Lines that wait for a stream: as much as the log's own ring.
const QUEUE_SIZE: usize = 64 * 1024;

/// A stream over the network is not connected again sooner than this.
const RECONNECT_MS: Millis = 1_000;

/// All places that lines go to.
#[derive(Debug, Default)]
pub struct Syslog {
    sections: Vec<Section>,
    /// By section: the destination.
    places: Vec<usize>,
    destinations: Vec<Destination>,
    host: String,
    /// Kept for its memory.
    line: String,
}

/// One place that lines go to.
#[derive(Debug)]
struct Destination {
    address: Address,
    peer: Where,
    stream: bool,
    fd: Option<OwnedFd>,
    token: Option<Token>,
    /// Of a socket that is closed by now.
    old_token: Option<Token>,
    /// For a stream: lines, and how much of the first is sent.
    queue: VecDeque<Vec<u8>>,
    queue_size: usize,
    sent: usize,
    dropped: u64,
    /// It was told that nobody takes the lines.
    is_down: bool,
    retry_at: Millis,
}

#[derive(Debug)]
enum Where {
    Path(PathBuf),
    Net(SocketAddr),
}

impl Syslog {
    /// What the configuration says. Connections that are still wanted stay; host names are looked
    /// up, which may take its time: not for the middle of work. Trouble goes to `say`.
    pub fn configure(
        &mut self,
        sections: &[Section],
        reactor: Option<&mut Reactor>,
        say: &mut dyn FnMut(String),
    ) {
        if self.sections == sections {
            return;
        }
        let mut old = std::mem::take(&mut self.destinations);
        self.sections.clear();
        self.places.clear();
        for section in sections {
            let known = self.destinations.iter().position(|known| known.address == section.address);
            let place = known.or_else(|| {
                let destination = match old.iter().position(|known| known.address == section.address) {
                    Some(at) => old.swap_remove(at),
                    None => Destination::new(&section.address).map_err(&mut *say).ok()?,
                };
                self.destinations.push(destination);
                Some(self.destinations.len() - 1)
            });
            if let Some(place) = place {
                self.sections.push(section.clone());
                self.places.push(place);
            }
        }
        if let Some(reactor) = reactor {
            for mut destination in old {
                destination.close();
                destination.listen(reactor);
            }
        }
        if self.host.is_empty() && !sections.is_empty() {
            let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
            let name = name.trim();
            self.host = if name.is_empty() { "localhost" } else { name }.to_owned();
        }
    }

    /// Sends a record to whoever wants it. Returns what there is to say about that elsewhere.
    pub fn write(&mut self, record: &Record) -> Option<String> {
        let (at, section) = Section::of(&self.sections, &record.name)?;
        if record.level < section.level && !record.asked_for {
            return None;
        }
        let destination = &mut self.destinations[self.places[at]];
        let pid = std::process::id();
        let head = |level| {
            let number = section.facility * 8 + priority(level);
            match destination.peer {
                Where::Path(_) => format!("<{number}>rinotifyd[{pid}]: "),
                Where::Net(_) => {
                    format!("<{number}>{} {} rinotifyd[{pid}]: ", clock::wall().rfc_3164(), self.host)
                }
            }
        };
        let (notice, head) = (head(Level::Warning), head(record.level));
        if destination.dropped > 0 {
            let text = format!("{} log lines dropped", destination.dropped);
            format(&mut self.line, Prefix::Given(&notice), &Record::new(Level::Warning, &"log".into(), text));
            if destination.put(&self.line).is_ok() {
                destination.dropped = 0;
            }
        }
        format(&mut self.line, Prefix::Given(&head), record);
        let outcome = destination.put(&self.line);
        destination.dropped += u64::from(outcome.is_err());
        if destination.stream { None } else { destination.judge(outcome) }
    }

    /// Sends what waits for streams. Returns what there is to say about that elsewhere.
    pub fn flush(&mut self) -> Vec<String> {
        let waiting = self.destinations.iter_mut().filter(|destination| !destination.queue.is_empty());
        let news = waiting.filter_map(|destination| {
            let outcome = destination.pump();
            destination.judge(outcome)
        });
        news.collect()
    }

    /// Waits for room in streams, or no longer.
    pub fn listen(&mut self, reactor: &mut Reactor) {
        self.destinations.iter_mut().for_each(|destination| destination.listen(reactor));
    }

    /// A stream that has no room for what waits for it.
    #[must_use]
    pub fn blocked(&self) -> Option<BorrowedFd<'_>> {
        let mut blocked = self.destinations.iter().filter(|destination| !destination.queue.is_empty());
        blocked.find_map(|destination| destination.fd.as_ref()).map(AsFd::as_fd)
    }
}

impl Destination {
    fn new(address: &Address) -> Result<Self, String> {
        let (peer, stream) = match address {
            Address::Path(path) => (Where::Path(std::ffi::OsStr::from_bytes(path).into()), false),
            Address::Udp(host, port) => (Where::Net(look_up(host, *port)?), false),
            Address::Tcp(host, port) => (Where::Net(look_up(host, *port)?), true),
        };
        Ok(Self {
            address: address.clone(),
            peer,
            stream,
            fd: None,
            token: None,
            old_token: None,
            queue: VecDeque::new(),
            queue_size: 0,
            sent: 0,
            dropped: 0,
            is_down: false,
            retry_at: 0,
        })
    }

    /// Takes a line that ends in a newline.
    fn put(&mut self, line: &str) -> Result<(), Errno> {
        if !self.stream {
            match self.put_datagram(line.trim_end_matches('\n').as_bytes()) {
                // Some listen for a stream at their path.
                Err(Errno::EPROTOTYPE) if matches!(self.peer, Where::Path(_)) => self.stream = true,
                outcome => return outcome,
            }
        }
        if self.queue_size + line.len() > QUEUE_SIZE {
            self.pump()?;
        }
        if self.queue_size + line.len() > QUEUE_SIZE {
            return Err(Errno::EAGAIN);
        }
        self.queue_size += line.len();
        let mut line = line.as_bytes().to_vec();
        if matches!(self.peer, Where::Path(_))
            && let Some(end) = line.last_mut()
        {
            // As glibc's syslog(3) ends a line on a local stream.
            *end = 0;
        }
        self.queue.push_back(line);
        Ok(())
    }

    fn put_datagram(&mut self, line: &[u8]) -> Result<(), Errno> {
        if let Some(fd) = &self.fd {
            match socket::send(fd, line) {
                Ok(_) => return Ok(()),
                Err(errno @ (Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE)) => return Err(errno),
                // The syslogd it was connected to has ended; there may be another one by now.
                Err(_) => self.close(),
            }
        }
        let fd = connect(&self.peer, false, &mut self.retry_at)?;
        socket::send(self.fd.insert(fd), line).map(drop)
    }

    /// Sends what the stream has room for.
    fn pump(&mut self) -> Result<(), Errno> {
        if self.fd.as_ref().is_some_and(socket::is_closed) {
            self.close();
        }
        while let Some(line) = self.queue.front() {
            let fd = match &self.fd {
                Some(fd) => fd,
                None => self.fd.insert(connect(&self.peer, true, &mut self.retry_at)?),
            };
            match socket::send(fd, &line[self.sent..]) {
                Ok(count) => self.sent += count,
                Err(Errno::EAGAIN) => return Err(Errno::EAGAIN),
                Err(errno) => {
                    self.close();
                    return Err(errno);
                }
            }
            if self.sent == line.len() {
                self.queue_size -= line.len();
                self.queue.pop_front();
                self.sent = 0;
            }
        }
        Ok(())
    }

    /// A line that was sent in part is sent again whole to whoever comes next.
    fn close(&mut self) {
        self.fd = None;
        self.sent = 0;
        self.old_token = self.token.take().or(self.old_token);
    }

    /// What there is to say, once, when nobody takes lines, and when somebody does again. No room
    /// is no news: the drops are counted.
    fn judge(&mut self, outcome: Result<(), Errno>) -> Option<String> {
        let is_down = match outcome {
            Ok(()) => false,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE) => return None,
            Err(_) => true,
        };
        if std::mem::replace(&mut self.is_down, is_down) == is_down {
            return None;
        }
        let news = match outcome {
            Ok(()) => "works again".to_owned(),
            Err(errno) => format!("{errno:?} ({}); tried again with every line", errno.desc()),
        };
        Some(format!("syslog {}: {news}", self.address))
    }

    /// Waits for room in a stream, or no longer.
    fn listen(&mut self, reactor: &mut Reactor) {
        if let Some(token) = self.old_token.take() {
            // It left epoll when it was closed.
            reactor.forget(token);
        }
        let Some(fd) = &self.fd else { return };
        match self.token {
            None if !self.queue.is_empty() => {
                self.token = reactor.add(fd, Source::Log, Interest::WRITE).ok();
            }
            Some(token) if self.queue.is_empty() => {
                reactor.remove(token, fd);
                self.token = None;
            }
            _ => {}
        }
    }
}

fn connect(peer: &Where, stream: bool, retry_at: &mut Millis) -> Result<OwnedFd, Errno> {
    let peer = match peer {
        Where::Path(path) => Peer::Path(path),
        Where::Net(address) if !stream => Peer::Net(*address),
        Where::Net(address) => {
            let now = clock::now();
            if now < *retry_at {
                return Err(Errno::EAGAIN);
            }
            *retry_at = now + RECONNECT_MS;
            Peer::Net(*address)
        }
    };
    socket::open(peer, stream)
}

fn look_up(host: &str, port: u16) -> Result<SocketAddr, String> {
    let found = (host, port).to_socket_addrs().map(|mut found| found.next());
    let why = match found {
        Ok(Some(address)) => return Ok(address),
        Ok(None) => "it has no address".to_owned(),
        Err(error) => error.to_string(),
    };
    let host = Quoted(host.as_bytes());
    Err(format!("no syslog to {host}: {why}; tried again when the configuration is reloaded"))
}
