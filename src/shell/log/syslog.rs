//! Syslog: records as lines of RFC 3164. The daemon never waits for the receiver.
//!
//! A datagram for which there is no room is dropped and counted. Lines for a stream wait in a queue; a line
//! that does not fit into the queue is dropped and counted. Before the next line that is sent, a line says
//! how many were dropped. When syslogd has gone, every line tries to connect again, once; over the network a
//! stream does so once a second at most.
//!
//! The crate `syslog` gives severities, facilities and the trait of a format. Its own formats are not used:
//! they stamp UTC, and receivers of RFC 3164 take the time as local. A line for a socket of this machine has
//! no time, because syslogd adds it. A line for the network has the local time and the name of this machine.
//! Nor are the crate's connections used: they block when syslogd is slow, and are never made again when it
//! restarts.

use std::collections::VecDeque;
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use ::syslog::{Facility, LogFormat, Severity};

use super::format::{Prefix, format, severity};
use crate::config::{Address, Syslog as Section};
use crate::quote::Quoted;
use crate::record::{Level, Record};
use crate::shell::reactor::{Reactor, Source, Token};
use crate::sys::epoll::Interest;
use crate::sys::socket::{self, Peer};
use crate::sys::{Errno, clock};
use crate::types::Millis;

/// Bytes of lines that wait for a stream: as much as the ring of the log.
const QUEUE_SIZE: usize = 64 * 1024;

/// A stream over the network connects again after this time at the earliest.
const RECONNECT_MS: Millis = 1_000;

/// The sections of the configuration and their destinations.
#[derive(Debug, Default)]
pub struct Syslog {
    sections: Vec<Section>,
    /// For each section: its facility, and the index of its destination.
    routes: Vec<(Facility, usize)>,
    destinations: Vec<Receiver>,
    host: String,
    /// The line that is being made; kept for its memory.
    line: Vec<u8>,
}

/// A receiver of lines. Several sections can have the same.
#[derive(Debug)]
struct Receiver {
    address: Address,
    target: Target,
    stream: bool,
    fd: Option<OwnedFd>,
    token: Option<Token>,
    /// The token of a socket that is closed by now.
    old_token: Option<Token>,
    /// For a stream: lines, and how many bytes of the first are sent.
    queue: VecDeque<Vec<u8>>,
    queue_size: usize,
    sent: usize,
    dropped: u64,
    /// The log has said that lines cannot be sent.
    is_down: bool,
    retry_at: Millis,
}

#[derive(Debug)]
enum Target {
    Path(PathBuf),
    Net(SocketAddr),
}

/// RFC 3164. A record becomes one line: control characters are escaped, and its length is bounded.
struct Rfc3164<'a> {
    facility: Facility,
    /// The name of this machine, for a line that goes over the network.
    host: Option<&'a str>,
}

impl LogFormat<&Record> for Rfc3164<'_> {
    fn format<W: Write>(&self, out: &mut W, severity: Severity, record: &Record) -> ::syslog::Result<()> {
        let (priority, pid) = (self.facility as u8 | severity as u8, std::process::id());
        let header = match self.host {
            None => format!("<{priority}>rinotifyd[{pid}]: "),
            Some(host) => format!("<{priority}>{} {host} rinotifyd[{pid}]: ", clock::wall().rfc_3164()),
        };
        let mut line = String::new();
        format(&mut line, Prefix::Header(&header), record);
        out.write_all(line.as_bytes()).map_err(::syslog::Error::Write)
    }
}

