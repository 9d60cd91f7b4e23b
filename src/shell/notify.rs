//! Notifies a service manager of the daemon's state, by the protocol of `sd_notify(3)`.
//!
//! Each message is one datagram to the socket that `NOTIFY_SOCKET` names. The daemon does not wait: a message
//! for which there is no room is sent again a moment later. The first failure is logged, and no other.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, ErrorKind};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

use crate::quote::Quoted;
use crate::sys::clock;
use crate::types::Millis;

/// The variables that the service manager sets for the daemon. Children must not get them.
pub const VARIABLES: [&str; 3] = [SOCKET, WATCHDOG_USEC, WATCHDOG_PID];
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG_USEC: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// After this time a message for which there was no room is sent again.
const RETRY_MS: Millis = 100;

/// Sends the messages. Without a service manager it does nothing.
#[derive(Debug, Default)]
pub struct Notifier {
    target: Option<(UnixDatagram, SocketAddr)>,
    /// Messages for which there was no room. Later messages are added as further lines, as the protocol
    /// allows.
    unsent: String,
    /// The watchdog message: its interval, and when it is due next.
    watchdog: Option<(Millis, Millis)>,
    retry_at: Option<Millis>,
    complained: bool,
}

impl Notifier {
    /// A notifier for the service manager that the environment names, if it names one, and a message about
    /// what is wrong with the environment: the daemon then runs without notifying.
    pub fn from_environment(now: Millis) -> (Self, Option<String>) {
        let Some(name) = env::var_os(SOCKET).filter(|name| !name.is_empty()) else {
            return (Self::default(), None);
        };
        let target = address(&name).and_then(|address| {
            let socket = UnixDatagram::unbound()?;
            socket.set_nonblocking(true)?;
            Ok((socket, address))
        });
        match target {
            Err(error) => {
                let name = Quoted(name.as_bytes()).to_string();
                (Self::default(), Some(format!("cannot use {SOCKET} {name}: {error}")))
            }
            Ok(target) => {
                let (watchdog, complaint) = match watchdog_ms() {
                    Ok(every) => (every.map(|every| (every, now)), None),
                    Err(complaint) => (None, Some(complaint)),
                };
                (Self { target: Some(target), watchdog, ..Self::default() }, complaint)
            }
        }
    }

    /// The daemon watches everything: at start, and after a reload.
    #[must_use]
    pub fn ready(&mut self, status: &str) -> Option<String> {
        self.send(&format!("READY=1\nSTATUS={status}\n"))
    }

    /// The daemon reads its configuration again.
    #[must_use]
    pub fn reloading(&mut self) -> Option<String> {
        self.send(&format!("RELOADING=1\nMONOTONIC_USEC={}\n", clock::monotonic_micros()))
    }

    /// The daemon is about to end.
    #[must_use]
    pub fn stopping(&mut self) -> Option<String> {
        self.send("STOPPING=1\nSTATUS=waiting for tasks to finish\n")
    }

    /// When [`Notifier::tick`] is due.
    #[must_use]
    pub fn deadline(&self) -> Option<Millis> {
        let next = self.watchdog.map(|(_, next)| next);
        [next, self.retry_at].into_iter().flatten().min()
    }

    /// Sends the messages that are due.
    #[must_use]
    pub fn tick(&mut self, now: Millis) -> Option<String> {
        let retry = self.retry_at.is_some_and(|at| at <= now);
        match &mut self.watchdog {
            Some((every, next)) if *next <= now => {
                *next = now + *every;
                self.send("WATCHDOG=1\n")
            }
            _ if retry => self.send(""),
            _ => None,
        }
    }

    /// Returns a message for the log at the first failure.
    fn send(&mut self, message: &str) -> Option<String> {
        let (socket, address) = self.target.as_ref()?;
        if !self.unsent.ends_with(message) {
            self.unsent.push_str(message);
        }
        self.retry_at = None;
        let error = match socket.send_to_addr(self.unsent.as_bytes(), address) {
            Ok(_) => {
                self.unsent.clear();
                return None;
            }
            Err(error) => error,
        };
        if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) {
            self.retry_at = Some(clock::now() + RETRY_MS);
            return None;
        }
        self.unsent.clear();
        let first = !std::mem::replace(&mut self.complained, true);
        first.then(|| format!("cannot notify the service manager: {error}"))
    }
}

/// A path, or `@` and an abstract name (`unix(7)`).
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes() {
        [b'/', ..] => SocketAddr::from_pathname(name),
        [b'@', name @ ..] => SocketAddr::from_abstract_name(name),
        _ => Err(io::Error::other("it must begin with / or @")),
    }
}

/// The interval of the watchdog message: half the time that the service manager allows, as
/// `sd_watchdog_enabled(3)` advises.
fn watchdog_ms() -> Result<Option<Millis>, String> {
    let number = |name: &str, text: OsString| {
        let parsed = text.to_str().and_then(|text| text.parse::<u64>().ok());
        parsed.ok_or_else(|| format!("{name} is no number: {}", Quoted(text.as_bytes())))
    };
    let Some(micros) = env::var_os(WATCHDOG_USEC) else { return Ok(None) };
    let micros = number(WATCHDOG_USEC, micros)?;
    if let Some(pid) = env::var_os(WATCHDOG_PID)
        && number(WATCHDOG_PID, pid)? != u64::from(std::process::id())
    {
        return Ok(None);
    }
    if micros == 0 {
        return Err(format!("{WATCHDOG_USEC} is 0"));
    }
    Ok(Some((micros / 2000).max(1)))
}