impl Syslog {
    /// Takes over the configuration. Connections that are still needed stay open. Looks up host names, which
    /// may block: call this at start and at reload only. `report` is given what could not be set up.
    pub fn configure(
        &mut self,
        sections: &[Section],
        reactor: Option<&mut Reactor>,
        report: &mut dyn FnMut(String),
    ) {
        if self.sections == sections {
            return;
        }
        let mut old = std::mem::take(&mut self.destinations);
        self.sections.clear();
        self.routes.clear();
        for section in sections {
            let known = self.destinations.iter().position(|known| known.address == section.address);
            let index = known.or_else(|| {
                let destination = match old.iter().position(|known| known.address == section.address) {
                    Some(at) => old.swap_remove(at),
                    None => Receiver::new(&section.address).map_err(&mut *report).ok()?,
                };
                self.destinations.push(destination);
                Some(self.destinations.len() - 1)
            });
            if let Some(index) = index {
                self.sections.push(section.clone());
                self.routes.push((facility(section.facility), index));
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

    /// Sends a record to the destination of its section, if it has one. Returns a message for the log when
    /// lines can no longer be sent, and when they can again.
    pub fn write(&mut self, record: &Record) -> Option<String> {
        let (at, section) = Section::of(&self.sections, &record.name)?;
        if record.level < section.level && !record.asked_for {
            return None;
        }
        let (facility, index) = self.routes[at];
        let destination = &mut self.destinations[index];
        let host = matches!(destination.target, Target::Net(_)).then_some(self.host.as_str());
        let format = Rfc3164 { facility, host };
        if destination.dropped > 0 {
            let text = format!("{} log lines dropped", destination.dropped);
            let notice = Record::new(Level::Warning, &"log".into(), text);
            if destination.put(format_line(&mut self.line, &format, &notice)).is_ok() {
                destination.dropped = 0;
            }
        }
        let outcome = destination.put(format_line(&mut self.line, &format, record));
        destination.dropped += u64::from(outcome.is_err());
        if destination.stream { None } else { destination.note(outcome) }
    }

    /// Sends lines that wait for streams. Returns messages for the log, as [`Syslog::write`] does.
    pub fn flush(&mut self) -> Vec<String> {
        let waiting = self.destinations.iter_mut().filter(|destination| !destination.queue.is_empty());
        let messages = waiting.filter_map(|destination| {
            let outcome = destination.send_queue();
            destination.note(outcome)
        });
        messages.collect()
    }

    /// Has the reactor report room in the streams for which lines wait, and in no others.
    pub fn listen(&mut self, reactor: &mut Reactor) {
        self.destinations.iter_mut().for_each(|destination| destination.listen(reactor));
    }

    /// A stream for which lines wait.
    #[must_use]
    pub fn blocked(&self) -> Option<BorrowedFd<'_>> {
        let mut blocked = self.destinations.iter().filter(|destination| !destination.queue.is_empty());
        blocked.find_map(|destination| destination.fd.as_ref()).map(AsFd::as_fd)
    }
}

/// The line of a record, in `line`.
fn format_line<'a>(line: &'a mut Vec<u8>, format: &Rfc3164<'_>, record: &Record) -> &'a [u8] {
    line.clear();
    // Writing to a vector cannot fail.
    let _ = format.format(line, severity(record.level), record);
    line
}

/// A facility by its name in the configuration.
fn facility(name: &str) -> Facility {
    name.parse().unwrap_or(Facility::LOG_DAEMON)
}

impl Receiver {
    fn new(address: &Address) -> Result<Self, String> {
        let (target, stream) = match address {
            Address::Path(path) => (Target::Path(std::ffi::OsStr::from_bytes(path).into()), false),
            Address::Udp(host, port) => (Target::Net(look_up(host, *port)?), false),
            Address::Tcp(host, port) => (Target::Net(look_up(host, *port)?), true),
        };
        Ok(Self {
            address: address.clone(),
            target,
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
    fn put(&mut self, line: &[u8]) -> Result<(), Errno> {
        if !self.stream {
            match self.put_datagram(line.strip_suffix(b"\n").unwrap_or(line)) {
                // Some receivers have a stream socket at their path.
                Err(Errno::EPROTOTYPE) if matches!(self.target, Target::Path(_)) => self.stream = true,
                outcome => return outcome,
            }
        }
        if self.queue_size + line.len() > QUEUE_SIZE {
            self.send_queue()?;
        }
        if self.queue_size + line.len() > QUEUE_SIZE {
            return Err(Errno::EAGAIN);
        }
        self.queue_size += line.len();
        let mut line = line.to_vec();
        if matches!(self.target, Target::Path(_))
            && let Some(end) = line.last_mut()
        {
            // On a local stream a NUL ends a line, as with glibc's syslog(3).
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
                // The syslogd of this connection has ended. Another one may listen by now.
                Err(_) => self.close(),
            }
        }
        let fd = connect(&self.target, false, &mut self.retry_at)?;
        socket::send(self.fd.insert(fd), line).map(drop)
    }

    /// Sends as many lines as the stream has room for.
    fn send_queue(&mut self) -> Result<(), Errno> {
        if self.fd.as_ref().is_some_and(socket::is_closed) {
            self.close();
        }
        while let Some(line) = self.queue.front() {
            let fd = match &self.fd {
                Some(fd) => fd,
                None => self.fd.insert(connect(&self.target, true, &mut self.retry_at)?),
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

    /// The next connection gets a line that was sent in part once more from its beginning.
    fn close(&mut self) {
        self.fd = None;
        self.sent = 0;
        self.old_token = self.token.take().or(self.old_token);
    }

    /// Returns a message for the log when the destination begins to fail, and when it works again. A lack of
    /// room is no failure: the dropped lines are counted.
    fn note(&mut self, outcome: Result<(), Errno>) -> Option<String> {
        let is_down = match outcome {
            Ok(()) => false,
            Err(Errno::EAGAIN | Errno::ENOBUFS | Errno::EMSGSIZE) => return None,
            Err(_) => true,
        };
        if std::mem::replace(&mut self.is_down, is_down) == is_down {
            return None;
        }
        let text = match outcome {
            Ok(()) => "works again".to_owned(),
            Err(errno) => format!("{errno:?} ({}); tried again with every line", errno.desc()),
        };
        Some(format!("syslog {}: {text}", self.address))
    }

    /// Has the reactor report room in the stream while lines wait for it.
    fn listen(&mut self, reactor: &mut Reactor) {
        if let Some(token) = self.old_token.take() {
            // The kernel has removed the socket from epoll when it was closed.
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

fn connect(target: &Target, stream: bool, retry_at: &mut Millis) -> Result<OwnedFd, Errno> {
    let peer = match target {
        Target::Path(path) => Peer::Path(path),
        Target::Net(address) if !stream => Peer::Net(*address),
        Target::Net(address) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::schema::{Section, Value};

    fn line(host: Option<&str>, record: &Record) -> String {
        let format = Rfc3164 { facility: facility("local3"), host };
        String::from_utf8(format_line(&mut b"left over".to_vec(), &format, record).to_vec()).unwrap()
    }

    #[test]
    fn every_facility_of_the_configuration_has_its_number() {
        let key = Section::find(b"syslog").and_then(|section| section.key(b"facility")).unwrap();
        let Value::Choice(choices) = key.value else { panic!("{key:?}") };
        let numbers: Vec<_> = choices.iter().map(|choice| facility(choice.word) as u8 / 8).collect();
        assert_eq!(numbers, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 16, 17, 18, 19, 20, 21, 22, 23]);
    }

    #[test]
    fn only_a_line_for_the_network_has_time_and_host() {
        let record = Record::new(Level::Warning, &"sched".into(), "two\nlines\x1b");
        let tag = format!("rinotifyd[{}]: warning sched: two\\nlines\\x1b\n", std::process::id());
        assert_eq!(line(None, &record), format!("<156>{tag}"));
        let before = clock::wall().rfc_3164();
        let found = line(Some("host"), &record);
        let times = [before, clock::wall().rfc_3164()];
        assert!(times.map(|time| format!("<156>{time} host {tag}")).contains(&found), "{found}");
    }
}
